"""Ledgers of every version, kept as files, are brought forward with all that is in them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ttasks import RetryPolicy, Task, TaskEventType, TaskExecutor, TaskStatus, TaskType
from ttasks.stores.sqlite import Liveness, SQLiteStore, schema

FIXTURES = Path(__file__).parents[2] / "fixtures"
OLDER = range(1, len(schema.MIGRATIONS))

# What `tests/fixtures/make_ledger.py` put there.
STATUSES = {
    "json": "succeeded",
    "text": "succeeded",
    "none": "succeeded",
    "pickled": "succeeded",
    "failed": "failed",
    "blocked": "blocked",
    "skipped": "skipped",
    "finally": "failed",
    "all options": "pending",
    "cancelled": "cancelled",
    "running": "running",
}


@pytest.fixture(params=OLDER, ids=lambda version: f"v{version}")
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return shutil.copy(FIXTURES / f"ledger-v{request.param}.db", tmp_path / "ledger")


def by_title(store: SQLiteStore) -> dict[str, Task]:
    return {task.title: task for task in store.tasks.values()}


def test_there_is_a_ledger_of_every_older_version() -> None:
    for version in OLDER:
        with closing(sqlite3.connect(FIXTURES / f"ledger-v{version}.db")) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)


def test_tasks_keep_their_state_and_order(path: Path) -> None:
    with SQLiteStore(path) as store:
        assert {title: task.status.value for title, task in by_title(store).items()} == STATUSES
        assert list(by_title(store)) == list(STATUSES)
        assert len(store.tasks) == len(STATUSES)
        assert store.tasks.counts()[TaskStatus.SUCCEEDED] == 4
        page = store.tasks.list(TaskStatus.FAILED, newest_first=False)
        assert sorted(item.title for item in page.tasks) == ["failed", "finally"]
        tasks = by_title(store)
        assert tasks["blocked"].blocked_by == tasks["failed"].id
        assert tasks["failed"].error == "'failed'"


def test_results_and_their_values_are_kept(path: Path) -> None:
    with SQLiteStore(path, pickle_values=True) as store:
        results = {title: task.result for title, task in by_title(store).items()}
        assert {title for title, result in results.items() if result is None} == {
            *("blocked", "skipped", "all options", "cancelled", "running")
        }
        values = {title: result.value for title, result in results.items() if result is not None}
        assert values["json"] == {"a": [1, None]}
        assert (values["text"], values["none"], values["pickled"]) == ("ü", None, (1, 2))
        failed = results["failed"]
        assert failed is not None
        assert failed.failure is not None
        assert failed.failure.type == "builtins.KeyError"
        assert [title for title, _ in failed.failure.downstream] == ["blocked"]
        assert failed.output == "output of failed\n"


def test_what_a_task_does_is_kept(path: Path) -> None:
    with SQLiteStore(path) as store:
        tasks = by_title(store)
        task = tasks["all options"]
        assert (task.description, task.timeout, task.priority) == ("described", 1.5, 2.0)
        assert task.retry == RetryPolicy(3, 0.5, jitter=0.1, retry_on=(OSError,))
        assert task.deadline == datetime(2030, 1, 1, tzinfo=UTC)
        assert (task.version, task.reuse, task.options) == ("7", True, {"a": [1]})
        failed = tasks["failed"]
        assert (failed.payload, failed.key, failed.group) == (["a", 1], "own key", "db")
        done = tasks["json"]
        assert done.fingerprint is not None
        found = store.tasks.succeeded(done.fingerprint)
        assert found is not None
        assert found.id == done.id


def test_graphs_events_and_owners_are_kept(path: Path) -> None:
    with SQLiteStore(path) as store:
        (graph_id,) = store.graphs.keyed("release")
        graph = store.graphs[graph_id]
        assert [task.title for task in graph] == list(STATUSES)[:8]
        tasks = {task.title: task for task in graph}
        assert graph[tasks["failed"]] == (tasks["json"],)
        assert graph.is_finally(tasks["finally"])
        assert graph.is_optional(tasks["finally"])
        (other,) = [graph for graph in store.graphs.values() if graph.title == "other"]
        assert [task.title for task in other] == ["deleted"]
        kinds = [event.type for event in store.events.read(task=tasks["json"])]
        assert kinds == [TaskEventType.STARTED, TaskEventType.OUTPUT, TaskEventType.SUCCEEDED]
        (running,) = store.running()
        assert running.title == "running"
        assert running.owner is not None
        assert (running.owner.host, running.owner.boot) == ("host", "boot/pid:[1]")
        assert running.liveness is Liveness.UNKNOWN


def test_numbers_of_deleted_tasks_are_not_given_again(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        (before,) = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name='tasks'"
        ).fetchone()
    with SQLiteStore(path) as store:
        task = Task.bash("true")
        store.tasks.save(task)
        with store._ledger.reading() as connection:
            (seq,) = connection.execute("SELECT seq FROM tasks WHERE id=?", (task.id,)).fetchone()
    assert seq == before + 1


def test_the_ledger_goes_on_being_used(path: Path) -> None:
    with SQLiteStore(path) as store, TaskExecutor(store) as executor:
        executor.register(TaskType("work"), lambda context: context.title)
        (graph_id,) = store.graphs.keyed("release")
        graph = store.graphs[graph_id]
        graph.run(executor)
        assert {task.status.value for task in graph} == {"succeeded"}
    with SQLiteStore(path) as store:
        assert store.tasks.counts()[TaskStatus.SUCCEEDED] == 8
        with store._ledger.reading() as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_it_has_no_runs_until_something_runs(path: Path) -> None:
    with SQLiteStore(path) as store, TaskExecutor(store) as executor:
        assert (len(store.runs), list(store.runs), store.runs.latest()) == (0, [], None)
        with pytest.raises(KeyError):
            store.runs["any"]
        executor.register(TaskType("work"), lambda context: context.title)
        graph = store.graphs[store.graphs.keyed("release")[0]]
        graph.run(executor)
        assert graph.latest_run is not None
        assert store.runs.latest(key="release") == graph.latest_run
        assert store.runs[graph.latest_run.id].facts() == graph.facts()


def test_a_result_without_a_kind_of_value_has_none(tmp_path: Path) -> None:
    path = shutil.copy(FIXTURES / "ledger-v1.db", tmp_path / "ledger")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE tasks SET value_kind=NULL")
    with SQLiteStore(path) as store:
        result = by_title(store)["json"].result
        assert result is not None
        assert result.value is None


def test_processes_that_open_it_at_once_bring_it_forward_once(path: Path) -> None:
    code = "import sys; from ttasks import SQLiteStore; print(len(SQLiteStore(sys.argv[1]).tasks))"
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in processes] == [str(len(STATUSES))] * 4


def test_an_old_and_a_new_ledger_have_the_same_schema(path: Path, tmp_path: Path) -> None:
    def tables(name: Path) -> set[tuple[str, ...]]:
        SQLiteStore(name).close()
        with closing(sqlite3.connect(name)) as connection:
            return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))

    assert tables(path) == tables(tmp_path / "new")
