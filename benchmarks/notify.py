"""What telling people costs a run: with channels that hang, fail and answer, and with none.

python benchmarks/notify.py

Each run has failed tasks, so a message is due for each of them. A ledger costs one more commit per
run, for the row of the outbox; "raw" is that commit alone.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import figures

from ttasks import SQLiteStore, Task, TaskContext, TaskExecutor, TaskGraph, TaskType
from ttasks.notify import Message, Notifier

NOOP = TaskType("noop")


def noop(context: TaskContext) -> None:
    if context.payload == 0:
        raise ValueError("the first task always fails")


class Channels:
    """One that hangs until the end, one that raises at once, one that takes everything."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.called = threading.Event()
        self.taken = threading.Semaphore(0)

    def hangs(self, message: Message) -> None:
        self.called.set()
        self.let_go.wait()

    def fails(self, message: Message) -> None:
        raise OSError("always down")

    def takes(self, message: Message) -> None:
        self.taken.release()


def milliseconds_per_run(size: int, runs: int, *, told: bool, ledger: bool) -> float:
    """How long a run takes, from the call of ``run`` to its return."""
    channels = Channels()
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "ledger.db") if ledger else None
        with store or nullcontext(), TaskExecutor(store) as executor:
            executor.register(NOOP, noop)
            notifier = None
            if told:
                notifier = Notifier(executor, [channels.hangs, channels.fails, channels.takes])
                run(executor, 1)
                assert channels.called.wait(10)
                assert channels.taken.acquire(timeout=10)
            took = 0.0
            for _ in range(runs):
                took += run(executor, size)
                # The message is made on another thread, here not beside the next run.
                assert notifier is None or channels.taken.acquire(timeout=10)
            if notifier is not None:
                assert notifier.waiting
                notifier.close(0)
            channels.let_go.set()
    return took / runs * 1e3


def run(executor: TaskExecutor, size: int) -> float:
    graph = TaskGraph("noop", key="noop")
    for number in range(size):
        graph.add(Task(f"task-{number}", number, NOOP))
    begin = time.perf_counter()
    graph.run(executor, 4)
    return time.perf_counter() - begin


def milliseconds_to_queue(runs: int) -> float:
    """The row of the outbox for three channels, and nothing else."""
    with tempfile.TemporaryDirectory() as folder, SQLiteStore(Path(folder) / "ledger.db") as store:
        store.outbox.add("run", "first", ["a", "b", "c"], 0)
        begin = time.perf_counter()
        for number in range(runs):
            store.outbox.add("run", f"msg_{number}", ["a", "b", "c"], 0)
        return (time.perf_counter() - begin) / runs * 1e3


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=7).parse_args()
    logging.getLogger("ttasks").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", RuntimeWarning)
    table = figures.Table(options)
    runs = 5 if options.quick else 20
    for ledger in (False, True):
        for size in (10, 1000):
            sides: dict[str, Callable[[], float]] = {
                str(told): lambda told=told, size=size, ledger=ledger: milliseconds_per_run(
                    size, runs, told=told, ledger=ledger
                )
                for told in (False, True)
            }
            times = table.in_turns(sides)
            where = "ledger" if ledger else "no store"
            work = f"run of {size} no-op tasks, {where}, told / not told"
            table.row(work, "ms/run", times["True"], times["False"])
    values = [milliseconds_to_queue(runs * 10) for _ in range(options.repeat)]
    table.row("queueing a message for three channels", "ms", values)
    table.close()


if __name__ == "__main__":
    main()
