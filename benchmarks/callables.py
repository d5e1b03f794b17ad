"""What a Python task costs, against a custom handler and against ProcessPoolExecutor.

- 10,000 no-op Python tasks on threads: at most 1.2 x the same graph with a custom handler.
- 1,000 tiny calls with backend="process": at most 1.5 x `concurrent.futures.ProcessPoolExecutor`
  with the same start method, its start and end included on both sides.
- ``timeout=T`` of a process task that sleeps: back after at most T + 0.5 s, its process gone.

Repetitions alternate between the sides; medians are compared.

    python benchmarks/callables.py [repetitions]
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import psutil

from ttasks import Task, TaskExecutor, TaskGraph, TaskTimeoutError, TaskType

TASKS = 10_000
CALLS = 1_000
WORKERS = 4
TIMEOUT = 0.5
CUSTOM = TaskType("custom")


def nothing() -> None:
    """Do nothing."""


def square(number: int) -> int:
    return number * number


def with_custom_handler() -> float:
    return seconds_of_graph([Task("nothing", None, CUSTOM) for _ in range(TASKS)])


def with_python_tasks() -> float:
    return seconds_of_graph([Task.python(nothing) for _ in range(TASKS)])


def seconds_of_graph(tasks: list[Task]) -> float:
    graph = TaskGraph("wide")
    for task in tasks:
        graph.add(task)
    with TaskExecutor() as executor:
        executor.register(CUSTOM, lambda context: None)
        begin = time.perf_counter()
        graph.run(executor, max_workers=WORKERS)
        took = time.perf_counter() - begin
    assert graph.ok
    return took


def with_process_pool() -> float:
    context = multiprocessing.get_context("spawn")
    begin = time.perf_counter()
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        futures = [pool.submit(square, number) for number in range(CALLS)]
        values = [future.result() for future in futures]
    took = time.perf_counter() - begin
    assert values[-1] == (CALLS - 1) ** 2
    return took


def with_process_tasks() -> float:
    begin = time.perf_counter()
    graph = TaskGraph("calls")
    tasks = [
        graph.add(Task.python(square, (number,), backend="process")) for number in range(CALLS)
    ]
    with TaskExecutor() as executor:
        graph.run(executor, max_workers=WORKERS)
    took = time.perf_counter() - begin
    assert tasks[-1].result is not None
    assert tasks[-1].result.value == (CALLS - 1) ** 2
    return took


def seconds_to_time_out() -> float:
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


def compare(
    what: str, ours: Callable[[], float], peer: Callable[[], float], budget: float, repeat: int
) -> None:
    seconds: dict[Callable[[], float], list[float]] = {ours: [], peer: []}
    for _ in range(repeat):
        for measure in (ours, peer):
            seconds[measure].append(measure())
    mine, other = (statistics.median(seconds[measure]) for measure in (ours, peer))
    print(f"{what}: {mine:.3f} s against {other:.3f} s, ratio {mine / other:.2f} (budget {budget})")


def main() -> None:
    repeat = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    compare(
        f"{TASKS} Python tasks, custom handler", with_python_tasks, with_custom_handler, 1.2, repeat
    )
    compare(
        f"{CALLS} process calls, ProcessPoolExecutor",
        with_process_tasks,
        with_process_pool,
        1.5,
        repeat,
    )
    worst = max(seconds_to_time_out() for _ in range(repeat))
    print(f"timeout={TIMEOUT} in a process: worst {worst:.3f} s (budget {TIMEOUT + 0.5})")


if __name__ == "__main__":
    main()
