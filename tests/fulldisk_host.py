"""The script whose disk `test_full_disk` fills: a graph with a ledger and a limit on its size.

    python fulldisk_host.py FOLDER BYTES HOW STRICT

No file may become larger than BYTES while the graph runs. Then, HOW says: "again" lets files grow
and runs the graph once more with the same executor; "new" does so with another store and executor;
"killed" ends the process by SIGKILL instead; "finish" has no limit from the start.

What it says, a line each: "ran TITLE" when a handler is called, "done TITLE" when its success is
announced, "missed TITLE" if that is not in the ledger although the executor is strict, "again"
between the runs, "stopped" if the store has stopped the run, "ok" if the last run was ok.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from ttasks import (
    SQLiteStore,
    StoreError,
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskType,
)

KIND = TaskType("work")
KEY = "full"
COUNT = 24


def build() -> TaskGraph:
    graph = TaskGraph("full", key=KEY)
    above = None
    for number in range(COUNT):
        task = Task(str(number), None, KIND)
        above = graph.add(task, after=() if above is None or number % 3 == 0 else above)
    graph.add(Task("last", None, KIND), after=list(graph), finally_=True)
    return graph


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def work(context: TaskContext) -> str:
    say(f"ran {context.title}")
    return context.title * 2000


class Host:
    """A store, an executor, and what it announces."""

    def __init__(self, path: Path, strict: bool) -> None:
        self.path = path
        self.strict = strict
        self.store = SQLiteStore(path)
        self.executor = TaskExecutor(self.store, strict_persistence=strict)
        self.executor.register(KIND, work)
        self.executor.events.subscribe(self.tell, types=[TaskEventType.SUCCEEDED])

    def tell(self, event: TaskEvent) -> None:
        say(f"done {event.task.title}")
        if self.strict and not self.store.tasks[event.task_id].is_succeeded:
            say(f"missed {event.task.title}")

    def run(self) -> None:
        try:
            graph = build().run(self.executor, 3, resume=True)
        except StoreError:
            say("stopped")
        else:
            say("ok" if graph.ok else "stopped")

    def close(self) -> None:
        self.executor.shutdown()
        self.store.close()


def main() -> None:
    path, size, how = Path(sys.argv[1]) / "ledger", int(sys.argv[2]), sys.argv[3]
    strict = sys.argv[4] == "strict"
    unlimited, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    host = Host(path, strict)
    if how != "finish":
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        host.run()
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, hard))
        say("again")
        if how == "new":
            host.close()
            host = Host(path, strict)
    host.run()
    host.close()
    with SQLiteStore(path) as store:
        for problem in store.check():
            say(f"damaged {problem}")


if __name__ == "__main__":
    main()
