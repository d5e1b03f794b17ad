"""The scripts of `crash/test_schedules.py`: processes that share the schedules of a ledger.

    python schedule_host.py die FOLDER POINT KEY

runs the slot of second 10 by a fake clock, and kills itself at a point: "claimed", "begun",
"running", "run" or "ended". The graph has a key if KEY is not empty.

    python schedule_host.py live FOLDER

runs what is due by the real clock until it is told to stop by a line on stdin, or is killed.

Tasks append to the file ``log`` in the folder: a line for each task that has run, with its slot.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph, current_context
from ttasks.schedule import Scheduler
from ttasks.stores.sqlite.slots import LedgerSlots
from ttasks.testing import FakeClock

LIVE_SECONDS = 0.05
NAMES = ("a", "b", "c")


def note(folder: Path, text: str) -> None:
    fd = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build(folder: Path, key: str, second: Callable[[], object]) -> TaskGraph:
    """Three tasks in a row; the second one is where a process dies, if it is to."""
    graph = TaskGraph("work", key=key or None)
    first = graph.add(Task.python(note, [folder, "first"], key="first", title="first"))
    middle = graph.add(Task.python(second, key="second", title="second"), after=first)
    graph.add(Task.python(note, [folder, "third"], key="third", title="third"), after=middle)
    return graph


def second() -> None:
    """Nothing."""


def die(folder: Path, point: str, key: str) -> None:
    def killed(work: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if after:
                work(*args, **kwargs)
            kill()

        return call

    if point == "claimed":
        LedgerSlots.claim = killed(LedgerSlots.claim, after=True)  # type: ignore[method-assign]
    elif point == "begun":
        LedgerSlots.begin = killed(LedgerSlots.begin, after=True)  # type: ignore[method-assign]
    elif point in ("run", "ended"):
        LedgerSlots.end = killed(  # type: ignore[method-assign]
            LedgerSlots.end, after=point == "ended"
        )
    clock = FakeClock()
    with SQLiteStore(folder / "ledger") as store, TaskExecutor(store, clock=clock) as executor:
        scheduler = Scheduler(executor)
        step = kill if point == "running" else second
        scheduler.every(10, name="s").do(build, folder, key, step)
        clock.advance(10)
        for future in scheduler.tick():
            future.result()


def live(folder: Path) -> None:
    def work(name: str) -> None:
        context = current_context()
        assert context is not None
        context.wait_cancelled(0.02)  # so that it may be killed meanwhile
        note(folder, f"ran {name} {os.getpid()}")

    def make(name: str) -> TaskGraph:
        return TaskGraph.of([Task.python(work, [name])], name)

    with SQLiteStore(folder / "ledger") as store, TaskExecutor(store) as executor:
        scheduler = Scheduler(executor)
        for name in NAMES:
            scheduler.every(LIVE_SECONDS, name=name, overlap="allow").do(make, name)
        with scheduler:
            print("ready", flush=True)
            sys.stdin.readline()
    print("ended", flush=True)


if __name__ == "__main__":
    import schedule_host  # the functions of tasks are known by the name of their module

    where = Path(sys.argv[2])
    if sys.argv[1] == "die":
        schedule_host.die(where, *sys.argv[3:])
    else:
        schedule_host.live(where)
