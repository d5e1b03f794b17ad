"""What a console costs: on the thread of a task for each event, and for a graph of no-op tasks.

python benchmarks/console.py

The first rows are the time that a task waits for its subscriber. The others are whole runs: a
console draws in the same process, so what it does competes with the tasks for the interpreter.
"""

from __future__ import annotations

import os
import pty
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, TextIO

import figures

from ttasks import (
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
)
from ttasks.console import console

NOOP = TaskType("noop")
MODES = ("quiet", "plain", "grouped", "stream", "jsonl", "live")


def noop(_context: TaskContext) -> None:
    return None


@contextmanager
def terminal() -> Iterator[TextIO]:
    """A pseudo-terminal that somebody reads as fast as it can be read."""
    master, slave = pty.openpty()

    def read() -> None:
        try:
            while os.read(master, 1 << 16):
                pass
        except OSError:
            pass

    threading.Thread(target=read, daemon=True).start()
    with open(slave, "w", encoding="utf-8") as file:
        yield file


@contextmanager
def nowhere() -> Iterator[TextIO]:
    with open(os.devnull, "w", encoding="utf-8") as file:
        yield file


def made_event(kind: TaskEventType, task: Task, **fields: Any) -> TaskEvent:
    running = TaskStatus.RUNNING
    return TaskEvent(kind, task.id, task, datetime.now(UTC), running, running, attempt=1, **fields)


def microseconds_per_event(kind: TaskEventType, mode: str, number: int, **fields: Any) -> float:
    """What the delivery of an event to a console takes, of a running task."""
    task = Task("noop", None, NOOP)
    with TaskExecutor() as executor, nowhere() as file, console(executor, mode, file=file):
        executor.events.publish(made_event(TaskEventType.STARTED, task))
        event = made_event(kind, task, **fields)
        publish = executor.events.publish
        best = float("inf")
        for _ in range(20):  # of short rounds: between them the writer catches up
            begin = time.perf_counter()
            for _ in range(number):
                publish(event)
            best = min(best, (time.perf_counter() - begin) / number * 1e6)
            time.sleep(0.06)
    return best


def microseconds_per_task(size: int, mode: str | None) -> float:
    """A run of independent no-op tasks; None for no console at all."""
    graph = TaskGraph("noop")
    for number in range(size):
        graph.add(Task(f"task-{number}", None, NOOP))
    with (
        TaskExecutor.empty() as executor,
        terminal() if mode == "live" else nowhere() as file,
    ):
        executor.register(NOOP, noop)
        begin = time.perf_counter()
        with nullcontext() if mode is None else console(executor, mode, file=file):
            graph.run(executor, 4)
        took = time.perf_counter() - begin
    assert graph.ok
    return took / size * 1e6


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=5).parse_args()
    size = 10_000 if options.quick else 100_000
    table = figures.Table(options)
    chunk = {"output_stream": "stdout", "output_chunk": "a line of output\n"}
    kinds: dict[TaskEventType, dict[str, Any]] = {
        TaskEventType.PROGRESS: {"progress_percent": 50.0},
        TaskEventType.OUTPUT: chunk,
    }
    for kind, fields in kinds.items():
        for mode in ("live", "stream"):
            values = [
                microseconds_per_event(kind, mode, 500, **fields) for _ in range(options.repeat)
            ]
            table.row(f"{kind.value} event, {mode}", "us/event", values, at_most=5)
    sides = {
        str(mode): lambda mode=mode: microseconds_per_task(size, mode) for mode in (None, *MODES)
    }
    times = table.in_turns(sides)
    for mode in MODES:
        work = f"{size} no-op tasks, {mode} / no console"
        table.row(work, "us/task", times[mode], times["None"])
    table.close()


if __name__ == "__main__":
    main()
