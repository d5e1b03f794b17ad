"""What may be asked of the tasks of a store: cancel one, count them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ttasks import (
    InMemoryStore,
    InvalidTransitionError,
    SQLiteStore,
    Task,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield InMemoryStore()
        return
    with SQLiteStore(tmp_path / "ledger") as store:
        yield store


def test_a_stored_task_can_be_cancelled_by_its_id(store: Any) -> None:
    task = Task.bash("true")
    store.tasks.save(task)
    store.tasks.cancel(task.id)
    assert store.tasks[task.id].is_cancelled
    assert task.id in store.tasks
    store.tasks.cancel(task.id)  # it stays so
    assert store.tasks[task.id].is_cancelled


def test_cancelling_leaves_a_success_alone(store: Any) -> None:
    task = Task.python(lambda: 7)
    with TaskExecutor(store) as executor:
        executor.execute(task)
    store.tasks.cancel(task.id)
    assert store.tasks[task.id].is_succeeded


def test_cancelling_an_unknown_task_is_a_key_error(store: Any) -> None:
    with pytest.raises(KeyError):
        store.tasks.cancel("nobody")


def test_a_task_that_runs_by_the_ledger_is_not_cancelled_in_it(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        task = Task.python(lambda: store.tasks.cancel(task.id))
        with pytest.raises(InvalidTransitionError, match="from 'running' to 'cancelled'"):
            executor.execute(task)
        assert store.tasks[task.id].is_failed


def test_tasks_are_counted_by_status_also_of_one_graph(store: Any) -> None:
    graph = TaskGraph("g")
    graph.add(Task.python(lambda: 7), after=graph.add(Task.python(lambda: 8)))
    with TaskExecutor(store) as executor:
        graph.run(executor)
        executor.attempt(Task.python(lambda: 1 / 0))
    store.tasks.save(Task.bash("true"))
    counts = store.tasks.counts()
    assert (counts[TaskStatus.SUCCEEDED], counts[TaskStatus.FAILED]) == (2, 1)
    assert counts[TaskStatus.PENDING] == 1
    for given in (graph, graph.id):
        assert store.tasks.counts(graph=given) == {
            status: 2 if status is TaskStatus.SUCCEEDED else 0 for status in TaskStatus
        }


@pytest.mark.parametrize(("graph", "error"), [("nobody", KeyError), (5, TypeError)])
def test_counting_what_is_no_graph_of_the_store_raises(
    store: Any, graph: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.tasks.counts(graph=graph)
