// The graph: tasks in layers from left to right. A large one is drawn around the chosen task.

const graph = (() => {
  const MOST = 250;
  const AROUND = 40;
  const TALLEST = 14; // a layer of more tasks gets several columns
  const MOST_BENDS = 400;
  const BEND = 12;
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
  function depths(tasks, inside) {
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
    return depth;
  }

  // Layers of nodes, and for each edge the nodes that it passes. An edge over several layers has a
  // bend in each of them, so that it leads past the tasks there and not behind them.
  function layered(tasks, inside) {
    const depth = depths(tasks, inside);
    const layers = [];
    const place = (task, layer) => {
      const node = { task, layer, ends: [[], []], at: 0, left: 0, top: 0 };
      (layers[layer] ||= []).push(node);
      return node;
    };
    const nodes = new Map(tasks.map((task) => [task.index, place(task, depth.get(task.index) || 0)]));
    const edges = [];
    let bends = 0;
    for (const task of tasks) {
      for (const upstream of task.after) {
        if (!inside.has(upstream)) continue;
        const path = [nodes.get(upstream)];
        const last = nodes.get(task.index);
        for (let layer = path[0].layer + 1; layer < last.layer && bends < MOST_BENDS; layer += 1) {
          path.push(place(null, layer));
          bends += 1;
        }
        path.push(last);
        for (let step = 1; step < path.length; step += 1) {
          path[step].ends[0].push(path[step - 1]);
          path[step - 1].ends[1].push(path[step]);
        }
        edges.push(path);
      }
    }
    return [Array.from(layers, (layer) => layer || []), edges, nodes];
  }

  // Sort each layer by the mean place of the neighbours, to and fro, so that few edges cross.
  function untangle(layers) {
    const number = (layer) => layer.forEach((node, at) => { node.at = at - layer.length / 2; });
    layers.forEach(number);
    for (let round = 0; round < 8; round += 1) {
      const side = round % 2;
      for (const layer of side ? [...layers].reverse() : layers) {
        for (const node of layer) {
          const near = node.ends[side];
          node.mean = near.length ? near.reduce((sum, end) => sum + end.at, 0) / near.length : node.at;
        }
        layer.sort((a, b) => a.mean - b.mean || a.at - b.at);
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

  const heightOf = (node) => (node.task ? BOX.height + BOX.y : BEND);
  const middleOf = (node) => node.top + (node.task ? BOX.height / 2 : BEND / 2);

  function edge(path, name) {
    let line = `M${path[0].left + BOX.width},${middleOf(path[0])}`;
    for (let step = 1; step < path.length; step += 1) {
      const [from, to] = [path[step - 1], path[step]];
      const [left, right] = [from.left + BOX.width, to.left - (to.task ? 5 : 0)];
      const bend = Math.max((right - left) / 2, 24);
      line += `C${left + bend},${middleOf(from)} ${right - bend},${middleOf(to)} ${right},${middleOf(to)}`;
      if (!to.task) line += `H${to.left + BOX.width}`;
    }
    return draw("path", { class: name, "marker-end": "url(#arrow)", d: line });
  }

  // Give the nodes of the layers their places; returns the width and height of them all.
  function spread(layers) {
    const columns = layers.flatMap((layer) => {
      const count = Math.ceil(layer.filter((node) => node.task).length / TALLEST) || 1;
      const size = Math.ceil(layer.length / count);
      return Array.from({ length: count }, (_, part) => layer.slice(part * size, (part + 1) * size));
    });
    const heights = columns.map((column) => column.reduce((sum, node) => sum + heightOf(node), 0));
    const height = columns.length ? Math.max(...heights) + BOX.y : 0;
    columns.forEach((column, number) => {
      let top = (height - heights[number] + BOX.y) / 2;
      for (const node of column) {
        node.left = 16 + number * (BOX.width + BOX.x);
        node.top = top;
        top += heightOf(node);
      }
    });
    return [columns.length * (BOX.width + BOX.x) + 16, height];
  }

  // Give the tasks that stand alone their places, in rows below the others; returns the height.
  function addRows(tasks, nodes, width, below) {
    const count = Math.max(Math.floor((width - 16) / (BOX.width + BOX.y)), 1);
    tasks.forEach((task, number) => nodes.set(task.index, {
      task,
      left: 16 + (number % count) * (BOX.width + BOX.y),
      top: below + BOX.y + Math.floor(number / count) * (BOX.height + BOX.y),
    }));
    return below + BOX.y + Math.ceil(tasks.length / count) * (BOX.height + BOX.y);
  }

  function nameOf(path) {
    const [origin, target] = [path[0].task, path[path.length - 1].task];
    if (chosen.task && (chosen.task === origin || chosen.task === target)) return "near";
    return origin.critical && target.critical ? "critical" : "";
  }

  // Draw it; returns the places of the tasks.
  function render() {
    const tasks = visible();
    const inside = new Set(tasks.map((task) => task.index));
    const isAlone = (task) => ![...task.after, ...task.before].some((end) => inside.has(end));
    const [layers, edges, nodes] = layered(tasks.filter((task) => !isAlone(task)), inside);
    untangle(layers);
    const [width, below] = spread(layers);
    const height = addRows(tasks.filter(isAlone), nodes, Math.max(width, pane.clientWidth), below);
    const right = Math.max(...[...nodes.values()].map((place) => place.left)) + BOX.width + 16;
    const svg = draw("svg", { viewBox: `0 0 ${right} ${height}`, role: "img", "aria-label": "Graph of the tasks" },
      draw("defs", {}, draw("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 5, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse" }, draw("path", { d: "M0,0L8,4L0,8Z" }))));
    svg.append(...edges.map((path) => edge(path, nameOf(path))));
    for (const { task, left, top } of nodes.values()) svg.append(node(task, left, top));
    pane.replaceChildren(svg);
    note.textContent = tasks.length === TASKS.length ? "" : `${tasks.length} of ${TASKS.length.toLocaleString("en")} tasks: ${chosen.task ? "around the chosen one" : "around the critical path"}`;
    rescale(scale);
    return nodes;
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
