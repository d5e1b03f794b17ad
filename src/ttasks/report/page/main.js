// The tools at the top, the keys, and the first drawing.

const KEYS = [
  ["/", "search"], ["j  k", "next and previous task"], ["Enter", "open the task"], ["Escape", "close, or clear the search"],
  ["f", "failed tasks only"], ["+  −  0", "zoom the timeline in, out, show all"], ["←  →", "move the timeline"],
  ["t  g  l", "go to timeline, graph, list of tasks"], ["d", "dark or light"], ["?", "these keys"],
];
const help = document.body.appendChild(make("dialog", { "aria-label": "Keys" },
  make("h2", {}, "Keys"),
  make("table", {}, ...KEYS.map(([key, text]) => make("tr", {}, make("td", {}, make("kbd", {}, key)), make("td", {}, text)))),
  make("button", { onclick: () => help.close() }, "Close")));

function isDark() {
  const wanted = document.documentElement.style.colorScheme;
  return wanted ? wanted === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function switchTheme() {
  document.documentElement.style.colorScheme = isDark() ? "light" : "dark";
}

document.getElementById("tools").append(
  make("button", { id: "theme", title: "Dark or light (d)", "aria-label": "Dark or light", onclick: switchTheme }, "◐"),
  make("button", { id: "help", title: "Keys (?)", "aria-label": "Keys", onclick: () => help.showModal() }, "?"));

const GO = { t: "timeline", g: "graph", l: "tasks" };
const ACTIONS = {
  "/": () => table.search.focus(),
  "?": () => help.showModal(),
  j: () => table.step(1),
  k: () => table.step(-1),
  Enter: () => chosen.task && openDetails(chosen.task),
  f: () => document.querySelector('[data-filter="failed"]')?.click(),
  d: switchTheme,
  "+": () => timeline.zoom(0.5),
  "=": () => timeline.zoom(0.5),
  "-": () => timeline.zoom(2),
  0: () => timeline.all(),
  ArrowLeft: () => timeline.pan(-0.2),
  ArrowRight: () => timeline.pan(0.2),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const isTyping = event.target === table.search;
  if (event.key === "Escape") {
    if (!panel.hidden) closeDetails();
    else if (isTyping) { table.search.value = ""; table.search.dispatchEvent(new Event("input")); table.search.blur(); }
    return;
  }
  if (isTyping || (event.key === "Enter" && event.target.closest("button, summary, .node"))) return;
  if (event.key in GO) document.getElementById(GO[event.key])?.scrollIntoView({ block: "start" });
  else if (event.key in ACTIONS) ACTIONS[event.key]();
  else return;
  event.preventDefault();
});

timeline.render();
graph.render();
table.render();
const linked = /^#task-(\d+)$/.exec(location.hash);
if (linked && TASKS[linked[1] - 1]) openDetails(TASKS[linked[1] - 1]);
