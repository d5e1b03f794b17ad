"""A ledger that was cut, or whose bytes changed: it opens with what was committed, or says so."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from ttasks.errors import StoreError
from ttasks.stores.sqlite import SQLiteStore

COMMITS = 40

# Leaves a log behind, as every killed process does.
WRITE = f"""
import os, signal, sys
from datetime import UTC, datetime
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.graph import TaskGraph
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1])
graph = TaskGraph("whole")
tasks = [graph.add(Task.bash("true" + "x" * (at * 97), title=str(at))) for at in range({COMMITS})]
store.graphs.save(graph)
for task in tasks:
    task.transition_to(TaskStatus.RUNNING)
    task.transition_to(TaskStatus.SUCCEEDED)
    event = TaskEvent(
        TaskEventType.SUCCEEDED, task.id, task, datetime.now(UTC),
        TaskStatus.RUNNING, TaskStatus.SUCCEEDED,
    )
    store.record(task, event)
    print(task.title, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


class Killed:
    """The files of a ledger whose process was killed."""

    def __init__(self, folder: Path) -> None:
        path = folder / "ledger"
        done = subprocess.run([sys.executable, "-c", WRITE, path], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        self.announced = done.stdout.split()
        self.database = path.read_bytes()
        self.log = Path(f"{path}-wal").read_bytes()

    def lay_out(self, folder: Path, database: bytes, log: bytes) -> Path:
        path = folder / "copy"
        for name in ("copy", "copy-wal", "copy-shm"):
            (folder / name).unlink(missing_ok=True)
        path.write_bytes(database)
        Path(f"{path}-wal").write_bytes(log)
        return path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return Killed(tmp_path_factory.mktemp("killed"))


def succeeded(path: Path) -> list[str]:
    """What is done by the ledger, after everything in it was read."""
    with SQLiteStore(path) as store:
        titles = [task.title for task in store.tasks.values() if task.is_succeeded]
        assert [entry.title for entry in store.events.read()] == titles
        for graph in store.graphs.values():
            assert len(graph) == COMMITS
        return titles


def check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_after_a_kill_everything_announced_is_there(killed: Killed, tmp_path: Path) -> None:
    path = killed.lay_out(tmp_path, killed.database, killed.log)
    assert killed.announced == [str(at) for at in range(COMMITS)]
    assert succeeded(path) == killed.announced
    check(path)


def offsets(size: int, count: int, seed: int) -> list[int]:
    chosen = random.Random(seed)
    return sorted({0, 1, 31, 32, 33, size - 1, *(chosen.randrange(size) for _ in range(count))})


def test_a_log_that_was_cut_anywhere_gives_a_beginning_of_what_was_committed(
    killed: Killed, tmp_path: Path
) -> None:
    found = []
    for at in offsets(len(killed.log), 60, 1):
        path = killed.lay_out(tmp_path, killed.database, killed.log[:at])
        titles = succeeded(path)
        assert titles == killed.announced[: len(titles)]
        check(path)
        found.append(len(titles))
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] in (COMMITS - 1, COMMITS)


def test_a_log_with_a_changed_byte_gives_a_beginning_of_what_was_committed(
    killed: Killed, tmp_path: Path
) -> None:
    for at in offsets(len(killed.log), 40, 2):
        log = bytearray(killed.log)
        log[at] ^= 0xFF
        path = killed.lay_out(tmp_path, killed.database, bytes(log))
        titles = succeeded(path)
        assert titles == killed.announced[: len(titles)]
        check(path)


def test_a_database_that_was_cut_opens_or_is_a_store_error(killed: Killed, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    path = killed.lay_out(whole, killed.database, killed.log)
    with SQLiteStore(path) as store:
        assert len(store.tasks) == COMMITS
    database = path.read_bytes()  # the log is in it now
    outcomes = set()
    for at in offsets(len(database), 60, 3)[1:]:
        path = killed.lay_out(tmp_path, database[:at], b"")
        try:
            titles = succeeded(path)
        except StoreError:
            outcomes.add("error")
        else:
            assert titles == killed.announced[: len(titles)]
            outcomes.add("read")
    assert "error" in outcomes


def test_a_log_that_is_gone_gives_what_the_file_holds(killed: Killed, tmp_path: Path) -> None:
    path = killed.lay_out(tmp_path, killed.database, b"")
    Path(f"{path}-wal").unlink()
    assert succeeded(path) == []
    check(path)


@pytest.mark.campaign
def test_every_cut_of_the_log(killed: Killed, tmp_path: Path) -> None:
    full = os.environ.get("TTASKS_CAMPAIGN") == "full"
    for at in range(0, len(killed.log), 61 if full else len(killed.log) // 150):
        path = killed.lay_out(tmp_path, killed.database, killed.log[:at])
        titles = succeeded(path)
        assert titles == killed.announced[: len(titles)]
