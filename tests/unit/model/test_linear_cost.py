"""Large graphs are validated and planned without recursion and without quadratic cost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time

import pytest

from ttasks import CycleError, DependencyPolicy, Task, TaskGraph, TaskStatus, TaskType
from ttasks.model.graph import topology_of
from ttasks.model.plan import Order, Plan
from ttasks.model.topology import topology

COUNT = 100_000
FEWER = 20_000
# Far more than it takes, and far less than anything quadratic would.
SECONDS = 10.0


@contextmanager
def bounded() -> Iterator[None]:
    """Bound the time of this thread alone, so that a busy machine does not count."""
    began = thread_time()
    yield
    assert thread_time() - began < SECONDS


@pytest.fixture(scope="module")
def all_tasks() -> list[Task]:
    return [Task("node", None, TaskType("node")) for _ in range(COUNT)]


@pytest.fixture
def tasks(all_tasks: list[Task]) -> list[Task]:
    return all_tasks[:FEWER]


def chain(tasks: list[Task]) -> list[tuple[Task, ...]]:
    return [(), *((task,) for task in tasks[:-1])]


def fan(tasks: list[Task]) -> list[tuple[Task, ...]]:
    """One task, then many at once, then one that waits for all of them."""
    first, *middle, _last = tasks
    return [(), *[(first,)] * len(middle), tuple(middle)]


Shape = Callable[[list[Task]], list[tuple[Task, ...]]]
SHAPES = pytest.mark.parametrize("shape", [chain, fan])


def drive(plan: Plan, fail: int | None = None) -> list[int]:
    """Run a plan to its end, many nodes at a time; returns the nodes in the order they started."""
    started = []
    running: deque[int] = deque()
    decided = deque(plan.begin())
    while plan.unfinished:
        while (node := plan.take()) is not None:
            started.append(node)
            running.append(node)
        if decided:
            decision = decided.popleft()
            decided.extend(plan.finish(decision.node, decision.status))
        else:
            node = running.popleft()
            outcome = TaskStatus.FAILED if node == fail else TaskStatus.SUCCEEDED
            decided.extend(plan.finish(node, outcome))
    return started


@pytest.mark.parametrize(("shape", "backwards"), [(chain, True), (fan, False)])
def test_a_graph_of_100_000_tasks_is_built_validated_and_planned(
    all_tasks: list[Task], shape: Shape, backwards: bool
) -> None:
    edges = list(zip(all_tasks, shape(all_tasks), strict=True))
    if backwards:
        edges.reverse()
    with bounded():
        graph = TaskGraph()
        for task, after in edges:
            graph.add(task, after=after)
        graph.validate()
        started = drive(Plan(topology_of(graph), [DependencyPolicy.BLOCK] * COUNT))
    order = list(graph)
    assert [order[number] for number in started] == all_tasks


@SHAPES
def test_a_large_graph_is_read_from_end_to_end(tasks: list[Task], shape: Shape) -> None:
    graph = TaskGraph()
    for task, after in zip(tasks, shape(tasks), strict=True):
        graph.add(task, after=after)
    with bounded():
        assert graph.dependents(tasks[0], transitive=True) == tasks[1:]
        assert graph.roots() == tasks[:1]
        assert graph.leaves() == tasks[-1:]
        graph.add_dependency(tasks[-1], tasks[0])
        with pytest.raises(CycleError):
            graph.add_dependency(tasks[0], tasks[-1])
        assert not graph.ok


@SHAPES
def test_a_large_graph_is_ordered_by_priority(tasks: list[Task], shape: Shape) -> None:
    orders: dict[int, Order] = {number: (number % 7, None) for number in range(FEWER)}
    with bounded():
        edges = topology(tasks, shape(tasks))
        started = drive(Plan(edges, [DependencyPolicy.BLOCK] * FEWER, orders=orders))
        middle = range(1, FEWER - 1)
        if shape is fan:
            assert started[1:-1] == sorted(middle, key=lambda number: -(number % 7))


@SHAPES
@pytest.mark.parametrize("policy", [DependencyPolicy.BLOCK, DependencyPolicy.SKIP])
def test_a_failure_goes_through_a_large_graph(
    tasks: list[Task], shape: Shape, policy: DependencyPolicy
) -> None:
    with bounded():
        assert drive(Plan(topology(tasks, shape(tasks)), [policy] * FEWER), fail=0) == [0]


@SHAPES
def test_a_large_graph_is_stopped_at_once(tasks: list[Task], shape: Shape) -> None:
    with bounded():
        plan = Plan(topology(tasks, shape(tasks)), [DependencyPolicy.BLOCK] * FEWER)
        assert plan.take() == 0
        decisions = plan.stop()
        assert len(decisions) == FEWER - 1
        for decision in decisions:
            assert plan.finish(decision.node, decision.status) == []
        plan.finish(0, TaskStatus.CANCELLED)
        assert plan.unfinished == 0


def test_a_full_group_is_worked_off(tasks: list[Task]) -> None:
    free = 1

    def acquire(groups: tuple[str, ...]) -> tuple[str, ...]:
        nonlocal free
        if not free:
            return groups
        free -= 1
        return ()

    with bounded():
        edges = topology(tasks, [()] * FEWER)
        groups = dict.fromkeys(range(FEWER), ("db",))
        plan = Plan(edges, [DependencyPolicy.BLOCK] * FEWER, groups=groups)
        for expected in range(FEWER):
            assert plan.take(acquire) == expected
            assert plan.take(acquire) is None
            free += 1
            plan.unpark("db")
            plan.finish(expected, TaskStatus.SUCCEEDED)
        assert plan.unfinished == 0


def test_a_large_cycle_is_shown_whole_and_told_in_short(tasks: list[Task]) -> None:
    edges = chain(tasks)
    edges[0] = (tasks[-1],)
    with bounded():
        with pytest.raises(CycleError) as caught:
            topology(tasks, edges)
        path = caught.value.path
        assert len(path) == FEWER
        after = dict(zip(tasks, edges, strict=True))
        for task, other in zip(path, [*path[1:], path[0]], strict=True):
            assert after[task] == (other,)
        assert len(str(caught.value)) < 500
