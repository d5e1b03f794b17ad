"""The handlers of Bash and PowerShell tasks: a payload in, a completed process out."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ttasks.commands import command
from ttasks.errors import TaskCancelled, TaskExecutionError, TaskTimeoutError
from ttasks.model.command import GRACE_SECONDS, STOP_SIGNAL, missing_variables, stdin_bytes
from ttasks.model.context import watch_of

if TYPE_CHECKING:
    from ttasks.commands.capture import TextFilter
    from ttasks.model.context import TaskContext

_LONGEST_ARGUMENT_BYTES = 120_000
"""A longer script is handed over in a file: Linux takes 131,071 bytes of one argument."""

_LONGEST_MESSAGE = 500

_INSTALL_BASH = "install Bash with your system's package manager, on Windows with Git for Windows"
_INSTALL_POWERSHELL = "install PowerShell 7 or later, which brings 'pwsh'"


class CommandResult(subprocess.CompletedProcess[str]):
    """A completed command: ``args, returncode, stdout, stderr``, and what became of its output.

    Attributes:
        truncated: True if ``stdout`` or ``stderr`` leaves out the middle (``output_limit``).
        spill: stream name ("stdout", "stderr") to path of the file with the whole of it, which
            belongs to the caller.
    """

    def __init__(
        self,
        args: Sequence[str],
        returncode: int,
        stdout: str = "",
        stderr: str = "",
        *,
        truncated: bool = False,
        spill: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.truncated = truncated
        self.spill = dict(spill or {})


def run_bash(context: TaskContext) -> CommandResult:
    """Run the payload with Bash; with the option ``strict`` as ``bash -euo pipefail``.

    Enforces the task's timeout and follows its cancel token by itself.

    Raises:
        TaskExecutionError: it exited with something else than 0, or could not be started.
        TaskTimeoutError: it took too long, and was ended.
        TaskCancelled: it was cancelled, and was ended.
    """
    return _run_bash(context)


def run_service(context: TaskContext) -> CommandResult:
    """Run the payload as `run_bash` does, and end its background processes with it.

    The context's reports see the raw output (`ttasks.model.context.watch_of`).
    """
    return _run_bash(context, is_service=True)


def _run_bash(context: TaskContext, *, is_service: bool = False) -> CommandResult:
    program = find_bash(context.options)
    argv = [program, "-euo", "pipefail"] if context.options.get("strict") else [program]
    # "--": the payload may begin with a dash.
    argv += ["-c", "--"]
    script = os.fsencode(context.payload)
    if len(script) <= _LONGEST_ARGUMENT_BYTES:
        return _run(context, [*argv, context.payload], is_service=is_service)
    with _script_descriptor(script) as fd:
        # Read before it is run, as with -c, and closed for what the script starts.
        command = f'eval "$(</dev/fd/{fd})" {fd}<&-'
        return _run(context, [*argv, command], pass_fds=(fd,), is_service=is_service)


def run_powershell(context: TaskContext) -> CommandResult:
    """Run the payload with ``pwsh``, or else with Windows PowerShell; otherwise as `run_bash`."""
    program = find_program(
        ("pwsh", "powershell"), context.options, "PowerShell", _INSTALL_POWERSHELL
    )
    argv = [program, "-NoProfile", "-NonInteractive"]
    payload = context.payload
    if sys.platform == "win32":
        # Windows PowerShell writes to pipes in the code page of the console otherwise.
        payload = f"[Console]::OutputEncoding = [Text.UTF8Encoding]::new($false)\n{payload}"
    limit = 30_000 if sys.platform == "win32" else _LONGEST_ARGUMENT_BYTES
    if len(os.fsencode(payload)) <= limit:
        return _run(context, [*argv, "-Command", payload])
    with _script_file(payload) as path:
        return _run(context, [*argv, "-File", path])


def find_bash(options: Mapping[str, Any]) -> str:
    """Path of Bash; raises as `find_program` does."""
    return find_program(("bash",), options, "Bash", _INSTALL_BASH)


def find_program(names: Sequence[str], options: Mapping[str, Any], what: str, install: str) -> str:
    """Path of the first of these programs that is on the command's PATH.

    Raises:
        TaskExecutionError: there is none; the message says what to install.
    """
    env = options.get("env") or {}
    path = env.get("PATH", os.environ.get("PATH", os.defpath)) or ""
    try:
        return _locate(tuple(names), path)
    except FileNotFoundError:
        wanted = " or ".join(repr(name) for name in names)
        raise TaskExecutionError(
            f"{what} was not found: no {wanted} on PATH ({path or 'which is empty'}); {install}"
        ) from None


@lru_cache(maxsize=64)
def _locate(names: tuple[str, ...], path: str) -> str:
    """What is missing raises and is thus not remembered: it may be installed later."""
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return os.path.abspath(found)
    raise FileNotFoundError(names)


@contextmanager
def _script_descriptor(script: bytes) -> Iterator[int]:
    # Imported here: what is behind it exists on POSIX systems only.
    from ttasks.commands.descriptors import Descriptors
    from ttasks.commands.spawn import memory_file

    fds = Descriptors()
    try:
        yield memory_file(fds, script)
    finally:
        fds.close()


@contextmanager
def _script_file(payload: str) -> Iterator[str]:
    import tempfile

    fd, path = tempfile.mkstemp(prefix="ttasks-", suffix=".ps1")
    try:
        # With a byte order mark: Windows PowerShell takes it for something else otherwise.
        with open(fd, "w", encoding="utf-8-sig", errors="surrogateescape") as file:
            file.write(payload)
        yield path
    finally:
        os.unlink(path)


def _run(
    context: TaskContext,
    argv: list[str],
    pass_fds: Sequence[int] = (),
    *,
    is_service: bool = False,
) -> CommandResult:
    options = context.options
    token = context.cancel_token
    if token.cancelled:
        raise TaskCancelled()
    missing = missing_variables(options)
    if missing:
        raise TaskExecutionError(
            f"Command was not started: the environment has no {', '.join(missing)}. A ledger does "
            "not keep the values of such variables: set them in the environment of this process, "
            "or in env"
        )
    remaining = context.remaining()
    if remaining is not None and remaining <= 0:
        assert context.timeout is not None
        raise TaskTimeoutError(context.timeout)
    redactor = context.redactor
    hide = str if redactor is None else redactor.text
    try:
        outcome = command.run(
            argv,
            cwd=options.get("cwd"),
            env=options.get("env"),
            stdin=stdin_bytes(options.get("stdin")),
            timeout=remaining,
            grace=options.get("grace", GRACE_SECONDS),
            output_limit=options.get("output_limit"),
            cancel=token,
            on_output=_listener(context),
            text_filter=_text_filter(context, watch_of(context) if is_service else None),
            pass_fds=pass_fds,
            mark=context.id,
            stop_signal=options.get("stop_signal", STOP_SIGNAL),
            is_service=is_service,
        )
    except command.StartError as error:
        _locate.cache_clear()
        raise TaskExecutionError(hide(_why_not_started(error, argv, options))) from error
    completed = CommandResult(
        [hide(argument) for argument in argv],
        outcome.returncode if outcome.returncode is not None else -1,
        outcome.stdout,
        outcome.stderr,
        truncated=outcome.truncated,
        spill=outcome.spill,
    )
    if outcome.ended_by == "timeout":
        raise TaskTimeoutError(context.timeout or remaining or 0.0, completed)
    if outcome.ended_by == "cancelled":
        raise TaskCancelled(completed=completed)
    if outcome.returncode != 0:
        raise TaskExecutionError(why_failed(outcome), completed)
    return completed


class _Watched:
    """A text filter that shows what comes to somebody, before another filter changes it."""

    def __init__(self, watch: Callable[[str], object], inner: TextFilter | None) -> None:
        self._watch = watch
        self._inner = inner

    def feed(self, text: str) -> str:
        self._watch(text)
        return text if self._inner is None else self._inner.feed(text)

    def finish(self) -> str:
        return "" if self._inner is None else self._inner.finish()


def _text_filter(
    context: TaskContext, watch: Callable[[str], object] | None
) -> Callable[[], TextFilter] | None:
    redactor = context.redactor
    if watch is None:
        return None if redactor is None else redactor.stream
    return lambda: _Watched(watch, None if redactor is None else redactor.stream())


def _listener(context: TaskContext) -> Callable[[str, str], None] | None:
    stdout, stderr = context.output_sink("stdout"), context.output_sink("stderr")
    if stdout is None and stderr is None:
        return None

    def listen(stream: str, text: str) -> None:
        sink = stdout if stream == "stdout" else stderr
        if sink is not None:
            sink(text)

    return listen


def why_failed(outcome: command.Outcome) -> str:
    """Say in one line how a command failed: its exit code or signal, and its last error line."""
    code = outcome.returncode
    if code is None:
        return (
            "Command ended, but its exit status was lost: something else in this program waits "
            "for child processes"
        )
    if code < 0:
        try:
            what = f"Command was killed by {signal.Signals(-code).name}"
        except ValueError:
            what = f"Command was killed by signal {-code}"
    else:
        what = f"Command failed with exit code {code}"
    last = outcome.stderr.rstrip().rpartition("\n")[2].strip()
    if len(last) > _LONGEST_MESSAGE:
        last = last[:_LONGEST_MESSAGE] + "…"
    return f"{what}: {last}" if last else what


def _why_not_started(error: OSError, argv: Sequence[str], options: Mapping[str, Any]) -> str:
    cwd = options.get("cwd")
    if cwd is not None and error.filename in (cwd, os.fsencode(cwd)):
        if error.errno == errno.ENOENT:
            return f"Command could not be started: cwd does not exist: {cwd!r}"
        if error.errno == errno.ENOTDIR:
            return f"Command could not be started: cwd is not a directory: {cwd!r}"
        return f"Command could not be started in cwd {cwd!r}: {error.strerror}"
    if error.errno == errno.E2BIG:
        return (
            "Command could not be started: environment and arguments are larger than the system "
            "allows; shorten env, or hand the data over as stdin"
        )
    if error.errno == errno.EAGAIN:
        return (
            "Command could not be started: the limit of processes is reached "
            f"({error.strerror}); run fewer at once"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return (
            "Command could not be started: the limit of open files is reached "
            f"({error.strerror}); run fewer at once or raise `ulimit -n`"
        )
    return f"Command could not be started: {argv[0]}: {error.strerror or error}"
