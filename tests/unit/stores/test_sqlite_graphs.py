"""What a ledger keeps of a graph besides its tasks: how its run ended, and which came last."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ttasks import (
    GraphError,
    SQLiteStore,
    StoreError,
    Task,
    TaskCancelled,
    TaskEvent,
    TaskEventType,
    TaskGraph,
    TaskResult,
    TaskStatus,
    TaskTimeoutError,
)
from ttasks.model.graph import state_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "ledger") as store:
        yield store


def graph_of(*tasks: Task, key: str | None = None) -> TaskGraph:
    graph = TaskGraph("title", key=key)
    for task in tasks:
        graph.add(task)
    return graph


def started(task: Task) -> TaskEvent:
    task.transition_to(TaskStatus.RUNNING)
    before, after = TaskStatus.PENDING, TaskStatus.RUNNING
    return TaskEvent(TaskEventType.STARTED, task.id, task, datetime.now(UTC), before, after)


def succeeded() -> Task:
    task = Task.bash("true")
    task.transition_to(TaskStatus.RUNNING)
    task.transition_to(TaskStatus.SUCCEEDED)
    return task


class TestRunErrors:
    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (TaskTimeoutError(1.5, what="Graph"), TaskTimeoutError(1.5, what="Graph")),
            (TaskCancelled("The graph run was interrupted"), None),
            (StoreError("the disk is full \udcff"), None),
            (GraphError("no"), None),
            (
                ZeroDivisionError("division by zero"),
                GraphError("ZeroDivisionError: division by zero"),
            ),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_run_that_ended_before_its_time_is_not_ok_when_it_is_loaded(
        self, store: SQLiteStore, error: Exception, expected: Exception | None
    ) -> None:
        graph = graph_of(succeeded())
        store.graphs.save(graph)
        assert store.graphs[graph.id].ok
        state_of(graph).error = error
        store.graphs.save_outcome(graph)
        copy = store.graphs[graph.id]
        assert not copy.ok
        assert repr(copy.run_error) == repr(expected or error)
        assert str(copy.run_error) == str(expected or error)

    def test_saving_the_graph_writes_it_too(self, store: SQLiteStore) -> None:
        graph = graph_of(succeeded())
        state_of(graph).error = TaskTimeoutError(2, what="Graph")
        store.graphs.save(graph)
        copy = store.graphs[graph.id]
        assert isinstance(copy.run_error, TaskTimeoutError)
        assert (copy.run_error.seconds, copy.run_error.what) == (2, "Graph")
        store.graphs.save(copy)
        assert not store.graphs[graph.id].ok
        state_of(graph).error = None  # the next run begins
        store.graphs.save(graph)
        assert store.graphs[graph.id].ok

    def test_the_outcome_of_a_graph_that_was_never_saved_is_nothing(
        self, store: SQLiteStore
    ) -> None:
        store.graphs.save_outcome(graph_of(succeeded()))
        assert len(store.graphs) == len(store.tasks) == 0
        with pytest.raises(TypeError, match="a TaskGraph"):
            store.graphs.save_outcome("graph")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "text", ["{", "[]", "{}", '{"type": "TaskTimeoutError", "message": 1}']
    )
    def test_an_error_that_makes_no_sense_is_a_store_error(
        self, store: SQLiteStore, text: str
    ) -> None:
        graph = graph_of(succeeded())
        store.graphs.save(graph)
        with closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute("UPDATE graphs SET run_error=?", (text,))
        with pytest.raises(StoreError, match=f"row of graph '{graph.id}' is damaged"):
            store.graphs[graph.id]


class TestOrder:
    def test_the_graph_saved_last_comes_first_also_if_the_clock_was_set_back(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [10**18]
        monkeypatch.setattr("ttasks.stores.sqlite.graphs.time_ns", lambda: now[0])
        first, second, third = (graph_of(succeeded(), key="release") for _ in range(3))
        for graph in (first, second, third, first):
            store.graphs.save(graph)
            now[0] -= 3600 * 10**9
        assert store.graphs.keyed("release") == [first.id, third.id, second.id]


def test_a_task_that_waits_for_a_retry_keeps_what_came_of_the_last_attempt(
    store: SQLiteStore,
) -> None:
    failed = Task.bash("true")
    failed.transition_to(TaskStatus.RUNNING)
    failed.transition_to(TaskStatus.FAILED, "no")
    state = failed.__getstate__()
    waiting = Task.bash("true")
    now = datetime.now(UTC)
    result = TaskResult(failed.id, TaskStatus.FAILED, now, now, 0.5, error="no", attempts=2)
    waiting.__setstate__(state | {"status": TaskStatus.PENDING, "result": result})
    for write in (store.tasks.save, store.record):
        write(waiting)
        copy = store.tasks[waiting.id]
        assert (copy.status, copy.error, copy.result) == (TaskStatus.PENDING, "no", result)
    waiting.transition_to(TaskStatus.RUNNING)
    store.record(waiting)
    copy = store.tasks[waiting.id]
    assert (copy.status, copy.error, copy.result) == (TaskStatus.RUNNING, None, None)


class TestNewGraphs:
    def test_its_tasks_may_have_been_saved_before(self, store: SQLiteStore) -> None:
        known, ended = Task.bash("known"), succeeded()
        store.tasks.save(known)
        store.tasks.save(ended)
        new = [Task.bash("first"), Task.bash("second"), succeeded()]
        graph = graph_of(new[0], known, new[1], ended, new[2])
        store.graphs.save(graph)
        tasks = list(store.graphs[graph.id])
        assert [task.id for task in tasks] == [task.id for task in graph]
        assert [task.payload for task in tasks] == [task.payload for task in graph]
        assert [task.status for task in tasks] == [task.status for task in graph]
        assert store.check() == []

    def test_a_number_of_a_deleted_task_is_not_used_again(self, store: SQLiteStore) -> None:
        task = Task.bash("true")
        event = started(task)
        store.record(task, event)
        del store.tasks[task.id]
        store.graphs.save(graph_of(Task.bash("other")))
        assert store.events.read() == []
        assert store.check() == []
