"""RunOptions, and the runs whose arguments they check."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest

from ttasks import GraphError, InMemoryStore, Task, TaskEvent, TaskExecutor, TaskGraph, TaskType
from ttasks.model.cancel import CancelToken
from ttasks.model.running import RunOptions
from ttasks.model.task import lifecycle_of

HUGE = 10**400
SECONDS = [(value, TypeError) for value in ("1", True, [1])] + [
    (value, ValueError) for value in (0, -1, nan, inf, HUGE)
]
BOOLS = [(value, TypeError) for value in (None, 0, 1, "yes")]
BAD: dict[str, list[tuple[Any, type[Exception]]]] = {
    "max_workers": [(value, TypeError) for value in ("4", 4.0, True)]
    + [(0, ValueError), (-1, ValueError)],
    "fail_fast": BOOLS,
    "timeout": SECONDS,
    "finally_timeout": SECONDS,
    "retry_budget": [(value, TypeError) for value in ("1", 1.0, False)] + [(-1, ValueError)],
    "limits": [
        (5, TypeError),
        ("db", TypeError),
        ([("db", 1)], TypeError),
        ({5: 1}, TypeError),
        ({None: 1}, TypeError),
        ({"": 1}, ValueError),
        ({"db": None}, TypeError),
        ({"db": "1"}, TypeError),
        ({"db": 1.0}, TypeError),
        ({"db": True}, TypeError),
        ({"db": 0}, ValueError),
        ({"web": 1, "db": -1}, ValueError),
    ],
}
CASES = [
    pytest.param(name, value, error, id=f"{name}-{str(value)[:20]}")
    for name, values in BAD.items()
    for value, error in values
]


def culprit(name: str, value: Any) -> str:
    """How a message has to show the value."""
    if name == "limits" and isinstance(value, dict):
        group, limit = list(value.items())[-1]
        value = limit if isinstance(group, str) and group else group
    return repr(value)[:40]


def test_the_defaults_limit_nothing() -> None:
    options = RunOptions()
    assert (options.max_workers, options.fail_fast) == (4, False)
    assert (options.timeout, options.finally_timeout) == (None, None)
    assert (options.retry_budget, options.limits) == (None, None)


def test_the_edges_of_what_is_allowed_are_allowed() -> None:
    options = RunOptions(1, True, 1e-9, 1e300, 0, {"db": 1, "web": 10**9})
    assert options.retry_budget == 0
    assert RunOptions(limits={}).limits == {}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [*CASES, *(pytest.param("handle_sigterm", value, error) for value, error in BOOLS)],
)
def test_bad_arguments_are_named_with_their_value(
    name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        RunOptions(**{name: value})
    assert type(caught.value) is error
    assert name in str(caught.value)
    assert culprit(name, value) in str(caught.value)


# Runs that must not begin


def run(graph: TaskGraph, executor: Any, **options: Any) -> None:
    graph.run(executor, **options)


def arun(graph: TaskGraph, executor: Any, **options: Any) -> None:
    asyncio.run(graph.arun(executor, **options))


WAYS = pytest.mark.parametrize("way", [run, arun])


class Untouched:
    """A graph, and an executor on which nothing may happen."""

    def __init__(self) -> None:
        work = TaskType("work")
        self.store = InMemoryStore()
        self.executor = TaskExecutor.empty(self.store)
        self.heard: list[TaskEvent] = []
        self.executor.events.subscribe(self.heard.append)
        self.executor.register(work, lambda context: None)
        self.graph = TaskGraph("graph")
        self.first = self.graph.add(Task("first", None, work))
        self.second = self.graph.add(Task("second", None, work), after=[self.first])

    def assert_untouched(self) -> None:
        assert self.heard == []
        assert len(self.store.tasks) == len(self.store.graphs) == 0
        assert self.second.is_pending
        assert self.graph.errors == {}
        assert self.graph.run_error is None
        assert self.graph.statistics().elapsed == 0.0


@WAYS
@pytest.mark.parametrize(("name", "value", "error"), CASES)
def test_a_run_names_what_it_cannot_take_before_anything_starts(
    way: Callable[..., None], name: str, value: Any, error: type[Exception]
) -> None:
    made = Untouched()
    with made.executor, pytest.raises(error) as caught:
        way(made.graph, made.executor, **{name: value})
    assert name in str(caught.value)
    assert culprit(name, value) in str(caught.value)
    made.assert_untouched()
    assert made.first.is_pending


@pytest.mark.parametrize("value", [0, "yes", None])
def test_handling_sigterm_is_a_bool(value: Any) -> None:
    made = Untouched()
    with made.executor, pytest.raises(TypeError, match=f"handle_sigterm.*{value!r}"):
        made.graph.run(made.executor, handle_sigterm=value)
    made.assert_untouched()


@WAYS
@pytest.mark.parametrize("executor", [None, 4, "executor", InMemoryStore()])
def test_a_run_needs_an_executor(way: Callable[..., None], executor: Any) -> None:
    made = Untouched()
    with made.executor, pytest.raises(TypeError) as caught:
        way(made.graph, executor)
    assert "executor" in str(caught.value)
    assert repr(executor) in str(caught.value)
    made.assert_untouched()


@WAYS
@pytest.mark.parametrize("flaw", ["cycle", "missing"])
def test_an_invalid_graph_does_not_begin(way: Callable[..., None], flaw: str) -> None:
    made = Untouched()
    other = made.second if flaw == "cycle" else Task.bash("true")
    made.graph[made.first] = [other]
    with made.executor, pytest.raises(GraphError):
        way(made.graph, made.executor)
    made.assert_untouched()
    assert made.first.is_pending


@WAYS
def test_a_graph_does_not_begin_while_a_task_of_it_runs_elsewhere(
    way: Callable[..., None],
) -> None:
    made = Untouched()
    assert lifecycle_of(made.first).start(CancelToken())
    with made.executor, pytest.raises(GraphError, match="'first'.*running"):
        way(made.graph, made.executor)
    made.assert_untouched()
    assert made.first.is_running
