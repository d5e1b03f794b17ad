"""A command can be ended, whatever it does, within the promised time, and leaves nothing."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from commandkit import bash, in_thread, marked, run_host, token, wait_until
from ttasks import processes, trees
from ttasks.commands import command, posix
from ttasks.model.cancel import CancelToken
from ttasks.processes import System
from ttasks.trees import Scanner

__all__ = ["token"]

TIMEOUT = 0.25
GRACE = 0.4
NOISE = 1.0
"""Seconds by which the machine may be late; benchmarks/endings.py measures without them."""
SOON = 5.0
"""Seconds in which ends what waits for nothing; far less than any sleep."""

IGNORES_TERM = "trap '' TERM; while :; do sleep 60; done"

# Each says that it is ready by writing to the file $1; then it must be ended.
TREES = {
    "plain": "sleep 60 | sleep 60 & echo > {ready}; sleep 60",
    "ignores TERM": "trap '' TERM; echo > {ready}; while :; do sleep 60; done",
    "child ignores TERM": f"({IGNORES_TERM}) & echo > {{ready}}; sleep 60",
    "setsid grandchild holds stdout": "setsid sleep 60 & echo > {ready}; sleep 60",
    "setsid grandchild ignores TERM": (
        f'setsid bash -c "{IGNORES_TERM}" & echo > {{ready}}; sleep 60'
    ),
    "daemon: setsid, and its parent is gone": (
        "(setsid bash -c 'sleep 60; :' >/dev/null 2>&1 &); echo > {ready}; sleep 60"
    ),
    "daemon without its pipes that ignores TERM": (
        f'(setsid bash -c "{IGNORES_TERM}" </dev/null >/dev/null 2>&1 &)'
        "; echo > {ready}; sleep 60"
    ),
    "own process groups": "set -m; sleep 60 & sleep 60 & echo > {ready}; wait",
    "stopped": "echo > {ready}; kill -STOP $$",
    "stopped child": "sleep 60 & kill -STOP $!; echo > {ready}; wait",
    "stopped setsid child": "setsid bash -c 'kill -STOP $$' & echo > {ready}; wait",
    "bomb of depth 5": (
        "bomb() {{ if (($1 > 0)); then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; "
        "trap '' TERM; sleep 60; }}; bomb 5 & echo > {ready}; sleep 60"
    ),
    "bomb of sessions": (
        "export -f 2>/dev/null; bomb='((n-- > 0)) || exec sleep 60; export n bomb; "
        'setsid bash -c "$bomb" & setsid bash -c "$bomb" & wait\'; '
        'export bomb; n=4 bash -c "$bomb" & echo > {ready}; sleep 60'
    ),
    "prints without end": "echo > {ready}; while :; do echo on and on; done",
    "closed its pipes": "exec >&- 2>&-; echo > {ready}; sleep 60",
    "starts more when it is asked to end": (
        "trap 'setsid sleep 60 & setsid sleep 60 & exit' TERM; echo > {ready}; "
        "while :; do sleep 0.01; done"
    ),
}


@pytest.mark.parametrize("tree", TREES)
def test_timeout_ends_the_tree_in_time(tree: str, token: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    begin = time.monotonic()
    outcome = bash(TREES[tree].format(ready=ready), timeout=TIMEOUT, grace=GRACE)
    took = time.monotonic() - begin
    assert outcome.ended_by == "timeout"
    assert TIMEOUT <= took < TIMEOUT + GRACE + 1 + NOISE
    assert marked(token) == []


@pytest.mark.parametrize("tree", TREES)
def test_kill_ends_the_tree_without_grace(tree: str, token: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    cancel = CancelToken()
    thread, box = in_thread(lambda: bash(TREES[tree].format(ready=ready), grace=60, cancel=cancel))
    wait_until(ready.exists, "the command")
    begin = time.monotonic()
    cancel.cancel(kill=True)
    thread.join(20)
    assert box[0].ended_by == "cancelled"
    assert time.monotonic() - begin < SOON
    assert marked(token) == []


@pytest.mark.parametrize("fallback", ["no pidfd", "psutil"])
@pytest.mark.parametrize(
    "tree",
    [
        "plain",
        "setsid grandchild holds stdout",
        "stopped child",
        "daemon: setsid, and its parent is gone",
    ],
)
def test_fallbacks_end_trees_too(
    tree: str, fallback: str, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fallback == "no pidfd":
        monkeypatch.delattr(os, "pidfd_open")
    else:
        system = System(processes.scan_psutil, processes.read_psutil, processes.environment_psutil)
        monkeypatch.setattr(trees, "shared_scanner", lambda: Scanner(system))
    begin = time.monotonic()
    outcome = bash(TREES[tree].format(ready=tmp_path / "ready"), timeout=TIMEOUT, grace=GRACE)
    assert outcome.ended_by == "timeout"
    assert time.monotonic() - begin < TIMEOUT + GRACE + 1 + NOISE
    assert marked(token) == []


def test_a_kill_during_the_grace_cuts_it_short(token: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    asked = tmp_path / "asked"
    cancel = CancelToken()
    script = f"trap 'echo > {asked}' TERM; echo > {ready}; while :; do sleep 0.01; done"
    thread, box = in_thread(lambda: bash(script, grace=60, cancel=cancel))
    wait_until(ready.exists, "the command")
    cancel.cancel()
    wait_until(asked.exists, "TERM")
    cancel.cancel(kill=True)
    thread.join(20)
    assert not thread.is_alive()
    assert box[0].returncode == -signal.SIGKILL


def test_cancel_ends_a_tree_that_obeys_within_a_fifth_of_a_second(
    token: str, tmp_path: Path
) -> None:
    best = min(_seconds_to_cancel(tmp_path / str(attempt)) for attempt in range(3))
    assert best < 0.2


def _seconds_to_cancel(ready: Path) -> float:
    cancel = CancelToken()
    script = f"setsid sleep 60 & sleep 60 | sleep 60 & echo > {ready}; wait"
    thread, box = in_thread(lambda: bash(script, cancel=cancel))
    wait_until(ready.exists, "the command")
    begin = time.monotonic()
    cancel.cancel()
    thread.join(20)
    assert box[0].ended_by == "cancelled"
    return time.monotonic() - begin


def test_partial_output_is_kept(token: str) -> None:
    outcome = bash("echo before; sleep 60", timeout=TIMEOUT)
    assert (outcome.ended_by, outcome.stdout) == ("timeout", "before\n")


def test_what_is_printed_during_the_grace_is_kept(token: str) -> None:
    script = "trap 'echo cleaned up; exit 0' TERM; echo before; while :; do sleep 0.01; done"
    heard: list[str] = []
    outcome = bash(
        script,
        timeout=TIMEOUT,
        on_output=lambda stream, text: heard.append(text) if stream == "stdout" else None,
    )
    assert outcome.stdout == "before\ncleaned up\n" == "".join(heard)
    assert outcome.returncode == 0
    assert outcome.ended_by == "timeout"


def test_one_that_flushes_much_during_the_grace_is_not_stuck_on_its_pipe(token: str) -> None:
    script = "trap 'seq 100000; exit 0' TERM; while :; do sleep 0.01; done"
    outcome = bash(script, timeout=TIMEOUT, grace=10)
    assert outcome.stdout.endswith("100000\n")


@pytest.mark.parametrize(
    "survivor",
    [
        "sleep 60 &",
        "setsid sleep 60 &",
        "(setsid sleep 60 &);",
        "while echo y; do sleep 0.01; done &",
    ],
)
def test_a_survivor_that_holds_a_pipe_delays_by_a_second_and_is_ended(
    survivor: str, token: str
) -> None:
    begin = time.monotonic()
    outcome = bash(f"echo first; {survivor} exit 5")
    took = time.monotonic() - begin
    assert outcome.returncode == 5
    assert outcome.ended_by is None
    assert outcome.stdout.startswith("first\n")
    assert outcome.survivors >= 1
    assert posix.SURVIVOR_SECONDS <= took < posix.SURVIVOR_SECONDS + 1 + NOISE
    assert marked(token) == []


def test_a_background_process_that_ends_in_time_is_waited_for(token: str) -> None:
    outcome = bash("(sleep 0.2; echo late) & echo early")
    assert outcome.stdout == "early\nlate\n"
    assert outcome.survivors == 0


def test_a_daemon_that_holds_no_pipe_is_left_alone(token: str) -> None:
    begin = time.monotonic()
    outcome = bash("nohup sleep 60 >/dev/null 2>&1 & echo $!")
    assert time.monotonic() - begin < SOON
    pid = int(outcome.stdout)
    wait_until(lambda: marked(token) == [pid])  # it may be just about to become `sleep`
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: marked(token) == [], "the daemon's end")


def test_a_process_of_somebody_else_is_not_touched(token: str) -> None:
    # Same parent, same time, same program, but not of this command.
    other, box = in_thread(lambda: bash("sleep 0.8; echo untouched"))
    assert bash("sleep 60 & sleep 60", timeout=0.2).ended_by == "timeout"
    other.join(20)
    assert box[0] == command.Outcome(0, "untouched\n")


def test_survivors_are_no_timeout_and_fit_into_its_time(token: str) -> None:
    begin = time.monotonic()
    outcome = bash(f"({IGNORES_TERM}) & exit 0", timeout=TIMEOUT, grace=GRACE)
    assert (outcome.ended_by, outcome.returncode) == (None, 0)
    assert time.monotonic() - begin < TIMEOUT + GRACE + 1 + NOISE
    assert marked(token) == []


@pytest.mark.parametrize("second", [False, True], ids=["once", "twice"])
def test_ctrl_c_ends_the_tree_and_goes_on(second: bool, token: str, tmp_path: Path) -> None:
    ready, asked = tmp_path / "ready", tmp_path / "asked"
    script = f"trap 'echo > {asked}' TERM; sleep 60 & echo > {ready}; while :; do sleep 0.01; done"

    def interrupt() -> None:
        wait_until(ready.exists, "the command")
        os.kill(os.getpid(), signal.SIGINT)
        if second:
            wait_until(asked.exists, "TERM")
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bash(script, grace=60 if second else GRACE)
    took = time.monotonic() - begin
    thread.join()
    assert took < 10
    assert asked.exists()
    assert marked(token) == []


def test_a_host_that_exits_meanwhile_ends_its_commands(token: str) -> None:
    # The thread is no daemon: the interpreter waits for it, and the exit handler ends it.
    completed = run_host(
        """
        import atexit, sys, threading
        from ttasks.model.cancel import CancelToken
        cancel = CancelToken()
        outcomes = []
        def work():
            outcome = command.run(["/bin/bash", "-c", "echo up; sleep 60"], cancel=cancel,
                                  on_output=lambda *_: up.set())
            print(outcome.ended_by, outcome.stdout.strip())
        up = threading.Event()
        threading.Thread(target=work).start()
        up.wait()
        threading._register_atexit(cancel.cancel)
        """
    )
    assert completed.stdout == "cancelled up\n", completed.stderr
    assert marked(token) == []


def test_a_command_on_a_daemon_thread_ends_with_the_interpreter(token: str) -> None:
    completed = run_host(
        """
        import sys, threading
        up = threading.Event()
        def work():
            script = "trap 'echo asked; exit' TERM; echo up; sleep 60 & wait"
            command.run(["/bin/bash", "-c", script],
                        on_output=lambda stream, text: (sys.stdout.write(text), up.set()))
        threading.Thread(target=work, daemon=True).start()
        up.wait()
        """
    )
    assert (completed.stdout, completed.stderr) == ("up\nasked\n", "")
    assert marked(token) == []


def test_a_command_that_is_started_during_the_exit_ends_too(token: str) -> None:
    completed = run_host(
        """
        import atexit
        command.run(["/bin/true"])
        atexit.unregister(command.running_commands)
        def late():
            command.running_commands(__import__("os").getpid()).end_all()
            print(command.run(["/bin/bash", "-c", "sleep 60"]).ended_by)
        atexit.register(late)
        """
    )
    assert (completed.stdout, completed.stderr) == ("cancelled\n", "")
    assert marked(token) == []


def test_a_tree_is_ended_without_a_free_descriptor(token: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    cancel = CancelToken()
    thread, box = in_thread(
        lambda: bash(
            f"sleep 60 & setsid sleep 60 & (setsid sleep 60 &); echo > {ready}; sleep 60",
            grace=0.2,
            cancel=cancel,
        )
    )
    wait_until(ready.exists, "the command")
    wait_until(lambda: len(marked(token)) == 4, "its processes")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    taken: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(2))
        cancel.cancel()
        thread.join(20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert box[0].ended_by == "cancelled"
    assert marked(token) == []


def test_an_interrupt_between_any_two_calls_loses_no_descriptor(token: str) -> None:
    # The fixture of all tests looks for descriptors that stayed open.
    bash("true")
    returns = 0

    def run(interrupt_at: int) -> None:
        nonlocal returns
        returns = 0
        sys.setprofile(partial(profile, interrupt_at))
        try:
            bash("true", stdin=b"x", cancel=CancelToken(), grace=0)
        finally:
            sys.setprofile(None)

    def profile(interrupt_at: int, _frame: Any, event: str, function: Any) -> None:
        nonlocal returns
        if event == "c_return" and getattr(function, "__module__", None) == "posix":
            returns += 1
            if returns == interrupt_at:
                sys.setprofile(None)
                raise KeyboardInterrupt

    before = set(os.listdir("/proc/self/fd"))
    run(0)
    for number in range(1, returns + 1):
        with pytest.raises(KeyboardInterrupt):
            run(number)
        assert len(os.listdir("/proc/self/fd")) == len(before), number


def test_a_signal_that_does_not_end_the_wait_is_noticed_all_the_same(
    token: str, tmp_path: Path
) -> None:
    # As a Ctrl-C just before the wait: the handler of the interpreter runs, and nobody wakes up.
    ready = tmp_path / "ready"

    def interrupt() -> None:
        wait_until(ready.exists, "the command")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    begin = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        with pytest.raises(KeyboardInterrupt):
            bash(f"echo > {ready}; sleep 60")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    assert time.monotonic() - begin < SOON
    thread.join()
    assert marked(token) == []


def _run_and_measure(run: Callable[[], command.Outcome]) -> tuple[command.Outcome, float]:
    begin = time.monotonic()
    outcome = run()
    return outcome, time.monotonic() - begin


def test_grace_zero_kills_at_once(token: str) -> None:
    outcome, took = _run_and_measure(lambda: bash(IGNORES_TERM, timeout=0.1, grace=0))
    assert outcome.returncode == -signal.SIGKILL
    assert took < 0.1 + 1 + NOISE
