"""TaskExecutor: takes tasks, and graphs of them, to their results."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from re import Pattern
from threading import TIMEOUT_MAX, Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ttasks.engine import outcome
from ttasks.engine.activity import Activity
from ttasks.engine.attempt import Attempt, Handler, Retry, Services, sheltering
from ttasks.engine.bus import EventBus
from ttasks.engine.limits import GroupLimits
from ttasks.engine.recorder import Recorder
from ttasks.engine.retry import retry_of
from ttasks.engine.workers.bounded import AbandonedCount
from ttasks.engine.workers.loop import LoopThread
from ttasks.errors import (
    HandlerNotFoundError,
    InvalidTransitionError,
    TaskCancelled,
)
from ttasks.model.attributes import check_retry, check_task_type
from ttasks.model.cancel import CancelToken
from ttasks.model.checks import check_bool, check_callable, check_int, check_str, wrong_type
from ttasks.model.context import CURRENT
from ttasks.model.event import EVENT_OF_STATUS
from ttasks.model.policy import RetryPolicy
from ttasks.model.redact import Redactor
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.model.views import check_task

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ttasks.engine.pool import SubmitPool
    from ttasks.engine.run import GraphRun
    from ttasks.model.graph import TaskGraph
    from ttasks.model.running import RunOptions

AnyHandler = TypeVar("AnyHandler", bound=Handler)


class TaskExecutor:
    """Runs tasks through handlers, remembers them in a store and tells subscribers.

    Thread-safe. Knows Bash and PowerShell tasks from the start. Use it as a context manager, or
    call `shutdown` at the end.

    Args:
        store: where every transition is saved before it is announced; None keeps nothing.
        max_workers: threads for ``submit``, at least 1; None means the number of CPUs plus 4, at
            most 32. Graph runs have their own, see `TaskGraph.run`.
        limits: group name to how many of its tasks run at once, at least 1, over all graph runs
            and submissions of this executor. ``execute`` runs at once and does not count.
        redact: strs and compiled patterns that are replaced by ``***`` in output, errors and
            failures before events, results and the store see them.
        capture_locals: keep reprs of the local variables where a handler failed.
        strict_persistence: a write to the store that fails stops the run; otherwise it is kept in
            ``persistence_errors`` and announced, and the work goes on.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Example:
        >>> with TaskExecutor() as executor:
        ...     executor.execute(Task.bash("echo hello")).output
        'hello\\n'
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        max_workers: int | None = None,
        limits: Mapping[str, int] | None = None,
        redact: Iterable[str | Pattern[str]] = (),
        capture_locals: bool = False,
        strict_persistence: bool = False,
    ) -> None:
        self._prepare(store, max_workers, limits, redact, capture_locals, strict_persistence)
        from ttasks.handlers.shell import run_bash, run_powershell

        self._handlers[TaskType.BASH] = run_bash
        self._handlers[TaskType.POWERSHELL] = run_powershell

    @classmethod
    def empty(
        cls,
        store: Store | None = None,
        *,
        max_workers: int | None = None,
        limits: Mapping[str, int] | None = None,
        redact: Iterable[str | Pattern[str]] = (),
        capture_locals: bool = False,
        strict_persistence: bool = False,
    ) -> Self:
        """An executor that knows no handlers; arguments as for the class."""
        executor = cls.__new__(cls)
        executor._prepare(store, max_workers, limits, redact, capture_locals, strict_persistence)
        return executor

    def _prepare(
        self,
        store: Store | None,
        max_workers: int | None,
        limits: Mapping[str, int] | None,
        redact: Iterable[str | Pattern[str]],
        capture_locals: bool,
        strict_persistence: bool,
    ) -> None:
        if store is not None and not isinstance(store, Store):
            raise wrong_type("store", store, "a Store (InMemoryStore, SQLiteStore) or None")
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        self._max_workers = check_int("max_workers", max_workers, least=1)
        redactor = Redactor(redact)
        self.store = store
        self.limits = GroupLimits(limits)
        self._bus = EventBus()
        self.abandoned_count = AbandonedCount()
        self.recorder = Recorder(
            store,
            self._bus,
            strict=check_bool("strict_persistence", strict_persistence),
            redactor=redactor or None,
        )
        self._running: dict[str, Attempt] = {}
        self._services = Services(
            self._bus,
            self.recorder,
            LoopThread(self.abandoned_count),
            self.abandoned_count,
            self._running,
            redactor or None,
            check_bool("capture_locals", capture_locals),
        )
        self._handlers: dict[TaskType, Handler] = {}
        self._waiting: dict[str, CancelToken] = {}  # tasks between two attempts
        self._activity = Activity()
        self._ending = CancelToken()  # raised by ``shutdown(cancel=True)``
        self._runs: set[GraphRun] = set()
        self._pool: SubmitPool | None = None
        self._pool_lock = Lock()  # owns the making of the pool

    # Handlers

    def register(self, type: TaskType, handler: Handler) -> None:
        """Let ``handler`` run all tasks of a type, instead of any handler before.

        Args:
            type: the type.
            handler: called with a `TaskContext`, on a worker thread; may be ``async def``.
                Returning means success; raising `TaskCancelled` means cancelled; raising anything
                else means failed. One with a true attribute ``ends_itself`` keeps to the timeout
                by itself and is never left behind.

        Raises:
            TypeError: the type is no TaskType, or the handler cannot be called.
        """
        check_task_type("type", type)
        check_callable("handler", handler)
        self._handlers[type] = handler

    def handler(self, type: TaskType) -> Callable[[AnyHandler], AnyHandler]:
        """``register`` as a decorator, which returns the handler unchanged."""
        check_task_type("type", type)

        def decorate(handler: AnyHandler) -> AnyHandler:
            self.register(type, handler)
            return handler

        return decorate

    def is_registered(self, type: TaskType) -> bool:
        """True if tasks of this type have a handler."""
        return check_task_type("type", type) in self._handlers

    # Running tasks

    def execute(
        self,
        task: Task,
        upstream: Mapping[str, Task] | None = None,
        *,
        retry_policy: RetryPolicy | None = None,
    ) -> TaskResult:
        """Run a task on the calling thread, all its attempts, and return its result.

        Events, each saved before it is delivered: STARTED, any PROGRESS and OUTPUT, then
        SUCCEEDED, FAILED or CANCELLED; the same again for each retry.

        Args:
            task: any task that can start: not RUNNING, SUCCEEDED or CANCELLED.
            upstream: id to task; what the handler sees as ``context.upstream``.
            retry_policy: instead of the task's own; None means that one.

        Raises:
            TaskExecutionError, TaskTimeoutError, TaskCancelled, or whatever else the handler
                raised, after the task has ended.
            HandlerNotFoundError: its type has no handler; the task is FAILED.
            InvalidTransitionError: it cannot start; it is unchanged.
            RuntimeError: the executor is shut down.
            KeyboardInterrupt: Ctrl-C, after the task has been ended; it is CANCELLED.
        """
        tasks = self._check(task, upstream, retry_policy)
        with self._activity.entered(nested=self._is_inside()):
            return self._execute(task, tasks, retry_policy)

    def submit(
        self,
        task: Task,
        upstream: Mapping[str, Task] | None = None,
        *,
        retry_policy: RetryPolicy | None = None,
    ) -> Future[TaskResult]:
        """Run a task on a thread of the pool, as ``execute`` does.

        Cancelling the future cancels the task if it has not started. Arguments as for `execute`;
        ``upstream`` is copied.

        Returns:
            A future of the result; it raises what ``execute`` raises.

        Raises:
            RuntimeError: the executor is shut down.
        """
        from concurrent.futures import Future

        from ttasks.engine.pool import Job, SubmitPool

        tasks = self._check(task, upstream, retry_policy)
        future: Future[TaskResult] = Future()
        future.add_done_callback(lambda done: self.cancel(task) if done.cancelled() else None)
        group = task.group if task.group in self.limits else None
        held = frozenset() if group is None else frozenset((group,))
        with self._activity.entered(nested=False):
            with self._pool_lock:
                if self._pool is None:
                    self._pool = SubmitPool(self._max_workers, self.limits, self.working)
            self._pool.submit(
                Job(future, lambda: self._execute(task, tasks, retry_policy, held), group)
            )
        return future

    async def aexecute(
        self,
        task: Task,
        upstream: Mapping[str, Task] | None = None,
        *,
        retry_policy: RetryPolicy | None = None,
    ) -> TaskResult:
        """``submit``, for coroutines: wait for the result without blocking the event loop.

        Cancelling the awaiting coroutine cancels the task, waits until it has ended and then
        raises ``asyncio.CancelledError``. Arguments and errors as for `execute`.
        """
        from ttasks.engine.workers.bridge import wait_submitted

        future = self.submit(task, upstream, retry_policy=retry_policy)
        return await wait_submitted(future, lambda: future.cancel() or self.cancel(task))

    def run_graph(
        self, graph: TaskGraph, options: RunOptions, token: CancelToken | None = None
    ) -> None:
        """Run a graph; `TaskGraph.run` calls this. A cancelled token stops the run."""
        from ttasks.engine.run import GraphRun

        with self._activity.entered(nested=self._is_inside()):
            GraphRun(self, graph, options, token).run()

    def arun_graph(self, graph: TaskGraph, options: RunOptions) -> Awaitable[None]:
        """Run a graph off the event loop; `TaskGraph.arun` calls this."""
        from ttasks.engine.workers.bridge import run_off_loop

        token = CancelToken()  # unlike the graph it takes a cancellation before the run has begun
        return run_off_loop(
            lambda: self.run_graph(graph, options, token),
            lambda: token.cancel(kill=token.cancelled),
        )

    def cancel(self, task: Task) -> bool:
        """Cancel a task, wherever it is in its life; from any thread, does not wait.

        One that has not started, or waits for another attempt, is CANCELLED when this returns, and
        that has been announced. One that is running is asked to stop and becomes CANCELLED when
        its handler has ended, whatever that returned: a command is ended, a coroutine cancelled, a
        plain handler sees ``context.cancelled``.

        Returns:
            True if the task is or will be CANCELLED, False if it SUCCEEDED before.
        """
        check_task("task", task)
        life = task._lifecycle
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

    def is_running(self, task_id: str) -> bool:
        """True while this executor runs the task with this id."""
        return check_str("task_id", task_id) in self._running

    def mark_blocked(self, task: Task, parent_id: str) -> None:
        """Make a task that does not run BLOCKED, save and announce it.

        Args:
            task: a task that is neither running nor SUCCEEDED nor CANCELLED.
            parent_id: id of the task that it waits for in vain, becomes ``blocked_by``.

        Raises:
            InvalidTransitionError: the task cannot become BLOCKED; it is unchanged.
        """
        check_task("task", task)
        check_str("parent_id", parent_id, empty=False)
        if not self.settle(task, TaskStatus.BLOCKED, blocked_by=parent_id):
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.BLOCKED.value
            )

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
        """End a task without running it, save and announce it; for the engine.

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
        elif blocker is not None:
            blocked_by = blocker.id
            because = f"blocked by {blocker.title!r}"
        if status is TaskStatus.CANCELLED and task.error is not None:
            message = task.error
        before = task._lifecycle.settle(status, message, result, blocked_by)
        if before is None:
            return False
        self.recorder.transition(
            EVENT_OF_STATUS[status], task, before, status, now, message or because
        )
        return True

    def _execute(
        self,
        task: Task,
        upstream: tuple[Task, ...],
        policy: RetryPolicy | None,
        held: frozenset[str] = frozenset(),
    ) -> TaskResult:
        """All attempts of a task, on this thread."""
        policy = policy or task.retry
        retry = None if policy is None else self.retry_of(policy)
        ambient = self.ambient()
        if ambient is not None:
            held |= ambient.held
        number = 1
        while True:
            attempt = self.attempt(task, upstream, number, retry, held, ambient)
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
            if attempt.retry_in is None:
                break
            self._wait_for_retry(task, attempt.retry_in)
            number += 1
        if attempt.error is not None:
            raise attempt.error
        assert task.result is not None
        return task.result

    def attempt(
        self,
        task: Task,
        upstream: tuple[Task, ...],
        number: int,
        retry: Retry | None,
        held: frozenset[str] = frozenset(),
        outer: Attempt | None = None,
    ) -> Attempt:
        """A new attempt of a task, not yet running; for the engine.

        Raises:
            HandlerNotFoundError: its type has no handler; the task is FAILED, unless it cannot be.
        """
        handler = self._handlers.get(task.type)
        if handler is None:
            missing = HandlerNotFoundError(
                task.type.value, sorted(type.value for type in self._handlers)
            )
            self.settle(task, TaskStatus.FAILED, missing)
            raise missing
        return Attempt(self._services, task, handler, upstream, number, retry, held, outer)

    def retry_of(self, policy: RetryPolicy) -> Retry:
        """The decision of a policy for one execution that begins now; for the engine."""
        return retry_of(policy)

    def ambient(self) -> Attempt | None:
        """The attempt of this executor that the calling code works for; for the engine."""
        context = CURRENT.get()
        return None if context is None else self._running.get(context.id)

    def outer_tokens(self) -> list[CancelToken]:
        """What cancels work that the calling code begins now; for the engine."""
        context = CURRENT.get()
        tokens = [] if context is None else [context.cancel_token]
        # Work inside a task shares the task's fate alone: finally tasks outlive the end of all.
        return tokens if self.ambient() is not None else [*tokens, self._ending]

    def working(self) -> AbstractContextManager[None]:
        """Mark the calling thread as one that does accepted work; for the engine."""
        return self._activity.working()

    @contextmanager
    def run_registered(self, run: GraphRun) -> Iterator[None]:
        """Tell a graph run of cancelled tasks, for a ``with`` block; for the engine."""
        self._runs.add(run)
        try:
            yield
        finally:
            self._runs.discard(run)

    def _wait_for_retry(self, task: Task, seconds: float) -> None:
        """Wait between two attempts; returns early if the task is cancelled."""
        token = CancelToken()
        self._waiting[task.id] = token
        try:
            # It may have been cancelled since it failed.
            with follow(token, *self.outer_tokens()):
                if not task.is_cancelled:
                    token.wait(min(seconds, TIMEOUT_MAX))
        except KeyboardInterrupt:
            self.cancel(task)
            raise
        finally:
            del self._waiting[task.id]
        if token.cancelled:
            self.cancel(task)

    def _check(
        self,
        task: Task,
        upstream: Mapping[str, Task] | None,
        retry_policy: RetryPolicy | None,
    ) -> tuple[Task, ...]:
        check_task("task", task)
        check_retry("retry_policy", retry_policy)
        if upstream is None:
            return ()
        if not isinstance(upstream, Mapping):
            raise wrong_type("upstream", upstream, "a mapping from id to Task")
        for key, value in upstream.items():
            check_task(f"upstream[{key!r}]", value)
            if key != value.id:
                raise ValueError(f"upstream[{key!r}] must be under its own id, {value.id!r}")
        return tuple(upstream.values())

    def _is_inside(self) -> bool:
        """True if the caller is a handler of this executor, a subscriber, or called by one."""
        return self._activity.is_mine or self.ambient() is not None

    # Looking at it

    @property
    def events(self) -> EventBus:
        """Where to subscribe to what happens."""
        return self._bus

    @property
    def persistence_errors(self) -> dict[str, Exception]:
        """Latest failed write to the store by task id."""
        return dict(self.recorder.task_errors)

    @property
    def graph_persistence_errors(self) -> dict[str, Exception]:
        """Latest failed write to the store by graph id."""
        return dict(self.recorder.graph_errors)

    @property
    def abandoned(self) -> int:
        """Threads that were left behind with a handler that would not end, and still run."""
        return self.abandoned_count.number

    @property
    def is_shutdown(self) -> bool:
        """True once `shutdown` was called."""
        return self._activity.closed

    # The end

    def shutdown(self, wait: bool = True, cancel: bool = False) -> None:
        """Take no more work; idempotent, from any thread.

        Args:
            wait: return when all that is queued or running has ended. A call from within a handler
                or a subscriber, on a thread that works for this executor, never waits.
            cancel: cancel all that is queued or running, instead of letting it end; finally tasks
                of graphs still run.
        """
        check_bool("wait", wait)
        check_bool("cancel", cancel)
        self._activity.close()
        if cancel:
            self._ending.cancel()
            if self._pool is not None:
                self._pool.cancel_queued()
        if wait and not self._is_inside():
            self._activity.wait_idle()
            if self._pool is not None:
                self._pool.join()

    def close(self) -> None:
        """The same as ``shutdown()``."""
        self.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(cancel=isinstance(error, KeyboardInterrupt))


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
