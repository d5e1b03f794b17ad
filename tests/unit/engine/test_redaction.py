"""What an executor with ``redact`` refuses, and what its graphs say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from support import executor_with, make
from ttasks import (
    GraphFailedError,
    InMemoryStore,
    Task,
    TaskExecutor,
    TaskGraph,
    TaskLogFilter,
    TaskType,
)

SECRET = "hunter2"


def run_graph(executor: TaskExecutor, task: Task) -> None:
    graph = TaskGraph()
    graph.add(task)
    graph.run(executor)


@pytest.mark.parametrize("name", ["key", "version", "group"])
@pytest.mark.parametrize("way", [TaskExecutor.execute, TaskExecutor.submit, run_graph])
def test_a_task_with_a_secret_in_its_name_is_refused_before_it_starts(
    way: Callable[[TaskExecutor, Task], Any], name: str
) -> None:
    store = InMemoryStore()
    executor, events = executor_with(lambda context: None, store=store, redact=[SECRET])
    task = make("title", **{name: f"of {SECRET}"})
    with executor:
        with pytest.raises(ValueError, match=name) as caught:
            way(executor, task)
        assert SECRET not in str(caught.value)
    assert task.is_pending
    assert events.events == []
    assert len(store.tasks) == 0


def test_a_graph_with_a_secret_in_its_key_is_refused_before_it_starts() -> None:
    executor, events = executor_with(lambda context: None, redact=[SECRET])
    graph = TaskGraph(key=SECRET)
    graph.add(make("a"))
    with executor, pytest.raises(ValueError, match="key of the graph"):
        graph.run(executor)
    assert events.events == []


def test_the_error_of_a_graph_shows_no_secret_of_a_title() -> None:
    executor, _ = executor_with(lambda context: 1 / 0, redact=[SECRET])
    graph = TaskGraph(f"deploy with {SECRET}")
    first = graph.add(Task("", f"{'x' * 55} {SECRET}", TaskType("custom")))
    graph.add(make(f"after {SECRET}"), after=first)
    with executor:
        graph.run(executor)
    with pytest.raises(GraphFailedError) as caught:
        graph.raise_for_failure()
    assert caught.value.title == "deploy with ***"
    assert "hunt" not in str(caught.value)
    assert f"{'x' * 55} ***" in str(caught.value)


def test_what_a_task_logs_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(TaskLogFilter())
    log = logging.getLogger("chaos")
    executor, _ = executor_with(lambda context: log.warning("with %s", SECRET), redact=[SECRET])
    with executor:
        executor.execute(make("a"))
    assert caplog.messages == ["with ***"]
