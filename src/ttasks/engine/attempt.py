"""Attempt: one try of one task, from RUNNING to its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from datetime import UTC, datetime
from threading import Event, Lock
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks.engine import outcome
from ttasks.engine.workers.bounded import TimeIsUp, call_bounded
from ttasks.errors import InvalidTransitionError, TaskCancelled, TaskTimeoutError
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CHUNK_LIMIT, CURRENT, TaskContext
from ttasks.model.event import EVENT_OF_STATUS, TaskEventType, make_event
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task

if TYPE_CHECKING:
    from ttasks.engine.bus import EventBus
    from ttasks.engine.recorder import Recorder
    from ttasks.engine.workers.bounded import AbandonedCount
    from ttasks.engine.workers.loop import LoopThread
    from ttasks.model.redact import Redactor

EMIT_PATIENCE = 1.0
"""Seconds that the end of an attempt waits for a report of it that is just being delivered."""

Handler = Callable[[TaskContext], Any]
Retry = Callable[[BaseException, int], "float | None"]
"""From the error of an attempt and its number to seconds until the next one, None for none."""


class Services(NamedTuple):
    """What an attempt needs of its executor."""

    bus: EventBus
    recorder: Recorder
    loop: LoopThread
    abandoned: AbandonedCount
    running: dict[str, Attempt]
    redactor: Redactor | None
    capture_locals: bool


class Attempt:
    """One try of one task. ``run`` belongs to one thread; the rest may be called from any.

    It implements `ttasks.model.context.Reporter`. Its lock owns ``_closed`` and ``_emitting``: no
    report starts once the attempt is closed, and the end waits for those that have started, so
    that nothing is announced after the last event. The lock is not held while subscribers run.
    Who ends the attempt is decided by the task's lifecycle, whose owner is ``token``.

    Attributes:
        number: from 1.
        token: the signal to stop.
        error: what the attempt ended in, None for success or before its end.
        retry_in: seconds until the next attempt if there will be one, else None.
        held: limited groups in which this task, or one that it runs in, has a place.
        outer: the attempt that this one runs in, None if there is none.
    """

    __slots__ = (
        "_closed",
        "_drained",
        "_emitted",
        "_emitting",
        "_handler",
        "_lock",
        "_retry",
        "_services",
        "_sheltered",
        "_shown",
        "_started",
        "_started_at",
        "_streams",
        "_task",
        "_upstream",
        "error",
        "held",
        "number",
        "outer",
        "retry_in",
        "token",
    )

    def __init__(
        self,
        services: Services,
        task: Task,
        handler: Handler,
        upstream: tuple[Task, ...] = (),
        number: int = 1,
        retry: Retry | None = None,
        held: frozenset[str] = frozenset(),
        outer: Attempt | None = None,
    ) -> None:
        self._services = services
        self._task = task
        self._handler = handler
        self._upstream = upstream
        self._retry = retry
        self._lock = Lock()
        self._closed = False
        self._emitting = 0
        self._drained: Event | None = None
        self._emitted: dict[str, list[str]] | None = None
        self._streams: dict[str, Any] = {}
        self._shown: Task | None = None  # what events of reports show of the task
        self.number = number
        self.token = CancelToken()
        self.error: BaseException | None = None
        self.retry_in: float | None = None
        self.held = held
        self.outer = outer
        self._sheltered = 0

    @property
    def ends_itself(self) -> bool:
        """True if the handler keeps to cancellation by itself, or waits for something that does."""
        return self._sheltered > 0 or getattr(self._handler, "ends_itself", False)

    def shelter(self, change: int) -> None:
        """Count (+1, -1) what ends by itself once cancelled and is waited for, here and outside."""
        attempt: Attempt | None = self
        while attempt is not None:
            with attempt._lock:
                attempt._sheltered += change
            attempt = attempt.outer

    # From RUNNING to the result

    def run(self, context: Context | None = None) -> TaskStatus | None:
        """Run the handler and end the task accordingly.

        Args:
            context: context variables that the handler sees; None means those of the caller.

        Returns:
            The status the task ended in, or None if somebody else ended the attempt meanwhile.

        Raises:
            InvalidTransitionError: the task could not start; nothing has changed.
            KeyboardInterrupt: it came while the handler ran; the task is CANCELLED.
            StoreError: a write failed that must not; the task has ended.
        """
        task = self._task
        # First, so that an interrupt between any two lines finds all that the end needs.
        self._started_at = datetime.now(UTC)
        self._started = monotonic()
        before = task._lifecycle.move(TaskStatus.RUNNING, None, self.token)
        if before is None:
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.RUNNING.value
            )
        self._services.running[task.id] = self
        raw: Any = None
        raised: BaseException | None = None
        started = False
        try:
            self._services.recorder.transition(
                TaskEventType.STARTED,
                task,
                before,
                TaskStatus.RUNNING,
                self._started_at,
                None,
                self.number,
            )
            started = True
            raw = (copy_context() if context is None else context).run(self._call)
        except BaseException as error:
            raised = error
        if raised is None:
            return self._finish(raw, None)
        status = self._finish(None, self._translate(raised))
        if isinstance(raised, KeyboardInterrupt) or not started:
            raise raised
        return status

    def _call(self) -> Any:
        """Call the handler, bounded by the timeout; runs in a context of its own."""
        task, handler, token = self._task, self._handler, self.token
        timeout = task.timeout
        deadline = None if timeout is None else self._started + timeout
        context = TaskContext(
            task, self, token, self.number, self._upstream, deadline, self._services.redactor
        )
        CURRENT.set(context)
        if token.cancelled:
            raise TaskCancelled
        try:
            if timeout is None or self.ends_itself:
                raw = handler(context)
            else:
                raw = call_bounded(lambda: handler(context), timeout, self._services.abandoned)
            if type(raw) is CoroutineType:
                raw = self._services.loop.run(raw, context.remaining(), token)
            return raw
        except TimeIsUp:
            assert timeout is not None
            token.cancel("timeout")
            raise TaskTimeoutError(timeout) from None

    def _translate(self, raised: BaseException | None) -> BaseException | None:
        if isinstance(raised, KeyboardInterrupt):
            self.token.cancel("interrupted")
            return TaskCancelled("Task was interrupted")
        if self.token.reason == "timeout" and isinstance(raised, TaskCancelled):
            assert self._task.timeout is not None
            return TaskTimeoutError(self._task.timeout)
        return raised

    def abandon(self, error: BaseException) -> TaskStatus | None:
        """End the attempt although its handler has not returned; None if it has ended already."""
        return self._finish(None, error)

    def _finish(self, raw: Any, raised: BaseException | None) -> TaskStatus | None:
        self._close()
        task, life, services = self._task, self._task._lifecycle, self._services
        finished_at, duration = datetime.now(UTC), monotonic() - self._started
        while True:
            if raised is None and self._emitted is None and services.redactor is None:
                result = outcome.success(
                    task.id, self._started_at, finished_at, duration, self.number, raw
                )
            else:
                timing = outcome.Timing(self._started_at, finished_at, duration)
                result = self._result(raw, raised, timing)
            message = None if result.failure is None else result.failure.message
            if life.finish(self.token, result, message):
                break
            if life.owner is not self.token:
                if services.running.get(task.id) is self:
                    del services.running[task.id]
                return None
            raised = self._as_moved(raised, life.status, result.status)
        self.error = raised
        services.running.pop(task.id, None)
        status = result.status
        if status is TaskStatus.FAILED and self._retry is not None:
            assert raised is not None
            self.retry_in = self._retry(raised, self.number)
        services.recorder.transition(
            EVENT_OF_STATUS[status],
            task,
            TaskStatus.RUNNING,
            status,
            finished_at,
            message,
            self.number,
            self.retry_in,
        )
        return status

    def _as_moved(
        self, raised: BaseException | None, now: TaskStatus, wanted: TaskStatus
    ) -> BaseException | None:
        """How the attempt ends if it was cancelled, or moved by hand, since the handler ended."""
        if now is TaskStatus.SUCCEEDED:
            return None
        if now is TaskStatus.FAILED:
            return InvalidTransitionError(self._task.id, self._task.title, now.value, wanted.value)
        return _as_cancelled(raised)

    def _result(self, raw: Any, raised: BaseException | None, timing: outcome.Timing) -> TaskResult:
        emitted = None
        if self._emitted is not None:
            emitted = {stream: "".join(chunks) for stream, chunks in self._emitted.items()}
        services = self._services
        if raised is None:
            return outcome.success(
                self._task.id, *timing, self.number, raw, emitted, services.redactor
            )
        reason = None
        if isinstance(raised, TaskCancelled) and self.token.reason == "interrupted":
            reason = "interrupted"
        return outcome.failure(
            self._task.id,
            raised,
            timing,
            attempt=self.number,
            raw=raw,
            reason=reason,
            emitted=emitted,
            redactor=services.redactor,
            capture_locals=services.capture_locals,
        )

    # Reports of the handler

    def progress(self, percent: float | None, message: str | None) -> None:
        """See `ttasks.model.context.Reporter`."""
        if not self._services.recorder.wants(TaskEventType.PROGRESS) or not self._enter():
            return
        try:
            redactor = self._services.redactor
            if message is not None and redactor is not None:
                message = redactor.text(message)
            self._publish(
                TaskEventType.PROGRESS, progress_percent=percent, progress_message=message
            )
        finally:
            self._exit()

    def output(self, stream: str, text: str) -> None:
        """See `ttasks.model.context.Reporter`."""
        if not self._enter():
            return
        try:
            if self._services.redactor is not None:
                with self._lock:
                    if stream not in self._streams:
                        self._streams[stream] = self._services.redactor.stream()
                    text = self._streams[stream].feed(text)
            self._emit(stream, text)
        finally:
            self._exit()

    def sink(self, stream: str) -> Callable[[str], None] | None:
        """See `ttasks.model.context.Reporter`."""
        if not self._services.recorder.wants(TaskEventType.OUTPUT):
            return None

        def announce(chunk: str) -> None:
            if self._enter():
                try:
                    self._publish(TaskEventType.OUTPUT, output_stream=stream, output_chunk=chunk)
                finally:
                    self._exit()

        return announce

    def _emit(self, stream: str, text: str) -> None:
        if not text:
            return
        with self._lock:
            if self._emitted is None:
                self._emitted = {}
            self._emitted.setdefault(stream, []).append(text)
        if self._services.recorder.wants(TaskEventType.OUTPUT):
            for piece in pieces(text):
                self._publish(TaskEventType.OUTPUT, output_stream=stream, output_chunk=piece)

    def _publish(self, kind: TaskEventType, **fields: Any) -> None:
        status = self._task.status
        if self._shown is None:
            self._shown = self._services.recorder.shown(self._task)
        self._services.recorder.report(
            make_event(
                kind,
                self._task.id,
                self._shown,
                datetime.now(UTC),
                status,
                status,
                attempt=self.number,
                **fields,
            )
        )

    def _enter(self) -> bool:
        with self._lock:
            if self._closed:
                return False
            self._emitting += 1
            return True

    def _exit(self) -> None:
        with self._lock:
            self._emitting -= 1
            if self._drained is not None and not self._emitting:
                self._drained.set()

    def _close(self) -> None:
        """Let no report start any more, wait for those under way, deliver what was held back."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._emitting:
                self._drained = Event()
        if self._drained is not None:
            self._drained.wait(EMIT_PATIENCE)
        for stream, filtered in self._streams.items():
            self._emit(stream, filtered.finish())


@contextmanager
def sheltering(attempt: Attempt | None) -> Iterator[None]:
    """For a ``with`` block in which an attempt waits for what ends by itself once cancelled."""
    if attempt is None:
        yield
        return
    attempt.shelter(1)
    try:
        yield
    finally:
        attempt.shelter(-1)


def _as_cancelled(raised: BaseException | None) -> TaskCancelled:
    if isinstance(raised, TaskCancelled):
        return raised
    cancelled = TaskCancelled()
    cancelled.__cause__ = raised
    return cancelled


def pieces(text: str) -> list[str]:
    """Cut text into pieces of at most ``CHUNK_LIMIT`` bytes of UTF-8, after newlines if possible.

    Joined, they are the text again.
    """
    if len(text) * 4 <= CHUNK_LIMIT:
        return [text]
    found = []
    longest = CHUNK_LIMIT // 4  # characters: none takes more than four bytes
    at = 0
    while at < len(text):
        end = at + longest
        if end < len(text):
            newline = text.rfind("\n", at, end)
            if newline >= 0:
                end = newline + 1
        found.append(text[at:end])
        at = end
    return found
