"""Graphs of no-op tasks against graphlib and a thread pool, which keep nothing.

Both sides get the finished description of a graph and four threads. ttasks runs it with an
InMemoryStore, results kept and one subscriber to the lifecycle events; the peer is
`graphlib.TopologicalSorter` with `ThreadPoolExecutor(4)` and a queue of finished nodes.

    python benchmarks/graphs.py [--sizes 1000 10000 100000 1000000] [--shapes wide chain ...]
"""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from graphlib import TopologicalSorter
from queue import SimpleQueue
from statistics import median
from time import perf_counter

import figures

from ttasks import (
    InMemoryStore,
    Store,
    Task,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskType,
)

NOOP = TaskType("noop")
LIFECYCLE = [kind for kind in TaskEventType if kind.value not in ("output", "progress")]
WORKERS = 4
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


def build(edges: Edges) -> TaskGraph:
    """The graph, validated."""
    graph = TaskGraph("benchmark")
    tasks: list[Task] = []
    for at, upstreams in enumerate(edges):
        task = Task(f"task {at}", None, NOOP)
        tasks.append(task)
        graph.add(task, after=[tasks[up] for up in upstreams])
    graph.validate()
    return graph


def time_build(edges: Edges) -> float:
    """Microseconds per task to build and validate a graph."""
    gc.collect()
    begin = perf_counter()
    build(edges)
    return (perf_counter() - begin) / len(edges) * 1e6


def time_run(graph: TaskGraph, store: Store | None = None) -> float:
    """Microseconds per task of a run."""
    executor = TaskExecutor.empty(InMemoryStore() if store is None else store)
    executor.register(NOOP, noop)
    seen = 0

    def count(_event: object) -> None:
        nonlocal seen
        seen += 1

    gc.collect()
    with executor, executor.events.subscribed(count, types=LIFECYCLE):
        begin = perf_counter()
        graph.run(executor, max_workers=WORKERS)
        seconds = perf_counter() - begin
    assert graph.ok
    # Two for each task; runs have events of their own.
    assert seen >= 2 * len(graph)
    assert all(task.result is not None for task in graph)
    return seconds / len(graph) * 1e6


def time_peer(edges: Edges) -> float:
    """Microseconds per task of the same with graphlib and a thread pool."""
    gc.collect()
    begin = perf_counter()
    finished: SimpleQueue[int] = SimpleQueue()

    with ThreadPoolExecutor(WORKERS) as pool:
        sorter = TopologicalSorter(dict(enumerate(edges)))
        sorter.prepare()
        while sorter.is_active():
            for node in sorter.get_ready():
                pool.submit(finished.put, node)
            sorter.done(finished.get())
    return (perf_counter() - begin) / len(edges) * 1e6


def budget(shape: str, size: int) -> float:
    """How much of the peer's time a run may take."""
    if shape == "chain":
        return 0.4
    return 1.5 if size >= 10_000 else 1.7


def main() -> None:
    """Measure and print."""
    parser = figures.parser(__doc__, repeat=3)
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    options = parser.parse_args()
    sizes = options.sizes or ([1000, 5000] if options.quick else [1000, 10_000, 100_000])
    table = figures.Table(options)
    for shape in options.shapes:
        per_task = {}
        for size in sizes:
            edges = SHAPES[shape](size)
            times = table.in_turns(
                {"run": lambda edges=edges: time_run(build(edges))},
                {"peer": lambda edges=edges: time_peer(edges)},
                times=5 if size <= 1000 else 1,
            )
            table.row(
                f"{shape}, {size} tasks / graphlib + threads",
                "us/task",
                times["run"],
                times.get("peer"),
                at_most=budget(shape, size),
            )
            per_task[size] = median(times["run"])
        if 1000 in per_task and 1_000_000 in per_task:
            growth = per_task[1_000_000] / per_task[1000]
            table.row(f"{shape}, 1M tasks / 1k tasks", "x", [growth], at_most=1.2)
    size = max(sizes)
    edges = layered(size)
    built = table.in_turns({"build": lambda: time_build(edges)})["build"]
    links = sum(map(len, edges))
    table.row(f"build and validate, {size} tasks, {links} edges", "us/task", built, at_most=15)
    table.close()


if __name__ == "__main__":
    main()
