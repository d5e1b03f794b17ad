"""The journal: in order, in one transaction with the task, readable while a run goes on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ttasks.errors import StoreError
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.graph import TaskGraph
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.stores.sqlite import JournalEntry, SQLiteStore

STARTED, OUTPUT = TaskEventType.STARTED, TaskEventType.OUTPUT


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLiteStore]:
    path = tmp_path / "ledger" if request.param == "file" else ":memory:"
    with SQLiteStore(path) as store:
        yield store


def event(task: Task, kind: TaskEventType = STARTED, **facts: Any) -> TaskEvent:
    moment = datetime(2030, 1, 2, 3, 4, 5, 6, UTC)
    return TaskEvent(kind, task.id, task, moment, TaskStatus.PENDING, TaskStatus.RUNNING, **facts)


def saved(store: SQLiteStore, title: str = "t") -> Task:
    task = Task.bash("true", title=title)
    store.tasks.save(task)
    return task


def test_every_field_of_an_event_comes_back(store: SQLiteStore) -> None:
    task = saved(store, "title \udcff")
    store.events.append(
        event(task, TaskEventType.FAILED, error="no\udcff", attempt=3, retry_in=0.5)
    )
    store.events.append(
        event(task, TaskEventType.PROGRESS, progress_percent=12.5, progress_message="m")
    )
    store.events.append(event(task, OUTPUT, output_stream="stderr", output_chunk="text\udcff\n"))
    moment = datetime(2030, 1, 2, 3, 4, 5, 6, UTC)
    common = (moment, TaskStatus.PENDING, TaskStatus.RUNNING)
    assert store.events.read() == [
        JournalEntry(1, task.id, task.title, TaskEventType.FAILED, *common, 3, "no\udcff", 0.5),
        JournalEntry(
            2,
            task.id,
            task.title,
            TaskEventType.PROGRESS,
            *common,
            progress_percent=12.5,
            progress_message="m",
        ),
        JournalEntry(
            3,
            task.id,
            task.title,
            OUTPUT,
            *common,
            output_stream="stderr",
            output_chunk="text\udcff\n",
        ),
    ]


def test_a_task_and_its_event_are_recorded_together(store: SQLiteStore) -> None:
    task = Task.bash("true")
    task.transition_to(TaskStatus.RUNNING)
    store.record(task, event(task))
    assert store.tasks[task.id].is_running
    assert [entry.task_id for entry in store.events.read()] == [task.id]
    store.record(task)
    assert store.events.last == 1


def test_a_record_that_fails_writes_neither(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        task = Task.bash("true")
        with closing(sqlite3.connect(tmp_path / "ledger")) as other:
            other.execute("ALTER TABLE events RENAME TO hidden")
        with pytest.raises(StoreError, match="events"):
            store.record(task, event(task))
        assert task not in store.tasks


def test_an_event_of_an_unknown_task_is_a_store_error(store: SQLiteStore) -> None:
    with pytest.raises(StoreError, match="save it first"):
        store.events.append(event(Task.bash("true")))
    with pytest.raises(StoreError, match="save it first"):
        store.record(Task.bash("true"), event(Task.bash("true")))
    assert (len(store.tasks), store.events.read()) == (0, [])


def test_events_are_found_by_task_graph_and_number(store: SQLiteStore) -> None:
    a, b, c = (saved(store, name) for name in "abc")
    graph = TaskGraph()
    graph.add(b, after=graph.add(a))
    store.graphs.save(graph)
    for task in (a, b, c, a, b, c):
        store.events.append(event(task))
    read = store.events.read

    def titles(entries: list[JournalEntry]) -> str:
        return "".join(entry.title for entry in entries)

    assert titles(read()) == "abcabc"
    assert titles(read(after=2, limit=3)) == "cab"
    assert titles(read(task=a)) == titles(read(task=a.id)) == "aa"
    assert titles(read(graph=graph)) == titles(read(graph=graph.id)) == "abab"
    assert titles(read(graph=graph, task=c)) == ""
    assert titles(read(graph=graph, after=1, limit=2)) == "ba"
    assert read(task="unknown \udcff") == read(graph="unknown") == read(after=6) == []
    assert [entry.seq for entry in read()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"after": -1}, ValueError),
        ({"after": "1"}, TypeError),
        ({"limit": 0}, ValueError),
        ({"limit": 1.5}, TypeError),
        ({"task": 3}, TypeError),
        ({"graph": Task.bash("true")}, TypeError),
    ],
)
def test_arguments_are_checked(
    store: SQLiteStore, facts: dict[str, Any], error: type[Exception]
) -> None:
    (name,) = facts
    with pytest.raises(error, match=name):
        store.events.read(**facts)
    if name != "limit":
        with pytest.raises(error, match=name):
            store.events.follow(**facts)


def test_wrong_objects_are_a_type_error(store: SQLiteStore) -> None:
    with pytest.raises(TypeError, match="TaskEvent"):
        store.events.append("started")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Task"):
        store.record("task")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="poll"):
        store.events.follow(poll=0)
    with pytest.raises(TypeError, match="until"):
        store.events.follow(until=True)  # type: ignore[arg-type]


def test_the_journal_says_what_it_wants(tmp_path: Path) -> None:
    with SQLiteStore(":memory:") as store:
        assert store.events.wants(STARTED)
        assert not store.events.wants(OUTPUT)
    with SQLiteStore(":memory:", journal_output=True) as store:
        assert store.events.wants(OUTPUT)
        assert not store.events.wants(TaskEventType.PROGRESS)
    with pytest.raises(TypeError, match="journal_output"):
        SQLiteStore(tmp_path / "x", journal_output=1)  # type: ignore[arg-type]


class TestDeleting:
    def test_events_go_with_their_task(self, store: SQLiteStore) -> None:
        a, b = saved(store, "a"), saved(store, "b")
        for task in (a, b, a, b):
            store.record(task, event(task))
        del store.tasks[b.id]
        assert [entry.title for entry in store.events.read()] == ["a", "a"]
        fresh = saved(store, "c")
        assert store.events.read(task=fresh) == []

    def test_a_number_is_never_used_again(self, store: SQLiteStore) -> None:
        task = saved(store)
        for _ in range(3):
            store.events.append(event(task))
        del store.tasks[task.id]
        store.vacuum()
        assert store.events.last == 3
        other = saved(store)
        store.events.append(event(other))
        assert [entry.seq for entry in store.events.read()] == [4]

    def test_vacuum_gives_space_back(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        with SQLiteStore(path) as store:
            task = Task.bash("x" * 1_000_000)
            store.record(task, *(event(task) for _ in range(1000)))
            store.vacuum()
            before = path.stat().st_size
            del store.tasks[task.id]
            store.vacuum()
            assert before > 1_000_000
            assert path.stat().st_size < 100_000

    def test_prune_deletes_what_is_old_and_has_ended(self, store: SQLiteStore) -> None:
        ended, running, kept, free = (Task.bash("true", title=name) for name in "abcd")
        old, busy = TaskGraph("old"), TaskGraph("busy")
        old.add(ended)
        busy.add(kept)
        busy.add(running)
        for task in (ended, running, kept, free):
            task.transition_to(TaskStatus.RUNNING)
            if task is not running:
                task.transition_to(TaskStatus.SUCCEEDED)
            store.record(task, event(task))
        store.graphs.save(old)
        store.graphs.save(busy)
        assert store.prune(datetime.now(UTC) - timedelta(hours=1)) == 0
        assert len(store.tasks) == 4
        assert store.prune(datetime.now(UTC) + timedelta(hours=1)) == 2
        assert [task.title for task in store.tasks.values()] == ["b", "c"]
        assert list(store.graphs) == [busy.id]
        assert [entry.title for entry in store.events.read()] == ["b", "c"]
        with pytest.raises(TypeError):
            store.prune(None)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="aware"):
            store.prune(datetime(2030, 1, 1))  # noqa: DTZ001


class TestFollowing:
    def test_it_yields_what_is_there_and_what_comes(self, store: SQLiteStore) -> None:
        task, other = saved(store, "a"), saved(store, "b")
        store.events.append(event(task))
        entries = store.events.follow(task=task, poll=0.001)
        assert next(entries).seq == 1
        store.events.append(event(other))
        store.events.append(event(task))
        assert next(entries).seq == 3
        store.close()
        assert list(entries) == []

    def test_it_ends_when_there_is_nothing_new_after_until(self, store: SQLiteStore) -> None:
        task = saved(store)
        store.record(task, *(event(task) for _ in range(2500)))  # more than two pages
        over = [False, True]
        followed = store.events.follow(
            after=10, until=lambda: over.pop(0) if len(over) > 1 else True
        )
        assert [entry.seq for entry in followed] == list(range(11, 2501))

    def test_closing_the_store_ends_it_at_once(self, store: SQLiteStore) -> None:
        followed: list[JournalEntry] = []
        task = saved(store)
        store.events.append(event(task))
        reached = threading.Event()

        def follow() -> None:
            for entry in store.events.follow(poll=60):
                followed.append(entry)
                reached.set()

        thread = threading.Thread(target=follow)
        thread.start()
        assert reached.wait(10)
        store.close()
        thread.join(10)
        assert not thread.is_alive()
        assert len(followed) == 1

    def test_another_process_follows(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "from ttasks.stores.sqlite import SQLiteStore\n"
            "with SQLiteStore(sys.argv[1]) as store:\n"
            "    for entry in store.events.follow(poll=0.01):\n"
            "        print(entry.seq, entry.title, flush=True)\n"
            "        if entry.title == 'last':\n"
            "            break\n"
        )
        path = tmp_path / "ledger"
        with SQLiteStore(path) as store:
            task = saved(store, "first")
            store.events.append(event(task))
            child = subprocess.Popen(
                [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
            )
            assert child.stdout is not None
            with child:
                assert child.stdout.readline() == "1 first\n"
                last = Task.bash("true", title="last")
                store.record(last, event(last))
                assert child.stdout.readline() == "2 last\n"
            assert child.returncode == 0


def test_numbers_ascend_in_the_order_of_commits_also_with_many_writers(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        tasks = [saved(store, str(number)) for number in range(6)]
        done = threading.Event()
        seen: list[int] = []

        def follow() -> None:
            seen.extend(entry.seq for entry in store.events.follow(poll=0.001, until=done.is_set))

        def write(task: Task) -> None:
            for _ in range(50):
                store.events.append(event(task))

        follower = threading.Thread(target=follow)
        writers = [threading.Thread(target=write, args=(task,)) for task in tasks]
        for thread in (follower, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        follower.join()
        assert seen == list(range(1, 301))
