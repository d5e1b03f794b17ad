"""Pages of tasks, and which of the running ones are really running."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ttasks.model.cancel import CancelToken
from ttasks.model.graph import TaskGraph
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, lifecycle_of
from ttasks.stores.sqlite import Liveness, ProcessIdentity, SQLiteStore
from ttasks.stores.sqlite.sealing import seal


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "ledger") as store:
        yield store


def started(title: str = "t") -> Task:
    """A task that an executor of this process has just started."""
    task = Task.bash("true", title=title)
    lifecycle_of(task).start(CancelToken())
    return task


def titles(store: SQLiteStore, *args: Any, **facts: Any) -> str:
    """The titles on all pages; a comma between two pages."""
    pages, after = [], None
    while True:
        page = store.tasks.list(*args, after=after, **facts)
        pages.append("".join(task.title for task in page.tasks))
        after = page.after
        if after is None:
            return ",".join(pages)


class TestLists:
    @pytest.fixture
    def filled(self, store: SQLiteStore) -> SQLiteStore:
        for at, title in enumerate("abcdefgh"):
            task = Task.bash("true", title=title, key=f"key {title}")
            if at % 2:
                task.transition_to(TaskStatus.FAILED, f"error {title}")
            store.tasks.save(task)
        with store._ledger.writing() as connection:  # some of them at the same moment
            connection.execute("UPDATE tasks SET updated_at=1000000*(seq/3)")
            seal(connection)
        return store

    def test_pages_join_to_the_whole_in_either_order(self, filled: SQLiteStore) -> None:
        for size in (1, 2, 3, 7):
            for newest_first, whole in ((True, "hgfedcba"), (False, "abcdefgh")):
                paged = titles(filled, limit=size, newest_first=newest_first)
                assert paged.replace(",", "") == whole
                assert max(map(len, paged.split(","))) == size
        assert titles(filled, limit=8) == "hgfedcba"

    def test_a_list_is_by_status(self, filled: SQLiteStore) -> None:
        assert titles(filled, TaskStatus.FAILED) == "hfdb"
        assert titles(filled, [TaskStatus.PENDING], limit=3) == "gec,a"
        assert titles(filled, {TaskStatus.PENDING, TaskStatus.FAILED}) == "hgfedcba"
        assert titles(filled, TaskStatus.RUNNING) == titles(filled, []) == ""

    def test_a_list_is_by_time(self, filled: SQLiteStore) -> None:
        # saved at second 0: ab, 1: cde, 2: fgh
        one, two = (datetime(1970, 1, 1, 0, 0, second, tzinfo=UTC) for second in (1, 2))
        assert titles(filled, since=one) == "hgfedc"
        assert titles(filled, until=two, newest_first=False, limit=2) == "ab,cd,e"
        assert titles(filled, TaskStatus.FAILED, since=one, until=two) == "d"

    def test_a_summary_says_what_a_list_shows(self, store: SQLiteStore) -> None:
        task = Task.bash("true", title="t \udcff", key="k")
        task.transition_to(TaskStatus.FAILED, "no \udcff")
        before = datetime.now(UTC)
        store.tasks.save(task)
        (summary,) = store.tasks.list().tasks
        for name in ("id", "title", "type", "status", "key", "created_at", "error"):
            assert getattr(summary, name) == getattr(task, name)
        assert before <= summary.updated_at <= datetime.now(UTC)

    def test_what_is_saved_again_comes_first(self, filled: SQLiteStore) -> None:
        task = filled.tasks[next(iter(filled.tasks))]
        filled.tasks.save(task)
        assert titles(filled) == "ahgfedcb"

    def test_deleted_tasks_are_not_listed(self, store: SQLiteStore) -> None:
        graph = TaskGraph()
        task = graph.add(Task.bash("true"))
        store.graphs.save(graph)
        del store.tasks[task.id]
        assert store.tasks.list().tasks == ()
        assert sum(store.tasks.counts().values()) == 0

    def test_counts_are_by_status(self, filled: SQLiteStore) -> None:
        assert filled.tasks.counts() == dict.fromkeys(TaskStatus, 0) | {
            TaskStatus.PENDING: 4,
            TaskStatus.FAILED: 4,
        }

    @pytest.mark.parametrize(
        ("facts", "error"),
        [
            ({"status": "failed"}, TypeError),
            ({"status": ["failed"]}, TypeError),
            ({"since": datetime(2030, 1, 1)}, ValueError),  # noqa: DTZ001
            ({"until": 3}, TypeError),
            ({"limit": 0}, ValueError),
            ({"newest_first": 1}, TypeError),
            ({"after": 3}, TypeError),
            ({"after": "x"}, ValueError),
            ({"after": "1.²"}, ValueError),
            ({"after": "-1.1"}, ValueError),
        ],
    )
    def test_arguments_are_checked(
        self, store: SQLiteStore, facts: dict[str, Any], error: type[Exception]
    ) -> None:
        with pytest.raises(error, match=next(iter(facts))):
            store.tasks.list(**facts)

    def test_numbers_may_be_larger_than_those_of_sqlite(self, filled: SQLiteStore) -> None:
        assert len(filled.tasks.list(limit=2**70).tasks) == 8
        assert len(filled.tasks.list(after=f"{2**70}.{2**70}").tasks) == 8
        assert filled.events.read(after=2**70, limit=2**70) == []

    def test_graphs_are_found_by_key(self, store: SQLiteStore) -> None:
        graphs = [TaskGraph(key=key) for key in ("nightly", "other", "nightly", None)]  # type: ignore[list-item]
        for graph in graphs:
            store.graphs.save(graph)
        assert store.graphs.keyed("nightly") == [graphs[2].id, graphs[0].id]
        store.graphs.save(graphs[0])
        assert store.graphs.keyed("nightly") == [graphs[0].id, graphs[2].id]
        assert store.graphs.keyed("unknown \udcff") == []
        with pytest.raises(TypeError):
            store.graphs.keyed(None)  # type: ignore[arg-type]


class TestOwners:
    def test_a_task_that_runs_here_is_alive(self, store: SQLiteStore) -> None:
        task = started()
        store.tasks.save(task)
        (running,) = store.running()
        assert (running.task_id, running.title) == (task.id, "t")
        assert running.owner == ProcessIdentity.current()
        assert running.owner is not None
        assert running.owner.pid == os.getpid()
        assert running.liveness is Liveness.ALIVE
        assert store.find_interrupted() == []

    def test_a_task_that_has_ended_has_no_owner(self, store: SQLiteStore) -> None:
        task = started()
        store.tasks.save(task)
        task.transition_to(TaskStatus.FAILED, "no")
        store.tasks.save(task)
        assert store.running() == []
        with store._ledger.reading() as connection:
            assert connection.execute("SELECT owner FROM tasks").fetchone() == (None,)

    def test_a_running_task_without_an_owner_was_interrupted(self, store: SQLiteStore) -> None:
        task = Task.bash("true")
        task.transition_to(TaskStatus.RUNNING)
        store.tasks.save(task)
        assert [(item.owner, item.liveness) for item in store.running()] == [(None, Liveness.GONE)]
        assert store.find_interrupted() == [task]

    def test_saving_a_copy_does_not_take_a_task_over(self, store: SQLiteStore) -> None:
        task = started()
        graph = TaskGraph()
        graph.add(task)
        store.graphs.save(graph)
        store.tasks.save(store.tasks[task.id])
        store.graphs.save(store.graphs[graph.id])
        assert [item.liveness for item in store.running()] == [Liveness.ALIVE]

    def test_a_killed_process_is_gone_also_as_a_zombie(self, tmp_path: Path) -> None:
        code = (
            "import sys, os, signal\n"
            "sys.path.insert(0, sys.argv[2])\n"
            "from test_sqlite_lists import SQLiteStore, started\n"
            "store = SQLiteStore(sys.argv[1])\n"
            "for title in 'ab':\n"
            "    store.tasks.save(started(title))\n"
            "print('saved', flush=True)\n"
            "sys.stdin.read()\n"
        )
        path = tmp_path / "ledger"
        child = subprocess.Popen(
            [sys.executable, "-c", code, path, Path(__file__).parent],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdin is not None
        with child, SQLiteStore(path) as store:
            assert child.stdout.readline() == "saved\n"
            mine = started("c")
            store.tasks.save(mine)
            assert [item.liveness for item in store.running()] == [Liveness.ALIVE] * 3
            assert store.find_interrupted() == []
            child.kill()
            # Not waited for yet, so it is a zombie, once it has died.
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert [task.title for task in store.find_interrupted()] == ["a", "b"]
            child.wait()
            assert [task.title for task in store.find_interrupted()] == ["a", "b"]

    def test_a_recycled_pid_is_not_taken_for_the_owner(self) -> None:
        me = ProcessIdentity.current()
        assert me.liveness() is Liveness.ALIVE
        assert replace(me, started="1").liveness() is Liveness.GONE
        assert replace(me, pid=2**22 + 1).liveness() is Liveness.GONE

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
    def test_what_cannot_be_looked_at_is_unknown(self) -> None:
        me = ProcessIdentity.current()
        boot, _, space = me.boot.partition("/")
        assert replace(me, host="elsewhere", boot="another").liveness() is Liveness.UNKNOWN
        assert replace(me, host="elsewhere", boot="").liveness() is Liveness.UNKNOWN
        assert replace(me, boot=f"{boot}/pid:[1]").liveness() is Liveness.UNKNOWN
        assert replace(me, boot=f"another/{space}").liveness() is Liveness.GONE

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
    def test_a_host_is_known_by_its_boot_and_not_by_its_name(self) -> None:
        renamed = replace(ProcessIdentity.current(), host="before")
        assert renamed.liveness() is Liveness.ALIVE
        assert replace(renamed, started="1").liveness() is Liveness.GONE

    def test_elsewhere_psutil_tells_when_a_process_started(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("ttasks.processes.sys.platform", "darwin")
        me = ProcessIdentity.current()
        assert me.liveness() is Liveness.ALIVE
        moved = replace(me, started=str(float(me.started) + 1.0))
        assert moved.liveness() is Liveness.ALIVE
        assert replace(me, started=str(float(me.started) + 60)).liveness() is Liveness.GONE
        assert replace(me, started="?").liveness() is Liveness.GONE
        assert replace(me, pid=2**22 + 1).liveness() is Liveness.GONE


def test_a_large_ledger_opens_and_lists_fast(tmp_path: Path) -> None:
    # benchmarks/ledger.py measures it; here only what would be far too slow.
    path = tmp_path / "ledger"
    with SQLiteStore(path) as store:
        graph = TaskGraph()
        for at in range(10_000):
            graph.add(Task.bash("true", title=str(at)))
        store.graphs.save(graph)
    begin = datetime.now(UTC)
    with SQLiteStore(path) as store:
        assert len(store.tasks.list(TaskStatus.PENDING, limit=100).tasks) == 100
        assert store.tasks.list(TaskStatus.FAILED).tasks == ()
    assert datetime.now(UTC) - begin < timedelta(seconds=5)
