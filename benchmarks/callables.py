"""What a Python task costs on the process backend and on threads.

- Tiny calls with backend="process" against `concurrent.futures.ProcessPoolExecutor` with the same
  start method and as many workers; their start and end are included on both sides.
- No-op Python tasks on threads against the same graph with a custom handler.
- ``timeout=T`` of a process task that sleeps: back after at most T + 0.5 s, its process gone.

    python benchmarks/callables.py
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

import figures
import psutil

from ttasks import Task, TaskExecutor, TaskGraph, TaskTimeoutError, TaskType

WORKERS = 4
TIMEOUT = 0.5
CUSTOM = TaskType("custom")


def nothing() -> None:
    """Do nothing."""


def square(number: int) -> int:
    return number * number


def time_graph(tasks: Iterable[Task]) -> float:
    """Microseconds per task of a run, the executor's end included."""
    graph = TaskGraph("calls")
    for task in tasks:
        graph.add(task)
    executor = TaskExecutor()
    executor.register(CUSTOM, lambda context: None)
    begin = time.perf_counter()
    with executor:
        graph.run(executor, max_workers=WORKERS)
    took = time.perf_counter() - begin
    assert graph.ok
    return took / len(graph) * 1e6


def time_process_pool(count: int) -> float:
    """Microseconds per call."""
    context = multiprocessing.get_context("spawn")
    begin = time.perf_counter()
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        futures = [pool.submit(square, number) for number in range(count)]
        values = [future.result() for future in futures]
    took = time.perf_counter() - begin
    assert values[-1] == (count - 1) ** 2
    return took / count * 1e6


def time_timeout() -> float:
    """Seconds until a task that sleeps has timed out."""
    children = set(psutil.Process().children(recursive=True))
    task = Task.python(time.sleep, (60,), backend="process", timeout=TIMEOUT)
    begin = time.perf_counter()
    with TaskExecutor() as executor:
        try:
            executor.execute(task)
        except TaskTimeoutError:
            pass
    took = time.perf_counter() - begin
    left = [
        child.cmdline()
        for child in set(psutil.Process().children(recursive=True)) - children
        if "resource_tracker" not in " ".join(child.cmdline())
    ]
    assert not left, left
    return took


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=7).parse_args()
    calls, tasks = (200, 1000) if options.quick else (1000, 10_000)
    table = figures.Table(options)

    def process_tasks() -> float:
        return time_graph(Task.python(square, (n,), backend="process") for n in range(calls))

    times = table.in_turns({"ours": process_tasks}, {"peer": lambda: time_process_pool(calls)})
    work = f"{calls} process calls / ProcessPoolExecutor"
    table.row(work, "us/call", times["ours"], times.get("peer"), at_most=1.2)

    times = table.in_turns(
        {"ours": lambda: time_graph(Task.python(nothing) for _ in range(tasks))},
        {"peer": lambda: time_graph(Task("nothing", None, CUSTOM) for _ in range(tasks))},
    )
    work = f"{tasks} Python tasks / custom handler"
    table.row(work, "us/task", times["ours"], times.get("peer"), at_most=1.2)

    ends = table.in_turns({"timeout": time_timeout})["timeout"]
    table.row(f"timeout={TIMEOUT} in a process, worst", "s", [max(ends)], at_most=TIMEOUT + 0.5)
    table.close()


if __name__ == "__main__":
    main()
