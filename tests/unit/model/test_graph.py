"""TaskGraph: building, the mapping protocol, the views, and changes that are all or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from threading import Barrier, Thread
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttasks import (
    CycleError,
    DependencyPolicy,
    GraphError,
    GraphFailedError,
    Task,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
    UnknownDependencyError,
)
from ttasks.model.graph import Node
from ttasks.model.task import lifecycle_of

WORK = TaskType("work")
PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, BLOCKED, SKIPPED = TaskStatus


def work(title: str = "work") -> Task:
    return Task(title, None, WORK)


def tasks(count: int) -> list[Task]:
    return [work(f"task {number}") for number in range(count)]


def diamond() -> tuple[TaskGraph, Task, Task, Task, Task]:
    graph = TaskGraph("diamond")
    top, left, right, bottom = tasks(4)
    graph.add(top)
    graph.add(left, after=[top])
    graph.add(right, after=[top])
    graph.add(bottom, after=[left, right])
    return graph, top, left, right, bottom


def shape(graph: TaskGraph) -> list[Node]:
    return graph.nodes()


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# Building


def test_an_empty_graph_is_empty_valid_and_ok() -> None:
    graph = TaskGraph()
    assert (graph.title, graph.key, len(graph), list(graph)) == ("", None, 0, [])
    assert UUID(graph.id).version == 4
    graph.validate()
    assert graph.ok
    graph.raise_for_failure()
    assert graph.roots() == graph.leaves() == graph.items() == []


def test_a_graph_keeps_its_title_and_key() -> None:
    graph = TaskGraph("release", key="nightly")
    assert (graph.title, graph.key) == ("release", "nightly")
    assert "'release'" in repr(graph)
    assert graph.id in repr(graph)


def test_the_id_of_a_graph_is_its_own_and_cannot_be_set() -> None:
    graph = TaskGraph()
    assert graph.id != TaskGraph().id
    with pytest.raises(AttributeError):
        graph.id = "mine"  # type: ignore[misc]


def test_add_returns_the_task() -> None:
    task = work()
    assert TaskGraph().add(task) is task


def test_a_task_is_required_not_finally_and_blocked_by_failures_unless_it_says_otherwise() -> None:
    graph = TaskGraph()
    plain = graph.add(work())
    special = graph.add(work(), finally_=True, required=False, on_dep_failure=DependencyPolicy.SKIP)
    assert (graph.is_finally(plain), graph.is_optional(plain)) == (False, False)
    assert (graph.is_finally(special), graph.is_optional(special)) == (True, True)
    assert [node.policy for node in graph.nodes()] == [
        DependencyPolicy.BLOCK,
        DependencyPolicy.SKIP,
    ]


@pytest.mark.parametrize("kind", [list, tuple, set, iter, dict.fromkeys])
def test_dependencies_may_come_as_any_iterable(kind: Callable[[list[Task]], Any]) -> None:
    graph = TaskGraph()
    first = graph.add(work())
    assert graph.dependencies(graph.add(work(), after=kind([first]))) == [first]


def test_a_single_dependency_needs_no_list() -> None:
    graph = TaskGraph()
    first = graph.add(work())
    assert graph[graph.add(work(), after=first)] == (first,)
    graph[second := work()] = first
    assert graph[second] == (first,)


def test_naming_a_dependency_twice_is_naming_it_once() -> None:
    graph = TaskGraph()
    a, b = graph.add(work()), graph.add(work())
    task = graph.add(work(), after=[b, a, b])
    assert graph[task] == (b, a)
    assert graph.dependents(b) == [task]


def test_dependencies_may_be_added_later_than_those_that_need_them() -> None:
    graph = TaskGraph()
    first, second = tasks(2)
    graph.add(second, after=[first])
    with pytest.raises(UnknownDependencyError):
        graph.validate()
    graph.add(first)
    graph.validate()
    assert list(graph) == [second, first]


def test_adding_again_replaces_edges_and_flags_and_keeps_the_place() -> None:
    graph, top, left, right, bottom = diamond()
    graph.add(left, finally_=True, required=False, on_dep_failure=DependencyPolicy.RUN_ANYWAY)
    assert list(graph) == [top, left, right, bottom]
    assert shape(graph)[1] == Node(left, (), True, False, DependencyPolicy.RUN_ANYWAY)
    assert graph.dependents(top) == [right]
    graph.add(left, after=[top])
    assert shape(graph)[1] == Node(left, (top,), False, True, DependencyPolicy.BLOCK)


def test_assigning_adds_a_task_or_replaces_only_its_edges() -> None:
    graph = TaskGraph()
    first, second = tasks(2)
    graph[first] = ()
    graph.add(second, finally_=True, required=False)
    graph[second] = [first]
    assert shape(graph)[1] == Node(second, (first,), True, False, DependencyPolicy.BLOCK)
    graph[second] = []
    assert graph[second] == ()
    assert graph.is_finally(second)


# The mapping protocol


def test_a_graph_is_a_mapping_from_task_to_dependencies_in_insertion_order() -> None:
    graph, top, left, right, bottom = diamond()
    assert list(graph) == [top, left, right, bottom]
    assert len(graph) == 4
    assert graph.items() == [(top, ()), (left, (top,)), (right, (top,)), (bottom, (left, right))]
    assert graph[bottom] == (left, right)
    assert top in graph
    assert work() not in graph
    assert top.id not in graph
    assert None not in graph


def test_iterating_is_over_the_graph_as_it_was() -> None:
    graph = diamond()[0]
    for task in graph:
        graph.add(work(), after=[task])
    assert len(graph) == 8


@pytest.mark.parametrize(
    "ask",
    [
        lambda graph, task: graph[task],
        lambda graph, task: graph.dependencies(task),
        lambda graph, task: graph.dependents(task),
        lambda graph, task: graph.is_finally(task),
        lambda graph, task: graph.is_optional(task),
        lambda graph, task: graph.remove(task),
        lambda graph, task: graph.__delitem__(task),
        lambda graph, task: graph.add_dependency(task, next(iter(graph))),
    ],
)
def test_a_task_that_is_not_in_the_graph_is_a_key_error(ask: Callable[..., object]) -> None:
    graph, stranger = diamond()[0], work()
    before = shape(graph)
    with pytest.raises(KeyError, match=stranger.id):
        ask(graph, stranger)
    assert shape(graph) == before


def test_lists_that_a_graph_gives_are_the_callers_own() -> None:
    graph, top, _left, _right, bottom = diamond()
    for own in (
        graph.dependencies(bottom),
        graph.dependents(top),
        graph.roots(),
        graph.leaves(),
        graph.items(),
        graph.nodes(),
        graph.required_tasks,
    ):
        assert own
        own.clear()
    assert len(graph) == 4
    assert len(graph.dependents(top)) == 2


# Neighbours


def test_roots_and_leaves_are_the_ends_of_the_graph() -> None:
    graph, top, _left, _right, bottom = diamond()
    alone = graph.add(work())
    assert graph.roots() == [top, alone]
    assert graph.leaves() == [bottom, alone]


def test_dependents_are_those_that_name_a_task_in_insertion_order() -> None:
    graph, top, left, right, bottom = diamond()
    assert graph.dependents(top) == [left, right]
    assert graph.dependents(bottom) == []
    assert graph.dependents(top, transitive=True) == [left, right, bottom]
    assert graph.dependents(left, transitive=True) == [bottom]
    early = graph.add(work())
    graph[left] = [early, top]
    assert graph.dependents(early, transitive=True) == [left, bottom]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[TaskGraph, list[set[int]]]:
    """A graph with any edges, and these edges as numbers."""
    count = draw(st.integers(1, 9))
    ends = st.sets(st.integers(0, count - 1), max_size=2)
    edges = draw(st.lists(ends, min_size=count, max_size=count))
    nodes = tasks(count)
    graph = TaskGraph()
    for node, upstreams in zip(nodes, edges, strict=True):
        graph.add(node, after=[nodes[end] for end in sorted(upstreams)])
    return graph, edges


def downstream(edges: list[set[int]], start: int) -> set[int]:
    """All that depends on a node, by repetition until nothing changes."""
    found: set[int] = set()
    while True:
        wider = {node for node, ends in enumerate(edges) if ends & (found | {start})}
        if wider == found:
            return found
        found = wider


@given(graphs())
def test_transitive_dependents_are_all_that_can_be_reached(
    made: tuple[TaskGraph, list[set[int]]],
) -> None:
    graph, edges = made
    nodes = list(graph)
    for number, node in enumerate(nodes):
        reached = [nodes[at] for at in sorted(downstream(edges, number))]
        assert graph.dependents(node, transitive=True) == reached
        direct = [nodes[at] for at, ends in enumerate(edges) if number in ends]
        assert graph.dependents(node) == direct


@pytest.mark.usefixtures("switching")
def test_threads_that_ask_for_dependents_at_once_all_see_all_of_them() -> None:
    threads_count, rounds = 4, 30
    barrier = Barrier(threads_count, timeout=30)
    made = []
    for _ in range(rounds):
        graph = TaskGraph()
        hub = graph.add(work())
        for _ in range(200):
            graph.add(work(), after=[hub])
        made.append((graph, hub))
    counts: list[int] = []

    def ask() -> None:
        for graph, hub in made:
            barrier.wait()
            counts.append(len(graph.dependents(hub)))

    threads = [Thread(target=ask) for _ in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [200] * (threads_count * rounds)


# Changes that are all or nothing


def test_remove_takes_out_a_task_that_nothing_depends_on() -> None:
    graph, top, left, right, bottom = diamond()
    graph.remove(bottom)
    assert list(graph) == [top, left, right]
    assert graph.leaves() == [left, right]
    del graph[right]
    assert list(graph) == [top, left]
    graph.validate()


@pytest.mark.parametrize("transitively", [False, True])
def test_remove_changes_nothing_if_something_depends_on_the_task(transitively: bool) -> None:
    graph, top, left, _right, bottom = diamond()
    before = shape(graph)
    task = top if transitively else left
    dependent = left if transitively else bottom
    with pytest.raises(GraphError, match=f"{task.title!r} cannot be removed.*{dependent.title!r}"):
        graph.remove(task)
    assert shape(graph) == before


def test_a_task_that_depends_only_on_itself_can_be_removed() -> None:
    graph = TaskGraph()
    task = work()
    graph.add(task, after=[task])
    graph.remove(task)
    assert len(graph) == 0


def test_a_removed_task_can_come_back_at_the_end() -> None:
    graph = TaskGraph()
    first, second = tasks(2)
    graph.add(first)
    graph.add(second)
    graph.remove(first)
    graph.add(first, after=[second])
    assert list(graph) == [second, first]


def test_add_dependency_appends_an_edge_once() -> None:
    graph, top, left, right, bottom = diamond()
    other = graph.add(work())
    graph.add_dependency(bottom, other)
    graph.add_dependency(bottom, other)
    assert graph[bottom] == (left, right, other)
    assert graph.dependents(other) == [bottom]
    graph.add_dependency(bottom, top)
    assert graph[bottom] == (left, right, other, top)


def test_add_dependency_keeps_the_flags() -> None:
    graph = TaskGraph()
    first = graph.add(work())
    second = graph.add(work(), finally_=True, required=False)
    graph.add_dependency(second, first)
    assert (graph.is_finally(second), graph.is_optional(second)) == (True, True)


def test_add_dependency_changes_nothing_if_the_dependency_is_missing() -> None:
    graph, _top, _left, _right, bottom = diamond()
    before, stranger = shape(graph), work()
    with pytest.raises(UnknownDependencyError) as caught:
        graph.add_dependency(bottom, stranger)
    assert (caught.value.task, caught.value.dependency) == (bottom, stranger)
    assert shape(graph) == before


@given(graphs(), st.data())
def test_add_dependency_closes_no_cycle(
    made: tuple[TaskGraph, list[set[int]]], data: st.DataObject
) -> None:
    graph, edges = made
    nodes = list(graph)
    task, dependency = (data.draw(st.integers(0, len(nodes) - 1)) for _ in range(2))
    before = shape(graph)
    if dependency != task and dependency not in downstream(edges, task):
        graph.add_dependency(nodes[task], nodes[dependency])
        assert set(graph[nodes[task]]) == {nodes[end] for end in edges[task] | {dependency}}
        return
    with pytest.raises(CycleError) as caught:
        graph.add_dependency(nodes[task], nodes[dependency])
    assert shape(graph) == before
    path = [nodes.index(item) for item in caught.value.path]
    assert path[0] == task
    assert [*path, task][1] == dependency, "the edge that was asked for comes first"
    assert len(set(path)) == len(path)
    for at, end in list(zip(path, [*path[1:], task], strict=True))[1:]:
        assert end in edges[at]


@pytest.mark.parametrize(
    "change",
    [
        lambda graph, task: graph.add(work()),
        lambda graph, task: graph.add(task),
        lambda graph, task: graph.__setitem__(task, ()),
        lambda graph, task: graph.__setitem__(work(), ()),
        lambda graph, task: graph.add_dependency(task, next(iter(graph))),
        lambda graph, task: graph.remove(task),
        lambda graph, task: graph.__delitem__(task),
    ],
)
def test_a_graph_cannot_be_changed_while_it_runs(change: Callable[..., object]) -> None:
    graph = TaskGraph("graph")
    graph.add(work())
    leaf = graph.add(work())
    before = shape(graph)
    refused: list[str] = []

    def handler(context: object) -> None:
        try:
            change(graph, leaf)
        except GraphError as error:
            refused.append(str(error))

    with TaskExecutor.empty() as executor:
        executor.register(WORK, handler)
        graph.run(executor, 1)
    assert len(refused) == 2
    assert all("'graph'" in text and "running" in text for text in refused)
    assert shape(graph) == before
    graph.add(work())


# Views


def in_status(status: TaskStatus) -> Task:
    ways = {SUCCEEDED: [RUNNING, SUCCEEDED], FAILED: [RUNNING, FAILED], PENDING: []}
    task = work(status.value)
    for step in ways.get(status, [status]):
        task.transition_to(step, "oops" if step is FAILED else None)
    return task


def full() -> tuple[TaskGraph, dict[tuple[str, bool], Task]]:
    """A graph with a required and an optional task in every status."""
    graph = TaskGraph("full")
    made = {}
    for status in reversed(TaskStatus):
        for required in (True, False):
            made[status.value, required] = graph.add(in_status(status), required=required)
    return graph, made


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        ("succeeded", [("succeeded", True), ("succeeded", False)]),
        ("failed", [("failed", True), ("failed", False)]),
        ("cancelled", [("cancelled", True), ("cancelled", False)]),
        ("blocked", [("blocked", True), ("blocked", False)]),
        ("skipped", [("skipped", True), ("skipped", False)]),
        ("required_failed", [("failed", True)]),
        ("required_blocked", [("blocked", True)]),
        ("optional_failed", [("failed", False)]),
        ("finally_tasks", []),
    ],
)
def test_a_view_lists_its_tasks_in_insertion_order(
    view: str, shown: list[tuple[str, bool]]
) -> None:
    graph, made = full()
    assert getattr(graph, view) == [made[key] for key in shown]


def test_required_and_optional_tasks_are_all_tasks() -> None:
    graph, made = full()
    assert graph.required_tasks == [task for (_, required), task in made.items() if required]
    assert graph.optional_tasks == [task for (_, required), task in made.items() if not required]


def test_finally_tasks_are_listed_whatever_their_status() -> None:
    graph = TaskGraph()
    graph.add(work())
    finals = [graph.add(in_status(status), finally_=True) for status in TaskStatus]
    assert graph.finally_tasks == finals


@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("finally_", [True, False])
def test_ok_asks_for_required_tasks_that_succeeded_or_were_skipped(
    status: TaskStatus, required: bool, finally_: bool
) -> None:
    graph = TaskGraph()
    graph.add(in_status(SUCCEEDED))
    graph.add(in_status(status), required=required, finally_=finally_)
    assert graph.ok is (not required or status in (SUCCEEDED, SKIPPED))


def test_an_ok_graph_does_not_raise() -> None:
    graph = TaskGraph()
    graph.add(in_status(SUCCEEDED))
    graph.add(in_status(SKIPPED))
    graph.add(in_status(FAILED), required=False)
    assert graph.raise_for_failure() is None


def test_raise_for_failure_lists_every_required_task_that_did_not_succeed() -> None:
    graph, made = full()
    blocked = made["blocked", True]
    lifecycle_of(blocked).blocked_by = made["failed", True].id
    with pytest.raises(GraphFailedError) as caught:
        graph.raise_for_failure()
    assert caught.value.title == "full"
    assert caught.value.failures == (
        ("blocked", "blocked by 'failed'"),
        ("failed", "oops"),
        ("running", "running"),
        ("pending", "pending"),
    )
    assert caught.value.cancelled == ("cancelled",)
    assert caught.value.run_error is None
    assert "'full'" in str(caught.value)
    assert all(f"{title}: {error}" in str(caught.value) for title, error in caught.value.failures)


def test_statistics_count_by_status_and_name_what_runs() -> None:
    graph = full()[0]
    statistics = graph.statistics()
    assert statistics.counts == dict.fromkeys(TaskStatus, 2)
    assert statistics.running == ("running", "running")
    assert (statistics.waiting, statistics.elapsed, statistics.retries) == (0, 0.0, 0)
    assert TaskGraph().statistics().counts == dict.fromkeys(TaskStatus, 0)


def test_errors_are_those_of_the_latest_run_by_task_id() -> None:
    graph = TaskGraph()
    failing, fine = graph.add(work()), graph.add(Task("fine", None, TaskType("fine")))
    oops = ValueError("oops")

    def fail(context: object) -> None:
        raise oops

    with TaskExecutor.empty() as executor:
        executor.register(WORK, fail)
        executor.register(TaskType("fine"), lambda context: None)
        graph.run(executor)
        assert graph.errors == {failing.id: oops}
        assert (graph.failed, graph.succeeded, graph.ok) == ([failing], [fine], False)
        executor.register(WORK, lambda context: None)
        graph.run(executor)
    assert graph.errors == {}
    assert graph.ok


# Cancelling without a run


def test_cancelling_a_graph_that_does_not_run_cancels_what_is_pending_but_finally_tasks() -> None:
    graph, made = full()
    final = graph.add(work(), finally_=True)
    before = {key: task.status for key, task in made.items()}
    for _ in range(2):
        graph.cancel()
        for key, task in made.items():
            assert task.status is (CANCELLED if before[key] is PENDING else before[key])
        assert final.is_pending
    graph.request_cancel()
    assert final.is_pending


# Bad input

NO_TASKS: list[Any] = [None, 5, "task", TaskGraph()]
NO_NAMES: list[Any] = [None, 5, b"task", TaskGraph()]
NO_BOOLS: list[Any] = [None, 0, 1, "yes"]
BAD_EDGES: list[tuple[Any, str, str]] = [
    (None, "after", "None"),
    (5, "after", "5"),
    (b"task", "after", "b'task'"),
    ([None], "after[0]", "None"),
    ([b"task"], "after[0]", "b'task'"),
    ([work(), [work()]], "after[1]", "Task"),
]
CALLS: list[tuple[Callable[[TaskGraph, Task, Any], object], list[tuple[Any, str, str]]]] = [
    (lambda g, t, v: g.add(v), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.add(work(), after=v), BAD_EDGES),
    (lambda g, t, v: g.add(t, after=v), BAD_EDGES),
    (lambda g, t, v: g.add(work(), finally_=v), [(v, "finally_", repr(v)) for v in NO_BOOLS]),
    (lambda g, t, v: g.add(t, required=v), [(v, "required", repr(v)) for v in NO_BOOLS]),
    (
        lambda g, t, v: g.add(t, on_dep_failure=v),
        [(v, "on_dep_failure", repr(v)) for v in (None, "block", 5, TaskStatus.BLOCKED)],
    ),
    (lambda g, t, v: g.__setitem__(v, ()), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.__setitem__(t, v), BAD_EDGES),
    (lambda g, t, v: g.__setitem__(work(), v), BAD_EDGES),
    (lambda g, t, v: g[v], [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.__delitem__(v), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.remove(v), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.dependencies(v), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.dependents(v), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.is_finally(v), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.is_optional(v), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.add_dependency(v, t), [(v, "task", repr(v)) for v in NO_TASKS]),
    (lambda g, t, v: g.add_dependency(t, v), [(v, "dependency", repr(v)) for v in NO_NAMES]),
]


@pytest.mark.parametrize(
    ("call", "value", "name", "shown"),
    [
        pytest.param(call, value, name, shown, id=f"{number}-{name}-{type(value).__name__}")
        for number, (call, values) in enumerate(CALLS)
        for value, name, shown in values
    ],
)
def test_bad_arguments_are_named_with_their_value_and_change_nothing(
    call: Callable[[TaskGraph, Task, Any], object], value: Any, name: str, shown: str
) -> None:
    graph, _top, left, _right, _bottom = diamond()
    before = shape(graph)
    with pytest.raises(TypeError) as caught:
        call(graph, left, value)
    assert name in str(caught.value)
    assert shown in str(caught.value)
    assert shape(graph) == before


@pytest.mark.parametrize(
    ("arguments", "error", "name", "shown"),
    [
        ({"title": None}, TypeError, "title", "None"),
        ({"title": 5}, TypeError, "title", "5"),
        ({"title": ["x"]}, TypeError, "title", "['x']"),
        ({"key": 5}, TypeError, "key", "5"),
        ({"key": b"x"}, TypeError, "key", "b'x'"),
        ({"key": ""}, ValueError, "key", "''"),
        ({"key": "  "}, ValueError, "key", "'  '"),
    ],
)
def test_a_graph_is_not_made_of_bad_arguments(
    arguments: dict[str, Any], error: type[Exception], name: str, shown: str
) -> None:
    with pytest.raises(error) as caught:
        TaskGraph(**arguments)
    assert name in str(caught.value)
    assert shown in str(caught.value)
