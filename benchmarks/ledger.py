"""What a ledger costs: saving, recording, a whole run, and opening and listing a large one.

The peer is the least that a store can do: a row of three columns upserted by plain `sqlite3` in
autocommit, into a file with the same settings. Repetitions alternate between the two, so that what
else the machine does hits both; medians are compared. Beside the time on the clock stands that of
the processor, which other work on the machine changes less.

    python benchmarks/ledger.py [tasks] [repetitions]
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ttasks import (
    SQLiteStore,
    Task,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
)

KIND = TaskType("noop")
UPSERT = "INSERT INTO t VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET status=excluded.status"
THREADS = 8


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def new_tasks(count: int) -> list[Task]:
    return [Task(f"task {at}", f"payload {at}", KIND) for at in range(count)]


class Took(NamedTuple):
    """Seconds by the clock, and of the processor for all threads."""

    wall: float
    cpu: float


def timed(action: Callable[[], object]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return Took(time.perf_counter() - wall, time.process_time() - cpu)


def raw(count: int) -> dict[str, Took]:
    tasks = new_tasks(count)
    with folder() as path, closing(sqlite3.connect(path / "raw", isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute("PRAGMA wal_autocheckpoint=4096")
        file.execute("CREATE TABLE t (id TEXT PRIMARY KEY, status TEXT, title TEXT)")

        def upsert(status: str) -> None:
            for task in tasks:
                file.execute(UPSERT, (task.id, status, task.title))

        return {
            "raw insert": timed(lambda: upsert("pending")),
            "raw update": timed(lambda: upsert("running")),
        }


def stored(count: int) -> dict[str, Took]:
    tasks = new_tasks(count)
    with folder() as path, SQLiteStore(path / "ledger") as store:

        def save(some: list[Task]) -> None:
            for task in some:
                store.tasks.save(task)

        def record() -> None:
            for task in tasks:
                event = TaskEvent(
                    TaskEventType.STARTED,
                    task.id,
                    task,
                    datetime.now(UTC),
                    TaskStatus.PENDING,
                    TaskStatus.RUNNING,
                    attempt=1,
                )
                store.record(task, event)

        seconds = {"save, new": timed(lambda: save(tasks))}
        for task in tasks:
            task.transition_to(TaskStatus.RUNNING)
        seconds["save, known"] = timed(lambda: save(tasks))
        seconds["record with an event"] = timed(record)
        parts = [tasks[at::THREADS] for at in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            seconds[f"save, {THREADS} threads"] = timed(lambda: list(pool.map(save, parts)))
        graph = TaskGraph()
        for task in tasks:
            graph.add(task)
        seconds["save as a graph"] = timed(lambda: store.graphs.save(graph))
        return seconds


def layered(count: int) -> TaskGraph:
    graph = TaskGraph("layered")
    tasks = new_tasks(count)
    for at, task in enumerate(tasks):
        graph.add(task, after=[tasks[at - 100 - step] for step in range(3) if at >= 100 + step])
    return graph


def run(count: int) -> dict[str, Took]:
    seconds = {}
    with folder() as path, SQLiteStore(path / "ledger") as store:
        for name, where in (("run, no store", None), ("run, ledger", store)):
            graph = layered(count)
            with TaskExecutor(where) as executor:
                executor.register(KIND, lambda context: None)
                seconds[name] = timed(lambda: graph.run(executor))  # noqa: B023
            assert graph.ok
    return seconds


def large(count: int) -> None:
    with folder() as path:
        graph = layered(count)
        with SQLiteStore(path / "ledger") as store:
            store.graphs.save(graph)
        stores: list[SQLiteStore] = []
        opening = timed(lambda: stores.append(SQLiteStore(path / "ledger")))
        with stores[0] as store:
            pages = {
                "newest": lambda: store.tasks.list(),
                "oldest pending": lambda: store.tasks.list(TaskStatus.PENDING, newest_first=False),
                "failed": lambda: store.tasks.list(TaskStatus.FAILED),
                "counts": store.tasks.counts,
            }
            print(f"\nA ledger of {count} tasks, milliseconds")
            print(f"  {'open':22} {opening.wall * 1e3:8.1f}   (budget 100)")
            for name, page in pages.items():
                took = min(timed(page).wall for _ in range(3)) * 1e3
                print(f"  {'list ' + name:22} {took:8.1f}   (budget 50)")


def median(values: list[Took]) -> Took:
    return Took(
        statistics.median(took.wall for took in values),
        statistics.median(took.cpu for took in values),
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    samples: dict[str, list[Took]] = {}
    for _ in range(repetitions):
        for measure in (raw, stored, run):
            for name, took in measure(count).items():
                each = Took(took.wall / count * 1e6, took.cpu / count * 1e6)
                samples.setdefault(name, []).append(each)
    print(f"{count} tasks, microseconds per task, medians of {repetitions}")
    print(f"  {'':22} {'clock':>8} {'processor':>10} {'(best)':>9}")
    for name, values in samples.items():
        wall, cpu = median(values)
        best = min(took.cpu for took in values)
        print(f"  {name:22} {wall:8.1f} {cpu:10.1f} {best:9.1f}")
    ledger, upserts = median(samples["run, ledger"]), median(samples["raw update"])
    print(
        f"a run costs {ledger.wall:.0f}, {ledger.cpu:.0f} of the processor (budget 250); "
        f"two raw upserts cost {2 * upserts.wall:.0f}, {2 * upserts.cpu:.0f}"
    )
    large(100_000)


if __name__ == "__main__":
    main()
