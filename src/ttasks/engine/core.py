"""Core: what execution and graph runs of one executor share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from re import Pattern
from typing import TYPE_CHECKING, Any

from ttasks.engine import outcome
from ttasks.engine.attempt import Attempt, Handler, Services, sheltering
from ttasks.engine.breakers import Breakers
from ttasks.engine.bus import EventBus
from ttasks.engine.guards import Guard, check_guards
from ttasks.engine.limits import GroupLimits
from ttasks.engine.recorder import Recorder
from ttasks.engine.resume import reuse_one
from ttasks.engine.retry import RetryBudget, Tries
from ttasks.engine.workers.bounded import AbandonedCount
from ttasks.engine.workers.loop import LoopThread
from ttasks.errors import HandlerNotFoundError, InvalidTransitionError, TaskCancelled
from ttasks.model.cancel import CancelToken
from ttasks.model.checks import check_bool, wrong_type
from ttasks.model.clock import SYSTEM_CLOCK, Clock
from ttasks.model.context import CURRENT
from ttasks.model.event import EVENT_OF_STATUS
from ttasks.model.redact import Redactor
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.engine.run import GraphRun
    from ttasks.model.breaker import CircuitBreaker
    from ttasks.model.policy import RetryPolicy
    from ttasks.model.result import TaskResult
    from ttasks.model.task import Task
    from ttasks.model.task_type import TaskType


class Core:
    """What takes single tasks through their attempts. Thread-safe; arguments as `TaskExecutor`.

    Attributes:
        bus, store, recorder, limits, breakers, clock, loop, abandoned: as their names say.
        handlers: by type; each change is one operation of a dict.
        running: attempts by task id; an attempt adds and removes itself.
        ending: cancelled by ``shutdown(cancel=True)``.
    """

    def __init__(
        self,
        store: Store | None,
        limits: Mapping[str, int] | None,
        breakers: Mapping[str, CircuitBreaker] | None,
        guards: Iterable[Guard],
        redact: Iterable[str | Pattern[str]],
        capture_locals: bool,
        strict_persistence: bool,
        clock: Clock | None,
    ) -> None:
        if store is not None and not isinstance(store, Store):
            raise wrong_type("store", store, "a Store (InMemoryStore, SQLiteStore) or None")
        for name in ("now", "wait_until"):
            if clock is not None and not callable(getattr(clock, name, None)):
                raise wrong_type("clock", clock, "a Clock (with now and wait_until) or None")
        redactor = Redactor(redact) or None
        self.store = store
        self.clock = SYSTEM_CLOCK if clock is None else clock
        self.limits = GroupLimits(limits)
        self.breakers = Breakers(breakers, self.clock)
        self.bus = EventBus()
        self.abandoned = AbandonedCount()
        self.loop = LoopThread(self.abandoned)
        strict = check_bool("strict_persistence", strict_persistence)
        self.recorder = Recorder(store, self.bus, strict=strict, redactor=redactor)
        self.handlers: dict[TaskType, Handler] = {}
        self.running: dict[str, Attempt] = {}
        self.ending = CancelToken()
        self._waiting: dict[str, CancelToken] = {}  # executions between two attempts, by task id
        self._runs: set[GraphRun] = set()
        self._services = Services(
            self.recorder,
            self.loop,
            self.abandoned,
            self.running,
            self.clock,
            redactor,
            check_bool("capture_locals", capture_locals),
            check_guards(guards),
            self.breakers or None,
        )

    def attempt(
        self,
        task: Task,
        upstream: tuple[Task, ...],
        tries: Tries | None,
        held: frozenset[str] = frozenset(),
        outer: Attempt | None = None,
    ) -> Attempt:
        """A new attempt of a task, not yet running.

        Raises:
            HandlerNotFoundError: its type has no handler; the task is FAILED, unless it cannot be.
        """
        handler = self.handlers.get(task.type)
        if handler is None:
            missing = HandlerNotFoundError(
                task.type.value, sorted(type.value for type in self.handlers)
            )
            self.settle(task, TaskStatus.FAILED, missing)
            raise missing
        return Attempt(self._services, task, handler, upstream, tries, held, outer)

    def tries(self, policy: RetryPolicy | None, budget: RetryBudget | None = None) -> Tries | None:
        """The attempts of an execution that begins now; None for a task that is not retried."""
        return None if policy is None else Tries(policy, self.clock, budget)

    def execute(
        self,
        task: Task,
        upstream: tuple[Task, ...],
        policy: RetryPolicy | None,
        held: frozenset[str] = frozenset(),
    ) -> TaskResult:
        """All attempts of a task, on this thread; see `TaskExecutor.execute`."""
        if self.store is not None and reuse_one(task, upstream, self.store, self.recorder):
            assert task.result is not None
            return task.result
        tries = self.tries(policy or task.retry)
        ambient = self.ambient()
        if ambient is not None:
            held |= ambient.held
        with self.loop.held():
            while True:
                attempt = self.attempt(task, upstream, tries, held, ambient)
                self._run_once(task, attempt, ambient)
                if attempt.retry_in is None:
                    break
                self._wait_for_retry(task, attempt.retry_in)
        if attempt.error is not None:
            raise attempt.error
        assert task.result is not None
        return task.result

    def _run_once(self, task: Task, attempt: Attempt, ambient: Attempt | None) -> None:
        sheltered = ambient if attempt.ends_itself else None
        with follow(attempt.token, *self.outer_tokens()), sheltering(sheltered):
            try:
                attempt.run()
            except InvalidTransitionError:
                if task.is_cancelled:
                    raise TaskCancelled from None
                raise
            except KeyboardInterrupt:
                attempt.abandon(TaskCancelled("Task was interrupted"))
                raise

    def _wait_for_retry(self, task: Task, seconds: float) -> None:
        """Wait between two attempts; returns early if the task is cancelled."""
        token = CancelToken()
        self._waiting[task.id] = token
        try:
            # It may have been cancelled since it failed.
            with follow(token, *self.outer_tokens()):
                if not task.is_cancelled:
                    token.wait(seconds, self.clock)
        except KeyboardInterrupt:
            self.cancel(task)
            raise
        finally:
            del self._waiting[task.id]
        if token.cancelled:
            self.cancel(task)

    def cancel(self, task: Task) -> bool:
        """See `TaskExecutor.cancel`."""
        life = lifecycle_of(task)
        while True:
            owner = life.owner
            if owner is not None:
                owner.cancel()
                with life.lock:  # or else its end might just be under way
                    if life.owner is owner:
                        return True
            if self.settle(task, TaskStatus.CANCELLED, TaskCancelled()) or life.status.is_sink:
                break
        waiting = self._waiting.get(task.id)
        if waiting is not None:
            waiting.cancel()
        for run in list(self._runs):
            run.notice_cancelled(task)
        return life.status is TaskStatus.CANCELLED

    def settle(
        self,
        task: Task,
        status: TaskStatus,
        error: BaseException | None = None,
        *,
        reason: str | None = None,
        blocker: Task | None = None,
        blocked_by: str | None = None,
    ) -> bool:
        """End a task without running it, save and announce it.

        Args:
            task: a task that nobody runs.
            status: FAILED, CANCELLED, BLOCKED or SKIPPED.
            error: becomes the result's failure; needed for the first two.
            reason: termination reason; None derives it from the error.
            blocker: the task that blocks it.
            blocked_by: its id, for those who do not have the task itself.

        Returns:
            False if the task is a sink already, or somebody runs it; nothing has changed then.
        """
        now = datetime.now(UTC)
        result = None
        message = because = None
        if error is not None:
            result = outcome.failure(
                task.id,
                error,
                outcome.Timing(now, now, 0.0),
                attempt=0,
                reason=reason,
                redactor=self._services.redactor,
            )
            assert result.failure is not None
            message = result.failure.message
            if status is TaskStatus.CANCELLED:
                result = _with_tries(result, task.result)
        elif blocker is not None:
            blocked_by = blocker.id
            because = f"blocked by {blocker.title!r}"
        if status is TaskStatus.CANCELLED and task.error is not None:
            message = task.error
        before = lifecycle_of(task).settle(status, message, result, blocked_by)
        if before is None:
            return False
        self.recorder.transition(
            EVENT_OF_STATUS[status], task, before, status, now, message or because
        )
        return True

    def ambient(self) -> Attempt | None:
        """The attempt of this executor that the calling code works for."""
        context = CURRENT.get()
        return None if context is None else self.running.get(context.id)

    def outer_tokens(self) -> list[CancelToken]:
        """What cancels work that the calling code begins now."""
        context = CURRENT.get()
        tokens = [] if context is None else [context.cancel_token]
        # Work inside a task shares the task's fate alone: finally tasks outlive the end of all.
        return tokens if self.ambient() is not None else [*tokens, self.ending]

    @contextmanager
    def run_registered(self, run: GraphRun) -> Iterator[None]:
        """Tell a graph run of cancelled tasks, for a ``with`` block."""
        self._runs.add(run)
        try:
            yield
        finally:
            self._runs.discard(run)


def _with_tries(result: TaskResult, last: TaskResult | None) -> TaskResult:
    """The result of a cancellation, with the attempts that there were before it."""
    if last is None:
        return result
    return replace(
        result,
        attempts=last.attempts,
        attempt_durations=last.attempt_durations,
        total_duration=last.total_duration,
    )


class follow:
    """Let a token be cancelled with any of the outer ones, for a ``with`` block."""

    __slots__ = ("_outers", "_removals", "_token")

    def __init__(self, token: CancelToken, *outers: CancelToken) -> None:
        self._token = token
        self._outers = outers
        self._removals: list[Callable[[], None]] = []

    def __enter__(self) -> None:
        for outer in self._outers:
            self._removals.append(outer.add_callback(partial(self._pass_on, outer)))

    def __exit__(self, *_error: Any) -> None:
        for remove in self._removals:
            remove()

    def _pass_on(self, outer: CancelToken) -> None:
        # That the time of the outer task is up does not mean that the time of this one is.
        reason = "interrupted" if outer.reason == "interrupted" else "cancelled"
        self._token.cancel(reason, kill=outer.killed)
