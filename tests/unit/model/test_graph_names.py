"""TaskGraph: tasks by name, graphs of tasks, the order, changes that are refused, failures."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support import make
from ttasks import (
    CycleError,
    GraphError,
    GraphFailedError,
    SQLiteStore,
    Task,
    TaskExecutionError,
    TaskExecutor,
    TaskGraph,
    UnknownDependencyError,
)


def test_dependencies_may_be_named_by_title_or_key_and_added_later() -> None:
    graph = TaskGraph("release")
    test = graph.add(make("test"), after="build")
    lint = graph.add(make("lint"), after=["k", test])
    with pytest.raises(UnknownDependencyError, match="'build', and no task of the graph has"):
        graph.validate()
    build, keyed = graph.add(make("build")), graph.add(make("x", key="k"))
    graph.validate()
    assert graph[test] == (build,)
    assert graph.dependencies(lint) == [keyed, test]
    assert graph.dependents(build) == [test]
    assert graph.dependents(build, transitive=True) == [test, lint]
    assert graph.roots() == [build, keyed]
    assert graph.leaves() == [lint]
    assert graph.items()[0] == (test, (build,))
    assert [node.after for node in graph.nodes()] == [(build,), (keyed, test), (), ()]
    assert graph.ordered().index(build) < graph.ordered().index(test)


def test_an_id_is_a_name_unless_it_is_the_title_of_another_task() -> None:
    graph = TaskGraph()
    a = graph.add(make("a"))
    b = graph.add(make("b"), after=a.id)
    assert graph[b] == (a,)
    other = graph.add(make(a.id))
    graph.validate()
    assert graph[b] == (other,)


def test_a_wrong_name_is_answered_with_near_ones() -> None:
    graph = TaskGraph()
    graph.add(make("build"))
    test = graph.add(make("test"), after="biuld")
    with pytest.raises(UnknownDependencyError, match=r"did you mean 'build'\?") as caught:
        graph.validate()
    assert (caught.value.task, caught.value.dependency) == (test, "biuld")
    with pytest.raises(UnknownDependencyError):
        graph.dependencies(test)
    graph[test] = "build"
    graph.validate()
    with pytest.raises(UnknownDependencyError, match="'build'"):
        graph.add_dependency(test, "buld")


def test_a_title_of_two_tasks_is_no_name_but_a_key_is() -> None:
    graph = TaskGraph()
    graph.add(make("a"))
    test = graph.add(make("test"), after="a")
    graph.validate()
    keyed = graph.add(make("other", key="a"))
    assert graph[test] == (keyed,)
    twice = TaskGraph()
    twice.add(make("a"))
    twice.add(make("test"), after="a")
    twice.validate()
    twice.add(make("a"))
    with pytest.raises(GraphError, match="2 tasks of the graph have this name"):
        twice.validate()


def test_a_title_that_changes_counts_as_it_is_when_the_graph_is_validated() -> None:
    graph = TaskGraph()
    first = graph.add(make("first"))
    last = graph.add(make("last"), after="first")
    assert graph[last] == (first,)
    first.title = "renamed"
    with pytest.raises(UnknownDependencyError):
        graph.validate()


def test_named_dependencies_are_kept_by_changes_of_other_tasks_and_end_with_their_own() -> None:
    graph = TaskGraph()
    a, b, c = graph.add(make("a")), graph.add(make("b"), after="a"), graph.add(make("c"))
    graph.add_dependency(c, "b")
    assert graph[c] == (b,)
    with pytest.raises(GraphError, match="'b' depends on it"):
        graph.remove(a)
    d = graph.add(make("d"))
    graph.add_dependency(b, d)
    assert graph[b] == (a, d)
    graph[b] = ()
    graph.remove(a)
    assert graph.roots() == [b, d]


@pytest.mark.parametrize("after", ["", " ", [""], 5, [5], b"a", [b"a"]])
def test_a_name_of_a_dependency_is_a_str_that_is_not_blank(after: Any) -> None:
    graph = TaskGraph()
    with pytest.raises((TypeError, ValueError), match="after"):
        graph.add(make("a"), after=after)
    assert len(graph) == 0


def test_a_graph_runs_in_the_order_of_its_names() -> None:
    graph, order = TaskGraph(), list[str]()
    graph.add(Task.python(order.append, ("b",), title="b"), after="a")
    graph.add(Task.python(order.append, ("a",), title="a"))
    with TaskExecutor() as executor:
        graph.run(executor).raise_for_failure()
    assert order == ["a", "b"]


def test_find_looks_for_key_then_title_then_id() -> None:
    graph = TaskGraph("g")
    titled, keyed = graph.add(make("build")), graph.add(make("x", key="deploy"))
    assert graph.find("build") is titled
    assert graph.find("deploy") is keyed
    assert graph.find(titled.id) is titled
    graph.add(make("deploy"))
    assert graph.find("deploy") is keyed
    with pytest.raises(GraphError, match=r"Graph 'g' has no task 'buidl'; did you mean 'build'\?"):
        graph.find("buidl")
    graph.add(make("build"))
    with pytest.raises(GraphError, match="has 2 tasks called 'build'"):
        graph.find("build")
    with pytest.raises(TypeError, match="name"):
        graph.find(titled)  # type: ignore[arg-type]


def test_of_makes_a_graph_whose_edges_are_arguments() -> None:
    numbers = Task.python(list, ((3, 1, 2),), title="numbers")
    ordered = Task.python(sorted, (numbers,), title="ordered")
    total = Task.python(sum, (numbers,), title="total")
    graph = TaskGraph.of([total, ordered, numbers], "sums", key="k")
    assert (graph.title, graph.key) == ("sums", "k")
    assert graph[total] == graph[ordered] == (numbers,)
    assert graph.ordered()[0] is numbers
    with TaskExecutor() as executor:
        graph.run(executor).raise_for_failure()
    assert (total.value, ordered.value) == (6, [1, 2, 3])


def test_of_refuses_what_is_no_task_and_what_is_missing() -> None:
    numbers = Task.python(list, title="numbers")
    with pytest.raises(UnknownDependencyError, match="'numbers'"):
        TaskGraph.of([Task.python(sum, (numbers,))])
    with pytest.raises(TypeError, match=r"tasks\[1\] must be a Task"):
        TaskGraph.of([numbers, "x"])  # type: ignore[list-item]
    for wrong in (numbers, "text", 5):
        with pytest.raises(TypeError, match="an iterable of tasks"):
            TaskGraph.of(wrong)  # type: ignore[arg-type]


def test_ordered_puts_every_task_after_its_dependencies() -> None:
    graph = TaskGraph()
    a, b, c = make("a"), make("b"), make("c")
    graph.add(c, after=[b])
    graph.add(b, after=[a])
    graph.add(a)
    assert graph.ordered() == [a, b, c]
    graph[a] = [c]
    with pytest.raises(CycleError):
        graph.ordered()


def test_add_refuses_a_cycle_at_once_if_asked() -> None:
    graph = TaskGraph()
    a, b, c = make("a"), make("b"), make("c")
    graph.add(a, after=c)
    graph.add(b, after=a, check=True)
    with pytest.raises(CycleError) as caught:
        graph.add(c, after=b, check=True)
    assert caught.value.path == (c, b, a)
    assert c not in graph
    graph.add(c, check=True)
    with pytest.raises(CycleError):
        graph.add(c, after="b", check=True)
    with pytest.raises(CycleError):
        graph.add(c, after=c, check=True)
    assert graph[c] == ()
    graph.add(c, after=b)  # unchecked: `validate` finds it
    with pytest.raises(CycleError):
        graph.validate()


def test_created_at_is_aware_and_read_only() -> None:
    before = datetime.now(UTC)
    graph = TaskGraph()
    assert before <= graph.created_at <= datetime.now(UTC)
    with pytest.raises(AttributeError):
        graph.created_at = before  # type: ignore[misc]


def test_a_refused_removal_says_who_depends_on_the_task() -> None:
    graph = TaskGraph()
    a = graph.add(make("a"))
    graph.add(make("b"), after=a)
    with pytest.raises(GraphError, match="'a' cannot be removed, because 'b' depends on it"):
        graph.remove(a)
    assert a in graph


def test_a_store_keeps_when_a_graph_was_created(tmp_path: Path) -> None:
    graph = TaskGraph("g")
    with SQLiteStore(tmp_path / "ledger") as store:
        store.graphs.save(graph)
        assert store.graphs[graph.id].created_at == graph.created_at


def test_a_graph_with_names_is_saved_with_the_tasks_they_stand_for(tmp_path: Path) -> None:
    graph = TaskGraph("g")
    b = graph.add(make("b"), after="a")
    with SQLiteStore(tmp_path / "ledger") as store:
        with pytest.raises(UnknownDependencyError):
            store.graphs.save(graph)
        a = graph.add(make("a"))
        store.graphs.save(graph)
        assert store.graphs[graph.id][b] == (a,)


# Failures


class Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("no")


def failing(*errors: BaseException) -> tuple[TaskGraph, GraphFailedError]:
    """A graph of tasks that fail one after the other, and what it raises."""

    def fail(error: BaseException) -> None:
        raise error

    graph = TaskGraph("nightly")
    for number, error in enumerate(errors):
        graph.add(Task.python(fail, (error,), title=f"t{number}", priority=number))
    graph.add(make("next"), after="t0")
    with TaskExecutor() as executor:
        graph.run(executor, max_workers=1)
    with pytest.raises(GraphFailedError) as caught:
        graph.raise_for_failure()
    return graph, caught.value


def test_graph_failed_error_is_raised_from_what_failed_first() -> None:
    first, second = ValueError("the second task ran first"), KeyError("x")
    _, error = failing(second, first)
    assert error.__cause__ is first
    assert error.exceptions == (first, second)
    assert [title for title, _ in error.failures] == ["t0", "t1", "next"]


def test_graph_failed_error_survives_pickling_with_exceptions_that_do_not() -> None:
    _, error = failing(ValueError("one"), Unpicklable("two"))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.title, copy.failures, str(copy)) == (error.title, error.failures, str(error))
    two, one = copy.exceptions
    assert (type(one), str(one)) == (ValueError, "one")
    assert (type(two), str(two)) == (TaskExecutionError, "Unpicklable: two")


def test_cancelled_tasks_are_no_causes() -> None:
    def fail() -> None:
        raise ValueError("the cause")

    graph = TaskGraph("nightly")
    graph.add(Task.python(fail, title="fails", priority=1))
    for title in ("a", "b"):
        graph.add(Task.python(int, title=title))
    with TaskExecutor() as executor:
        graph.run(executor, max_workers=1, fail_fast=True)
    with pytest.raises(GraphFailedError) as caught:
        graph.raise_for_failure()
    error = caught.value
    assert error.failures == (("fails", "the cause"),)
    assert error.cancelled == ("a", "b")
    assert [str(item) for item in error.exceptions] == ["the cause"]
    assert str(error).splitlines()[1:] == ["  fails: the cause", "  cancelled: a, b"]


def test_an_optional_failure_that_blocks_a_required_task_is_its_cause() -> None:
    def fail() -> None:
        raise ValueError("optional")

    graph = TaskGraph()
    optional = graph.add(Task.python(fail, title="optional"), required=False)
    graph.add(make("behind"), after=optional)
    with TaskExecutor() as executor:
        graph.run(executor)
    with pytest.raises(GraphFailedError) as caught:
        graph.raise_for_failure()
    assert str(caught.value.__cause__) == "optional"


def test_without_an_exception_there_is_no_cause() -> None:
    graph = TaskGraph()
    graph.add(make("a"))
    with pytest.raises(GraphFailedError) as caught:
        graph.raise_for_failure()
    assert caught.value.__cause__ is None
    assert caught.value.exceptions == ()
