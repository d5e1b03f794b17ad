"""Attempt: one try of one task, from RUNNING to its end.

An attempt is the job that a backend runs (`ttasks.backends.base.Job`). There is one way for it to
end: the return of its handler, a timeout and a cancellation all go through `Attempt.end`::

    start ── STARTED ── guards ── backend ── handler ──┐
                     timeout, patience, cancellation ──┴─→ end ── result ── saved ── announced
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from ttasks import sync
from ttasks.engine import outcome
from ttasks.engine.breakers import name_of_circuit
from ttasks.engine.ending import settle
from ttasks.engine.guards import ask_guards
from ttasks.engine.reports import EMIT_PATIENCE, Reports
from ttasks.errors import (
    InvalidTransitionError,
    StoreError,
    TaskCancelled,
    TaskExecutionError,
    TaskTimeoutError,
)
from ttasks.model.breaker import CircuitState
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT, TaskContext
from ttasks.model.event import EVENT_OF_STATUS, STARTED, TaskEventType, make_event
from ttasks.model.lifecycle import ACTIVE, is_to_be_cancelled
from ttasks.model.status import CANCELLED, FAILED, RUNNING, SUCCEEDED, TaskStatus
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.backends.base import Backend
    from ttasks.engine.breakers import Breakers, Entry
    from ttasks.engine.guards import Guard
    from ttasks.engine.recorder import Recorder
    from ttasks.engine.retry import Tries
    from ttasks.engine.service import Readiness
    from ttasks.engine.snapshots import Watch
    from ttasks.model.clock import Clock
    from ttasks.model.frames import Frames
    from ttasks.model.notes import Notes
    from ttasks.model.plan import Decision, Plan
    from ttasks.model.policy import RetryPolicy
    from ttasks.model.redact import Redactor
    from ttasks.model.result import TaskResult
    from ttasks.model.run import Run
    from ttasks.model.service import Service
    from ttasks.model.task import Task

Handler = Callable[[TaskContext], Any]


_NO_REASON = TaskCancelled().args[:1]


class Diary(Protocol):
    """What the run of a single task keeps; see `ttasks.engine.single_history.SingleHistory`."""

    def begin(self, plan: Plan, node: int) -> None:
        """The task has this number in a plan."""

    def keep(self) -> None:
        """The plan is about to forget it."""

    def notes(self, ended: float | None = None) -> Notes:
        """What was noted of it."""


class Work:
    """A task of a run, and what its attempts need.

    Attributes:
        task: the task.
        upstream: its direct dependencies.
        retry: its policy; None for one attempt.
        is_finally, is_required: its flags in the graph.
        is_tried_again: it had ended without success before the run began.
        run: what it is part of, for events.
        context: context variables of its handler; None for those of the run.
        may_start: called before its first attempt; False if somebody has cancelled it.
        on_end: called with its outcome on the thread that ends it, with no lock held.
        history: of its run, if that is of this task alone.
        tries: its attempts so far; kept by the run.
        prior: the last attempt, while the task waits for the next one; kept by the run.
        awaited: somebody else was running the task when its turn came; kept by the run.
        decision: why it will not run, unless somebody else runs it to success; kept by the run.
        service: how to tell that it is ready, of a service; None for any other task.
        on_ready: called when it has been announced that the service is ready, with no lock held.
    """

    # Few tasks of a graph have any of these.
    context: Context | None = None
    may_start: Callable[[], bool] | None = None
    on_end: Callable[[TaskStatus, BaseException | None], None] | None = None
    history: Diary | None = None
    tries: Tries | None = None
    prior: Attempt | None = None
    watch: Watch | None = None
    awaited = False
    decision: Decision | None = None
    service: Service | None = None
    on_ready: Callable[[], None] | None = None

    def __init__(
        self,
        task: Task,
        upstream: tuple[Task, ...] = (),
        retry: RetryPolicy | None = None,
        is_finally: bool = False,
        is_required: bool = True,
        is_tried_again: bool = False,
        run: Run | None = None,
    ) -> None:
        self.task = task
        self.upstream = upstream
        self.retry = retry
        self.is_finally = is_finally
        self.is_required = is_required
        self.is_tried_again = is_tried_again
        self.run = run


class Keeper(Protocol):
    """The run of an attempt, as the attempt sees it."""

    @property
    def services(self) -> Services:
        """Of the executor."""

    @property
    def outer(self) -> Attempt | None:
        """The attempt that the run is part of; None if there is none."""

    def notes(self, node: int, ended: float | None = None) -> Notes:
        """What was noted of a node; ``ended`` if its end is still to be noted."""

    def ring(self) -> None:
        """Wake the supervisor."""

    def ended(self, attempt: Attempt) -> None:
        """A detached attempt has ended; see `Attempt.detach`."""

    def retry_cancelled(self, attempt: Attempt) -> None:
        """A task has been CANCELLED while it waited for its next attempt."""

    def note_ready(self, node: int) -> None:
        """A service is ready, and that is about to be announced."""

    def ready(self, attempt: Attempt) -> None:
        """It has been announced that a service is ready."""


@dataclass(slots=True)
class Services:
    """What an attempt needs of its executor.

    Attributes:
        running: attempts by task id; each adds and removes itself.
        retry, timeout: of tasks that have none of their own.
    """

    recorder: Recorder
    running: dict[str, Attempt]
    clock: Clock
    redactor: Redactor | None
    capture_locals: Frames
    guards: tuple[Guard, ...]
    breakers: Breakers | None
    retry: RetryPolicy | None = None
    timeout: float | None = None


class Attempt:
    """One try of one task.

    A worker calls ``start``; everything else may be called from any thread. The attempt owns the
    lifecycle of its task, and the lifecycle decides who ends it.

    Attributes:
        number: from 1.
        token: the signal to stop.
        status: how the attempt ended; None before.
        error: the exception behind that; None after a success or before the end.
        retry_in: seconds until the next attempt; None if there will be none.
        ended_at: when its end was known, by the executor's clock.
        told: message and reason of a failure that another attempt follows, for the plan.
        trouble: a failure of the store that stops the run, because the executor is strict.
        deadline: when it times out, by the executor's clock; None for never. Set by the run.
        held: limited groups in which this task, or one that it runs in, has a place.
        is_started: the task became RUNNING.
        has_ended: its end is over, and the task is released unless it waits for another attempt.
        left: its worker was left behind.
        context: what the handler is given. It refers to the attempt and the attempt to it; the
            worker breaks that cycle at the end, to spare the garbage collector.
        variables: the context variables of the handler, ``context`` among them.
        node: number of the task in its run, for the run.
        reports: what its handler reports; None if it never did.
        handler_seconds: how long its handler took; inf unless it succeeded without reports.
        readiness: of a service; else None. Set by the run before the start.
        ticket: of its entry in the agenda of the run, for the run.
    """

    # Defaults that most attempts never change.
    number = 1
    deadline: float | None = None
    status: TaskStatus | None = None
    error: BaseException | None = None
    retry_in: float | None = None
    ended_at = 0.0
    told: tuple[str | None, str | None] | None = None
    trouble: BaseException | None = None
    ticket: int | None = None
    is_started = False
    has_ended = False
    left = False
    reports: Reports | None = None
    handler_seconds = inf
    readiness: Readiness | None = None
    _is_announced = False  # the start
    _announced: sync.Event | None = None  # set when the start has been announced
    _detached = False
    _sheltered = 0
    _is_leaving = False
    _circuits: tuple[Entry, ...] = ()  # those that let it through

    _started_at: datetime
    _began: float
    context: TaskContext

    def __init__(
        self,
        run: Keeper,
        work: Work,
        backend: Backend,
        handler: Handler,
        variables: Context,
        held: frozenset[str],
        node: int,
    ) -> None:
        self._services = run.services
        self._run = run
        self._work = work
        self.task = task = work.task
        self.backend = backend
        self.handler = handler
        self.variables = variables
        self.held = held
        self.node = node
        self.token = CancelToken()
        self._life = life = lifecycle_of(task)
        # The lock of the task also owns the fields with an underscore below, `left` and `reports`.
        # It orders the end of the attempt against its reports, `detach` and `leave`.
        self._lock = life.lock

    @property
    def run(self) -> Run | None:
        """The run that it is part of."""
        return self._work.run

    # From RUNNING to the handler

    def start(self) -> bool:
        """Make the task RUNNING, announce it and give the job to its backend.

        The attempt may have ended when this returns, or go on without this thread: see `detach`.

        Returns:
            False if the task could not start; nothing has changed then.
        """
        services, task, work = self._services, self.task, self._work
        self._started_at = started_at = datetime.now(UTC)
        self._started = services.clock.now()
        prior, work.prior = work.prior, None
        before = self._life.start(self, prior)
        if before is None:
            return False
        self.is_started = True
        if prior is not None:
            before = FAILED  # the last that was announced
        if work.tries is not None:
            self.number = work.tries.next_number()
        services.running[task.id] = self
        try:
            try:
                recorder = services.recorder
                recorder.transition(
                    STARTED,
                    task,
                    before,
                    RUNNING,
                    started_at,
                    None,
                    self.number,
                    None,
                    work.run,
                    self._run.notes(self.node) if recorder.keeps_notes else None,
                )
            except BaseException as error:
                self.trouble = error
                if not (work.is_finally and isinstance(error, StoreError)):
                    raise
            finally:
                # In this order: whoever ends the attempt does the same the other way round.
                self._is_announced = True
                if self._announced is not None:
                    self._announced.set()
            self.context = context = TaskContext(
                task,
                work.upstream,
                self,
                self.token,
                self.number,
                self.deadline,
                services.redactor,
                services.clock,
                services.timeout if self.readiness is None else None,
            )
            self.variables.run(CURRENT.set, context)
            if services.guards or services.breakers is not None:
                self.variables.run(self._ask)
            if self.token.cancelled:
                raise self.token.error()
            if self.readiness is not None:
                self.readiness.check()
        except BaseException as error:
            self.end(None, error)
            return True
        self._began = services.clock.now()
        try:
            self.backend.start(self)
            if self.readiness is not None:
                self.readiness.begin(self._announce_ready)
        except BaseException as error:  # against the rules of the interface
            self.end(None, error)
        return True

    def _ask(self) -> None:
        """Ask the guards and the circuit breaker; raise what they refuse with."""
        services = self._services
        if services.guards:
            ask_guards(services.guards, self.context)
            if self.deadline is not None and services.clock.now() >= self.deadline:
                self.token.cancel("timeout")
                raise self.token.error()
        if services.breakers is not None and not self.token.cancelled:
            self._circuits = services.breakers.enter(self.task)

    def detach(self) -> bool:
        """Let the worker go on while the job runs elsewhere.

        Returns:
            True if the job has not ended; the thread that ends it then calls `Keeper.ended`. False
            if it has ended, or if this worker was left behind (``left``).
        """
        if self.has_ended:
            return False
        with self._lock:
            self._detached = not (self.has_ended or self.left)
            return self._detached

    # What the handler reports; see `ttasks.model.context.Reporter`

    def progress(self, percent: float | None, message: str | None) -> None:
        """Announce progress."""
        self._reports().progress(percent, message)

    def output(self, stream: str, text: str) -> None:
        """Announce and collect text."""
        if self.readiness is not None:
            self.readiness.saw(text)
        self._reports().output(stream, text)

    def sink(self, stream: str) -> Callable[[str], None] | None:
        """A function that announces a piece of a stream; None if nobody listens."""
        return self._reports().sink(stream)

    @property
    def watch(self) -> Callable[[str], object] | None:
        """See `ttasks.model.context.watch_of`."""
        readiness = self.readiness
        return readiness.saw if readiness is not None and readiness.watches else None

    def _announce_ready(self) -> None:
        """The service is ready: announce that, and let its dependents start."""
        readiness, recorder, run = self.readiness, self._services.recorder, self._run
        assert readiness is not None
        is_told = False

        def announce() -> None:
            nonlocal is_told
            is_told = readiness.become_ready()
            if not is_told:
                return
            run.note_ready(self.node)
            recorder.transition(
                TaskEventType.READY,
                self.task,
                RUNNING,
                RUNNING,
                datetime.now(UTC),
                None,
                self.number,
                None,
                self._work.run,
                run.notes(self.node) if recorder.keeps_notes else None,
            )

        try:
            self._reports().transition(announce)
        except BaseException as error:
            self.trouble, is_told = error, True
        if is_told:
            run.ready(self)

    def _reports(self) -> Reports:
        services, life = self._services, self._life
        with self._lock:
            if self.reports is None:
                is_open = life.owner is self and life.phase is ACTIVE
                self.reports = Reports(
                    services.recorder,
                    services.redactor,
                    self.task,
                    self.number,
                    self._work.run,
                    is_open=is_open,
                )
            return self.reports

    def _drain(self) -> None:
        """Wait until the start and all reports are announced; no more can begin."""
        if not self._is_announced:
            self._announced = announced = sync.Event()
            if not self._is_announced:
                announced.wait(EMIT_PATIENCE)
        if self.reports is not None:
            self.reports.close()

    # Stopping it

    def expire(self, now: float) -> bool:
        """Its time is over: ask it to stop. False if its backend sees to its end."""
        is_starting = self.readiness is not None and not self.readiness.is_ready
        if is_starting and (self.deadline is None or now < self.deadline):
            self.token.cancel("not_ready")
        else:
            self.token.cancel("timeout")
        return not self.backend.kills

    def cancel(
        self, reason: str = "cancelled", *, kill: bool = False, message: str | None = None
    ) -> bool:
        """Ask the attempt to stop; may be called from any thread, and does not wait.

        A task that waits for its next attempt ends at once, on this thread.

        Returns:
            True if the task is or will be CANCELLED.
        """
        self.token.cancel(reason, kill=kill, message=message)
        life = self._life
        if life.end_wait(self):
            self._cancel_retry()
            self._run.retry_cancelled(self)
            return True
        return life.will_be_cancelled(self, self.token)

    def shelter(self) -> bool:
        """Count a nested run, which ends by itself when it is cancelled.

        Until `unshelter`, neither this attempt nor those that it runs in are left behind.

        Returns:
            False if one of them is being left behind; nothing may begin in it then.
        """
        with self._lock:
            if self._is_leaving:
                return False
            self._sheltered += 1
        if self._run.outer is not None and not self._run.outer.shelter():
            self._unshelter()
            return False
        return True

    def unshelter(self) -> None:
        """Undo one `shelter`."""
        if self._run.outer is not None:
            self._run.outer.unshelter()
        self._unshelter()
        if self.token.cancelled:
            self._run.ring()

    def _unshelter(self) -> None:
        with self._lock:
            self._sheltered -= 1

    @property
    def ends_itself(self) -> bool:
        """True if it never has to be left behind: its backend kills it, or nested runs end."""
        return self.backend.kills or self._sheltered > 0

    def leave(self) -> bool:
        """End the cancelled attempt although its handler has not returned.

        If its worker is still with it, that is left behind (``left``).

        Returns:
            False if it has ended, or waits for a nested run.
        """
        with self._lock:
            if self._sheltered:
                return False
            self._is_leaving = True
        error: BaseException = self.token.error()
        if self.token.reason == "stopped":
            error = TaskExecutionError("The service was asked to stop, and would not end")
        elif self.token.reason != "timeout":
            error = TaskCancelled(f"{error}; its handler would not end")
        return self.end(None, error, left=not self.backend.frees_worker)

    # The end

    def end(self, value: Any, error: BaseException | None, *, left: bool = False) -> bool:
        """End the attempt with what the handler returned or raised; False if somebody else does.

        Called by the backend. With ``left`` its worker is left behind, if that is still with it.

        The end is decided, saved and announced before the task is released. Whatever goes wrong
        on the way, the task does not stay RUNNING.
        """
        life, services = self._life, self._services
        if not life.begin_end(self):
            return False
        if left:
            with self._lock:
                self.left = not self._detached
        try:
            if not self._is_announced or self.reports is not None:
                self._drain()
            result = self._decide(value, error)
        except BaseException as problem:  # a bug, or an asynchronous exception
            result = self._decide(None, problem, plainly=True)
        services.running.pop(self.task.id, None)
        self.status = result.status
        try:
            for entry in self._circuits:
                self._leave_circuit(entry, result)
            failure, recorder = result.failure, services.recorder
            if self.retry_in is not None:
                text = None if failure is None else failure.message
                self.told = text, result.termination_reason
            recorder.transition(
                EVENT_OF_STATUS[result.status],
                self.task,
                RUNNING,
                result.status,
                result.finished_at,
                None if failure is None else failure.message,
                self.number,
                self.retry_in,
                self._work.run,
                self._run.notes(self.node, self.ended_at) if recorder.keeps_notes else None,
            )
        except BaseException as problem:
            self.trouble = self.trouble or problem
        if self.retry_in is None:
            for callback in life.release(self):
                callback()
        elif not life.wait(self.token):
            self._cancel_retry()
        self._lock.acquire()  # without ``with``; see `ttasks.model.lifecycle.Lifecycle`
        self.has_ended = True
        detached = self._detached
        self._lock.release()
        if detached:
            self._run.ended(self)
        return True

    def _decide(
        self, value: Any, raised: BaseException | None, *, plainly: bool = False
    ) -> TaskResult:
        """Make the result and set it; returns the one that stands."""
        services, life, tries = self._services, self._life, self._work.tries
        finished_at, self.ended_at = datetime.now(UTC), services.clock.now()
        duration = self.ended_at - self._started
        if raised is not None or self.token.cancelled:
            raised = self._translate(raised)
        readiness, spent = self.readiness, ""
        if readiness is not None:
            readiness.stop()
            value, raised = readiness.verdict(self.task, value, raised)
        watch = self._work.watch
        if raised is None and watch is not None and not plainly:
            raised = watch.end(value)
        if tries is not None and not plainly:
            tries.note_end(duration)
            may_retry = readiness is None or readiness.may_be_retried
            if may_retry and not is_to_be_cancelled(self.token):
                raised, self.retry_in, spent = tries.decide(
                    raised,
                    lambda error: self._result(
                        value, error, outcome.Timing(self._started_at, finished_at, duration), ""
                    ),
                )
        elif raised is None and self.reports is None and not services.redactor and watch is None:
            # The common case: success, nothing reported, nothing to redact.
            result = outcome.success(
                self.task.id, self._started_at, finished_at, duration, self.number, value
            )
            if life.finish(self.token, result, None, False):
                self.handler_seconds = self.ended_at - self._began
                return result
            raised = self._as_moved(None, life.status, result.status)
        timing = outcome.Timing(self._started_at, finished_at, duration)
        while True:
            if plainly and raised is not None:
                result = outcome.failure(self.task.id, raised, timing, attempt=self.number)
            else:
                result = self._result(value, raised, timing, spent)
            message = None if result.failure is None else result.failure.message
            if life.finish(self.token, result, message, self.retry_in is not None):
                break
            raised = self._as_moved(raised, life.status, result.status)
        if self.retry_in is not None and result.status is not FAILED:
            self.retry_in = None
            assert tries is not None
            tries.take_back()
        self.error = raised
        return result

    def _translate(self, raised: BaseException | None) -> BaseException | None:
        """The error that stands for what came out of the handler; None for success."""
        token, timeout = self.token, self.task.timeout or self._services.timeout
        kind = type(raised)
        if issubclass(kind, KeyboardInterrupt):
            token.cancel("interrupted", message="Task was interrupted")
            return token.error()
        if not token.cancelled or not (raised is None or issubclass(kind, TaskCancelled)):
            return raised
        if token.reason == "timeout" and timeout is not None:
            return TaskTimeoutError(timeout)  # whatever it returned came too late
        if (
            kind is TaskCancelled
            and isinstance(raised, TaskCancelled)
            and token.message is not None
            and raised.args[:1] == _NO_REASON
        ):
            return TaskCancelled(token.message, raised.completed)  # it says more
        return raised

    def _as_moved(
        self, raised: BaseException | None, now: TaskStatus, wanted: TaskStatus
    ) -> BaseException | None:
        """How the attempt ends if it was cancelled or moved by hand after the handler ended."""
        if now is SUCCEEDED:
            return None
        if now is FAILED:
            return InvalidTransitionError(self.task.id, self.task.title, now.value, wanted.value)
        if raised is not None and issubclass(type(raised), TaskCancelled):
            return raised
        cancelled = self.token.error()
        cancelled.__cause__ = raised
        return cancelled

    def _result(
        self, value: Any, raised: BaseException | None, timing: outcome.Timing, spent: str
    ) -> TaskResult:
        services = self._services
        emitted = None if self.reports is None else self.reports.texts()
        if raised is None:
            result = outcome.success(
                self.task.id, *timing, self.number, value, emitted, services.redactor
            )
            if self._work.watch is not None:
                result = replace(result, snapshot=self._work.watch.snapshot)
        else:
            reason = None
            if issubclass(type(raised), TaskCancelled) and self.token.reason == "interrupted":
                reason = "interrupted"
            result = outcome.failure(
                self.task.id,
                raised,
                timing,
                attempt=self.number,
                raw=value,
                reason=reason,
                emitted=emitted,
                redactor=services.redactor,
                capture_locals=services.capture_locals,
                spent=spent,
                payload=self.task.payload,
            )
        return result if self._work.tries is None else self._work.tries.in_result(result)

    def _leave_circuit(self, entry: Entry, result: TaskResult) -> None:
        """Tell a circuit breaker how the call ended, and announce a change of its state."""
        breakers = self._services.breakers
        assert breakers is not None
        is_telling = result.status is not CANCELLED and result.attempts == self.number
        changed = breakers.leave(entry, result.status is FAILED if is_telling else None)
        if changed is None:
            return
        opened = changed is CircuitState.OPEN
        kind = TaskEventType.CIRCUIT_OPENED if opened else TaskEventType.CIRCUIT_CLOSED
        recorder = self._services.recorder
        if recorder.wants(kind):
            shown = recorder.shown(self.task)
            now, running = datetime.now(UTC), RUNNING  # its end comes next
            name = name_of_circuit(entry[0])
            text = f"circuit of {name} {'opened' if opened else 'closed'}"
            recorder.report(
                make_event(
                    kind,
                    shown.id,
                    shown,
                    now,
                    running,
                    running,
                    text,
                    self.number,
                    run=self._work.run,
                )
            )

    # Between two attempts

    def _cancel_retry(self) -> None:
        """End the task as CANCELLED in place of the attempt that was announced."""
        self.error = error = self.token.error()
        self.ended_at = self._services.clock.now()
        recorder = self._services.recorder
        self.status = CANCELLED
        try:
            settle(
                recorder,
                self.task,
                CANCELLED,
                error,
                reason=self.token.reason,
                owner=self,
                run=self._work.run,
                notes=self._run.notes(self.node, self.ended_at) if recorder.keeps_notes else None,
                previous=FAILED,
            )
        except BaseException as problem:
            self.trouble = self.trouble or problem
        self.retry_in = None  # last: the run goes on when it sees this
