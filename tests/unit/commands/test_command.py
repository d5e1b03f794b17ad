"""command.run: what goes in, what comes out, and how it fails."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from commandkit import BASH, bash, in_thread, token, wait_until, way
from ttasks.commands import command, launch, libc
from ttasks.model.cancel import CancelToken

__all__ = ["token", "way"]
pytestmark = pytest.mark.usefixtures("token", "way")


def test_exit_code_and_both_streams_are_returned() -> None:
    outcome = bash("echo out; echo error >&2; exit 7")
    assert outcome == command.Outcome(7, "out\n", "error\n")


def test_death_by_signal_is_a_negative_returncode() -> None:
    assert bash("kill -9 $$").returncode == -signal.SIGKILL


def test_stdin_is_empty_by_default() -> None:
    assert bash("cat; echo $?").stdout == "0\n"


def test_stdin_of_many_megabytes_goes_through() -> None:
    data = os.urandom(1000) * 5000
    assert bash("wc -c", stdin=data).stdout.strip() == str(len(data))


def test_a_command_that_does_not_read_its_stdin_is_no_error() -> None:
    assert bash("exec 0<&-; echo done", stdin=b"x" * 1_000_000).stdout == "done\n"


def test_big_stdin_and_big_output_at_once_do_not_deadlock() -> None:
    data = b"0123456789abcdef" * 200_000
    assert bash("cat; cat /dev/null", stdin=data).stdout == data.decode()


def test_cwd_is_where_it_runs(tmp_path: Path) -> None:
    assert bash("pwd -P", cwd=str(tmp_path)).stdout == f"{tmp_path.resolve()}\n"


def test_env_is_merged_and_none_removes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("GONE", "gone")
    script = 'echo "$KEPT ${GONE-none} $NEW"'
    assert bash(script, env={"GONE": None, "NEW": "näw", "NEVER": None}).stdout == "kept none näw\n"


def test_markers_of_nested_commands_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTASKS_TASK", "outer")
    outer, _, inner = bash("echo $TTASKS_TASK").stdout.strip().partition("/")
    assert outer == "outer"
    assert len(inner) == 16


def test_the_command_leads_its_own_session() -> None:
    sid, pid, parent = bash("ps -o sid= -p $$; echo $$; echo $PPID").stdout.split()
    assert sid == pid != str(os.getsid(0))
    assert parent == str(os.getpid())


def test_sigpipe_has_its_default_in_the_command() -> None:
    assert bash("yes | head -1; echo ${PIPESTATUS[0]}").stdout == "y\n141\n"


def test_foreign_inheritable_descriptors_are_not_inherited() -> None:
    read, write = os.pipe()
    try:
        os.set_inheritable(read, True)
        outcome = bash(f"[ -e /proc/$$/fd/{read} ] && echo inherited; :")
    finally:
        os.close(read)
        os.close(write)
    assert outcome.stdout == ""


def test_a_missing_program_is_a_start_error() -> None:
    with pytest.raises(command.StartError) as caught:
        command.run(["/no/such/program"])
    assert caught.value.filename == "/no/such/program"


def test_a_program_without_permission_is_a_start_error(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    with pytest.raises(command.StartError, match="Permission denied"):
        command.run([str(program)])


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_bad_cwd_is_a_start_error(tmp_path: Path, kind: str) -> None:
    cwd = tmp_path / kind
    if kind == "file":
        cwd.write_text("")
    with pytest.raises(command.StartError) as caught:
        bash("true", cwd=str(cwd))
    assert os.fspath(caught.value.filename) == str(cwd)


def test_arguments_that_are_too_long_are_a_start_error() -> None:
    with pytest.raises(command.StartError, match="Argument list too long"):
        command.run([BASH, "-c", "true", "x" * 3_000_000])


def test_running_out_of_descriptors_half_way_leaves_none_open() -> None:
    # The fixture of all tests checks for descriptors that stayed open.
    bash("true", stdin=b"x", cancel=CancelToken())
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = [os.open(os.devnull, os.O_RDONLY) for _ in range(used)]  # no gaps below
    first = max(spare) + 1
    refused = 0
    try:
        for more in range(16):
            resource.setrlimit(resource.RLIMIT_NOFILE, (first + more, hard))
            try:
                assert bash("exit 3", stdin=b"x", cancel=CancelToken()).returncode == 3
            except command.StartError as error:
                refused += error.errno == errno.EMFILE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in spare:
            os.close(fd)
    assert 4 <= refused < 16


def test_a_fork_that_fails_leaves_nothing_open(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    if way == "libc":
        monkeypatch.setattr(libc.Libc, "spawn", refuse)
    else:
        monkeypatch.setattr("subprocess._fork_exec", refuse)
    with pytest.raises(command.StartError, match="temporarily unavailable"):
        bash("true", stdin=b"x", cancel=CancelToken())


def test_no_pidfd_left_to_open_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def pidfd_open(pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    assert bash("echo x; exit 3") == command.Outcome(3, "x\n")


def test_cancel_before_the_start_ends_it_at_once() -> None:
    cancel = CancelToken()
    cancel.cancel()
    begin = time.monotonic()
    assert bash("sleep 60", cancel=cancel).ended_by == "cancelled"
    assert time.monotonic() - begin < 5


def test_the_token_holds_no_callback_afterwards() -> None:
    cancel = CancelToken()
    bash("true", cancel=cancel)
    assert cancel._callbacks == []
    cancel.cancel()


def test_an_exception_of_the_listener_ends_the_tree_and_goes_on() -> None:
    def on_output(stream: str, text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError, match="ready"):
        bash("echo ready; sleep 60 & sleep 60", on_output=on_output)


def test_an_oserror_of_the_listener_is_no_start_error() -> None:
    def on_output(stream: str, text: str) -> None:
        raise OSError("the listener's own")

    with pytest.raises(OSError, match="own") as caught:
        bash("echo ready; sleep 60", on_output=on_output)
    assert not isinstance(caught.value, command.StartError)


def test_an_exception_between_fork_and_return_does_not_lose_the_process(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a signal handler may raise: in the first Python code after the fork.
    if way == "libc":
        spawn = libc.Libc.spawn

        def interrupted(*args: Any) -> None:
            spawn(*args)
            raise KeyboardInterrupt

        monkeypatch.setattr(libc.Libc, "spawn", interrupted)
    else:
        fork_exec = subprocess._fork_exec  # type: ignore[attr-defined]
        close = os.close

        def forked(*args: Any) -> int:
            pid: int = fork_exec(*args)
            monkeypatch.setattr(os, "close", interrupting_close)
            return pid

        def interrupting_close(fd: int) -> None:
            close(fd)
            monkeypatch.setattr(os, "close", close)
            raise KeyboardInterrupt

        monkeypatch.setattr("subprocess._fork_exec", forked)
    with pytest.raises(KeyboardInterrupt):
        bash("sleep 60", grace=0.5)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_exception_right_after_the_start_does_not_lose_the_process(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It can still print and clean up.
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    start = launch.Launch.start

    def interrupted(self: launch.Launch) -> None:
        start(self)
        wait_until(ready.exists, "the command")
        raise error

    monkeypatch.setattr(launch.Launch, "start", interrupted)
    script = (
        f"trap 'seq 20000; echo ended > {ended}; exit' TERM; touch {ready};"
        " while :; do sleep 0.01; done"
    )
    with pytest.raises(error):
        bash(script, grace=20)
    assert ended.exists()


def test_500_at_once_use_one_thread_each_and_leave_no_descriptor(way: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cancel, up = CancelToken(), threading.Semaphore(0)
    threads_before = threading.active_count()
    try:
        runs = [
            in_thread(
                lambda: command.run(
                    ["/bin/sh", "-c", "echo up; exec sleep 60"],
                    cancel=cancel,
                    on_output=lambda stream, text: up.release(),
                )
            )
            for _ in range(500 if way == "libc" else 50)
        ]
        for _ in runs:
            assert up.acquire(timeout=20)
        assert threading.active_count() == threads_before + len(runs)
        cancel.cancel(kill=True)
        for thread, box in runs:
            thread.join(60)
            assert box[0].ended_by == "cancelled"
    finally:
        cancel.cancel(kill=True)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_timeout_of_centuries_is_none() -> None:
    assert bash("sleep 0.01; echo x", timeout=1e11).stdout == "x\n"


def test_what_is_printed_at_the_very_end_is_not_lost() -> None:
    for _ in range(20):
        assert bash("printf 'x%.0s' {1..5000}; echo end >&2").stdout == "x" * 5000
