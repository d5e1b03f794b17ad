"""Graphs of no-op tasks against graphlib and a thread pool, which keep nothing.

Usage: python benchmarks/graphs.py [--sizes 1000 10000 100000] [--repeat 3] [--shapes wide chain …]

Both sides get the finished description of a graph and four threads. ttasks runs it with an
InMemoryStore, results kept and one subscriber to the lifecycle events; the peer is
`graphlib.TopologicalSorter` with `ThreadPoolExecutor(4)` and a queue of finished nodes. The sides
take turns; the figures are medians. Memory is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from graphlib import TopologicalSorter
from queue import SimpleQueue
from statistics import median
from time import perf_counter

from ttasks import (
    InMemoryStore,
    Task,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskType,
)

NOOP = TaskType("noop")
LIFECYCLE = [kind for kind in TaskEventType if kind.value not in ("output", "progress")]
Edges = list[tuple[int, ...]]


def wide(size: int) -> Edges:
    """No edges."""
    return [()] * size


def chain(size: int) -> Edges:
    """Each after the one before."""
    return [(at - 1,) if at else () for at in range(size)]


def layered(size: int) -> Edges:
    """Layers of 100, each task after three of the layer before."""
    return [
        tuple(at - at % 100 - 100 + (at + step) % 100 for step in (0, 1, 7)) if at >= 100 else ()
        for at in range(size)
    ]


def fan(size: int) -> Edges:
    """One, then all the others after it, then one after them."""
    middle = tuple(range(1, size - 1))
    return [(), *[(0,)] * (size - 2), middle]


SHAPES = {"wide": wide, "chain": chain, "layered": layered, "fan": fan}


def noop(_context: TaskContext) -> None:
    """Do nothing."""


def build(edges: Edges) -> tuple[TaskGraph, float]:
    """The graph, and the seconds that building and validating it took."""
    gc.collect()
    begin = perf_counter()
    graph = TaskGraph("benchmark")
    tasks: list[Task] = []
    for at, upstreams in enumerate(edges):
        task = Task(f"task {at}", None, NOOP)
        tasks.append(task)
        graph.add(task, after=[tasks[up] for up in upstreams])
    graph.validate()
    return graph, perf_counter() - begin


def run_ttasks(graph: TaskGraph) -> float:
    """Seconds for the run."""
    executor = TaskExecutor.empty(InMemoryStore())
    executor.register(NOOP, noop)
    seen = 0

    def count(_event: object) -> None:
        nonlocal seen
        seen += 1

    gc.collect()
    with executor, executor.events.subscribed(count, types=LIFECYCLE):
        begin = perf_counter()
        graph.run(executor, max_workers=4)
        seconds = perf_counter() - begin
    assert graph.ok
    assert seen == 2 * len(graph)
    assert all(task.result is not None for task in graph)
    return seconds


def run_peer(edges: Edges) -> float:
    """Seconds for the same with graphlib and a thread pool."""
    gc.collect()
    begin = perf_counter()
    finished: SimpleQueue[int] = SimpleQueue()

    def work(node: int) -> None:
        finished.put(node)

    with ThreadPoolExecutor(4) as pool:
        sorter = TopologicalSorter(dict(enumerate(edges)))
        sorter.prepare()
        while sorter.is_active():
            for node in sorter.get_ready():
                pool.submit(work, node)
            sorter.done(finished.get())
    return perf_counter() - begin


def memory(shape: str, size: int) -> float:
    """Bytes of resident memory per finished task, in a fresh process."""
    code = f"import graphs; print(graphs.measure_memory({shape!r}, {size}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=__file__.rpartition("/")[0] or ".",
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def measure_memory(shape: str, size: int) -> float:
    """Growth of the resident set per task, from before the graph to after its run."""
    import psutil

    run_ttasks(build(SHAPES[shape](100))[0])
    edges = SHAPES[shape](size)
    gc.collect()
    before = psutil.Process().memory_info().rss
    graph, _seconds = build(edges)
    run_ttasks(graph)
    gc.collect()
    return (psutil.Process().memory_info().rss - before) / size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}; µs per task, medians of {options.repeat}")
    print(f"{'shape':8} {'tasks':>7} {'build':>7} {'run':>7} {'peer':>7} {'run/peer':>9}")
    for shape in options.shapes:
        per_task = {}
        for size in options.sizes:
            edges = SHAPES[shape](size)
            builds, runs, peers = [], [], []
            for _ in range(options.repeat * (3 if size <= 1000 else 1)):
                graph, seconds = build(edges)
                builds.append(seconds)
                runs.append(run_ttasks(graph))
                del graph
                peers.append(run_peer(edges))
            made, ran, peer = (median(times) / size * 1e6 for times in (builds, runs, peers))
            per_task[size] = ran
            print(f"{shape:8} {size:7} {made:7.1f} {ran:7.1f} {peer:7.1f} {ran / peer:9.2f}")
        first, last = min(per_task), max(per_task)
        print(
            f"{shape:8} µs per task at {last} / at {first}: {per_task[last] / per_task[first]:.2f}"
        )
    size = max(options.sizes)
    shape = "layered" if "layered" in options.shapes else options.shapes[0]
    print(f"memory: {memory(shape, size):.0f} bytes per finished task ({shape}, {size})")


if __name__ == "__main__":
    main()
