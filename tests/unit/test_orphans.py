"""Orphans of a process that was killed are found by the ids of their tasks, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ttasks
from commandkit import marked, token, wait_until
from ttasks import trees
from ttasks.processes import Row, System
from ttasks.trees import OrphanTree, Scanner, end_orphans, end_with_psutil

__all__ = ["token"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

HOST = """
import sys
from ttasks import Task, TaskExecutor
task = Task.bash(sys.argv[1])
print(task.id, flush=True)
TaskExecutor().execute(task)
"""


def killed_host(script: str, ready: Callable[[], Any]) -> str:
    """Kill an interpreter that runs a command, as soon as something holds; the id of the task."""
    source = Path(ttasks.__file__).parents[1]
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    with host:
        assert host.stdout is not None
        task_id = host.stdout.readline().strip()
        wait_until(ready, "the command")
        host.kill()
    return task_id


def test_the_tree_of_a_killed_host_is_ended(token: str, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    task_id = killed_host(
        f"setsid sleep 300 & (setsid sleep 300 &) ; echo $$ > {pids}; sleep 300; true",
        lambda: pids.exists() and len(marked(token)) == 5,
    )
    before = marked(token)
    assert len(before) == 4, before
    assert end_orphans([str(uuid.uuid4())]) == 0
    assert marked(token) == before
    assert end_orphans([str(uuid.uuid4()), task_id]) == 4
    assert marked(token) == []
    assert end_orphans([task_id]) == 0


def test_an_orphan_that_ignores_term_is_killed(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "TERM_SECONDS", 0.1)
    ready = tmp_path / "ready"
    task_id = killed_host(
        f"trap '' TERM; echo > {ready}; while :; do sleep 300; done",
        lambda: ready.exists() and len(marked(token)) == 3,
    )
    assert end_orphans([task_id]) == 2
    assert marked(token) == []


def test_commands_of_this_process_are_left_alone(token: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with ttasks.TaskExecutor() as executor:
        task = ttasks.Task.bash(f"echo > {ready}; read < {tmp_path / 'fifo'}")
        os.mkfifo(tmp_path / "fifo")
        future = executor.submit(task)
        wait_until(ready.exists, "the command")
        assert end_orphans([str(uuid.uuid4())]) == 0
        (tmp_path / "fifo").write_text("go on\n")
        assert future.result(20).returncode == 0


def test_psutil_finds_them_as_well(token: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    task_id = killed_host(f"echo > {ready}; sleep 300; true", ready.exists)
    wait_until(lambda: len(marked(token)) == 2, "the command")
    assert end_with_psutil(frozenset([task_id])) == 2
    assert marked(token) == []


def row(pid: int, parent: int = 1, start: int = 50) -> Row:
    return Row(pid, parent, pid, pid, b"S", start)


def found(ids: set[str], rows: list[Row], marks: dict[int, bytes]) -> set[int]:
    by_pid = {item.pid: item for item in rows}

    def environment(pid: int) -> bytes:
        mark = marks.get(pid)
        return b"?" if mark is None else b"A=1\0TTASKS_TASK=" + mark + b"\0"

    system = System(lambda: rows, by_pid.get, environment)
    tree = OrphanTree(frozenset(ids), Scanner(system, everyone=True))
    return {member.pid for member in tree.find()}


def test_a_mark_counts_as_a_whole_and_at_every_depth() -> None:
    rows = [row(pid) for pid in (2_000_101, 2_000_102, 2_000_103, 2_000_104)]
    marks = {
        2_000_101: b"outer.00/one.11",
        2_000_102: b"one.11/inner.22",
        2_000_103: b"onetwo.33",
        2_000_104: b"two.one",
    }
    assert found({"one"}, rows, marks) == {2_000_101, 2_000_102}


def test_what_is_older_than_this_process_counts() -> None:
    mine = Row(os.getpid(), 7, 7, 7, b"S", 40)
    assert found({"one"}, [mine, row(2_000_101, start=1)], {2_000_101: b"one.11"}) == {2_000_101}


def test_an_unreadable_environment_counts_only_below_a_readable_one() -> None:
    rows = [row(2_000_101), row(2_000_102, parent=2_000_101), row(2_000_103)]
    assert found({"one"}, rows, {2_000_101: b"one.11"}) == {2_000_101, 2_000_102}


def test_this_process_is_never_ended() -> None:
    mine = Row(os.getpid(), 7, 7, 7, b"S", 40)
    assert found({"one"}, [mine], {os.getpid(): b"one.11"}) == set()


def test_no_ids_look_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGTERM", None)
    monkeypatch.setattr(trees, "this_system", None)
    assert end_orphans([]) == 0


class Starting:
    """A copy of a killed program, which executes its command when it is looked at once more."""

    copy = Row(2_000_101, 1, 7, 7, b"R", 50)

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def environment(self, pid: int) -> bytes:
        self.looks -= 1
        return b"A=1\0" if self.looks >= 0 else b"A=1\0TTASKS_TASK=one.11\0"

    def tree(self) -> OrphanTree:
        rows = {self.copy.pid: self.copy}
        system = System(lambda: list(rows.values()), rows.get, self.environment)
        return OrphanTree(frozenset({"one"}), Scanner(system, everyone=True))


def test_a_copy_of_the_killed_program_is_waited_for_until_it_is_the_command() -> None:
    tree = Starting(looks=3).tree()
    tree.await_starts()
    assert [member.pid for member in tree.find()] == [Starting.copy.pid]


def test_an_orphan_that_is_only_busy_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trees, "START_SECONDS", 0.01)
    tree = Starting(looks=10**9).tree()
    tree.await_starts()
    assert tree.find() == []


@pytest.mark.parametrize(
    "copy",
    [
        Row(2_000_101, 1, 7, 7, b"S", 50),  # it waits for something
        Row(2_000_101, 5, 7, 7, b"R", 50),  # its parent lives
    ],
)
def test_other_processes_are_not_waited_for(copy: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    def pause(seconds: float) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr(trees.sync, "sleep", pause)
    rows = {item.pid: item for item in (copy, Row(5, 1, 7, 7, b"S", 40))}
    system = System(lambda: list(rows.values()), rows.get, lambda pid: b"A=1\0")
    OrphanTree(frozenset({"one"}), Scanner(system, everyone=True)).await_starts()
