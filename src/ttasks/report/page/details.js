// The details of one task, in a panel at the side.

const panel = document.body.appendChild(make("aside", { id: "details", hidden: "", tabindex: "-1", role: "dialog", "aria-label": "Task" }));
let lastFocus = null;

function openDetails(task) {
  if (panel.hidden) lastFocus = document.activeElement;
  choose(task, null);
  panel.replaceChildren(...detailsOf(task));
  panel.hidden = false;
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
  history.replaceState(null, "", `#task-${task.index + 1}`);
}

function closeDetails() {
  if (panel.hidden) return;
  panel.hidden = true;
  history.replaceState(null, "", location.pathname + location.search);
  if (lastFocus && lastFocus.isConnected) lastFocus.focus({ preventScroll: true });
}

function detailsOf(task) {
  const { more } = task;
  const name = STATUSES[task.status];
  const parts = [
    make("button", { class: "close", "aria-label": "Close (Escape)", onclick: closeDetails }, "✕"),
    make("p", { class: "about" }, make("i", { class: name }, SYMBOLS[task.status]), ` ${name} · ${task.type}`,
      task.optional ? " · optional" : "", task.final ? " · finally" : "", task.reused ? " · reused" : "", task.critical ? " · on the critical path" : ""),
    make("h2", {}, namesBefore(task) + task.title),
    make("p", { class: "why" }, more.why),
  ];
  const facts = [
    ["Duration", task.duration === null ? null : seconds(task.duration)],
    ["Started", task.started === null ? null : `${seconds(task.started)} after the start`],
    ["Waited", task.spans.length ? seconds(task.waited) : null],
    ["Exit code", more.returncode], ["Function", more.function], ["Arguments", more.arguments], ["Value", more.value],
    ["Key", more.key], ["Groups", more.groups ? more.groups.join(", ") : null], ["Output file", more.log],
  ].filter(([, value]) => value !== null && value !== undefined);
  if (facts.length) parts.push(make("dl", {}, ...facts.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, String(value))])));
  if (task.spans.length) {
    parts.push(make("h3", {}, "Where its time went"), make("ul", {}, ...task.spans.map((span) => make("li", {},
      make("b", {}, seconds(span.end - span.start)),
      span.reason < 0 ? make("i", { class: STATUSES[span.status] }, "▬") : make("i", { class: `sw wait-${REASONS[span.reason]}` }),
      make("span", {}, span.reason < 0 ? "running" : `waited for ${waitWords(span)}`)))));
  }
  if (more.attempts) {
    parts.push(make("h3", {}, "Attempts"), make("ul", {}, ...more.attempts.map(([status, started, ended, error]) => make("li", {},
      make("b", {}, started === null || ended === null ? "–" : seconds(ended - started)),
      make("i", { class: STATUSES[status] }, SYMBOLS[status]), make("span", {}, error || STATUSES[status])))));
  }
  links(parts, "Blocked by", more.blocker === undefined ? [] : [more.blocker]);
  links(parts, "After", task.after);
  links(parts, "Before", task.before);
  links(parts, "Did not run because of it", more.downstream || []);
  if (more.error) parts.push(make("h3", {}, "Error"), make("pre", {}, more.error));
  if (more.output) parts.push(make("h3", {}, more.cut ? "Output, its end" : "Output"), make("pre", {}, more.output));
  return parts;
}

function links(parts, title, indices) {
  if (!indices.length) return;
  const shown = indices.slice(0, 40).map((index) => make("button", { class: "link", onclick: () => openDetails(TASKS[index]) },
    make("i", { class: STATUSES[TASKS[index].status] }, SYMBOLS[TASKS[index].status]), ` ${cut(TASKS[index].title, 80)}`));
  const more = indices.length > 40 ? make("span", { class: "about" }, `and ${indices.length - 40} more`) : null;
  parts.push(make("h3", {}, title), make("div", { class: "links" }, ...shown, more));
}
