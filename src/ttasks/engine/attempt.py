"""Attempt: one try of one task, from RUNNING to its result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from datetime import UTC, datetime
from math import inf
from threading import Lock
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks.engine import outcome
from ttasks.engine.guards import ask_guards
from ttasks.engine.reports import Reports
from ttasks.engine.workers.bounded import TimeIsUp, call_bounded
from ttasks.errors import InvalidTransitionError, TaskCancelled, TaskTimeoutError
from ttasks.model.breaker import CircuitState
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT, TaskContext
from ttasks.model.event import EVENT_OF_STATUS, TaskEventType, make_event
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from ttasks.engine.breakers import Breakers
    from ttasks.engine.guards import Guard
    from ttasks.engine.recorder import Recorder
    from ttasks.engine.retry import Tries
    from ttasks.engine.workers.bounded import AbandonedCount
    from ttasks.engine.workers.loop import LoopThread
    from ttasks.model.clock import Clock
    from ttasks.model.redact import Redactor
    from ttasks.model.task import Task

Handler = Callable[[TaskContext], Any]
CO_COROUTINE = 0x80  # as in `inspect`, which takes a while to import
OnEnd = Callable[["Attempt", "TaskStatus | None", "BaseException | None"], None]
"""Told how an attempt ended that went on without its thread: see `Attempt.run`."""


class Services(NamedTuple):
    """What an attempt needs of its executor."""

    recorder: Recorder
    loop: LoopThread
    abandoned: AbandonedCount
    running: dict[str, Attempt]
    clock: Clock
    redactor: Redactor | None
    capture_locals: bool
    guards: tuple[Guard, ...]
    breakers: Breakers | None


class Attempt(Reports):
    """One try of one task. ``run`` belongs to one thread; the rest may be called from any.

    Who ends the attempt is decided by the task's lifecycle, whose owner is ``token``.

    Attributes:
        number: from 1.
        token: the signal to stop.
        error: what the attempt ended in, None for success or before its end.
        retry_in: seconds until the next attempt if there will be one, else None.
        held: limited groups in which this task, or one that it runs in, has a place.
        outer: the attempt that this one runs in, None if there is none.
        in_flight: it goes on as a coroutine, and no thread waits for it.
        deadline: when its time is up, by the executor's clock; None for never.
        node: number of the task in its graph run, for whoever runs it.
    """

    error: BaseException | None = None
    retry_in: float | None = None
    in_flight = False
    deadline: float | None = None
    node = 0
    _ticket: tuple[str, int] | None = None  # group, and of its circuit breaker
    _sheltered = 0
    _called = -inf
    handler_seconds = inf
    """How long the handler took, once it has ended; without what came before and after it."""

    def __init__(
        self,
        services: Services,
        task: Task,
        handler: Handler,
        upstream: tuple[Task, ...] = (),
        tries: Tries | None = None,
        held: frozenset[str] = frozenset(),
        outer: Attempt | None = None,
    ) -> None:
        self._services = services
        self._recorder = services.recorder
        self._redactor = services.redactor
        self._lock = Lock()
        self._task = task
        self._handler = handler
        self._upstream = upstream
        self._tries = tries
        self.number = 1 if tries is None else tries.next_number()
        self.token = CancelToken()
        self.held = held
        self.outer = outer

    @property
    def ends_itself(self) -> bool:
        """True if the handler keeps to cancellation by itself, or waits for something that does."""
        from ttasks.engine.workers.python import ends_itself

        return self._sheltered > 0 or ends_itself(self._handler) or self._is("ends_itself")

    def _is(self, quality: str) -> bool:
        """What the handler says of itself, for all tasks or by their payload."""
        answer = getattr(self._handler, quality, False)
        return bool(answer(self._task.payload) if callable(answer) else answer)

    def _is_quick(self) -> bool:
        """True if the handler only makes a coroutine, so that its own thread needs no deadline."""
        code = getattr(self._handler, "__code__", None)
        if code is not None and code.co_flags & CO_COROUTINE:
            return True
        return self._is("returns_at_once")

    def shelter(self, change: int) -> None:
        """Count (+1, -1) what ends by itself once cancelled and is waited for, here and outside."""
        attempt: Attempt | None = self
        while attempt is not None:
            with attempt._lock:
                attempt._sheltered += change
            attempt = attempt.outer

    # From RUNNING to the result

    def run(self, context: Context | None = None, on_end: OnEnd | None = None) -> TaskStatus | None:
        """Run the handler and end the task accordingly.

        Args:
            context: context variables for the handler; None means a copy of the caller's.
            on_end: if the handler gives a coroutine, return at once and call this when it has
                ended, on the loop's thread, with the attempt, the status (as below) and an error
                of the store if there was one. None means to wait for the coroutine.

        Returns:
            The status the task ended in, None if somebody else ended the attempt meanwhile,
            RUNNING if it goes on as a coroutine.

        Raises:
            InvalidTransitionError: the task could not start; nothing has changed.
            KeyboardInterrupt: it came while the handler ran; the task is CANCELLED.
            StoreError: a write failed, and the executor is strict; the task has ended.
        """
        task, services = self._task, self._services
        # First, so that an interrupt between any two lines finds all that the end needs.
        self._started_at = datetime.now(UTC)
        self._started = services.clock.now()
        if task.timeout is not None:
            self.deadline = self._started + task.timeout
        before = task._lifecycle.move(TaskStatus.RUNNING, None, self.token)
        if before is None:
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.RUNNING.value
            )
        services.running[task.id] = self
        started = False
        try:
            services.recorder.transition(
                TaskEventType.STARTED,
                task,
                before,
                TaskStatus.RUNNING,
                self._started_at,
                None,
                self.number,
            )
            started = True
            context = copy_context() if context is None else context
            raw = context.run(self._call)
            if type(raw) is CoroutineType:
                if on_end is not None:
                    self._go_on(raw, context, on_end)
                    return TaskStatus.RUNNING
                raw = services.loop.run(raw, context, self.deadline, self.token, services.clock)
        except BaseException as error:
            status = self._finish(None, self._translate(error))
            if isinstance(error, KeyboardInterrupt) or not started:
                raise
            return status
        return self._finish(raw, None)

    def _call(self) -> Any:
        """Call the handler, bounded by the timeout; runs in a context of its own."""
        task, token, services = self._task, self.token, self._services
        context = TaskContext(
            task,
            self,
            token,
            self.number,
            self._upstream,
            self.deadline,
            services.redactor,
            services.clock,
        )
        CURRENT.set(context)
        if token.cancelled:
            raise TaskCancelled
        if services.guards:
            ask_guards(services.guards, context)
            if self.deadline is not None and services.clock.now() >= self.deadline:
                raise TimeIsUp
        if services.breakers is not None:
            self._ticket = services.breakers.enter(task.group)
        self._called = services.clock.now()
        if self.deadline is None or self._is_quick() or self.ends_itself:
            return self._handler(context)
        return call_bounded(
            lambda: self._handler(context), self.deadline, services.abandoned, services.clock
        )

    def _go_on(self, coroutine: Any, context: Context, on_end: OnEnd) -> None:
        """Let the coroutine run on the loop, without a thread that waits for it."""

        def conclude(raw: Any, raised: BaseException | None) -> None:
            trouble = None
            status: TaskStatus | None = None
            try:
                if raised is None:
                    status = self._finish(raw, None)
                else:
                    status = self._finish(None, self._translate(raised))
            except BaseException as error:
                status, trouble = self._task.status, error
            on_end(self, status, trouble)

        self.in_flight = True
        try:
            self._services.loop.start(coroutine, context, self.token, conclude)
        except BaseException:
            self.in_flight = False
            raise

    def _translate(self, raised: BaseException) -> BaseException:
        """The error that stands for what came out of the handler."""
        if isinstance(raised, KeyboardInterrupt):
            self.token.cancel("interrupted")
            return TaskCancelled("Task was interrupted")
        timeout = self._task.timeout
        if timeout is None:
            return raised
        if isinstance(raised, TimeIsUp):
            self.token.cancel("timeout")
            return TaskTimeoutError(timeout)
        if self.token.reason == "timeout" and isinstance(raised, TaskCancelled):
            return TaskTimeoutError(timeout)
        return raised

    def expire(self) -> TaskStatus | None:
        """End the attempt because its time is up; None if it has ended already."""
        assert self._task.timeout is not None
        self.token.cancel("timeout")
        return self._finish(None, TaskTimeoutError(self._task.timeout))

    def abandon(self, error: BaseException) -> TaskStatus | None:
        """End the attempt although its handler has not returned; None if it has ended already."""
        return self._finish(None, error)

    def _finish(self, raw: Any, raised: BaseException | None) -> TaskStatus | None:
        self._close()
        task, life, services = self._task, self._task._lifecycle, self._services
        finished_at, now = datetime.now(UTC), services.clock.now()
        duration, self.handler_seconds = now - self._started, now - self._called
        if life.owner is not self.token:
            return None
        tries = self._tries
        spent = ""
        if tries is not None:
            tries.note_end(duration)
            if raised is not None and not life.to_be_cancelled(self.token):
                self.retry_in, spent = tries.decide(raised)
        while True:
            if raised is None and tries is None and self._emitted is None and not services.redactor:
                result = outcome.success(
                    task.id, self._started_at, finished_at, duration, self.number, raw
                )
            else:
                timing = outcome.Timing(self._started_at, finished_at, duration)
                result = self._result(raw, raised, timing, spent)
            message = None if result.failure is None else result.failure.message
            if life.finish(self.token, result, message):
                break
            if life.owner is not self.token:
                if services.running.get(task.id) is self:
                    del services.running[task.id]
                return None
            raised = self._as_moved(raised, life.status, result.status)
        self.error = raised
        status = result.status
        if status is not TaskStatus.FAILED:
            self.retry_in = None
        services.running.pop(task.id, None)
        if self._ticket is not None:
            self._leave_circuit(status)
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

    def _leave_circuit(self, status: TaskStatus) -> None:
        """Tell the circuit breaker how the call ended, and subscribers if that changed it."""
        breakers = self._services.breakers
        assert breakers is not None
        assert self._ticket is not None
        group, ticket = self._ticket
        failed = None if status is TaskStatus.CANCELLED else status is TaskStatus.FAILED
        changed = breakers.leave(group, ticket, failed)
        if changed is None:
            return
        opened = changed is CircuitState.OPEN
        kind = TaskEventType.CIRCUIT_OPENED if opened else TaskEventType.CIRCUIT_CLOSED
        recorder = self._services.recorder
        if recorder.wants(kind):
            shown = recorder.shown(self._task)
            now, running = datetime.now(UTC), TaskStatus.RUNNING  # its end comes next
            text = f"circuit of group {group!r} {'opened' if opened else 'closed'}"
            recorder.report(
                make_event(kind, shown.id, shown, now, running, running, text, self.number)
            )

    def _result(
        self, raw: Any, raised: BaseException | None, timing: outcome.Timing, spent: str
    ) -> TaskResult:
        services = self._services
        emitted = self._emitted_text()
        if raised is None:
            result = outcome.success(
                self._task.id, *timing, self.number, raw, emitted, services.redactor
            )
        else:
            reason = None
            if isinstance(raised, TaskCancelled) and self.token.reason == "interrupted":
                reason = "interrupted"
            result = outcome.failure(
                self._task.id,
                raised,
                timing,
                attempt=self.number,
                raw=raw,
                reason=reason,
                emitted=emitted,
                redactor=services.redactor,
                capture_locals=services.capture_locals,
                spent=spent,
            )
        return result if self._tries is None else self._tries.in_result(result)


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
