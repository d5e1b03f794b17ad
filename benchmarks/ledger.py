"""What a ledger costs: a whole run, its parts, and opening and listing a large one.

The peer is the least that a store can do: a row of three columns that plain `sqlite3` upserts in
autocommit, in a file with the same settings. A run is compared with two of them, because a task is
written twice, when it starts and when it ends; its parts are compared with one. Beside the time by
the clock stands that of the processor, which other work on the machine changes less.

    python benchmarks/ledger.py
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import figures
from graphs import LIFECYCLE, NOOP, WORKERS, layered, noop

from ttasks import SQLiteStore, Task, TaskEvent, TaskEventType, TaskExecutor, TaskGraph, TaskStatus

UPSERT = "INSERT INTO t VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET status=excluded.status"
THREADS = 8
Seconds = tuple[float, float]
"""By the clock, and of the processor for all threads."""


def timed(action: Callable[[], object]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def tasks_and_graph(count: int) -> tuple[list[Task], TaskGraph]:
    tasks = [Task(f"task {at}", f"payload {at}", NOOP) for at in range(count)]
    graph = TaskGraph("layered")
    for task, upstreams in zip(tasks, layered(count), strict=True):
        graph.add(task, after=[tasks[up] for up in upstreams])
    return tasks, graph


def raw(count: int, folder: Path) -> dict[str, Seconds]:
    """The upsert of a row that exists."""
    tasks, _graph = tasks_and_graph(count)
    with closing(sqlite3.connect(folder / "raw", isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute("PRAGMA wal_autocheckpoint=4096")
        file.execute("CREATE TABLE t (id TEXT PRIMARY KEY, status TEXT, title TEXT)")

        def upsert(status: str) -> None:
            for task in tasks:
                file.execute(UPSERT, (task.id, status, task.title))

        upsert("pending")
        return {"raw": timed(lambda: upsert("running"))}


def parts(count: int, folder: Path) -> dict[str, Seconds]:
    """What a store does, without an engine."""
    tasks, graph = tasks_and_graph(count)
    with SQLiteStore(folder / "parts") as store:

        def save(some: list[Task]) -> None:
            for task in some:
                store.tasks.save(task)

        def record() -> None:
            now, before, after = datetime.now(UTC), TaskStatus.PENDING, TaskStatus.RUNNING
            for task in tasks:
                event = TaskEvent(
                    TaskEventType.STARTED, task.id, task, now, before, after, attempt=1
                )
                store.record(task, event)

        took = {"save, new": timed(lambda: save(tasks))}
        for task in tasks:
            task.transition_to(TaskStatus.RUNNING)
        took["save, known"] = timed(lambda: save(tasks))
        took["record with an event"] = timed(record)
        shares = [tasks[at::THREADS] for at in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            took[f"save, {THREADS} threads"] = timed(lambda: list(pool.map(save, shares)))
        took["save as a graph"] = timed(lambda: store.graphs.save(graph))
    return took


def run(count: int, folder: Path) -> dict[str, Seconds]:
    """A run with a ledger, 4 workers, one subscriber."""
    _tasks, graph = tasks_and_graph(count)
    with SQLiteStore(folder / "run") as store, TaskExecutor(store) as executor:
        executor.register(NOOP, noop)
        executor.events.subscribe(noop, types=LIFECYCLE)
        took = timed(lambda: graph.run(executor, max_workers=WORKERS))
    assert graph.ok
    return {"run": took}


def large(table: figures.Table, count: int, folder: Path) -> None:
    """Open and list a ledger."""
    _tasks, graph = tasks_and_graph(count)
    with SQLiteStore(folder / "large") as store:
        store.graphs.save(graph)
    stores: list[SQLiteStore] = []
    opening = timed(lambda: stores.append(SQLiteStore(folder / "large")))[0] * 1e3
    table.row(f"open a ledger of {count} tasks", "ms", [opening], at_most=100)
    with stores[0] as store:
        pages: dict[str, Callable[[], object]] = {
            "list newest": store.tasks.list,
            "list oldest pending": partial(
                store.tasks.list, TaskStatus.PENDING, newest_first=False
            ),
            "list failed": partial(store.tasks.list, TaskStatus.FAILED),
            "counts": store.tasks.counts,
        }
        for name, page in pages.items():
            table.row(name, "ms", [timed(page)[0] * 1e3 for _ in range(3)], at_most=50)


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=5).parse_args()
    count = 2000 if options.quick else 10_000
    table = figures.Table(options)
    walls: defaultdict[str, list[float]] = defaultdict(list)
    cpus: defaultdict[str, list[float]] = defaultdict(list)

    def side(measure: Callable[[int, Path], dict[str, Seconds]]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            for name, (wall, cpu) in measure(count, Path(folder)).items():
                walls[name].append(wall / count * 1e6)
                cpus[name].append(cpu / count * 1e6)
        return 0.0

    ours = {function.__name__: partial(side, function) for function in (run, parts)}
    table.in_turns(ours, {"raw": partial(side, raw)})
    two = {
        clock: [2 * each for each in clock_times["raw"]]
        for clock, clock_times in (("wall", walls), ("cpu", cpus))
    }
    work = f"run of {count} tasks / two raw upserts"
    table.row(work, "us/task", walls["run"], two["wall"], at_most=5.5)
    table.row("the same, processor", "us/task", cpus["run"], two["cpu"])
    for name in [name for name in walls if name not in ("run", "raw")]:
        table.row(f"{name} / raw upsert", "us/task", walls[name], walls["raw"])
    with tempfile.TemporaryDirectory() as folder:
        large(table, 10 * count, Path(folder))
    table.close()


if __name__ == "__main__":
    main()
