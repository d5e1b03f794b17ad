"""How long a run takes in which nothing has changed: 1,000 tasks with 10 input files each.

A whole process each: ``ttasks run`` with a ledger, and GNU make, which compares times only, with
the same rules. A file is changed in between to show what a run costs in which one task runs.

    python benchmarks/inputs.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import figures

TASKS, FILES = 1000, 10
PROGRAM = """
from ttasks import Task, TaskGraph

graph = TaskGraph("build", key="build")
for number in range({tasks}):
    graph.add(
        Task.bash(
            f"cat src/{{number}}/* > out/{{number}}",
            key=f"join {{number}}",
            reuse=True,
            inputs=f"src/{{number}}/*",
            outputs=f"out/{{number}}",
        )
    )
"""
RULE = "out/{0}: $(wildcard src/{0}/*)\n\t@cat $^ > $@\n"


def prepare(folder: Path, tasks: int) -> None:
    """Write the inputs, the graph and the Makefile."""
    (folder / "out").mkdir()
    for task in range(tasks):
        place = folder / "src" / str(task)
        place.mkdir(parents=True)
        for number in range(FILES):
            (place / f"{number}.txt").write_text(f"{task} {number}\n" * 50)
    (folder / "build.py").write_text(PROGRAM.format(tasks=tasks))
    names = " ".join(f"out/{task}" for task in range(tasks))
    rules = "".join(RULE.format(task) for task in range(tasks))
    (folder / "Makefile").write_text(f"all: {names}\n{rules}")


def command(*words: str, folder: Path) -> Callable[[], float]:
    """A side that runs a command and returns the seconds that it took."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run() -> float:
        begin = time.perf_counter()
        subprocess.run(words, check=True, cwd=folder, env=environment, capture_output=True)
        return time.perf_counter() - begin

    return run


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=7).parse_args()
    tasks = TASKS
    if options.quick:
        options.repeat, tasks = 3, 100
    table = figures.Table(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, tasks)
        time.sleep(2.1)  # until then the files may change again without getting another time
        ours = command(
            *(sys.executable, "-m", "ttasks", "run", "build.py", "--console", "quiet"),
            folder=folder,
        )
        first = ours()
        sides = {f"{tasks} tasks, {tasks * FILES} files, nothing changed": ours}
        peers = {}
        if shutil.which("make"):
            peers["GNU make -j4, the same"] = command("make", "-j4", folder=folder)
            peers["GNU make -j4, the same"]()
        ours()  # what was written a moment ago is read once more
        time.sleep(2.1)
        ours()
        values = table.in_turns(sides, peers)
    for side in peers:
        table.row(side, "s", values[side])
    table.row("the first run", "s", [first])
    for side in sides:
        table.row(side, "s", values[side], at_most=1.0)
    table.close()


if __name__ == "__main__":
    main()
