"""What the documentation of the package processes (version 7) shows, translated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttasks import (
    CycleError,
    DependencyPolicy,
    GraphError,
    RetryPolicy,
    Task,
    TaskExecutor,
    TaskGraph,
    TaskLogFilter,
    TaskTimeoutError,
    UnknownDependencyError,
)
from ttasks.testing import FakeClock


def run(graph: TaskGraph, **options: Any) -> TaskGraph:
    with TaskExecutor() as executor:
        return graph.run(executor, **options)


# README: quick start


def load_users() -> list[dict[str, Any]]:
    return [{"id": number} for number in (1, 2)]


def with_names(users: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**user, "name": f"user {user['id']}"} for user in users]


def test_the_value_of_one_task_is_an_argument_of_the_next() -> None:
    load = Task.python(load_users)
    named = Task.python(with_names, (load,))
    graph = TaskGraph.of([named, load])  # in any order: the argument is the dependency
    assert run(graph).ok
    assert named.value[1] == {"id": 2, "name": "user 2"}


# README: end to end


def test_one_failure_stops_only_what_depends_on_it(tmp_path: Path) -> None:
    def unreachable(report: str) -> None:
        raise RuntimeError("no answer (503)")

    orders = Task.python(lambda: [42.0, 17.5], title="orders")
    stock = Task.python(lambda: [12, 3], title="stock")
    revenue = Task.python(sum, (orders,), title="revenue")
    value = Task.python(
        lambda stock, price: sum(stock) * price, (stock,), {"price": 17.5}, title="value"
    )
    report = Task.python(
        "revenue {revenue:.2f} stock {stock:.2f}".format,
        kwargs={"revenue": revenue, "stock": value},
        title="report",
    )
    notify = Task.python(unreachable, (report,), title="notify")
    after = Task.python(lambda _: None, (notify,), title="after the notice")
    archive = Task.python((tmp_path / "report.txt").write_text, (report,), title="archive")
    graph = TaskGraph.of([orders, stock, revenue, value, report, notify, after, archive])
    run(graph, max_workers=4)
    assert graph.failed == [notify]
    assert graph.blocked == [after]
    assert (tmp_path / "report.txt").read_text() == "revenue 59.50 stock 262.50"
    assert str(graph.errors[notify.id]) == "no answer (503)"
    assert notify.result is not None
    assert notify.result.failure is not None
    assert notify.result.failure.downstream == (("after the notice", after.id),)


# Values as positional and keyword arguments, and none


def test_values_come_after_own_arguments_or_by_name_or_not_at_all() -> None:
    def collect(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    a = Task.python(lambda: "a", title="first")
    b = Task.python(lambda: "b", title="second")
    both = Task.python(collect, (1, a), {"named": b, "nested": [a, {"x": b}]})
    later = Task.python(collect)
    graph = TaskGraph()
    for task in (later, both, a, b):
        graph.add(task)
    graph.add(later, after=[both])
    run(graph)
    assert both.value == ((1, "a"), {"named": "b", "nested": ["a", {"x": "b"}]})
    assert later.value == ((), {})
    assert [task for task in graph.ordered() if task in (both, later)] == [both, later]


# What is found before anything runs


def test_a_wrong_graph_is_refused_at_once() -> None:
    graph = TaskGraph()
    first, second = graph.add(Task.python(print, title="first")), Task.python(print)
    graph.add(second, after=[first])
    with pytest.raises(CycleError):
        graph.add_dependency(first, second)
    with pytest.raises(UnknownDependencyError):
        graph.add_dependency(first, Task.python(print))
    with pytest.raises(TypeError):
        graph.add("second")  # type: ignore[type-var]
    assert graph.find("first") is first
    with pytest.raises(GraphError, match="third"):
        graph.find("third")
    assert graph.dependents(first, transitive=True) == [second]


# Attempts and time


def flaky(failures: int, error: type[Exception]) -> Callable[[], str]:
    left = [error("not yet")] * failures

    def work() -> str:
        if left:
            raise left.pop()
        return "at last"

    return work


def test_named_exceptions_are_tried_again() -> None:
    policy = RetryPolicy(3, retry_on=(ConnectionError, TimeoutError))
    with TaskExecutor() as executor:
        good = executor.attempt(Task.python(flaky(2, ConnectionError), retry=policy))
        bad = executor.attempt(Task.python(flaky(1, ValueError), retry=policy))
    assert (good.ok, good.attempts, good.value) == (True, 3, "at last")
    assert (bad.ok, bad.attempts) == (False, 1)
    assert good.total_duration is not None
    assert good.total_duration >= 0


def test_a_function_that_takes_too_long_is_left_behind() -> None:
    from ttasks import current_context

    clock = FakeClock()

    def slow() -> None:
        clock.advance(2)
        context = current_context()
        assert context is not None
        context.wait_cancelled(60)

    with TaskExecutor(clock=clock) as executor, pytest.raises(TaskTimeoutError):
        executor.execute(Task.python(slow, timeout=1))


def test_a_value_that_is_missing_is_an_error_without_an_attempt() -> None:
    graph = TaskGraph()
    fails = graph.add(Task.python(lambda: 1 / 0))
    task = graph.add(
        Task.python(print, (fails,), retry=RetryPolicy(5)),
        on_dep_failure=DependencyPolicy.RUN_ANYWAY,
    )
    run(graph)
    assert task.result is not None
    assert task.result.attempts == 0


# Log files


def test_log_records_name_their_task(tmp_path: Path) -> None:
    logger = logging.getLogger("translated")
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(tmp_path / "run.log")
    handler.addFilter(TaskLogFilter())
    handler.setFormatter(logging.Formatter("%(task_title)s: %(message)s"))
    logger.addHandler(handler)
    try:
        run(TaskGraph.of([Task.python(logger.info, ("loaded %d", 3), title="load")]))
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert (tmp_path / "run.log").read_text() == "load: loaded 3\n"


# A task may be in several graphs, and run again after a change


def test_a_task_in_two_graphs_runs_once_and_a_failed_one_again(tmp_path: Path) -> None:
    shared = Task.python(lambda: 7)
    for _ in range(2):
        assert run(TaskGraph.of([shared])).ok
    ready = tmp_path / "ready"
    waits = Task.python(ready.read_text)
    graph = TaskGraph.of([waits])
    assert not run(graph).ok
    ready.write_text("now")
    assert run(graph).ok
    assert waits.value == "now"
