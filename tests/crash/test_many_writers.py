"""Threads and processes that run graphs on one ledger at once lose nothing and never see a lock."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import ttasks
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph, TaskType

THREADS, PROCESSES, TASKS = 8, 4, 25
KIND = TaskType("noop")

# Each process waits for its line, so that all begin, and make the file, at once.
SCRIPT = """
import sys
sys.path.insert(0, sys.argv[3])
from test_many_writers import work
print("ready", flush=True)
sys.stdin.readline()
work(sys.argv[1], sys.argv[2])
"""


def work(path: str, name: str) -> None:
    """Run a graph in each of some threads, all on one store."""
    barrier = Barrier(THREADS)
    with SQLiteStore(path) as store, TaskExecutor.empty(store, strict_persistence=True) as executor:
        executor.register(KIND, lambda context: context.title)

        def run(number: int) -> None:
            graph = TaskGraph(f"{name} {number}", key=f"{name} {number}")
            above: list[Task] = []
            for at in range(TASKS):
                task = graph.add(Task(f"{name} {number} {at}", at, KIND), after=above[-2:])
                above.append(task)
            barrier.wait()
            graph.run(executor, max_workers=2)
            graph.raise_for_failure()
            assert store.graphs[graph.id].ok

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(run, range(THREADS)))
        assert executor.persistence_errors == executor.graph_persistence_errors == {}


def check(path: Path, names: list[str]) -> None:
    """Everything that they did is there."""
    expected = {
        f"{name} {number} {at}"
        for name in names
        for number in range(THREADS)
        for at in range(TASKS)
    }
    with SQLiteStore(path) as store:
        assert {task.title for task in store.tasks.values() if task.is_succeeded} == expected
        assert len(store.graphs) == len(names) * THREADS
        kinds = Counter((entry.title, entry.type.value) for entry in store.events.read())
        assert kinds == Counter(
            {(title, kind): 1 for title in expected for kind in ("started", "succeeded")}
        )
        assert store.running() == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_threads_that_run_graphs_lose_nothing(tmp_path: Path) -> None:
    work(str(tmp_path / "ledger"), "one")
    check(tmp_path / "ledger", ["one"])


def test_processes_that_run_graphs_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    names = [f"process {number}" for number in range(PROCESSES)]
    source = Path(ttasks.__file__).parents[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT, path, name, Path(__file__).parent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    check(path, names)
