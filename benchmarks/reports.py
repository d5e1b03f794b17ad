"""What a report of a large run costs: seconds, memory and bytes.

The run is a graph of tasks in layers that print eight lines each; every tenth of the last layer
fails. Each measurement is a process of its own. With ``--browser`` Chromium opens the page and
tells how long it took until the page could be used.

    python benchmarks/reports.py
    python benchmarks/reports.py --browser
"""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import figures
import psutil
from graphs import layered

from ttasks import RunReport, Task, TaskContext, TaskExecutor, TaskGraph, TaskType

NOOP = TaskType("noop")
FORMATS = ("json", "junit", "html", "markdown", "text", "trace", "dot", "mermaid")
BUDGET_FORMATS = ("json", "junit", "html")


def ran(size: int) -> TaskGraph:
    """A graph of so many tasks that has run."""
    graph = TaskGraph(f"{size} tasks")
    tasks: list[Task] = []
    for number, ends in enumerate(layered(size)):
        fails = number >= size - 100 and number % 10 == 0
        task = Task(f"task {number:05d}", (number, fails), NOOP)
        tasks.append(graph.add(task, after=[tasks[end] for end in ends]))
    with TaskExecutor() as executor:
        executor.register(NOOP, handle)
        graph.run(executor, max_workers=4)
    return graph


def handle(context: TaskContext) -> str:
    """Print eight lines, or fail."""
    number, fails = context.payload
    if fails:
        raise ValueError(f"number {number} is not wanted")
    return "".join(f"line {line} of task {number}\n" for line in range(8))


def measure(size: int, folder: str | None) -> dict[str, float]:
    """Seconds for the facts, the report and each format, bytes of each, and MB of memory."""
    graph = ran(size)
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    found: dict[str, float] = {}
    begin = time.perf_counter()
    facts = graph.facts()
    found["facts"] = time.perf_counter() - begin
    begin = time.perf_counter()
    report = RunReport(facts)
    found["report"] = time.perf_counter() - begin
    peak = 0
    for name in FORMATS:
        begin = time.perf_counter()
        text = getattr(report, f"to_{name}")()
        found[name] = time.perf_counter() - begin
        if name in BUDGET_FORMATS:
            peak = max(peak, process.memory_info().rss - before)
        found[f"{name} bytes"] = len(text.encode())
    found["megabytes"] = peak / 1e6
    if folder is not None:
        report.write(Path(folder) / "report.html")
    return found


def in_another_process(size: int, *options: str) -> dict[str, float]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--size", str(size), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def seconds_to_open(size: int) -> float:
    """Seconds from the start of navigation until Chromium has drawn the page and is idle."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as folder:
        in_another_process(size, "--folder", folder)
        driver: Any = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.get("about:blank")
            driver.get((Path(folder) / "report.html").as_uri())
            milliseconds = driver.execute_async_script(
                "const done = arguments[0]; requestAnimationFrame(() => "
                "setTimeout(() => done(performance.now())))"
            )
        finally:
            driver.quit()
    return float(milliseconds) / 1e3


def main() -> None:
    """Measure and print."""
    parser = figures.parser(__doc__, repeat=3)
    parser.add_argument("--size", type=int, help="measure in this process, print JSON")
    parser.add_argument("--folder", help="with --size: also write report.html there")
    parser.add_argument("--browser", action="store_true", help="open the pages in Chromium")
    options = parser.parse_args()
    if options.size is not None:
        json.dump(measure(options.size, options.folder), sys.stdout)
        return
    table = figures.Table(options)
    sizes = (100, 1_000) if options.quick else (100, 1_000, 10_000)
    for size in sizes:
        rounds = [in_another_process(size) for _ in range(options.repeat)]
        values = {name: [found[name] for found in rounds] for name in rounds[0]}
        for name in ("facts", "report", *FORMATS):
            table.row(f"{name}, {size} tasks", "s", values[name])
        together = [sum(f[n] for n in ("facts", "report", *BUDGET_FORMATS)) for f in rounds]
        table.row(f"facts, JSON, JUnit, HTML, {size} tasks", "s", together, at_most=2.0)
        table.row(f"memory of these, {size} tasks", "MB", values["megabytes"], at_most=200)
        most = 3_000_000 if size <= 1_000 else None
        table.row(f"bytes of HTML, {size} tasks", "bytes", values["html bytes"], at_most=most)
        markdown = values["markdown bytes"]
        table.row(f"bytes of Markdown, {size} tasks", "bytes", markdown, at_most=900_000)
        if options.browser:
            opened = [seconds_to_open(size) for _ in range(options.repeat)]
            most_seconds = 1.0 if size <= 1_000 else None
            table.row(f"page opens, {size} tasks", "s", opened, at_most=most_seconds)
    table.close()


if __name__ == "__main__":
    main()
