"""TaskContext: what a handler sees of its attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from ttasks.errors import TaskCancelled
from ttasks.model.cancel import CancelToken
from ttasks.model.checks import (
    check_callable,
    check_number,
    check_str,
    wrong_type,
    wrong_value,
)
from ttasks.model.clock import SYSTEM_CLOCK, Clock
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, check_task
from ttasks.model.task_type import TaskType

if TYPE_CHECKING:
    from ttasks.model.redact import Redactor

STREAMS = ("stdout", "stderr")
CHUNK_LIMIT = 64 * 1024
"""Bytes of UTF-8 that one OUTPUT event carries at most."""


class Reporter(Protocol):
    """Where a context sends what its handler reports. Implementations are thread-safe.

    Reports that arrive after the end of the attempt are dropped, so that nothing follows its last
    event.
    """

    def progress(self, percent: float | None, message: str | None) -> None:
        """Announce progress."""

    def output(self, stream: str, text: str) -> None:
        """Announce and collect text, in pieces of at most ``CHUNK_LIMIT`` bytes."""

    def sink(self, stream: str) -> Callable[[str], None] | None:
        """A function that announces a piece of a stream; None if nobody listens.

        For handlers that return the whole text themselves: it is not collected.
        """


class TaskContext:
    """The current attempt, passed to the handler as its only argument.

    Thread-safe: a handler may hand it to threads of its own.

    The executor makes contexts. Make one yourself to test a handler (see also
    `ttasks.testing.make_context`), or in a handler to call another one. A context that is made in a
    handler is cancelled with the handler's own, and passes its reports on to that.

    Args:
        task: the task.
        upstream: its direct dependencies: a mapping from id to task, or an iterable of tasks.
        reporter: takes progress and output; None means that of the calling handler, or none.
        cancel_token: the signal to stop; None means that of the calling handler, or a new one.
        attempt: number of the attempt, from 1.
        deadline: when it times out, by ``clock``; None means after the task's timeout, if any.
        redactor: hides secrets in text; None means that of the calling handler, or none.
        clock: the clock of ``remaining`` and ``wait_cancelled``.
        usual_timeout: seconds for a task without a timeout; None means no limit.
        progress_emitter: called with percent and message at each ``emit_progress``, in place of the
            reporter.

    Example:
        >>> task = Task("greet", "world", TaskType("greet"))
        >>> handler = lambda context: f"hello {context.payload}"
        >>> handler(TaskContext(task))
        'hello world'

    Attributes:
        attempt: number of this attempt, from 1.
        cancel_token: the signal behind ``cancelled``, for handlers that need to be woken up.
        redactor: hides secrets in text, or None; commands use it while they read.
    """

    __slots__ = (
        "_clock",
        "_deadline",
        "_reporter",
        "_task",
        "_upstream",
        "_usual_timeout",
        "attempt",
        "cancel_token",
        "redactor",
    )

    attempt: int
    cancel_token: CancelToken
    redactor: Redactor | None

    def __init__(
        self,
        task: Task,
        upstream: Mapping[str, Task] | Iterable[Task] | None = (),
        reporter: Reporter | None = None,
        cancel_token: CancelToken | None = None,
        attempt: int = 1,
        deadline: float | None = None,
        redactor: Redactor | None = None,
        clock: Clock = SYSTEM_CLOCK,
        usual_timeout: float | None = None,
        *,
        progress_emitter: Callable[[float | None, str | None], object] | None = None,
    ) -> None:
        if reporter is None or cancel_token is None:  # it is made by hand
            check_task("task", task)
            outer = CURRENT.get()
            if cancel_token is None:
                cancel_token = CancelToken() if outer is None else outer.cancel_token
            reporter = reporter or _reporter(outer, progress_emitter)
            upstream = _checked_upstream(upstream)
            if redactor is None and outer is not None:
                redactor = outer.redactor
            if deadline is None and task.timeout is not None:
                deadline = clock.now() + task.timeout
        self._task = task
        self._reporter = reporter
        self._upstream: tuple[Task, ...] | Mapping[str, Task] = upstream  # type: ignore[assignment]
        self._usual_timeout = usual_timeout
        self._deadline = deadline
        self._clock = clock
        self.attempt = attempt
        self.cancel_token = cancel_token
        self.redactor = redactor

    @property
    def id(self) -> str:
        """Id of the task."""
        return self._task.id

    @property
    def title(self) -> str:
        """Title of the task."""
        return self._task.title

    @property
    def description(self) -> str:
        """Description of the task."""
        return self._task.description

    @property
    def payload(self) -> Any:
        """What to work on."""
        return self._task.payload

    @property
    def type(self) -> TaskType:
        """Kind of the task."""
        return self._task.type

    @property
    def timeout(self) -> float | None:
        """Seconds that this attempt may take; None for no limit."""
        timeout = self._task.timeout
        return self._usual_timeout if timeout is None else timeout

    @property
    def options(self) -> Mapping[str, Any]:
        """Options of the task, read-only."""
        return self._task.options

    @property
    def status(self) -> TaskStatus:
        """Status of the task now."""
        return self._task.status

    @property
    def cancelled(self) -> bool:
        """True once the attempt should stop, because it was cancelled or has timed out."""
        return self.cancel_token.cancelled

    @property
    def upstream(self) -> Mapping[str, Task]:
        """Direct dependencies by id, in the order in which the graph names them; read-only."""
        found = self._upstream
        if isinstance(found, tuple):  # most handlers never ask
            found = self._upstream = MappingProxyType({task.id: task for task in found})
        return found

    def remaining(self) -> float | None:
        """Seconds until this attempt times out, at least 0.0; None if it has no timeout."""
        return None if self._deadline is None else max(0.0, self._deadline - self._clock.now())

    def raise_if_cancelled(self) -> None:
        """Do nothing unless the work should stop.

        Raises:
            TaskCancelled: the work should stop.
        """
        if self.cancel_token.cancelled:
            raise TaskCancelled()

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep for ``seconds`` (at least 0) or until the work should stop; True if it should."""
        return self.cancel_token.wait(check_number("seconds", seconds, least=0), self._clock)

    def emit_progress(self, percent: float | None = None, message: str | None = None) -> None:
        """Announce progress as a PROGRESS event.

        Args:
            percent: 0 to 100; it need not grow. None leaves it out.
            message: text for people. None leaves it out.

        Raises:
            ValueError: both are None, or ``percent`` is out of range or not finite.
            TypeError: an argument has the wrong type.
        """
        if percent is None and message is None:
            raise ValueError("emit_progress needs a percent, a message or both; got neither")
        if percent is not None:
            percent = check_number("percent", percent, least=0, most=100)
        if message is not None:
            check_str("message", message)
        self._reporter.progress(percent, message)

    def emit_output(self, text: str, stream: str = "stdout") -> None:
        """Announce text as OUTPUT events and add it to the result's output.

        Args:
            text: any text; pieces of at most 64 KiB are announced one by one.
            stream: "stdout" or "stderr".

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the stream has another name.
        """
        check_str("text", text)
        _check_stream(stream)
        if text:
            self._reporter.output(stream, text)

    def output_sink(self, stream: str) -> Callable[[str], None] | None:
        """A function that announces a piece of output of at most 64 KiB; None if nobody listens.

        For handlers that return their whole output themselves, as commands do: text that goes
        through the sink is not added to the result.
        """
        _check_stream(stream)
        return self._reporter.sink(stream)

    def __repr__(self) -> str:
        return f"<TaskContext {self.id} {self.title!r} attempt {self.attempt}>"


