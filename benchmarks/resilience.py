"""What guards, breakers and clocks cost, and how fast waiting retries are.

1. CPU time of a no-op graph as in graphs.py on executors that have parts of it set up, against one
   that has not. A budget of 3 % is for what is set up but does not concern the task.
2. 1,000 tasks that each fail twice with a backoff of 1 s, on 4 workers.

To see what a change costs tasks that use nothing of it, compare two trees with compare.py.

    python benchmarks/resilience.py
"""

from __future__ import annotations

import gc
from functools import partial
from threading import Lock
from time import monotonic, perf_counter, process_time
from typing import Any

import figures
from graphs import NOOP, WORKERS, build, layered, noop

from ttasks import (
    CircuitBreaker,
    InMemoryStore,
    RetryPolicy,
    Task,
    TaskContext,
    TaskExecutor,
    TaskGraph,
)


class OtherClock:
    """A clock that is not the system's own object."""

    now = staticmethod(monotonic)

    @staticmethod
    def wait_until(lock: Lock, moment: float | None) -> bool:
        return lock.acquire(timeout=-1 if moment is None else max(0.0, moment - monotonic()))


def time_run(size: int, **options: Any) -> float:
    """Microseconds of CPU time per task of one run."""
    graph = build(layered(size))
    executor = TaskExecutor.empty(InMemoryStore(), **options)
    executor.register(NOOP, noop)
    executor.events.subscribe(noop)
    gc.collect()
    gc.disable()
    begin = process_time()
    graph.run(executor, WORKERS)
    seconds = process_time() - begin
    gc.enable()
    executor.shutdown()
    assert graph.ok
    return seconds / size * 1e6


def time_backoff(count: int) -> float:
    """Seconds for so many tasks that fail twice, with a backoff of 1 s."""

    def fail_twice(context: TaskContext) -> None:
        if context.attempt < 3:
            raise ValueError("not yet")

    executor = TaskExecutor.empty(InMemoryStore())
    executor.register(NOOP, fail_twice)
    graph = TaskGraph()
    for number in range(count):
        graph.add(Task(str(number), None, NOOP, retry=RetryPolicy(3, backoff=1.0)))
    begin = perf_counter()
    with executor:
        graph.run(executor, WORKERS)
    seconds = perf_counter() - begin
    assert graph.ok
    assert graph.statistics().retries == 2 * count
    return seconds


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=15).parse_args()
    if options.quick:
        options.repeat = 3
    size = 1000 if options.quick else 5000
    table = figures.Table(options)
    base = "nothing set up"
    ways = {
        "breaker of another group": {"breakers": {"another group": CircuitBreaker()}},
        "another clock": {"clock": OtherClock()},
        "one guard": {"guards": [noop]},
    }
    ours = {name: partial(time_run, size, **way) for name, way in ways.items()}
    times = table.in_turns({base: partial(time_run, size), **ours})
    table.row(base, "us/task", times[base])
    for name in ways:
        limit = None if name == "one guard" else 1.03
        table.row(f"{name} / {base}", "us/task", times[name], times[base], at_most=limit)
    table.row("1000 tasks fail twice, backoff 1 s", "s", [time_backoff(1000)], at_most=4)
    table.close()


if __name__ == "__main__":
    main()
