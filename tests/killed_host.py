"""The script whose interpreter `test_kill` kills: a graph of 44 commands with a ledger, resumed.

    python killed_host.py FOLDER POINT COUNT

It kills itself with SIGKILL when it passes the point of that name for the COUNT-th time. The points
are functions of the library that are wrapped here; the library itself knows nothing of them. For
"none" it runs to the end.

What it says, a line each: "begun" with the first STARTED event, "done TITLE" after the SUCCEEDED
event of a task was delivered, "ended" at the end of an ok run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ttasks import SQLiteStore, Task, TaskEvent, TaskEventType, TaskExecutor, TaskGraph, trees
from ttasks.commands.spawn import Child
from ttasks.engine import resume
from ttasks.engine.bus import EventBus
from ttasks.engine.recorder import Recorder
from ttasks.stores.sqlite import ledger, store, transitions
from ttasks.stores.sqlite.graphs import LedgerGraphs
from ttasks.stores.sqlite.writer import Writer

KEY = "killed"
LAYERS, WIDTH = 8, 5

POINTS: dict[str, tuple[Any, str, int]] = {
    # name: where the function is, what it is called, how often a run passes it at most
    "graph-saved": (LedgerGraphs, "save", 1),
    "committed": (Writer, "_commit", 90),
    "task-written": (store, "update_state", 86),
    "event-written": (transitions, "insert_events", 86),
    "recorded": (store.SQLiteStore, "record", 86),
    "delivered": (EventBus, "deliver", 86),
    "command-started": (Child, "start", 43),
    "orphans-ended": (trees, "end_orphans", 1),
    "interruption-written": (Recorder, "write", 2),
    "interruptions-noted": (resume, "end_interrupted", 1),
    "adopted": (resume, "adopt", 1),
    "checked": (resume, "check_not_running", 1),
}
"""Every one of them stands for two points: "before NAME" and "after NAME"."""


def build(folder: Path) -> TaskGraph:
    graph = TaskGraph("killed", key=KEY)
    log = folder / "log"
    above: list[Task] = []
    for layer in range(LAYERS):
        row = []
        for at in range(WIDTH):
            number = layer * WIDTH + at
            script = f"echo {number} >> {log}"
            task = Task.bash(script, title=str(number))
            row.append(graph.add(task, after=[above[at], above[(at + 1) % WIDTH]] if above else []))
        above = row
    for name in ("x", "y", "z"):
        graph.add(Task.bash(f"echo {name} >> {log}", title=name))
    everything = list(graph)
    graph.add(Task.bash(f"echo last >> {log}", title="last"), after=everything, finally_=True)
    return graph


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()


class Trap:
    """Kills this process at a point."""

    def __init__(self, point: str, count: int) -> None:
        self.when, _, name = point.partition(" ")
        self.left = count
        self.lock = threading.Lock()
        where, attribute, _ = POINTS[name]
        self.original: Callable[..., Any] = getattr(where, attribute)
        # A function, so that it becomes a method where it replaces one.
        setattr(where, attribute, lambda *args, **options: self(*args, **options))

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self.when == "before":
            self.step()
        result = self.original(*args, **options)
        if self.when == "after":
            self.step()
        return result

    def step(self) -> None:
        with self.lock:
            self.left -= 1
            if not self.left:
                die()


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def main() -> None:
    folder, point, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    ledger._CHECKPOINT_PAGES = 16  # checkpoints, too, are to be killed
    begun = threading.Event()

    def tell(event: TaskEvent) -> None:
        if event.type is TaskEventType.SUCCEEDED:
            say(f"done {event.task.title}")
        elif event.type is TaskEventType.STARTED and not begun.is_set():
            begun.set()
            say("begun")

    if point != "none":
        Trap(point, count)
    with (
        SQLiteStore(folder / "ledger") as where,
        TaskExecutor(where, strict_persistence=True) as executor,
    ):
        executor.events.subscribe(tell, types=[TaskEventType.STARTED, TaskEventType.SUCCEEDED])
        graph = build(folder).run(executor, resume=True)
        graph.raise_for_failure()
    say("ended")


if __name__ == "__main__":
    main()
