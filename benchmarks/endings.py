"""How long it takes to end a command, whatever it does.

Cancel of a tree that obeys TERM: at most 0.2 s. ``timeout=T``: at most T + grace + 1 s.

    python benchmarks/endings.py
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from pathlib import Path

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


def seconds_to_cancel() -> float:
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


def seconds_to_time_out(script: str) -> float:
    begin = time.perf_counter()
    with TaskExecutor() as executor:
        try:
            executor.execute(Task.bash(script, timeout=TIMEOUT, grace=GRACE))
        except TaskTimeoutError:
            pass
    return time.perf_counter() - begin


def main() -> None:
    took = [seconds_to_cancel() for _ in range(20)]
    print(
        f"cancel of a tree that obeys TERM: median {statistics.median(took) * 1000:.0f} ms, "
        f"worst of 20 {max(took) * 1000:.0f} ms (budget 200 ms)"
    )
    print(f"timeout={TIMEOUT}, grace={GRACE}: worst of 3 (budget {TIMEOUT + GRACE + 1} s)")
    for name, script in TREES.items():
        worst = max(seconds_to_time_out(script) for _ in range(3))
        print(f"  {name:40} {worst:.3f} s")


if __name__ == "__main__":
    main()
