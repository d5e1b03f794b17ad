"""Topology: the edges of a graph as numbers, checked for missing ends and for cycles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ttasks.errors import CycleError, UnknownDependencyError
from ttasks.model.task import Task


class Topology(NamedTuple):
    """Edges between nodes that are numbered in insertion order.

    Attributes:
        dependencies: for each node the numbers of its upstreams, in the order they were named.
        dependents: for each node the numbers of those that name it, ascending.
    """

    dependencies: list[tuple[int, ...]]
    dependents: list[list[int]]


def topology(tasks: Sequence[Task], dependencies: Sequence[tuple[Task, ...]]) -> Topology:
    """Number the edges between ``tasks`` and check them, in linear time.

    Args:
        tasks: the nodes, without repetition.
        dependencies: for each node its upstreams.

    Raises:
        UnknownDependencyError: an upstream is not among the tasks.
        CycleError: tasks depend on each other in a circle.
    """
    number = {task.id: at for at, task in enumerate(tasks)}
    edges: list[tuple[int, ...]] = []
    dependents: list[list[int]] = [[] for _ in tasks]
    forward = False
    for at, upstreams in enumerate(dependencies):
        try:
            ends = tuple([number[task.id] for task in upstreams])
        except KeyError:
            missing = next(task for task in upstreams if task.id not in number)
            raise UnknownDependencyError(tasks[at], missing) from None
        edges.append(ends)
        for end in ends:
            dependents[end].append(at)
            if end >= at:
                forward = True
    # Where every edge points to an earlier node there is no cycle to look for.
    if forward:
        _check_acyclic(tasks, edges, dependents)
    return Topology(edges, dependents)


def in_order(topology: Topology) -> Iterator[int]:
    """The nodes in an order where each comes after its dependencies."""
    waiting = [len(ends) for ends in topology.dependencies]
    free = [number for number, count in enumerate(waiting) if not count]
    for number in free:  # grows while it is read
        yield number
        for dependent in topology.dependents[number]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                free.append(dependent)


def _check_acyclic(
    tasks: Sequence[Task], edges: list[tuple[int, ...]], dependents: list[list[int]]
) -> None:
    """Peel off nodes without upstreams (Kahn 1962); what is left contains a cycle."""
    free = set(in_order(Topology(edges, dependents)))
    if len(free) == len(edges):
        return
    # Every node that is left has an upstream that is left, so this walk comes back to itself.
    at = next(at for at in range(len(edges)) if at not in free)
    seen: dict[int, int] = {}
    path: list[int] = []
    while at not in seen:
        seen[at] = len(path)
        path.append(at)
        at = next(end for end in edges[at] if end not in free)
    raise CycleError([tasks[at] for at in path[seen[at] :]])
