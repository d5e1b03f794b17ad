"""The Bash and PowerShell handlers: what they run, return and raise."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from commandkit import in_thread, marked, token, wait_until
from ttasks.commands import launch, shell
from ttasks.commands.shell import CommandResult
from ttasks.errors import TaskCancelled, TaskExecutionError, TaskTimeoutError
from ttasks.model.cancel import CancelToken
from ttasks.model.command import command_options
from ttasks.model.context import TaskContext
from ttasks.model.redact import Redactor

__all__ = ["token"]


class Context:
    """As much of a TaskContext as the handlers use."""

    def __init__(
        self,
        payload: str,
        *,
        timeout: float | None = None,
        redactor: Redactor | None = None,
        listen: bool = False,
        **options: Any,
    ) -> None:
        self.id = "the-task"
        self.payload = payload
        self.timeout = timeout
        self.redactor = redactor
        self.options = command_options(**options)
        self.cancel_token = CancelToken()
        self.heard: list[tuple[str, str]] = []
        self._listen = listen
        self._end = None if timeout is None else time.monotonic() + timeout

    def remaining(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def output_sink(self, stream: str) -> Callable[[str], None] | None:
        return (lambda text: self.heard.append((stream, text))) if self._listen else None


def run(context: Context) -> CommandResult:
    return shell.run_bash(cast(TaskContext, context))


def bash(payload: str, **options: Any) -> CommandResult:
    return run(Context(payload, **options))


@pytest.fixture
def fake_pwsh(tmp_path: Path) -> Path:
    """A program called pwsh that shows how it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "pwsh"
    program.write_text(
        '#!/bin/bash\nprintf "%s\\n" "$@"\n[ "$3" = -File ] && wc -c < "$4"; exit 0\n'
    )
    program.chmod(0o755)
    return folder


def test_it_is_a_completed_process() -> None:
    completed = bash("echo out; echo error >&2")
    assert isinstance(completed, subprocess.CompletedProcess)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "out\n", "error\n")
    assert completed.args[-1] == "echo out; echo error >&2"
    assert (completed.truncated, completed.spill) == (False, {})
    assert vars(pickle.loads(pickle.dumps(completed))) == vars(completed)


def test_it_is_bash() -> None:
    script = 'a=(x "y z"); [[ ${a[1]} == y* ]] && echo "${#a[@]} ${BASH_VERSION:+bash}"'
    assert bash(script).stdout == "2 bash\n"


@pytest.mark.parametrize("payload", ["", "  \n", "# nothing"])
def test_an_empty_script_succeeds(payload: str) -> None:
    assert bash(payload).returncode == 0


def test_a_payload_may_begin_with_a_dash() -> None:
    with pytest.raises(TaskExecutionError, match=r"exit code 127: .*-x: command not found"):
        bash("-x")


@pytest.mark.parametrize(
    "payload", ["false; echo on", "echo $undefined; echo on", "false | true; echo on"]
)
def test_strict_stops_at_the_first_error(payload: str) -> None:
    assert bash(payload).stdout.endswith("on\n")
    with pytest.raises(TaskExecutionError) as caught:
        bash(payload, strict=True)
    assert "on" not in caught.value.completed.stdout


def test_options_arrive(tmp_path: Path) -> None:
    completed = bash('pwd -P; echo "$A"; cat', cwd=tmp_path, env={"A": "1"}, stdin="in")
    assert completed.stdout == f"{tmp_path.resolve()}\n1\nin"
    assert bash("cat", stdin=b"\xc3\xa4").stdout == "ä"


def test_a_failure_names_the_code_and_the_last_line_of_stderr() -> None:
    with pytest.raises(TaskExecutionError) as caught:
        bash("echo out; echo first >&2; echo the reason >&2; exit 9")
    assert str(caught.value) == "Command failed with exit code 9: the reason"
    assert caught.value.completed.returncode == 9
    assert caught.value.completed.stdout == "out\n"
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.completed.stderr == "first\nthe reason\n"


