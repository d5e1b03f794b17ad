// The table: sorted and filtered here, and only the rows that can be seen are drawn.

const table = (() => {
  const COLUMNS = [
    ["status", "", (task) => SEVERITY[task.status]],
    ["title", "Task", (task) => task.title.toLowerCase()],
    ["type", "Type", (task) => task.type],
    ["started", "Started", (task) => task.started],
    ["duration", "Duration", (task) => task.duration],
    ["waited", "Waited", (task) => task.waited],
    ["track", "Waiting and running", null],
    ["note", "Note", (task) => task.note],
  ];
  const NUMBERS = ["started", "duration", "waited"];
  const narrow = matchMedia("(max-width: 620px)");
  const filters = { words: [], statuses: new Set(), critical: false };
  let sorting = null; // [column, ascending]
  let shown = TASKS;
  let at = -1; // place of the chosen task among the shown ones

  const search = make("input", {
    class: "search", type: "search", placeholder: "Search titles, kinds, notes …  ( / )", "aria-label": "Search tasks",
    oninput: () => { filters.words = search.value.toLowerCase().split(/\s+/).filter(Boolean); apply(); },
  });
  const counter = make("span", { class: "about", role: "status" });
  const box = section("Tasks", search, ...chips(), counter);
  box.id = "tasks";
  const head = make("div", { class: "head", role: "row" });
  const space = make("div", { class: "space", role: "presentation" });
  const rows = make("div", {
    class: "rows", tabindex: "0", role: "rowgroup", "aria-label": "Tasks; arrows move, Enter opens",
    onscroll: () => render(), onkeydown: keys,
  }, space);
  const grid = box.appendChild(make("div", { class: "grid", role: "grid", "aria-label": "Tasks" }, head, rows));
  for (const [name, title, key] of COLUMNS) {
    const isNumber = NUMBERS.includes(name);
    head.append(make("div", { class: `col-${name}${isNumber ? " num" : ""}`, role: "columnheader", "aria-sort": key ? "none" : null, "data-column": name },
      key ? make("button", { onclick: () => sort(name), "aria-label": title || "Status" }, title || "●") : make("small", {}, title)));
  }

  function chips() {
    const found = STATUSES.map((name, status) => [name, status, TASKS.filter((task) => task.status === status).length]).filter(([, , number]) => number);
    const made = found.map(([name, status, number]) => chip(name, make("i", { class: name }, SYMBOLS[status]), `${number.toLocaleString("en")} ${name}`, (on) => {
      if (on) filters.statuses.add(status);
      else filters.statuses.delete(status);
    }));
    if (TASKS.some((task) => task.critical)) made.push(chip("critical", null, "critical path", (on) => (filters.critical = on)));
    return made;
  }

  function chip(name, symbol, text, change) {
    const button = make("button", {
      class: "chip", "aria-pressed": "false", "data-filter": name,
      onclick: () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", on);
        change(on);
        apply();
      },
    }, symbol, text);
    return button;
  }

  function matches(task) {
    if (filters.statuses.size && !filters.statuses.has(task.status)) return false;
    if (filters.critical && !task.critical) return false;
    if (!filters.words.length) return true;
    task.text ||= [task.title, task.type, task.note, STATUSES[task.status], ...task.path, task.more.key || "", task.more.function || ""].join("\n").toLowerCase();
    return filters.words.every((word) => task.text.includes(word));
  }

  function sort(name) {
    // Once up, once down, then the order of the graph again; numbers begin with the greatest.
    const first = !NUMBERS.includes(name) || name === "started";
    if (!sorting || sorting[0] !== name) sorting = [name, first];
    else sorting = sorting[1] === first ? [name, !first] : null;
    apply();
  }

  function apply() {
    shown = TASKS.filter(matches);
    if (sorting) {
      const key = COLUMNS.find(([name]) => name === sorting[0])[2];
      const sign = sorting[1] ? 1 : -1;
      const keys = new Map(shown.map((task) => [task, key(task)]));
      shown.sort((a, b) => {
        const [left, right] = [keys.get(a), keys.get(b)];
        if (left === null || right === null) return (left === null) - (right === null) || a.index - b.index;
        return (left < right ? -sign : left > right ? sign : 0) || a.index - b.index;
      });
    }
    for (const cell of head.children) {
      if (cell.hasAttribute("aria-sort")) cell.setAttribute("aria-sort", !sorting || sorting[0] !== cell.dataset.column ? "none" : sorting[1] ? "ascending" : "descending");
    }
    at = chosen.task ? shown.indexOf(chosen.task) : -1;
    counter.textContent = shown.length === TASKS.length ? "" : `${shown.length.toLocaleString("en")} of ${TASKS.length.toLocaleString("en")}`;
    grid.setAttribute("aria-rowcount", shown.length);
    rows.scrollTop = 0;
    render(true);
  }

  const rowHeight = () => (narrow.matches ? 54 : 36);

  let drawn = "";
  function render(force) {
    const height = rowHeight();
    space.style.height = `${shown.length ? shown.length * height : 76}px`;
    const first = Math.max(Math.floor(rows.scrollTop / height) - 8, 0);
    const last = Math.min(Math.ceil((rows.scrollTop + rows.clientHeight) / height) + 8, shown.length);
    const now = `${first} ${last} ${height}`;
    if (!force && now === drawn) return;
    drawn = now;
    const made = [];
    for (let place = first; place < last; place += 1) made.push(row(shown[place], place, height));
    if (!shown.length) made.push(make("p", { class: "none" }, TASKS.length ? "No task matches." : "No tasks."));
    space.replaceChildren(...made);
    if (at >= 0) rows.setAttribute("aria-activedescendant", `row-${chosen.task.index}`);
    else rows.removeAttribute("aria-activedescendant");
  }

  function row(task, place, height) {
    const cell = (name, ...children) => make("div", { class: name, role: "gridcell" }, ...children);
    const flags = [task.optional ? "optional" : "", task.final ? "finally" : ""].filter(Boolean).join(", ");
    const made = make("div", {
      class: "row", role: "row", id: `row-${task.index}`, "aria-rowindex": place + 1, "data-task": task.index,
      "aria-selected": task === chosen.task ? "true" : "false",
      onclick: () => openDetails(task),
    },
    cell("col-status", make("i", { class: STATUSES[task.status], title: STATUSES[task.status] }, SYMBOLS[task.status])),
    cell("title", make("small", {}, namesBefore(task)), task.title, flags ? make("small", { class: "flags" }, flags) : null),
    cell("type col-type", task.type),
    cell("num col-started", task.started === null ? "" : seconds(task.started)),
    cell("num dur", task.duration === null ? "" : seconds(task.duration)),
    cell("num col-waited", task.spans.length ? seconds(task.waited) : ""),
    cell("col-track", track(task)),
    cell("note col-note", task.note));
    made.querySelector(".title").title = task.title;
    made.style.top = `${place * height}px`;
    return made;
  }

  // Waiting is thin, running is thick.
  function track(task) {
    const svg = draw("svg", { class: "track", viewBox: "0 0 1000 18", preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const span of task.spans) {
      const isRun = span.reason < 0;
      const left = (1000 * span.start) / WALL;
      svg.append(draw("rect", {
        class: isRun ? STATUSES[span.status] : `wait-${REASONS[span.reason]}`,
        x: left, width: Math.max((1000 * (span.end - span.start)) / WALL, isRun ? 3 : 0), y: isRun ? 2 : 7, height: isRun ? 14 : 4,
      }));
    }
    return svg;
  }

  function move(place) {
    if (!shown.length) return;
    at = Math.min(Math.max(place, 0), shown.length - 1);
    const height = rowHeight();
    if (at * height < rows.scrollTop) rows.scrollTop = at * height;
    else if ((at + 1) * height > rows.scrollTop + rows.clientHeight) rows.scrollTop = (at + 1) * height - rows.clientHeight;
    choose(shown[at], "table");
    render(true);
  }

  function keys(event) {
    const page = Math.max(Math.floor(rows.clientHeight / rowHeight()) - 1, 1);
    const places = { ArrowDown: at + 1, ArrowUp: at - 1, j: at + 1, k: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: shown.length - 1 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in places) move(places[event.key]);
    else if (event.key === "Enter" && chosen.task) openDetails(chosen.task);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  rows.addEventListener("pointermove", (event) => {
    const target = event.target.closest(".row");
    if (!target || !event.target.closest(".col-track")) return hideTip();
    const task = TASKS[target.dataset.task];
    showTip(event, task.spans.map((span) => `${seconds(span.end - span.start)}  ${waitWords(span)}`).slice(-12).join("\n") || "nothing to show");
  });
  rows.addEventListener("pointerleave", hideTip);
  narrow.addEventListener("change", () => render(true));
  watchers.push((task, from) => {
    at = task ? shown.indexOf(task) : -1;
    if (from !== "table" && at >= 0) {
      const height = rowHeight();
      if (at * height < rows.scrollTop || (at + 1) * height > rows.scrollTop + rows.clientHeight) rows.scrollTop = at * height - rows.clientHeight / 2;
    }
    render(true);
  });
  return { render: () => apply(), search, step: (by) => { rows.focus({ preventScroll: true }); move(at + by); } };
})();