class _NoReporter:
    """Takes reports to nobody; a `Reporter`."""

    def progress(self, percent: float | None, message: str | None) -> None:
        """Drop it."""

    def output(self, stream: str, text: str) -> None:
        """Drop it."""

    def sink(self, stream: str) -> Callable[[str], None] | None:
        """Nobody listens."""
        return None


class _ProgressTo:
    """Takes progress to a function, and all else to another reporter; a `Reporter`."""

    def __init__(
        self, inner: Reporter, emitter: Callable[[float | None, str | None], object]
    ) -> None:
        self.output, self.sink, self._emitter = inner.output, inner.sink, emitter

    def progress(self, percent: float | None, message: str | None) -> None:
        """Hand it to the function."""
        self._emitter(percent, message)


def _reporter(
    outer: TaskContext | None,
    emitter: Callable[[float | None, str | None], object] | None,
) -> Reporter:
    """The reporter of a context that is made by hand."""
    inner: Reporter = _NoReporter() if outer is None else _reporter_of(outer)
    if emitter is None:
        return inner
    check_callable("progress_emitter", emitter)
    return _ProgressTo(inner, emitter)


def _checked_upstream(upstream: object) -> tuple[Task, ...]:
    """Tasks that are given as a mapping from id, or one after the other."""
    if upstream is None:
        return ()
    items = upstream.values() if isinstance(upstream, Mapping) else upstream
    if isinstance(items, (str, bytes, Task)) or not isinstance(items, Iterable):
        raise wrong_type("upstream", upstream, "a mapping from id to Task, or tasks")
    found = tuple(items)
    for task in found:
        check_task("upstream", task)
    return found


_reporter_of: Callable[[TaskContext], Reporter] = attrgetter("_reporter")


def watch_of(context: TaskContext) -> Callable[[str], object] | None:
    """What the handler of a service shows its output to, before secrets are replaced; or None."""
    return getattr(_reporter_of(context), "watch", None)


def _check_stream(stream: object) -> None:
    if check_str("stream", stream) not in STREAMS:
        raise wrong_value("stream", stream, "'stdout' or 'stderr'")


class Prints(Protocol):
    """Where the text goes that a task prints."""

    def write(self, stream: str, text: str) -> None:
        """Take text of "stdout" or "stderr"."""

    def flush(self, stream: str) -> None:
        """Let go of what is held back."""


PRINTS: ContextVar[Prints | None] = ContextVar("ttasks_prints", default=None)
"""Set where the prints of a task are captured; not in subscribers, whose prints are their own."""

CURRENT: ContextVar[TaskContext | None] = ContextVar("ttasks_current", default=None)


def current_context() -> TaskContext | None:
    """The context of the running task; None outside of a handler.

    Set in the thread of a handler and in coroutines that it awaits or starts. In a thread that the
    handler starts itself it is set if the thread runs in a ``contextvars.copy_context()``.
    """
    return CURRENT.get()
