"""How long the command line takes to start, and to list and show runs of a large ledger.

All sides are whole processes and take turns. The peers are found in the folders of ``--peers``,
for example that of a virtual environment with nox, doit and invoke; what is missing is left out.

    python benchmarks/cli.py --peers /path/to/venv/bin
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

from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph

PEERS = ("nox", "doit", "invoke")


def nothing() -> None:
    """Do nothing."""


def fill(path: str, runs: int, tasks: int) -> None:
    """Make a ledger of some runs of a graph."""
    with SQLiteStore(path) as store, TaskExecutor(store) as executor:
        for _ in range(runs):
            graph = TaskGraph("large", key="large")
            before: Task | None = None
            for number in range(tasks):
                after = [before] if before is not None and number % 10 else []
                before = graph.add(Task.python(nothing, title=f"task {number}"), after=after)
            graph.run(executor, 2)


def command(*words: str, cwd: str) -> Callable[[], float]:
    """A side that runs a command and returns the milliseconds that it took."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cwd}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run() -> float:
        begin = time.perf_counter()
        subprocess.run(
            words,
            check=True,
            cwd=cwd,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=300,
        )
        return (time.perf_counter() - begin) * 1e3

    run()  # compiles
    return run


def main() -> None:
    """Measure and print."""
    parser = figures.parser(__doc__, repeat=11)
    parser.add_argument("--peers", action="append", default=[], help="folder with peers")
    options = parser.parse_args()
    if options.quick:
        options.repeat = 3
    table = figures.Table(options)
    scale = 100 if options.quick else 1
    with tempfile.TemporaryDirectory() as folder:
        one, many = str(Path(folder, "one.db")), str(Path(folder, "many.db"))
        fill(one, 1, 100_000 // scale)
        fill(many, 100, 1000 // scale)
        python = sys.executable
        ttasks = (python, "-m", "ttasks")
        ours = {
            **{
                f"start: {words}": command(*ttasks, *words.split(), cwd=folder)
                for words in ("--version", "--help", "completion bash", "run --help")
            },
            "list, 100 runs of 1,000 tasks": command(*ttasks, "list", "--store", many, cwd=folder),
            "list, a run of 100,000 tasks": command(*ttasks, "list", "--store", one, cwd=folder),
            "show, 100 runs of 1,000 tasks": command(*ttasks, "show", "--store", many, cwd=folder),
            "show, a run of 100,000 tasks": command(*ttasks, "show", "--store", one, cwd=folder),
        }
        peers = {"python -c pass": command(python, "-c", "pass", cwd=folder)}
        places = os.pathsep.join(options.peers)
        for name in PEERS:
            found = shutil.which(name, path=places) if places else None
            if found:
                peers[f"{name} --version"] = command(found, "--version", cwd=folder)
        values = table.in_turns(ours, peers)
    for name in peers:
        if name in values:
            table.row(name, "ms", values[name])
    for name in ours:
        most = 150 if name.startswith("start: ") else 300
        table.row(name, "ms", values[name], at_most=most)
    table.close()


if __name__ == "__main__":
    main()