def test_a_failure_without_stderr_names_the_code() -> None:
    with pytest.raises(TaskExecutionError, match=r"^Command failed with exit code 1$"):
        bash("false")


def test_a_death_by_signal_is_named() -> None:
    with pytest.raises(TaskExecutionError, match=r"^Command was killed by SIGSEGV$"):
        bash("kill -SEGV $$")
    with pytest.raises(TaskExecutionError, match=r"^Command was killed by signal 40$"):
        bash("kill -40 $$")


def test_a_timeout_keeps_the_partial_output(token: str) -> None:
    with pytest.raises(TaskTimeoutError) as caught:
        bash("echo before; sleep 60", timeout=0.2)
    assert str(caught.value) == "Task timed out after 0.2 seconds"
    assert caught.value.completed.stdout == "before\n"
    assert marked(token) == []


def test_no_time_left_starts_nothing(tmp_path: Path) -> None:
    context = Context(f"touch {tmp_path / 'started'}", timeout=0.001)
    wait_until(lambda: context.remaining() == 0)
    with pytest.raises(TaskTimeoutError):
        run(context)
    assert not (tmp_path / "started").exists()


def test_a_cancel_keeps_the_partial_output(token: str, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    context = Context(f"echo before; touch {ready}; sleep 60")
    thread, box = in_thread(lambda: run(context))
    wait_until(ready.exists, "the command")
    context.cancel_token.cancel()
    thread.join(20)
    assert isinstance(box[0], TaskCancelled)
    assert box[0].completed is not None
    assert box[0].completed.stdout == "before\n"
    assert str(box[0]) == "Task was cancelled"
    assert pickle.loads(pickle.dumps(box[0])).completed.stdout == "before\n"
    assert marked(token) == []


def test_cancelled_before_the_start_starts_nothing(tmp_path: Path) -> None:
    context = Context(f"touch {tmp_path / 'started'}")
    context.cancel_token.cancel()
    with pytest.raises(TaskCancelled):
        run(context)
    assert not (tmp_path / "started").exists()


def test_listeners_hear_both_streams() -> None:
    context = Context("echo a; echo b >&2", listen=True)
    run(context)
    assert sorted(context.heard) == [("stderr", "b\n"), ("stdout", "a\n")]


def test_secrets_are_hidden_in_results_errors_and_arguments() -> None:
    context = Context(
        "echo hunter2; echo hunter2 >&2; exit 1", redactor=Redactor(["hunter2"]), listen=True
    )
    with pytest.raises(TaskExecutionError) as caught:
        run(context)
    shown = repr((str(caught.value), vars(caught.value.completed), context.heard))
    assert "hunter2" not in shown
    assert shown.count("***") >= 6


def test_a_limit_sets_truncated_and_spill() -> None:
    completed = bash("seq 1000", output_limit=100)
    assert completed.truncated
    path = Path(completed.spill["stdout"])
    assert path.read_text() == "".join(f"{n}\n" for n in range(1, 1001))
    path.unlink()


@pytest.mark.parametrize(
    ("kind", "message"), [("missing", "does not exist"), ("file", "is not a directory")]
)
def test_a_bad_cwd_is_named(kind: str, message: str, tmp_path: Path) -> None:
    cwd = tmp_path / kind
    if kind == "file":
        cwd.write_text("")
    with pytest.raises(TaskExecutionError, match=f"cwd {message}: {re.escape(repr(str(cwd)))}"):
        bash("true", cwd=cwd)


def test_a_missing_bash_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(TaskExecutionError, match=r"Bash was not found: no 'bash' on PATH.*install"):
        bash("true", env={"PATH": str(tmp_path)})
    with pytest.raises(TaskExecutionError, match=r"Bash was not found.*which is empty"):
        bash("true", env={"PATH": ""})


def test_a_bash_that_vanished_is_looked_for_again(tmp_path: Path) -> None:
    fake = tmp_path / "bash"
    fake.symlink_to("/bin/bash")
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert bash("true", env=path).args[0] == str(fake)
    fake.unlink()
    with pytest.raises(TaskExecutionError, match="could not be started"):
        bash("true", env=path)
    assert bash("true", env=path).args[0] != str(fake)


@pytest.mark.parametrize("strict", [False, True])
def test_a_script_of_a_megabyte_runs(strict: bool) -> None:
    padding = f": {'x' * 1_000_000}\n"
    script = f'{padding}echo "$0 $LINENO"; cat; ls /dev/fd/ >/dev/null; echo end; exit 4\n'
    with pytest.raises(TaskExecutionError) as caught:
        bash(script, stdin="in ", strict=strict)
    assert caught.value.completed.returncode == 4
    assert re.match(r"\S*bash 2\nin end\n$", caught.value.completed.stdout)


def test_the_descriptor_of_a_long_script_is_closed_for_what_it_starts() -> None:
    script = f": {'x' * 200_000}\nreadlink /proc/self/fd/* | grep -c -e memfd -e ttasks; true"
    assert bash(script).stdout == "0\n"


def test_too_much_environment_is_a_clear_failure() -> None:
    with pytest.raises(TaskExecutionError, match="larger than the system allows; shorten env"):
        bash("true", env={"A": "x" * 3_000_000})


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (11, "the limit of processes is reached"),
        (24, "the limit of open files is reached"),
        (12, "could not be started: .*bash: Cannot allocate memory"),
    ],
)
def test_what_the_system_refuses_is_explained(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: launch.Launch) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(launch.Launch, "start", refuse)
    with pytest.raises(TaskExecutionError, match=message):
        bash("true")


