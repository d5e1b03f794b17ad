"""The Windows runner, with what Windows has replaced by what this machine has."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import pytest

from commandkit import BASH, in_thread, marked, token
from ttasks.commands import command, windows
from ttasks.model.cancel import CancelToken

__all__ = ["token"]


@pytest.fixture(autouse=True)
def on_windows(monkeypatch: pytest.MonkeyPatch, token: str) -> list[int]:
    """Run what command.run runs on Windows; returns the creation flags that were asked for."""
    real = subprocess.Popen
    flags: list[int] = []

    def popen(*args: Any, creationflags: int, **options: Any) -> subprocess.Popen[bytes]:
        flags.append(creationflags)
        return real(*args, **options)

    monkeypatch.setattr(windows.subprocess, "Popen", popen)
    monkeypatch.setattr(command, "Run", windows.Run)
    return flags


def bash(script: str, **options: Any) -> command.Outcome:
    return command.run([BASH, "-c", script], **options)


def test_a_command_runs(on_windows: list[int]) -> None:
    assert bash("cat; echo error >&2; exit 3", stdin=b"in") == command.Outcome(3, "in", "error\n")
    assert on_windows == [0x200 | 0x08000000]


def test_much_output_goes_through() -> None:
    assert len(bash("head -c 5000000 /dev/zero").stdout) == 5_000_000


def test_a_missing_program_is_a_start_error() -> None:
    with pytest.raises(command.StartError):
        command.run(["/no/such/program"])


def test_a_timeout_ends_the_tree(token: str) -> None:
    begin = time.monotonic()
    outcome = bash("echo before; setsid sleep 60 & sleep 60", timeout=0.2, grace=0.3)
    assert (outcome.ended_by, outcome.stdout) == ("timeout", "before\n")
    assert time.monotonic() - begin < 0.2 + 0.3 + 1 + 1  # a second for a slow machine
    assert marked(token) == []


def test_a_cancel_ends_the_tree(token: str) -> None:
    cancel = CancelToken()

    def on_output(stream: str, text: str) -> None:
        cancel.cancel()

    thread, box = in_thread(
        lambda: bash("echo x; sleep 60", cancel=cancel, on_output=on_output, grace=0)
    )
    thread.join(20)
    assert box[0].ended_by == "cancelled"
    assert marked(token) == []


def test_a_survivor_is_not_waited_for_longer_than_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pids: list[int] = []

    def kill_tree(pid: int) -> None:
        # psutil finds no children of a process that is gone; a real Windows keeps the parent's id.
        pids.append(pid)
        for survivor in marked(os.environ["TTASKS_TEST_TOKEN"]):
            os.kill(survivor, 9)

    monkeypatch.setattr(windows, "kill_tree", kill_tree)
    begin = time.monotonic()
    outcome = bash("sleep 60 & exit 5")
    assert outcome.returncode == 5
    assert outcome.ended_by is None
    assert time.monotonic() - begin < 5
    assert len(pids) == 1


def test_an_exception_of_the_listener_ends_the_tree(token: str) -> None:
    def on_output(stream: str, text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError, match="ready"):
        bash("echo ready; sleep 60", on_output=on_output)
    assert marked(token) == []


def test_ctrl_break_is_tried_before_the_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal.CTRL_BREAK_EVENT", 15, raising=False)
    outcome = bash("trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done", timeout=0.2)
    assert outcome.ended_by == "timeout"
    assert outcome.stdout == "bye\n"


def test_without_ctrl_break_nothing_is_asked() -> None:
    assert windows.send_break(os.getpid()) is False


def test_text_environment() -> None:
    from ttasks.commands.environment import text_environment

    env = text_environment({"A": "1", "PATH": None, "NEVER": None}, "mark")
    assert env["A"] == "1"
    assert "PATH" not in env
    assert env["TTASKS_TASK"].endswith("mark")
