"""What retries, breakers, guards and the clock cost, and how fast waiting retries are.

Usage: python benchmarks/resilience.py [--size 5000] [--rounds 20] [--against SRC]

1. Cost for tasks that use nothing of it: a no-op graph as in graphs.py, in CPU time of the process
   (wall time says little on a busy machine). The peers are the same graph on executors for which
   parts of it are set up, and the engine with guards and breaker cut out of its attempt
   ("bypassed", a patched `Attempt._call`). With --against, also the sources in another folder, in
   processes of their own, for example those of an earlier commit
   (``git archive COMMIT src | tar -x -C FOLDER``). The sides take turns. Given are the fastest run,
   the median, and "nothing set up" divided by each: by fastest runs, and the median over rounds.
2. 1,000 tasks that each fail twice with a backoff of 1 s, on 4 workers: under 4 s.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, process_time
from typing import Any

from graphs import NOOP, SHAPES, build, noop

import ttasks
from ttasks import InMemoryStore, RetryPolicy, Task, TaskContext, TaskExecutor, TaskGraph

LIMIT = 1.03
SHAPE = "layered"


def run_once(size: int, **options: Any) -> float:
    """Microseconds of CPU time per task of one run."""
    graph, _ = build(SHAPES[SHAPE](size))
    executor = TaskExecutor.empty(InMemoryStore(), **options)
    executor.register(NOOP, noop)
    executor.events.subscribe(noop)
    gc.collect()
    gc.disable()
    begin = process_time()
    graph.run(executor, 4)
    seconds = process_time() - begin
    gc.enable()
    executor.shutdown()
    assert graph.ok
    return seconds / size * 1e6


def bypassed(size: int) -> float:
    """The same with guards and breaker cut out."""
    from ttasks.engine import attempt as module

    def call(self: Any) -> Any:
        services, token = self._services, self.token
        context = module.TaskContext(
            self._task,
            self,
            token,
            self.number,
            self._upstream,
            self.deadline,
            services.redactor,
            services.clock,
        )
        module.CURRENT.set(context)
        if token.cancelled:
            raise module.TaskCancelled
        return self._handler(context)

    original = module.Attempt._call
    module.Attempt._call = call
    try:
        return run_once(size)
    finally:
        module.Attempt._call = original


class OtherClock:
    """A clock that is not the system's own object."""

    now = staticmethod(monotonic)

    def __init__(self) -> None:
        from ttasks.model.clock import SystemClock

        self.wait_until = SystemClock.wait_until


def sides(size: int) -> dict[str, Callable[[], float]]:
    """The same work in several ways."""
    from ttasks import CircuitBreaker

    breakers = {"another group": CircuitBreaker()}
    return {
        "nothing set up": lambda: run_once(size),
        "bypassed": lambda: bypassed(size),
        "breaker of another group": lambda: run_once(size, breakers=breakers),
        "a clock": lambda: run_once(size, clock=OtherClock()),
        "one guard": lambda: run_once(size, guards=[noop]),
    }


def elsewhere(source: str, size: int) -> float:
    """The first side, in a new process with these sources."""
    code = f"import resilience; resilience.run_once(1000); print(resilience.run_once({size}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=os.path.dirname(os.path.abspath(__file__)),
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def compare(title: str, base: str, found: dict[str, list[float]]) -> None:
    """Print medians, and the ratio of the base to each."""
    print(title)
    print(f"  {'':26} {'fastest':>8} {'median':>8} {'ratio':>7} {'median':>7}")
    for name, times in found.items():
        ratio = median(b / t for b, t in zip(found[base], times, strict=True))
        fastest = min(found[base]) / min(times)
        print(f"  {name:26} {min(times):8.2f} {median(times):8.2f} {fastest:7.3f} {ratio:7.3f}")


def measure_cost(size: int, rounds: int, against: str | None) -> float:
    """Print what it costs; returns the ratio to the engine with it cut out."""
    ways = sides(size)
    found: dict[str, list[float]] = {name: [] for name in ways}
    run_once(1000)
    for at in range(rounds):
        first = at % len(ways)  # each side has each place in turn
        for name in [*list(ways)[first:], *list(ways)[:first]]:
            found[name].append(ways[name]())
    compare(f"µs of CPU time per task, {SHAPE}, {size} tasks", "nothing set up", found)
    if against is not None:
        here = str(Path(ttasks.__file__).resolve().parents[1])
        pair: dict[str, list[float]] = {"these sources": [], against: []}
        for _ in range(rounds):
            pair["these sources"].append(elsewhere(here, size))
            pair[against].append(elsewhere(against, size))
        compare("In processes of their own", "these sources", pair)
    return min(found["nothing set up"]) / min(found["bypassed"])


def measure_backoff(count: int = 1000) -> float:
    """Seconds for so many tasks that fail twice, with a backoff of 1 s, on 4 workers."""

    def fail_twice(context: TaskContext) -> None:
        if context.attempt < 3:
            raise ValueError("not yet")

    executor = TaskExecutor.empty(InMemoryStore())
    executor.register(NOOP, fail_twice)
    graph = TaskGraph()
    for number in range(count):
        graph.add(Task(str(number), None, NOOP, retry=RetryPolicy(3, backoff=1.0)))
    begin = perf_counter()
    graph.run(executor, 4)
    seconds = perf_counter() - begin
    assert graph.ok
    assert graph.statistics().retries == 2 * count
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--against", help="folder with other sources of ttasks")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}")
    ratio = measure_cost(options.size, options.rounds, options.against)
    print(f"cost for a task that uses nothing of it: {ratio - 1:+.1%} (limit {LIMIT - 1:.0%})")
    print(f"1,000 tasks that fail twice, backoff 1 s: {measure_backoff():.2f} s (limit 4 s)")


if __name__ == "__main__":
    main()
