"""How long it takes to end a command, whatever it does.

Cancel of a tree that obeys TERM: at most 0.2 s. ``timeout=T``: at most T + grace + 1 s.

    python benchmarks/endings.py
"""

from __future__ import annotations

import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import figures

from ttasks import Task, TaskCancelled, TaskExecutor, TaskTimeoutError

TIMEOUT = 0.5
GRACE = 0.5
IGNORES = "trap '' TERM; while :; do sleep 60; done"
TREES = {
    "a plain tree": "sleep 60 | sleep 60 & sleep 60",
    "a child that ignores TERM": f"({IGNORES}) & sleep 60",
    "a setsid grandchild that holds stdout": "setsid sleep 60 & sleep 60",
    "a daemon that ignores TERM": f'(setsid bash -c "{IGNORES}" &); sleep 60',
    "a fork bomb of depth 5": (
        "bomb() { if (($1 > 0)); then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; sleep 60; }; bomb 5"
    ),
    "a stopped child": "sleep 60 & kill -STOP $!; wait",
}


def time_cancel() -> float:
    """Seconds from the cancellation of a tree that obeys TERM to the end of ``execute``."""
    with tempfile.TemporaryDirectory() as folder, TaskExecutor() as executor:
        ready = Path(folder, "ready")
        task = Task.bash(f"setsid sleep 60 & sleep 60 | sleep 60 & touch {ready}; wait")
        cancelled: list[float] = []

        def cancel() -> None:
            while not ready.exists():
                time.sleep(0.005)
            cancelled.append(time.perf_counter())
            executor.cancel(task)

        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            executor.execute(task)
        except TaskCancelled:
            pass
        end = time.perf_counter()
        thread.join()
        return end - cancelled[0]


def time_timeout(script: str) -> float:
    """Seconds of an execution that times out."""
    begin = time.perf_counter()
    with TaskExecutor() as executor:
        try:
            executor.execute(Task.bash(script, timeout=TIMEOUT, grace=GRACE))
        except TaskTimeoutError:
            pass
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=3).parse_args()
    if options.quick:
        options.repeat = 1
    table = figures.Table(options)
    ends = table.in_turns({"cancel": time_cancel}, times=6)["cancel"]
    table.row("cancel of a tree that obeys TERM", "s", ends, at_most=0.2)
    table.row("the same, worst", "s", [max(ends)], at_most=0.2)
    for name, script in TREES.items():
        ends = table.in_turns({name: partial(time_timeout, script)})[name]
        table.row(f"timeout: {name}", "s", [max(ends)], at_most=TIMEOUT + GRACE + 1)
    table.close()


if __name__ == "__main__":
    main()
