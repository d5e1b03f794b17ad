"""Memory per finished task: growth of the resident set from before the graph to after its run.

Each measurement is a process of its own. The graph is layered, its results and events are kept as
in graphs.py.

    python benchmarks/memory.py
"""

from __future__ import annotations

import gc
import subprocess
import sys

import figures
import psutil
from graphs import build, layered, time_run


def bytes_per_task(size: int) -> float:
    """Bytes per finished task, measured in this process."""
    time_run(build(layered(100)))
    edges = layered(size)
    gc.collect()
    before = psutil.Process().memory_info().rss
    graph = build(edges)
    time_run(graph)
    gc.collect()
    return (psutil.Process().memory_info().rss - before) / len(graph)


def in_another_process(size: int) -> float:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--size", str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = figures.parser(__doc__, repeat=3)
    parser.add_argument("--size", type=int, help="measure in this process, print bytes per task")
    options = parser.parse_args()
    if options.size is not None:
        print(bytes_per_task(options.size))
        return
    size = 10_000 if options.quick else 100_000
    table = figures.Table(options)
    found = table.in_turns({"memory": lambda: in_another_process(size)})["memory"]
    table.row(f"memory, {size} tasks", "B/task", found, at_most=1500)
    table.close()


if __name__ == "__main__":
    main()
