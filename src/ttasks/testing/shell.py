"""FakeShell: answers to commands by pattern, without starting any."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Self

from ttasks.commands.capture import Stream
from ttasks.commands.command import Outcome
from ttasks.commands.shell import CommandResult, why_failed
from ttasks.engine.executor import TaskExecutor
from ttasks.errors import TaskCancelled, TaskExecutionError, TaskTimeoutError
from ttasks.model.checks import (
    check_int,
    check_number,
    check_str,
    wrong_type,
)
from ttasks.model.context import TaskContext
from ttasks.model.task_type import TaskType

_SIGTERM = 15


@dataclass(frozen=True, slots=True)
class ShellReply:
    """What a `FakeShell` does instead of a command.

    Attributes:
        stdout, stderr: what it prints, announced line by line.
        returncode: its exit code; a negative signal number if it was killed.
        delay: seconds, by the executor's clock, from its output to its exit. A timeout or a
            cancellation ends them early.

    Raises:
        TypeError, ValueError: an attribute is wrong.
    """

    stdout: str = ""
    stderr: str = ""
    returncode: int = 0
    delay: float = 0.0

    def __post_init__(self) -> None:
        check_str("stdout", self.stdout)
        check_str("stderr", self.stderr)
        check_int("returncode", self.returncode, least=-64)
        check_number("delay", self.delay, least=0)


@dataclass(frozen=True, slots=True)
class ShellCall:
    """A command that a `FakeShell` was asked to run.

    Attributes:
        command: the payload of the task.
        title, type: of the task.
        options: of the task, such as ``cwd``, ``env`` and ``stdin``.
        attempt: number of the attempt, from 1.
    """

    command: str
    title: str
    type: TaskType
    options: Mapping[str, Any]
    attempt: int


Answer = str | int | ShellReply | Callable[[ShellCall], Any]


class FakeShell:
    """A handler of Bash and PowerShell tasks that starts no process. Thread-safe.

    It answers by pattern, and refuses what no pattern matches: such a task fails with an
    AssertionError that shows the command.

    Attributes:
        ends_itself: True: the executor leaves timeouts and cancellations to it, as it leaves them
            to real commands.

    Example:
        >>> from ttasks import Task, TaskExecutor
        >>> shell = FakeShell().on("git rev-parse *", "abc123\\n").on("git push*", 1, 0)
        >>> with TaskExecutor() as executor:
        ...     shell.install(executor)
        ...     print(executor.execute(Task.bash("git rev-parse HEAD")).output.strip())
        ...     print(executor.execute(Task.bash("git push", retry=2)).attempts)
        abc123
        2
        >>> shell.commands
        ['git rev-parse HEAD', 'git push', 'git push']
    """

    ends_itself = True

    def __init__(self) -> None:
        self._lock = Lock()  # owns the three below
        self._rules: list[_Rule] = []
        self._calls: list[ShellCall] = []
        self._refused: list[ShellCall] = []

    def on(self, pattern: str | re.Pattern[str], *answers: Answer) -> Self:
        """Answer the commands that match a pattern; return this shell.

        Args:
            pattern: a str that the whole command must match, in which ``*`` stands for any text
                and every other character for itself; or a compiled pattern, which is searched for.
                Of several patterns that match, the one added last answers.
            answers: one for each call, in order; the last one is repeated. A str is what the
                command prints, an int its exit code, a `ShellReply` is both and more. A callable
                is given the `ShellCall`, and returns one of these; what it raises fails the task.
                None at all means exit code 0 without output.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        rule = _Rule(pattern, [_checked(answer) for answer in answers] or [ShellReply()])
        with self._lock:
            self._rules.append(rule)
        return self

    def install(self, executor: TaskExecutor) -> None:
        """Register it for Bash and PowerShell tasks."""
        executor.register(TaskType.BASH, self)
        executor.register(TaskType.POWERSHELL, self)

    @property
    def calls(self) -> list[ShellCall]:
        """All it was asked for, in order, also what it refused."""
        with self._lock:
            return list(self._calls)

    @property
    def commands(self) -> list[str]:
        """The commands of ``calls``."""
        return [call.command for call in self.calls]

    @property
    def refused(self) -> list[ShellCall]:
        """The calls that no pattern matched; a test may assert that there are none."""
        with self._lock:
            return list(self._refused)

    def __call__(self, context: TaskContext) -> CommandResult:
        """Answer one command.

        Raises:
            AssertionError: no pattern matches it.
            TaskExecutionError, TaskTimeoutError, TaskCancelled: as a real command does.
        """
        context.raise_if_cancelled()
        payload, options = context.payload, context.options
        call = ShellCall(payload, context.title, context.type, options, context.attempt)
        answer = self._answer(call)
        if callable(answer):
            answer = _reply(answer(call), "what a callable returned")
        return _perform(context, answer)

    def _answer(self, call: ShellCall) -> ShellReply | Callable[[ShellCall], Any]:
        with self._lock:
            self._calls.append(call)
            for rule in reversed(self._rules):
                if rule.matches(call.command):
                    return rule.next()
            self._refused.append(call)
            known = ", ".join(repr(rule.shown) for rule in self._rules) or "nothing"
        raise AssertionError(
            f"FakeShell has no answer to {call.command!r} of task {call.title!r}; it answers "
            f"{known}. Add one with on(pattern, answer)"
        )


