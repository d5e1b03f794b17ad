"""command.run in unusual programs: ignored SIGCHLD, closed descriptors, missing system calls."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commandkit import bash, in_thread, marked, run_host, token, way
from ttasks.commands import command, libc, spawn
from ttasks.commands.descriptors import Descriptors

__all__ = ["token", "way"]
pytestmark = pytest.mark.usefixtures("token")


@pytest.fixture
def ignored_sigchld() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("ignored_sigchld", "way")
class TestIgnoredSigchld:
    @pytest.mark.parametrize("code", [0, 1, 42, 127, 255])
    def test_exit_codes_are_known(self, code: int) -> None:
        outcome = bash(f"echo out; echo error >&2; exit {code}")
        assert outcome == command.Outcome(code, "out\n", "error\n")

    def test_signals_are_known(self) -> None:
        assert bash("kill -9 $$") == command.Outcome(-signal.SIGKILL)
        assert bash("kill -TERM $$").returncode == -signal.SIGTERM

    def test_stdin_cwd_env_and_arguments_arrive(self, tmp_path: Path) -> None:
        script = 'pwd -P; echo "$X"; cat; printf "<%s>" "$@"'
        outcome = command.run(
            ["/bin/bash", "-c", script, "name", "a b", "", "*"],
            cwd=str(tmp_path),
            env={"X": "x"},
            stdin=b"input",
        )
        assert outcome == command.Outcome(0, f"{tmp_path.resolve()}\nx\ninput<a b><><*>")

    def test_an_open_descriptor_is_passed(self) -> None:
        fds = Descriptors()
        fd = spawn.memory_file(fds, b"passed on")
        try:
            outcome = command.run(["/bin/bash", "-c", f"cat /dev/fd/{fd}"], pass_fds=[fd])
        finally:
            fds.close()
        assert outcome.stdout == "passed on"

    def test_a_timeout_ends_the_tree(self, token: str) -> None:
        outcome = bash("echo before; setsid sleep 60 & sleep 60", timeout=0.2, grace=0.3)
        assert (outcome.ended_by, outcome.stdout) == ("timeout", "before\n")
        assert outcome.returncode is not None
        assert outcome.returncode < 0
        assert marked(token) == []

    def test_a_survivor_does_not_hold_it_up(self, token: str) -> None:
        assert bash("sleep 60 & exit 5").returncode == 5
        assert marked(token) == []

    def test_the_command_itself_has_the_default(self) -> None:
        ignored = int(bash("grep SigIgn /proc/$$/status").stdout.split()[1], 16)
        assert not ignored & 1 << (signal.SIGCHLD - 1)

    def test_errors_of_starting_are_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(command.StartError, match="No such file"):
            command.run(["/no/such/program"])
        with pytest.raises(command.StartError, match="No such file"):
            bash("true", cwd=str(tmp_path / "missing"))
        with pytest.raises(command.StartError, match="Not a directory"):
            bash("true", cwd=str(tmp_path / "file"))
        with pytest.raises(command.StartError, match="Permission denied"):
            command.run([str(tmp_path / "file")])

    def test_other_threads_too(self) -> None:
        runs = [in_thread(lambda code=code: bash(f"exit {code}")) for code in range(8)]
        for thread, _ in runs:
            thread.join(20)
        assert [box[0].returncode for _, box in runs] == list(range(8))


def test_a_status_that_is_lost_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.waitpid

    def stolen(pid: int, flags: int) -> tuple[int, int]:
        real(pid, 0)
        raise ChildProcessError(10, "No child processes")

    monkeypatch.setattr(os, "waitpid", stolen)
    assert bash("exit 7").returncode is None


@pytest.mark.parametrize("sigchld", ["SIG_DFL", "SIG_IGN"])
def test_a_host_with_closed_standard_descriptors(sigchld: str, way: str, tmp_path: Path) -> None:
    # One interpreter forks itself for each combination: starting one takes long.
    completed = run_host(
        f"""
        import itertools, os, signal
        from ttasks.commands import libc
        if {way == "popen"}:
            libc.load = lambda: None
        combinations = [c for n in (1, 2, 3) for c in itertools.combinations((0, 1, 2), n)]
        for closed in combinations:
            if (pid := os.fork()):
                os.waitpid(pid, 0)
                continue
            for fd in closed:
                os.close(fd)
            signal.signal(signal.SIGCHLD, signal.{sigchld})
            outcome = command.run(["/bin/bash", "-c", "cat; echo out; echo error >&2; exit 3"],
                                  stdin=b"in ")
            ended = command.run(["/bin/bash", "-c", "sleep 60"], timeout=0.05)
            result = (outcome.returncode, outcome.stdout, outcome.stderr, ended.ended_by)
            with open({str(tmp_path)!r} + "/" + "".join(map(str, closed)), "w") as file:
                file.write(repr(result))
            os._exit(0)
        """
    )
    results = {path.name: path.read_text() for path in tmp_path.iterdir()}
    expected = repr((3, "in out\n", "error\n", "timeout"))
    names = ["0", "1", "2", "01", "02", "12", "012"]
    assert results == dict.fromkeys(names, expected), completed.stderr


@pytest.mark.parametrize(
    "missing", ["pidfd_open", "memfd_create", "eventfd", "all"], ids=lambda name: f"no {name}"
)
def test_without_a_system_call_everything_works(
    missing: str, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    for name in ("pidfd_open", "memfd_create", "eventfd"):
        if missing in (name, "all"):
            monkeypatch.delattr(os, name)
    from ttasks.model.cancel import CancelToken

    assert bash("cat; exit 3", stdin=b"x", cancel=CancelToken()) == command.Outcome(3, "x")
    assert bash("exec >&- 2>&-; sleep 0.1; exit 4").returncode == 4
    assert bash("sleep 60 & exit 5").returncode == 5
    assert bash("sleep 60", timeout=0.1).ended_by == "timeout"
    cancel = CancelToken()
    thread, box = in_thread(
        lambda: bash(
            "echo x; sleep 60", cancel=cancel, on_output=lambda *_: cancel.cancel() and None
        )
    )
    thread.join(20)
    assert box[0].ended_by == "cancelled"


def test_sandboxes_that_refuse_memfd_get_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def memfd_create(name: str) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    assert bash("cat", stdin=b"x").stdout == "x"


def test_a_thread_that_blocks_signals_does_not_make_its_command_deaf(
    token: str, way: str, tmp_path: Path
) -> None:
    def work() -> command.Outcome:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        return bash("pwd -P; cat; sleep 60", timeout=0.2, stdin=b"x", cwd=str(tmp_path))

    thread, box = in_thread(work)
    thread.join(20)
    expected = command.Outcome(-signal.SIGTERM, f"{tmp_path.resolve()}\nx", ended_by="timeout")
    assert box == [expected]
    assert marked(token) == []


def test_a_system_without_setsid_for_spawns_makes_a_group(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.posix_spawn

    def posix_spawn(*args: Any, setsid: bool = False, **options: Any) -> int:
        if setsid:
            raise NotImplementedError
        return real(*args, **options)

    monkeypatch.setattr(libc, "load", lambda: None)
    monkeypatch.setattr(os, "posix_spawn", posix_spawn)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    assert bash("ps -o pgid= -p $PPID; exit 3").stdout.strip() != str(os.getpgid(0))
    assert bash("sleep 60 & sleep 60", timeout=0.1).ended_by == "timeout"
    assert marked(token) == []
