"""TaskExecutor: takes tasks, and graphs of them, to their results."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import copy_context
from re import Pattern
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar, Unpack

from ttasks.engine.activity import Activity
from ttasks.engine.attempt import Handler
from ttasks.engine.bus import EventBus
from ttasks.engine.core import Core
from ttasks.engine.guards import Guard
from ttasks.errors import InvalidTransitionError
from ttasks.model.attributes import check_retry, check_task_type
from ttasks.model.breaker import BreakerStatus, CircuitBreaker
from ttasks.model.cancel import CancelToken
from ttasks.model.checks import check_bool, check_callable, check_int, check_str, wrong_type
from ttasks.model.clock import Clock
from ttasks.model.context import CURRENT
from ttasks.model.policy import RetryPolicy
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.model.views import check_task

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ttasks.engine.pool import SubmitPool
    from ttasks.model.graph import TaskGraph
    from ttasks.model.running import RunOptions

AnyHandler = TypeVar("AnyHandler", bound=Handler)


class ExecutorOptions(TypedDict, total=False):
    """Keyword arguments of `TaskExecutor`; see there."""

    max_workers: int | None
    limits: Mapping[str, int] | None
    breakers: Mapping[str, CircuitBreaker] | None
    guards: Iterable[Guard]
    redact: Iterable[str | Pattern[str]]
    capture_locals: bool
    strict_persistence: bool
    clock: Clock | None


class TaskExecutor:
    """Runs tasks through handlers, remembers them in a store and tells subscribers.

    Thread-safe. Knows Bash, PowerShell, prompt and agent tasks from the start. Use it as a context
    manager, or call `shutdown` at the end.

    Args:
        store: where every transition is saved before it is announced; None keeps nothing.
        max_workers: threads for ``submit``, at least 1; None means the number of CPUs plus 4, at
            most 32. Graph runs have their own, see `TaskGraph.run`.
        limits: group name to how many of its tasks run at once, at least 1, over all graph runs
            and submissions of this executor. ``execute`` runs at once and does not count.
        breakers: group name to a CircuitBreaker, over all work of this executor. While it is open,
            attempts of the group's tasks fail with CircuitOpenError.
        guards: called in turn with the `TaskContext` of each attempt before its handler. One that
            raises makes the attempt fail with TaskRejectedError; it is not tried again.
        redact: strs and compiled patterns that are replaced by ``***`` in output, errors and
            failures before events, results and the store see them.
        capture_locals: keep reprs of the local variables where a handler failed.
        strict_persistence: a write to the store that fails stops the run; otherwise it is kept in
            ``persistence_errors`` and announced, and the work goes on.
        clock: where times come from; None means the system's. Tests use `ttasks.testing.FakeClock`.

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
        breakers: Mapping[str, CircuitBreaker] | None = None,
        guards: Iterable[Guard] = (),
        redact: Iterable[str | Pattern[str]] = (),
        capture_locals: bool = False,
        strict_persistence: bool = False,
        clock: Clock | None = None,
    ) -> None:
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        self._max_workers = check_int("max_workers", max_workers, least=1)
        self._core = Core(
            store, limits, breakers, guards, redact, capture_locals, strict_persistence, clock
        )
        self._activity = Activity()
        self._pool: SubmitPool | None = None
        self._pool_lock = Lock()  # owns the making of the pool
        self._replaced: list[Handler] = []  # handlers that are to be closed all the same
        from ttasks.backends.process import ProcessBackend
        from ttasks.commands.shell import run_bash, run_powershell
        from ttasks.engine.workers.python import PythonHandler

        self._processes = ProcessBackend(capture_locals=capture_locals)
        self._core.handlers[TaskType.PYTHON] = PythonHandler(self._processes)
        self._core.handlers[TaskType.BASH] = run_bash
        self._core.handlers[TaskType.POWERSHELL] = run_powershell
        # Made here, but an SDK is imported, and its program started, by the first turn.
        from ttasks.prompts import (
            make_copilot_agent_handler,
            make_copilot_prompt_handler,
        )

        self._core.handlers[TaskType.PROMPT] = make_copilot_prompt_handler()
        self._core.handlers[TaskType.AGENT] = make_copilot_agent_handler()

    @classmethod
    def empty(cls, store: Store | None = None, **options: Unpack[ExecutorOptions]) -> Self:
        """An executor that knows no handlers; arguments as for the class."""
        executor = cls(store, **options)
        executor._core.handlers.clear()
        return executor

    # Handlers

    def register(self, type: TaskType, handler: Handler) -> None:
        """Let ``handler`` run all tasks of a type, instead of any handler before.

        Args:
            type: the type.
            handler: called with a `TaskContext`, on a worker thread; may be ``async def``.
                Returning means success; raising `TaskCancelled` means cancelled; raising anything
                else means failed. One with a true attribute ``ends_itself`` keeps to the timeout
                by itself and is never left behind; one with ``returns_at_once`` only makes a
                coroutine and needs no thread for its timeout; either may also be a function from
                payload to bool. One with a method ``close`` is closed by `shutdown`, once nothing
                runs any more; if that does not wait it is closed at once, must let what it is
                doing end, and may still be called for queued work.

        Raises:
            TypeError: the type is no TaskType, or the handler cannot be called.
        """
        check_task_type("type", type)
        check_callable("handler", handler)
        replaced = self._core.handlers.get(type)
        if replaced is not None and hasattr(replaced, "close"):
            self._replaced.append(replaced)
        self._core.handlers[type] = handler

    def handler(self, type: TaskType) -> Callable[[AnyHandler], AnyHandler]:
        """``register`` as a decorator, which returns the handler unchanged."""
        check_task_type("type", type)

        def decorate(handler: AnyHandler) -> AnyHandler:
            self.register(type, handler)
            return handler

        return decorate

    def is_registered(self, type: TaskType) -> bool:
        """True if tasks of this type have a handler."""
        return check_task_type("type", type) in self._core.handlers

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
            RuntimeError: the executor is shut down; or it was called in a coroutine that this
                executor runs: use ``await executor.aexecute(task)`` there.
            KeyboardInterrupt: Ctrl-C, after the task has been ended; it is CANCELLED.
        """
        tasks = self._check(task, upstream, retry_policy)
        self._core.loop.check_not_inside("use await executor.aexecute(task) in a coroutine")
        with self._activity.entered(nested=self._is_inside()):
            return self._core.execute(task, tasks, retry_policy)

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
        context = copy_context()
        context.run(CURRENT.set, None)  # it is no part of the task that submits it
        future.add_done_callback(lambda done: self.cancel(task) if done.cancelled() else None)
        group = task.group if task.group in self._core.limits else None
        held = frozenset() if group is None else frozenset((group,))
        with self._activity.entered(nested=False):
            with self._pool_lock:
                if self._pool is None:
                    self._pool = SubmitPool(
                        self._max_workers, self._core.limits, self._activity.working
                    )
            self._pool.submit(
                Job(
                    future,
                    lambda: context.run(self._core.execute, task, tasks, retry_policy, held),
                    group,
                )
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
        self._core.loop.check_not_inside("use await graph.arun(executor) in a coroutine")
        from ttasks.engine.run import GraphRun

        with self._activity.entered(nested=self._is_inside()):
            GraphRun(self._core, self._activity.working, graph, options, token).run()

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
        return self._core.cancel(task)

    def is_running(self, task_id: str) -> bool:
        """True while this executor runs the task with this id."""
        return check_str("task_id", task_id) in self._core.running

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
        if not self._core.settle(task, TaskStatus.BLOCKED, blocked_by=parent_id):
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.BLOCKED.value
            )

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
        return self._activity.is_mine or self._core.ambient() is not None

    # Looking at it

    @property
    def store(self) -> Store | None:
        """Where transitions are saved, None for nowhere."""
        return self._core.store

    @property
    def breaker_states(self) -> dict[str, BreakerStatus]:
        """State of the circuit breaker of each group that has one, now."""
        return self._core.breakers.states()

    @property
    def events(self) -> EventBus:
        """Where to subscribe to what happens."""
        return self._core.bus

    @property
    def persistence_errors(self) -> dict[str, Exception]:
        """Latest failed write to the store by task id."""
        return dict(self._core.recorder.task_errors)

    @property
    def graph_persistence_errors(self) -> dict[str, Exception]:
        """Latest failed write to the store by graph id."""
        return dict(self._core.recorder.graph_errors)

    @property
    def abandoned(self) -> int:
        """Threads that were left behind with a handler that would not end, and still run."""
        return self._core.abandoned.number

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
            self._core.ending.cancel()
            if self._pool is not None:
                self._pool.cancel_queued()
        if wait and not self._is_inside():
            self._activity.wait_idle()
            if self._pool is not None:
                self._pool.join()
        self._close_handlers()

    def _close_handlers(self) -> None:
        for handler in [*self._core.handlers.values(), *self._replaced]:
            close = getattr(handler, "close", None)
            if close is not None:
                close()
        self._processes.close()

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
