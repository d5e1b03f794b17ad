"""Numbered edges, and the cycle that a graph has: found, and exactly right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttasks import CycleError, Task, TaskType, UnknownDependencyError
from ttasks.model.topology import Topology, topology

TASKS = [Task(f"node {number}", None, TaskType("node")) for number in range(12)]
NUMBER = {task.id: number for number, task in enumerate(TASKS)}


def numbered(edges: list[set[int]]) -> Topology:
    after = [tuple(TASKS[end] for end in sorted(ends)) for ends in edges]
    return topology(TASKS[: len(edges)], after)


def reaches(edges: list[set[int]]) -> list[set[int]]:
    """For each node all that it depends on, by repetition until nothing changes."""
    closure = [set(ends) for ends in edges]
    while True:
        wider = [ends.union(*(closure[end] for end in ends)) for ends in closure]
        if wider == closure:
            return closure
        closure = wider


@st.composite
def digraphs(draw: st.DrawFn) -> list[set[int]]:
    """Any edges between up to 9 nodes, to earlier and later ones and to themselves."""
    count = draw(st.integers(0, 9))
    if not count:
        return []
    ends = st.sets(st.integers(0, count - 1), max_size=2)
    return draw(st.lists(ends, min_size=count, max_size=count))


@st.composite
def rings(draw: st.DrawFn) -> tuple[list[set[int]], list[int]]:
    """A graph with exactly one cycle, and that cycle in order."""
    count = draw(st.integers(1, 12))
    order = draw(st.permutations(range(count)))
    size = draw(st.integers(1, count))
    start = draw(st.integers(0, count - size))
    ring = order[start : start + size]
    edges: list[set[int]] = [set() for _ in range(count)]
    for at, end in zip(ring, [*ring[1:], ring[0]], strict=True):
        edges[at].add(end)
    # Any edge along the order that does not begin inside the ring and end there, too.
    for at in range(count):
        for end in range(at + 1, count):
            inside = order[at] in ring and order[end] in ring
            if not inside and draw(st.booleans()):
                edges[order[at]].add(order[end])
    return edges, ring


def test_edges_are_numbered_in_the_order_they_were_named() -> None:
    a, b, c = TASKS[:3]
    assert topology([a, b, c], [(), (a,), (b, a)]) == Topology(
        [(), (0,), (1, 0)], [[1, 2], [2], []]
    )


def test_no_tasks_have_no_edges() -> None:
    assert topology([], []) == Topology([], [])


def test_a_missing_dependency_is_named_with_the_task_that_names_it() -> None:
    a, b, c = TASKS[:3]
    with pytest.raises(UnknownDependencyError) as caught:
        topology([a, b], [(), (a, c)])
    assert (caught.value.task, caught.value.dependency) == (b, c)


def test_a_missing_dependency_comes_before_a_cycle() -> None:
    a, b, c = TASKS[:3]
    with pytest.raises(UnknownDependencyError):
        topology([a, b], [(b,), (a, c)])


def test_a_task_that_depends_on_itself_is_a_cycle() -> None:
    with pytest.raises(CycleError) as caught:
        numbered([set(), {1}])
    assert caught.value.path == (TASKS[1],)


@given(digraphs())
def test_a_cycle_is_found_if_and_only_if_there_is_one(edges: list[set[int]]) -> None:
    cyclic = any(node in ends for node, ends in enumerate(reaches(edges)))
    if not cyclic:
        found = numbered(edges)
        assert [set(ends) for ends in found.dependencies] == edges
        assert found.dependents == [
            [node for node, ends in enumerate(edges) if end in ends] for end in range(len(edges))
        ]
        return
    with pytest.raises(CycleError) as caught:
        numbered(edges)
    path = [NUMBER[task.id] for task in caught.value.path]
    assert path
    assert len(set(path)) == len(path), "no node comes twice"
    for at, end in zip(path, [*path[1:], path[0]], strict=True):
        assert end in edges[at], "each depends on the next, the last on the first"


@given(rings())
def test_the_path_is_the_cycle_and_nothing_but_the_cycle(
    made: tuple[list[set[int]], list[int]],
) -> None:
    edges, ring = made
    with pytest.raises(CycleError) as caught:
        numbered(edges)
    path = [NUMBER[task.id] for task in caught.value.path]
    start = path.index(ring[0])
    assert path[start:] + path[:start] == ring
    titles = [task.title for task in caught.value.path]
    if len(titles) <= 12:
        assert " -> ".join([*titles, titles[0]]) in str(caught.value)
