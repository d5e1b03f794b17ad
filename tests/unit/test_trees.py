"""Tree: which processes belong to a command, on a made-up system and on this one."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from commandkit import in_thread, token, wait_until
from ttasks import processes, trees
from ttasks.processes import Row, System
from ttasks.trees import Scanner, Tree

__all__ = ["token"]

ROOT = 100


class FakeSystem:
    """Processes in a dict; environments by pid."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {row.pid: row for row in rows}
        self.environments: dict[int, list[bytes]] = {}
        self.looked_at: list[int] = []

    def environment(self, pid: int) -> bytes:
        self.looked_at.append(pid)
        answers = self.environments.get(pid, [b"A=1\0"])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def system(self) -> System:
        return System(
            lambda: list(self.rows.values()), lambda pid: self.rows.get(pid), self.environment
        )

    def tree(self) -> Tree:
        return Tree(ROOT, "mark", Scanner(self.system()))


def row(pid: int, parent: int = 1, *, group: int = 1, state: bytes = b"S", start: int = 50) -> Row:
    return Row(pid, parent, group, group, state, start)


HOST = Row(os.getpid(), 7, 7, 7, b"S", 40)
COMMAND = row(ROOT, 9, group=ROOT)


def found(system: FakeSystem) -> set[int]:
    return {member.pid for member in system.tree().find()}


def test_the_session_belongs_to_it_also_when_orphaned() -> None:
    assert found(FakeSystem(COMMAND, row(101, 1, group=ROOT), row(5, 1, start=1))) == {ROOT, 101}


def test_descendants_in_other_sessions_belong_to_it() -> None:
    system = FakeSystem(COMMAND, row(101, ROOT, group=101), row(102, 101, group=102))
    assert found(system) == {ROOT, 101, 102}


def test_marked_orphans_and_their_children_belong_to_it() -> None:
    system = FakeSystem(COMMAND, row(101, 1, group=101), row(102, 101, group=102), row(103, 1))
    system.environments[101] = [b"A=1\0TTASKS_TASK=outer/mark\0"]
    system.environments[103] = [b"TTASKS_TASK=other\0B=mark\0"]
    assert found(system) == {ROOT, 101, 102}


def test_what_is_older_than_the_host_is_not_even_looked_at() -> None:
    system = FakeSystem(COMMAND, HOST, row(5, 1, start=HOST.start - 1))
    system.environments[5] = [b"TTASKS_TASK=mark\0"]
    assert found(system) == {ROOT}
    assert 5 not in system.looked_at


def test_children_of_the_host_are_not_looked_at() -> None:
    # Hundreds of other commands would make the search slow.
    system = FakeSystem(HOST, *(row(pid, HOST.pid, group=pid) for pid in range(200, 300)))
    assert found(system) == set()
    assert system.looked_at == []


def test_a_host_that_adopts_orphans_finds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "adopts_orphans", lambda: True)
    system = FakeSystem(HOST, COMMAND, row(101, HOST.pid, group=101))
    system.environments[101] = [b"TTASKS_TASK=mark\0"]
    assert found(system) == {ROOT, 101}


def test_a_snapshot_serves_all_who_asked_before_it() -> None:
    scans, begun, go_on = [], threading.Event(), threading.Event()

    def scan() -> list[Row]:
        scans.append(1)
        begun.set()
        go_on.wait(20)
        return []

    scanner = Scanner(System(scan, lambda pid: None, lambda pid: b""))
    first = in_thread(scanner.snapshot)
    begun.wait(20)
    others = [in_thread(scanner.snapshot) for _ in range(20)]
    wait_until(lambda: all(thread.is_alive() for thread, _ in others))
    go_on.set()
    for thread, box in [first, *others]:
        thread.join(20)
        assert isinstance(box[0], trees.Snapshot)
    # Those who asked during the first get a later one, most of them the same.
    assert 2 <= len(scans) <= 21
    assert all(box[0] is not first[1][0] for _, box in others)


def test_what_is_older_than_the_command_is_not_its_own() -> None:
    system = FakeSystem(COMMAND, row(5, 1, start=49))
    system.environments[5] = [b"TTASKS_TASK=mark\0"]
    assert found(system) == {ROOT}


