// The data of the page, and what all views share: elements, words, the chosen task.

const STATUSES = ["pending", "running", "succeeded", "failed", "cancelled", "blocked", "skipped"];
const SYMBOLS = ["·", "▶", "✓", "✗", "⊘", "■", "↷"];
const SEVERITY = [5, 4, 6, 0, 1, 2, 3]; // what needs a look comes first
const REASONS = ["dependency", "worker", "group", "retry", "duplicate"];
const REASON_WORDS = ["other tasks", "a free worker", "a place in a group", "the next attempt", "an equal task"];
const SVG = "http://www.w3.org/2000/svg";

const DATA = JSON.parse(document.getElementById("data").textContent);
const WALL = Math.max(DATA.wall, 1e-6);
const TASKS = DATA.tasks.map((row, index) => {
  const [title, path, type, status, flags, after, started, ended, duration, waited, spans, note, more] = row;
  return {
    index, title, path: DATA.paths[path], type: DATA.types[type], status, after, started, ended, duration,
    waited, note, more, before: [],
    optional: !!(flags & 1), final: !!(flags & 2), reused: !!(flags & 4), critical: !!(flags & 8),
    spans: timed(spans, status, more.attempts),
  };
});
const DEPTH = Math.min(...TASKS.map((task) => task.path.length));
for (const task of TASKS) for (const upstream of task.after) TASKS[upstream].before.push(task.index);

// Each span begins where the one before ended. One in which the task ran has the status of its attempt.
function timed(spans, status, attempts) {
  let at = 0;
  let runs = 0;
  return spans.map(([reason, end, because]) => {
    const span = { reason, start: at, end, because: because || [], status };
    if (reason < 0) {
      if (attempts && attempts[runs]) [span.status] = attempts[runs];
      runs += 1;
    }
    at = end;
    return span;
  });
}

// Make an element: attributes by name, handlers by `on…`, children as nodes or text.
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0s";
  if (value < 0.00995) return `${(1000 * value).toFixed(1)}ms`;
  if (value < 9.995) return `${value.toFixed(2)}s`;
  if (value < 59.95) return `${value.toFixed(1)}s`;
  const whole = Math.round(value);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}m ${String(whole % 60).padStart(2, "0")}s`;
  return `${Math.floor(minutes / 60)}h ${String(minutes % 60).padStart(2, "0")}m`;
}

function cut(text, characters) {
  return text.length <= characters ? text : text.slice(0, Math.max(characters - 1, 0)) + "…";
}

function waitWords(span) {
  if (span.reason < 0) return "running";
  const names = span.because.map((item) => (typeof item === "number" ? TASKS[item].title : item));
  const words = REASON_WORDS[span.reason];
  return names.length ? `${words}: ${names.join(", ")}` : words;
}

function namesBefore(task) {
  return task.path.map((name) => `${name} / `).join("");
}

function section(title, ...controls) {
  const bar = make("div", { class: "bar" }, make("h2", {}, title), ...controls);
  const box = make("section", { "aria-label": title }, bar);
  document.getElementById("views").append(box);
  return box;
}

// The chosen task. Views add themselves to `watchers` to hear of another.
const chosen = { task: null };
const watchers = [];

function choose(task, from) {
  if (chosen.task === task) return;
  chosen.task = task;
  for (const watcher of watchers) watcher(task, from);
}

// The tip beside the pointer.
const tip = document.body.appendChild(make("div", { id: "tip", hidden: "" }));

function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - width - 8);
  const top = event.clientY + 18 + height > innerHeight ? event.clientY - height - 10 : event.clientY + 18;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${Math.max(top, 4)}px`;
}

function hideTip() {
  tip.hidden = true;
}
