// The graph: tasks in layers from left to right. A large one is drawn around the chosen task.

const graph = (() => {
  const MOST = 250;
  const AROUND = 40;
  const BOX = { width: 168, height: 44, x: 56, y: 14 };
  let scale = 1;

  const note = make("span", { class: "about" });
  const box = section("Graph", note, make("div", { class: "end" },
    make("button", { "aria-label": "Smaller", onclick: () => rescale(scale / 1.25) }, "−"),
    make("button", { "aria-label": "Larger", onclick: () => rescale(scale * 1.25) }, "+")));
  box.id = "graph";
  const pane = box.appendChild(make("div", { class: "graph", tabindex: "0", role: "group", "aria-label": "Tasks and what they depend on" }));

  function rescale(wanted) {
    scale = Math.min(Math.max(wanted, 0.2), 2);
    const svg = pane.querySelector("svg");
    if (!svg) return;
    svg.setAttribute("width", svg.viewBox.baseVal.width * scale);
    svg.setAttribute("height", svg.viewBox.baseVal.height * scale);
  }

  function beginnings() {
    const critical = TASKS.filter((task) => task.critical);
    return critical.length ? critical : TASKS.filter((task) => task.status === 3);
  }

  // All tasks of a small graph; of a large one those next to the chosen task, or the critical path.
  function visible() {
    if (TASKS.length <= MOST) return TASKS;
    const queue = chosen.task ? [chosen.task.index] : beginnings().map((task) => task.index).slice(0, AROUND);
    const found = new Set(queue.length ? queue : [0]);
    for (const index of found) {
      if (found.size >= AROUND) break;
      for (const next of [...TASKS[index].after, ...TASKS[index].before]) {
        if (found.size < AROUND) found.add(next);
      }
    }
    return [...found].sort((a, b) => a - b).map((index) => TASKS[index]);
  }

  // The layer of each task: one more than that of its last upstream.
  function layered(tasks) {
    const inside = new Set(tasks.map((task) => task.index));
    const depth = new Map();
    const missing = new Map(tasks.map((task) => [task.index, task.after.filter((end) => inside.has(end)).length]));
    const queue = tasks.filter((task) => !missing.get(task.index)).map((task) => task.index);
    for (const index of queue) depth.set(index, 0);
    for (let at = 0; at < queue.length; at += 1) {
      for (const next of TASKS[queue[at]].before) {
        if (!inside.has(next)) continue;
        depth.set(next, Math.max(depth.get(next) || 0, depth.get(queue[at]) + 1));
        missing.set(next, missing.get(next) - 1);
        if (!missing.get(next)) queue.push(next);
      }
    }
    const layers = [];
    for (const task of tasks) (layers[depth.get(task.index) || 0] ||= []).push(task.index);
    return [Array.from(layers, (layer) => layer || []), inside];
  }

  // Sort each layer by the mean place of the neighbours, to and fro, so that few edges cross.
  function untangle(layers, inside) {
    const place = new Map();
    const number = (layer) => layer.forEach((index, at) => place.set(index, at - layer.length / 2));
    layers.forEach(number);
    const mean = (index, ends) => {
      const known = ends.filter((end) => inside.has(end));
      return known.length ? known.reduce((sum, end) => sum + place.get(end), 0) / known.length : place.get(index);
    };
    for (let round = 0; round < 6; round += 1) {
      const forth = round % 2 === 0;
      for (const layer of forth ? layers : [...layers].reverse()) {
        const keys = new Map(layer.map((index) => [index, mean(index, forth ? TASKS[index].after : TASKS[index].before)]));
        layer.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
        number(layer);
      }
    }
  }

  function node(task, left, top) {
    const about = [STATUSES[task.status], task.duration === null ? "" : seconds(task.duration)].filter(Boolean).join(", ");
    return draw("g", {
      class: `node${task.final ? " final" : ""}${chosen.task === task ? " chosen" : ""}`,
      transform: `translate(${left},${top})`, tabindex: "0", role: "button", "data-task": task.index,
      "aria-label": `${task.title}, ${about}`,
      onclick: () => openDetails(task),
      onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); openDetails(task); } },
    },
    draw("rect", { class: "box", width: BOX.width, height: BOX.height, rx: 8 }),
    draw("rect", { class: STATUSES[task.status], x: 0, y: 8, width: 4, height: BOX.height - 16, rx: 2 }),
    draw("svg", { width: BOX.width - 6, height: BOX.height }, // cuts what is too wide
      draw("text", { x: 13, y: 19 }, cut(task.title, 26), draw("title", {}, task.title)),
      draw("text", { class: "sub", x: 13, y: 35 }, `${SYMBOLS[task.status]} ${about}`)));
  }

  function edge(origin, target, name) {
    const left = origin.left + BOX.width;
    const bend = Math.max((target.left - left) / 2, 24);
    const [high, low] = [origin.top + BOX.height / 2, target.top + BOX.height / 2];
    return draw("path", {
      class: name, "marker-end": "url(#arrow)",
      d: `M${left},${high}C${left + bend},${high} ${target.left - bend},${low} ${target.left - 5},${low}`,
    });
  }

  function render() {
    const tasks = visible();
    const [layers, inside] = layered(tasks);
    untangle(layers, inside);
    const tallest = Math.max(...layers.map((layer) => layer.length), 1);
    const height = tallest * (BOX.height + BOX.y) + 2 * BOX.y;
    const width = layers.length * (BOX.width + BOX.x) + 16;
    const places = new Map();
    layers.forEach((layer, column) => {
      const first = (height - layer.length * (BOX.height + BOX.y) + BOX.y) / 2;
      layer.forEach((index, row) => places.set(index, { left: 16 + column * (BOX.width + BOX.x), top: first + row * (BOX.height + BOX.y) }));
    });
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Graph of the tasks" },
      draw("defs", {}, draw("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 5, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse" }, draw("path", { d: "M0,0L8,4L0,8Z" }))));
    for (const task of tasks) {
      for (const upstream of task.after) {
        if (!inside.has(upstream)) continue;
        const isNear = chosen.task && (chosen.task === task || chosen.task.index === upstream);
        const name = isNear ? "near" : task.critical && TASKS[upstream].critical ? "critical" : "";
        svg.append(edge(places.get(upstream), places.get(task.index), name));
      }
    }
    for (const task of tasks) svg.append(node(task, places.get(task.index).left, places.get(task.index).top));
    pane.replaceChildren(svg);
    note.textContent = tasks.length === TASKS.length ? "" : `${tasks.length} of ${TASKS.length.toLocaleString("en")} tasks: ${chosen.task ? "around the chosen one" : "around the critical path"}`;
    rescale(scale);
    return places;
  }

  function follow() {
    const places = render();
    // Without a chosen task the critical path, whose first task is in the first layer.
    const wanted = chosen.task || TASKS.find((task) => task.critical);
    const place = wanted && places.get(wanted.index);
    if (place) pane.scrollTo({ left: place.left * scale - pane.clientWidth / 3, top: place.top * scale - pane.clientHeight / 2 });
  }

  if (TASKS.length > 1) watchers.push((task, from) => (from === "graph" ? null : follow()));
  else box.remove();
  return { render: () => (TASKS.length > 1 ? follow() : null) };
})();