def test_a_process_that_is_about_to_become_another_program_is_looked_at_again() -> None:
    system = FakeSystem(COMMAND, row(101, 1, group=101))
    system.environments[101] = [b"", b"", b"TTASKS_TASK=mark\0"]
    assert found(system) == {ROOT, 101}


def test_processes_without_environment_do_not_hold_up_the_search() -> None:
    system = FakeSystem(COMMAND, *(row(pid, 1, group=pid) for pid in range(200, 300)))
    system.environments = {pid: [b""] for pid in range(200, 300)}
    assert found(system) == {ROOT}
    assert len(system.looked_at) <= 101 + 20


def test_zombies_are_no_members() -> None:
    assert found(FakeSystem(row(ROOT, 9, group=ROOT, state=b"Z"), row(101, ROOT))) == {101}


def test_the_host_itself_is_never_a_member() -> None:
    system = FakeSystem(COMMAND, row(os.getpid(), ROOT))
    assert found(system) == {ROOT}


def test_a_member_is_remembered_after_its_traces_are_gone() -> None:
    system = FakeSystem(COMMAND, row(101, ROOT, group=101), row(102, 101, group=102))
    members = system.tree()
    members.find()
    system.rows = {102: row(102, 1, group=102)}
    assert [member.pid for member in members.find()] == [102]


def test_a_recycled_pid_is_no_member() -> None:
    system = FakeSystem(COMMAND, row(101, ROOT, group=101))
    members = system.tree()
    members.find()
    system.rows = {101: row(101, 1, group=101, start=51)}
    assert members.is_gone()


def test_a_group_whose_number_belongs_to_somebody_else_by_now_is_no_member() -> None:
    system = FakeSystem(row(ROOT, 9, group=ROOT, start=70), row(101, ROOT, group=ROOT, start=70))
    system.rows[102] = row(102, 1, group=102, start=70)
    system.environments[102] = [b"TTASKS_TASK=mark\0"]
    members = Tree(ROOT, "mark", Scanner(system.system()), start=50)
    assert {member.pid for member in members.find()} == {102}


def test_is_gone_asks_only_for_known_ones_while_one_lives() -> None:
    system = FakeSystem(COMMAND)
    members = system.tree()
    assert not members.is_gone()
    system.rows[101] = row(101, ROOT)  # not known yet
    del system.rows[ROOT]
    system.rows[101] = row(101, 1, group=ROOT)
    assert not members.is_gone()
    system.rows.clear()
    assert members.is_gone()


@pytest.fixture
def sleeper(token: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_signal_reaches_the_very_process_only(sleeper: subprocess.Popen[bytes]) -> None:
    system = processes.this_system()
    now = processes.read_proc(sleeper.pid)
    assert now is not None
    processes.send(system, now._replace(start=now.start + 1), signal.SIGKILL)
    assert sleeper.poll() is None
    processes.send(system, now, signal.SIGKILL)
    assert sleeper.wait(20) == -signal.SIGKILL


def test_a_signal_to_nobody_is_no_error() -> None:
    processes.send(processes.this_system(), row(2**22 + 1), signal.SIGKILL)


@pytest.mark.parametrize("stopped", [False, True])
def test_both_ways_to_read_a_process_agree(stopped: bool, sleeper: subprocess.Popen[bytes]) -> None:
    if stopped:
        sleeper.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED)
    by_proc, by_psutil = processes.read_proc(sleeper.pid), processes.read_psutil(sleeper.pid)
    assert by_proc is not None
    assert by_psutil is not None
    assert by_proc[:4] == by_psutil[:4] == (sleeper.pid, os.getpid(), sleeper.pid, sleeper.pid)
    assert (by_proc.state == b"T", by_psutil.state == b"T") == (stopped, stopped)
    assert processes.read_psutil(2**22 + 1) is None
    assert processes.read_proc(2**22 + 1) is None


def test_names_with_parentheses_are_read(token: str, tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        now = processes.read_proc(process.pid)
    finally:
        process.kill()
        process.wait()
    assert now is not None
    assert now.parent == os.getpid()
