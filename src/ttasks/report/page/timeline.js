// The timeline: a lane for each worker, and below it charts of what was in use and what waited.

const timeline = (() => {
  const NAME_WIDTH = 84;
  const LANE = 24;
  const AXIS = 22;
  const MOST_LANES = 400;
  let from = 0;
  let to = WALL;
  let width = 0;

  const zoomBar = make("div", { class: "end" },
    make("button", { title: "Zoom out (−)", "aria-label": "Zoom out", onclick: () => zoom(2) }, "−"),
    make("button", { title: "Zoom in (+)", "aria-label": "Zoom in", onclick: () => zoom(0.5) }, "+"),
    make("button", { title: "Show all (0)", onclick: () => show(0, WALL) }, "All"));
  const box = section("Timeline", zoomBar);
  box.id = "timeline";
  const lanesBox = box.appendChild(make("div", { class: "lanes", tabindex: "0", role: "group", "aria-label": "What ran when, by worker" }));
  const chartBox = box.appendChild(make("div", { class: "chart" }));
  const seen = new Set();
  for (const task of TASKS) {
    if (task.path.length > DEPTH) continue; // part of the task that runs its graph
    for (const span of task.spans) if (span.reason > 0) seen.add(span.reason);
  }
  box.append(make("p", { class: "key" },
    make("span", {}, make("i", { class: "busy" }), "running"),
    make("span", {}, make("i", { class: "line" }), `${DATA.workers} workers`),
    ...[...seen].sort().map((reason) => make("span", {}, make("i", { class: `wait-${REASONS[reason]}` }), `waiting for ${REASON_WORDS[reason]}`))));

  const x = (moment) => NAME_WIDTH + ((moment - from) / (to - from)) * (width - NAME_WIDTH - 8);
  const moment = (pixel) => from + ((pixel - NAME_WIDTH) / (width - NAME_WIDTH - 8)) * (to - from);

  function show(start, end) {
    const least = WALL / 5000;
    const length = Math.min(Math.max(end - start, least), WALL);
    from = Math.min(Math.max(start, 0), WALL - length);
    to = from + length;
    render();
  }

  function zoom(factor, around = (from + to) / 2) {
    show(around - (around - from) * factor, around + (to - around) * factor);
  }

  function pan(share) {
    show(from + share * (to - from), to + share * (to - from));
  }

  function ticks() {
    const rough = (to - from) / Math.max(Math.floor(width / 110), 2);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
    const found = [];
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
    return [found, step];
  }

  function axis(height) {
    const [found, step] = ticks();
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    const group = draw("g", {});
    for (const at of found) {
      const label = step >= 60 ? seconds(at) : `${at.toFixed(digits)} s`;
      group.append(
        draw("line", { class: "tick", x1: x(at), x2: x(at), y1: AXIS - 4, y2: height }),
        draw("text", { class: "name", x: x(at), y: 12, "text-anchor": at === 0 ? "start" : "middle" }, label));
    }
    return group;
  }

  // The bars of a lane that can be seen; those too narrow to tell apart become one.
  function bars(lane) {
    const found = [];
    let last = null;
    for (const [task, status, start, end] of lane) {
      if (end < from || start > to) continue;
      const left = Math.max(x(start), NAME_WIDTH);
      const right = Math.min(x(end), width - 8);
      const length = Math.max(right - left, 1);
      if (last && length < 2 && last.count && left - last.right < 1 && last.status === status) {
        last.right = Math.max(last.right, left + length);
        last.count += 1;
        continue;
      }
      last = { task, status, left, right: left + length, start, end, count: length < 2 ? 1 : 0 };
      found.push(last);
    }
    return found;
  }

  function renderLanes() {
    const lanes = DATA.lanes.slice(0, MOST_LANES);
    const strip = chosen.task && chosen.task.spans.length ? 1 : 0;
    const height = AXIS + (lanes.length + strip) * LANE + 4;
    const svg = draw("svg", { width, height, role: "img", "aria-label": "Timeline of the workers" });
    svg.append(axis(height));
    if (strip) svg.append(chosenStrip());
    lanes.forEach(([name, lane], number) => {
      const top = AXIS + (number + strip) * LANE;
      const group = draw("g", { class: "lane" });
      if (number % 2 === 0) group.append(draw("rect", { class: "stripe", x: 0, y: top, width, height: LANE, "fill-opacity": 0.6 }));
      group.append(draw("text", { class: "name", x: 4, y: top + 16 }, cut(name, 13), draw("title", {}, name)));
      for (const bar of bars(lane)) {
        const pixels = bar.right - bar.left;
        const isChosen = chosen.task && chosen.task.index === bar.task && bar.count < 2;
        group.append(draw("rect", {
          class: STATUSES[bar.status] + (isChosen ? " chosen" : ""), x: bar.left, y: top + 3,
          width: Math.max(pixels - (pixels > 5 ? 1 : 0), 1), height: LANE - 6, rx: pixels > 16 ? 3 : 0,
          "data-task": bar.task, "data-count": bar.count > 1 ? bar.count : null,
          "data-start": bar.start, "data-end": bar.end,
        }));
        if (pixels > 44) group.append(draw("text", { class: "label", x: bar.left + 6, y: top + 16 }, cut(TASKS[bar.task].title, Math.floor((pixels - 10) / 6.4))));
      }
      svg.append(group);
    });
    lanesBox.replaceChildren(svg);
    if (DATA.lanes.length > MOST_LANES) lanesBox.append(make("p", { class: "about" }, `… and ${DATA.lanes.length - MOST_LANES} more lanes.`));
  }

  // What the chosen task waited for, and when it ran.
  function chosenStrip() {
    const group = draw("g", { class: "strip" }, draw("text", { class: "name", x: 4, y: AXIS + 16 }, "chosen"));
    for (const span of chosen.task.spans) {
      if (span.end < from || span.start > to) continue;
      const left = Math.max(x(span.start), NAME_WIDTH);
      const right = Math.min(x(span.end), width - 8);
      const isRun = span.reason < 0;
      group.append(draw("rect", {
        class: isRun ? STATUSES[span.status] : `wait-${REASONS[span.reason]}`,
        x: left, width: Math.max(right - left, 1), y: AXIS + (isRun ? 3 : 8), height: LANE - (isRun ? 6 : 16),
      }, draw("title", {}, `${waitWords(span)}: ${seconds(span.end - span.start)}`)));
    }
    return group;
  }

  // For each column of pixels the mean number of tasks in a state, by time.
  function columns(count, wanted) {
    const sums = new Float64Array(count + 1);
    const scale = count / (to - from);
    for (const task of TASKS) {
      if (task.path.length > DEPTH) continue;
      for (const span of task.spans) {
        if (!wanted(span)) continue;
        const start = Math.max((span.start - from) * scale, 0);
        const end = Math.min((span.end - from) * scale, count);
        if (end <= start) continue;
        // `sums` holds differences of a line: two parts of columns, and whole ones between.
        const first = Math.floor(start);
        const last = Math.floor(end);
        if (first === last) {
          sums[first] += end - start;
          sums[first + 1] -= end - start;
        } else {
          sums[first] += first + 1 - start;
          sums[first + 1] += 1 - (first + 1 - start);
          sums[last] += end - last - 1;
          if (last + 1 <= count) sums[last + 1] -= end - last;
        }
      }
    }
    let sum = 0;
    return Array.from(sums.subarray(0, count), (difference) => (sum += difference));
  }

  function area(below, above, left, y, name) {
    const forth = above.map((value, column) => `${left + column},${y(value).toFixed(1)}H${left + column + 1}`);
    const back = below.map((value, column) => `${left + column + 1},${y(value).toFixed(1)}H${left + column}`).reverse();
    return draw("path", { class: name, d: `M${forth.join("L")}L${back.join("L")}Z` });
  }

  function panel(top, height, title, layers, limit) {
    const count = Math.max(Math.floor(width - NAME_WIDTH - 8), 1);
    let below = new Array(count).fill(0);
    const stacked = layers.map(([name, wanted]) => {
      const values = columns(count, wanted);
      const above = values.map((value, column) => Math.max(value, 0) + below[column]);
      const layer = [name, below, above];
      below = above;
      return layer;
    });
    const most = Math.max(limit || 0, Math.ceil(Math.max(...below, 0)), 1);
    const y = (value) => top + height - (value / most) * (height - 8);
    const group = draw("g", { class: "panel" },
      draw("text", { class: "name", x: 4, y: top + 18 }, title),
      draw("text", { class: "name", x: 4, y: top + 34 }, `up to ${most}`),
      draw("line", { class: "tick", x1: NAME_WIDTH, x2: width - 8, y1: top + height, y2: top + height }));
    for (const [name, low, high] of stacked) group.append(area(low, high, NAME_WIDTH, y, name));
    if (limit) group.append(draw("path", { class: "limit", d: `M${NAME_WIDTH},${y(limit)}H${width - 8}` }));
    return group;
  }

  function renderChart() {
    const reasons = [...seen].sort();
    const height = reasons.length ? 126 : 66;
    const svg = draw("svg", { width, height, role: "img", "aria-label": "Workers in use and tasks that waited, over time" });
    svg.append(panel(0, 56, "running", [["busy", (span) => span.reason < 0]], DATA.workers));
    if (reasons.length) {
      svg.append(panel(62, 56, "waiting", reasons.map((reason) => [`wait-${REASONS[reason]}`, (span) => span.reason === reason])));
    }
    chartBox.replaceChildren(svg);
  }

  function render() {
    width = Math.max(lanesBox.clientWidth, 240);
    renderLanes();
    renderChart();
  }

  lanesBox.addEventListener("pointermove", (event) => {
    const target = event.target.closest("rect[data-task]");
    if (!target || dragged) return hideTip();
    const task = TASKS[target.dataset.task];
    const many = target.dataset.count ? `\nand ${target.dataset.count - 1} more that are too short to see; zoom in` : "";
    const length = target.dataset.end - target.dataset.start;
    showTip(event, `${task.title}\n${STATUSES[task.status]}, ${seconds(length)}, from ${seconds(+target.dataset.start)}${many}`);
  });
  lanesBox.addEventListener("pointerleave", hideTip);
  lanesBox.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.shiftKey) return;
    event.preventDefault();
    zoom((event.deltaY || event.deltaX) > 0 ? 1.3 : 1 / 1.3, moment(event.offsetX));
  }, { passive: false });

  // A drag moves the timeline; a click chooses a task.
  let grip = null;
  let dragged = false;
  lanesBox.addEventListener("pointerdown", (event) => {
    grip = { at: event.clientX, from, to };
    dragged = false;
  });
  addEventListener("pointermove", (event) => {
    if (!grip) return;
    const move = event.clientX - grip.at;
    if (Math.abs(move) > 4) dragged = true;
    if (dragged) show(grip.from - (move / width) * (grip.to - grip.from), grip.to - (move / width) * (grip.to - grip.from));
  });
  addEventListener("pointerup", () => (grip = null));
  lanesBox.addEventListener("click", (event) => {
    const target = event.target.closest("rect[data-task]");
    if (target && !dragged) openDetails(TASKS[target.dataset.task]);
  });

  watchers.push(() => renderLanes());
  new ResizeObserver(() => {
    if (Math.max(lanesBox.clientWidth, 240) !== width) render();
  }).observe(box);
  return { zoom, pan, all: () => show(0, WALL), render };
})();