class _Rule:
    """A pattern and its answers. The shell's lock protects it."""

    def __init__(
        self, pattern: object, answers: list[ShellReply | Callable[[ShellCall], Any]]
    ) -> None:
        self.shown: str
        if isinstance(pattern, str):
            check_str("pattern", pattern, empty=False)
            self.shown = pattern
            parts = ".*".join(re.escape(part) for part in pattern.split("*"))
            self._find = re.compile(parts, re.DOTALL).fullmatch
        elif isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
            self.shown = pattern.pattern
            self._find = pattern.search
        else:
            raise wrong_type("pattern", pattern, "a str or a compiled pattern of str")
        self._answers = answers
        self._used = 0

    def matches(self, command: str) -> bool:
        return self._find(command) is not None

    def next(self) -> ShellReply | Callable[[ShellCall], Any]:
        at = min(self._used, len(self._answers) - 1)
        self._used += 1
        return self._answers[at]


def _checked(answer: object) -> ShellReply | Callable[[ShellCall], Any]:
    return answer if callable(answer) else _reply(answer, "answers")


def _reply(answer: object, name: str) -> ShellReply:
    if isinstance(answer, ShellReply):
        return answer
    if isinstance(answer, str):
        return ShellReply(answer)
    if isinstance(answer, int) and not isinstance(answer, bool):
        return ShellReply(returncode=answer)
    raise wrong_type(name, answer, "a str, an int, a ShellReply or a callable")


def _perform(context: TaskContext, reply: ShellReply) -> CommandResult:
    """Print, wait and exit, through the same streams as a command."""
    redactor = context.redactor
    texts = {"stdout": reply.stdout, "stderr": reply.stderr}
    streams = []
    for name, text in texts.items():
        sink = context.output_sink(name)
        stream = Stream(
            name,
            limit=context.options.get("output_limit"),
            on_output=None if sink is None else _listener(sink),
            text_filter=None if redactor is None else redactor.stream(),
        )
        for line in text.splitlines(keepends=True):
            stream.take(line.encode("utf-8", "surrogateescape"))
        streams.append(stream)
    remaining = context.remaining()
    is_late = remaining is not None and reply.delay >= remaining
    seconds = remaining if is_late and remaining is not None else reply.delay
    cancelled = seconds > 0 and context.wait_cancelled(seconds)
    code = -_SIGTERM if cancelled or is_late else reply.returncode
    stdout, stderr = [stream.finish() for stream in streams]
    command = context.payload if redactor is None else redactor.text(context.payload)
    completed = CommandResult(
        [context.type.value, command],
        code,
        stdout,
        stderr,
        truncated=any(stream.capture.truncated for stream in streams),
        spill={s.name: s.capture.spill for s in streams if s.capture.spill is not None},
    )
    if cancelled:
        raise TaskCancelled(completed=completed)
    if is_late:
        raise TaskTimeoutError(context.timeout or 0.0, completed)
    if code != 0:
        raise TaskExecutionError(why_failed(Outcome(code, stdout, stderr)), completed)
    return completed


def _listener(sink: Callable[[str], None]) -> Callable[[str, str], None]:
    return lambda _name, text: sink(text)
