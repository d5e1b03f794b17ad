"""FakeContext: the context for a test of a handler; see `ttasks.testing.make_context`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import copy_context
from inspect import iscoroutine
from threading import Lock
from typing import Any

from ttasks.model.cancel import CancelToken
from ttasks.model.checks import check_int
from ttasks.model.clock import SYSTEM_CLOCK, Clock
from ttasks.model.context import CURRENT, TaskContext
from ttasks.model.redact import Redactor
from ttasks.model.task import Task, check_task


class FakeContext(TaskContext):
    """A context for one call of a handler; it records what the handler reports. Thread-safe.

    Made by `make_context`.
    """

    __slots__ = ("_reports",)

    def __init__(
        self,
        task: Task,
        upstream: Mapping[str, Task] | Iterable[Task],
        attempt: int,
        clock: Clock,
        redactor: Redactor | None,
    ) -> None:
        self._reports = _Reports()
        checked = TaskContext(task, upstream).upstream
        deadline = None if task.timeout is None else clock.now() + task.timeout
        super().__init__(
            task,
            tuple(checked.values()),
            self._reports,
            CancelToken(),
            attempt,
            deadline,
            redactor,
            clock,
        )

    @property
    def progress(self) -> list[tuple[float | None, str | None]]:
        """Percent and message of each ``emit_progress``, in order."""
        return self._reports.copy_of_progress()

    @property
    def output(self) -> str:
        """What was emitted to stdout."""
        return self._reports.text("stdout")

    @property
    def error_output(self) -> str:
        """What was emitted to stderr."""
        return self._reports.text("stderr")

    def cancel(self, reason: str = "cancelled") -> None:
        """Ask the handler to stop; "timeout" and "interrupted" are the other reasons."""
        self.cancel_token.cancel(reason)

    def run(self, handler: Callable[[TaskContext], Any]) -> Any:
        """Call a handler, plain or ``async def``, and return or raise what it does.

        Below it, `ttasks.current_context` is this context. A coroutine is run to its end with
        ``asyncio.run``.
        """
        variables = copy_context()
        variables.run(CURRENT.set, self)
        value = variables.run(handler, self)
        if not iscoroutine(value):
            return value
        import asyncio

        return variables.run(asyncio.run, value)


class _Reports:
    """Keeps reports; a `ttasks.model.context.Reporter`."""

    def __init__(self) -> None:
        self._lock = Lock()  # owns the two below
        self._progress: list[tuple[float | None, str | None]] = []
        self._texts: list[tuple[str, str]] = []

    def progress(self, percent: float | None, message: str | None) -> None:
        """Keep it."""
        with self._lock:
            self._progress.append((percent, message))

    def output(self, stream: str, text: str) -> None:
        """Keep it."""
        with self._lock:
            self._texts.append((stream, text))

    def sink(self, stream: str) -> Callable[[str], None] | None:
        """A function that keeps a piece."""
        return lambda text: self.output(stream, text)

    def copy_of_progress(self) -> list[tuple[float | None, str | None]]:
        """All progress so far."""
        with self._lock:
            return list(self._progress)

    def text(self, stream: str) -> str:
        """All text of a stream so far."""
        with self._lock:
            return "".join([text for name, text in self._texts if name == stream])


def make_context(
    task: Task,
    upstream: Mapping[str, Task] | Iterable[Task] = (),
    *,
    attempt: int = 1,
    clock: Clock | None = None,
    redact: Iterable[Any] = (),
) -> FakeContext:
    """Make a context to test a handler with, without an executor.

    The task stays as it is; nothing is announced or saved.

    Args:
        task: what the handler is to work on.
        upstream: its upstream tasks, as a mapping from id or an iterable. Run them first to give
            them results, for example with `ttasks.testing.FakeHandler`.
        attempt: number of the attempt, at least 1.
        clock: for ``remaining`` and ``wait_cancelled``; None means the system's.
        redact: as for the executor.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Example:
        >>> from ttasks import Task, TaskType
        >>> def count(context):
        ...     context.emit_progress(100, "counted")
        ...     return len(context.payload)
        >>> context = make_context(Task("count", "four", TaskType("count")))
        >>> context.run(count), context.progress
        (4, [(100.0, 'counted')])
    """
    check_task("task", task)
    check_int("attempt", attempt, least=1)
    redactor = Redactor(redact) or None
    return FakeContext(task, upstream, attempt, SYSTEM_CLOCK if clock is None else clock, redactor)