def test_a_listener_that_raises_is_not_taken_for_a_failed_start(token: str) -> None:
    context = Context("echo a; sleep 60", listen=True)

    def raising(stream: str) -> Callable[[str], None]:
        def sink(text: str) -> None:
            raise OSError(28, "No space left on device")

        return sink

    context.output_sink = raising  # type: ignore[method-assign, assignment]
    with pytest.raises(OSError, match="No space"):
        run(context)
    assert marked(token) == []


def test_powershell_is_called_without_profile_and_questions(fake_pwsh: Path) -> None:
    context = Context("Get-Date", env={"PATH": f"{fake_pwsh}:/usr/bin:/bin"})
    completed = shell.run_powershell(cast(TaskContext, context))
    assert completed.args[0] == str(fake_pwsh / "pwsh")
    assert completed.stdout.split("\n")[:4] == [
        "-NoProfile",
        "-NonInteractive",
        "-Command",
        "Get-Date",
    ]


def test_a_long_powershell_script_goes_through_a_file(fake_pwsh: Path) -> None:
    context = Context("x" * 200_000, env={"PATH": f"{fake_pwsh}:/usr/bin:/bin"})
    completed = shell.run_powershell(cast(TaskContext, context))
    lines = completed.stdout.split("\n")
    assert lines[2] == "-File"
    assert lines[4] == str(200_000 + len(b"\xef\xbb\xbf"))
    assert not Path(lines[3]).exists()


def test_windows_powershell_is_the_second_choice(fake_pwsh: Path) -> None:
    (fake_pwsh / "pwsh").rename(fake_pwsh / "powershell")
    context = Context("x", env={"PATH": f"{fake_pwsh}:/usr/bin:/bin"})
    completed = shell.run_powershell(cast(TaskContext, context))
    assert completed.args[0] == str(fake_pwsh / "powershell")


def test_a_missing_powershell_says_what_to_install(tmp_path: Path) -> None:
    context = Context("Get-Date", env={"PATH": str(tmp_path)})
    with pytest.raises(
        TaskExecutionError, match=r"PowerShell was not found: no 'pwsh' or 'powershell'.*install"
    ):
        shell.run_powershell(cast(TaskContext, context))
