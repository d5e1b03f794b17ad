"""TaskExecutor: runs tasks and graphs of tasks."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import copy_context
from inspect import iscoroutinefunction
from operator import attrgetter
from re import Pattern
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack
from warnings import warn

from ttasks.backends.call import call_python
from ttasks.backends.loop import CALLER_LOOP, LoopBackend
from ttasks.backends.thread import ThreadBackend
from ttasks.engine.attempt import Handler, Services, Work
from ttasks.engine.breakers import Breakers, GivenBreakers
from ttasks.engine.bus import EventBus
from ttasks.engine.ending import settle
from ttasks.engine.guards import Guard, check_guards
from ttasks.engine.limits import Places
from ttasks.engine.recorder import Recorder
from ttasks.engine.requests import Requests
from ttasks.engine.scheduler import Scheduler, Working
from ttasks.engine.signals import Signals
from ttasks.engine.single import SingleTasks
from ttasks.errors import InvalidTransitionError
from ttasks.model.attributes import check_retry, check_task_type
from ttasks.model.breaker import BreakerStatus
from ttasks.model.call import Call, check_usual_backend
from ttasks.model.checks import (
    check_bool,
    check_callable,
    check_int,
    check_number,
    check_seconds,
    check_str,
    wrong_type,
)
from ttasks.model.clock import SYSTEM_CLOCK, Clock
from ttasks.model.context import CURRENT
from ttasks.model.frames import Frames, check_frames
from ttasks.model.policy import RetryPolicy
from ttasks.model.redact import Redactor, check_names, check_secrets, secret_values
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store, check_store_methods
from ttasks.model.task import Task, check_task, is_service
from ttasks.model.task_type import TaskType

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ttasks.backends.base import Backend
    from ttasks.engine.bridge import TaskFuture
    from ttasks.engine.snapshots import Snapshots, Watch
    from ttasks.model.graph import TaskGraph
    from ttasks.model.run import Run
    from ttasks.model.running import Limits, RunOptions

R = TypeVar("R")
AnyHandler = TypeVar("AnyHandler", bound=Handler)


class ExecutorOptions(TypedDict, total=False):
    """Keyword arguments of `TaskExecutor`; see there."""

    max_workers: int | None
    limits: Limits | None
    breakers: GivenBreakers | None
    guards: Iterable[Guard]
    redact: Iterable[str | Pattern[str]]
    redact_env: Iterable[str]
    capture_locals: Frames
    strict_persistence: bool
    retry: RetryPolicy | int | None
    timeout: float | None
    backend: str | None
    clock: Clock | None


class TaskExecutor:
    """Runs tasks through handlers, remembers them in a store and tells subscribers.

    Thread-safe. Knows Bash, PowerShell, prompt and agent tasks from the start. Use it as a context
    manager (``with`` or ``async with``), or call `shutdown` at the end.

    Args:
        store: where every transition is saved before it is announced: any object with the methods
            of `Store`. None keeps nothing.
        max_workers: threads for ``submit``, and for each run of a graph that does not set its own
            number; at least 1. None means the number of CPUs plus 4, at most 32.
        limits: group name or TaskType to how many of its tasks run at once, at least 1, over all
            work of this executor. ``execute`` waits for a place as all others do.
        breakers: group name or TaskType to a CircuitBreaker, over all work of this executor. While
            it is open, attempts of these tasks fail with CircuitOpenError. The breaker for ``"*"``
            gives every other group a circuit of its own.
        guards: called in turn with the `TaskContext` of each attempt before its handler. One that
            raises makes the attempt fail with TaskRejectedError; it is not tried again.
        redact: strs and compiled patterns that are replaced by ``***`` in output, errors,
            failures, titles and payloads before events, results and the store see them.
        redact_env: shell patterns for names of environment variables, such as ``"*_TOKEN"``. Their
            current values in this process are secrets like those in ``redact``, if they have at
            least 6 characters.
        capture_locals: keep reprs of the local variables where a handler failed. True means those
            of the innermost frame of your own code, outside of the standard library and installed
            packages. A str means those of the innermost frame whose module or file name contains
            it.
        strict_persistence: stop the run if a write to the store fails, and announce nothing that
            was not saved; finally tasks still run. Otherwise the work goes on. In either
            case the error is kept in ``persistence_errors`` and announced, and the next transition
            saves what is missing.
        retry: policy, or number of attempts, for tasks without a policy; None means one attempt.
        timeout: seconds per attempt, above 0, for tasks without a timeout; None means no limit.
        backend: "thread" or "process", for plain functions that name no backend; None means
            "thread".
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
        limits: Limits | None = None,
        breakers: GivenBreakers | None = None,
        guards: Iterable[Guard] = (),
        redact: Iterable[str | Pattern[str]] = (),
        redact_env: Iterable[str] = (),
        capture_locals: Frames = False,
        strict_persistence: bool = False,
        retry: RetryPolicy | int | None = None,
        timeout: float | None = None,
        backend: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        if store is not None:
            check_store_methods(store)
        for name in ("now", "wait_until"):
            if clock is not None and not callable(getattr(clock, name, None)):
                raise wrong_type("clock", clock, "a Clock (with now and wait_until) or None")
        if max_workers is None:
            max_workers = min(32, (os.cpu_count() or 1) + 4)
        check_int("max_workers", max_workers, least=1)
        secrets = check_secrets(redact)
        redactor = Redactor([*secrets, *secret_values(redact_env, os.environ)]) or None
        strict = check_bool("strict_persistence", strict_persistence)
        self._store = store
        self._bus = EventBus()
        self._recorder = Recorder(store, self._bus, strict=strict, redactor=redactor)
        self._clock = clock = SYSTEM_CLOCK if clock is None else clock
        self._breakers = Breakers(breakers, clock)
        self._capture_locals = check_frames("capture_locals", capture_locals)
        self._services = services = Services(
            self._recorder,
            {},
            clock,
            redactor,
            self._capture_locals,
            check_guards(guards),
            self._breakers or None,
            check_retry("retry", retry),
            check_seconds("timeout", timeout),
        )
        self._usual_backend = check_usual_backend("backend", backend)
        working = Working()
        self._handlers: dict[TaskType, tuple[Backend | None, Handler]] = {}
        self._loop = LoopBackend(lambda change: self._scheduler.count_abandoned(change), working)
        self._scheduler = Scheduler(
            services,
            self._handlers,
            self._backend_of,
            Places(limits),
            working,
            self._loop.hold,
            self._loop.let_go,
            self._close_all,
        )
        self._scheduler.take_over_saved = self._take_over_saved
        self._scheduler.snapshots = self._take_snapshots
        self._scheduler.watch = self._watch
        self._snapshots: Snapshots | None = None
        self._max_workers = max_workers
        runs = getattr(store, "runs", None)
        remember, to_cancel = getattr(runs, "add", None), getattr(runs, "single_to_cancel", None)
        self._single = SingleTasks(self._scheduler, max_workers, remember, to_cancel)
        # A ``with`` block that is never left must not keep the interpreter from exiting.
        self._services_alone = SingleTasks(
            self._scheduler, max_workers, remember, to_cancel, daemon=True
        )
        self._running = services.running
        self._thread = ThreadBackend(self._loop, kills=False)
        self._ends_itself = ThreadBackend(self._loop, kills=True)
        self._backends: dict[str, Backend] = {
            "thread": self._thread,
            "asyncio": self._loop,
        }
        self._handlers.update(self._first_handlers())
        self._is_awaited = False  # somebody waits for the end of all work, or has
        self._told: str | None = None
        self._service_uses: dict[Any, None] = {}  # an ordered set; see `running`
        self._replaced: list[Handler] = []  # to be closed by `shutdown` as well

    def _first_handlers(self) -> dict[TaskType, tuple[Backend | None, Handler]]:
        """The built-in handlers; they import their SDKs on first use."""
        from ttasks.commands.shell import run_bash, run_powershell, run_service
        from ttasks.prompts import make_copilot_agent_handler, make_copilot_prompt_handler

        ends_itself = self._ends_itself
        return {
            TaskType.BASH: (ends_itself, run_bash),
            TaskType.POWERSHELL: (ends_itself, run_powershell),
            TaskType.SERVICE: (ends_itself, run_service),
            TaskType.PROMPT: (ends_itself, make_copilot_prompt_handler()),
            TaskType.AGENT: (ends_itself, make_copilot_agent_handler()),
            TaskType.PYTHON: (None, call_python),  # the call says where it runs
        }

    def _backend_of(self, payload: object) -> Backend:
        """Where a Python task runs."""
        name = "thread"
        if type(payload) is Call:
            name = payload.backend if payload.is_placed else self._usual_backend
        backend = self._backends.get(name)
        if backend is None:
            from ttasks.backends.process import ProcessBackend  # imports pickle

            made = ProcessBackend(capture_locals=self._capture_locals)
            backend = self._backends.setdefault("process", made)
        return backend

    @classmethod
    def empty(cls, store: Store | None = None, **options: Unpack[ExecutorOptions]) -> Self:
        """An executor that knows no handlers; arguments as for the class."""
        executor = cls(store, **options)
        executor._handlers.clear()
        return executor

    # Handlers

    def register(self, type: TaskType, handler: Handler) -> None:
        """Let ``handler`` run all tasks of a type; it replaces an earlier handler.

        Args:
            type: the type.
            handler: called with a `TaskContext`, on a worker thread; may be ``async def``.
                Returning means success; raising `TaskCancelled` means cancelled; raising anything
                else means failed. A plain handler that does not return after a timeout is left
                behind, with its thread, unless its attribute ``ends_itself`` is True: then it must
                itself keep to ``context.remaining()`` and to a cancellation. If it has a method
                ``close``, `shutdown` calls that when nothing runs any more. A `shutdown` that does
                not wait calls it at once: the handler must then finish its current calls, and may
                still be called for queued work.

        Raises:
            TypeError: the type is not a TaskType, or the handler cannot be called.
        """
        check_task_type("type", type)
        check_callable("handler", handler)
        replaced = self._handlers.get(type)
        if replaced is not None:
            self._replaced.append(replaced[1])
        is_async = iscoroutinefunction(handler) or iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004
        )
        self._handlers[type] = (self._backend_for(handler, is_async), handler)

    def _backend_for(self, handler: Handler, is_async: bool) -> Backend:
        if getattr(handler, "ends_itself", False) is True:  # as handlers of prompts do
            return self._ends_itself
        return self._loop if is_async else self._thread

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
        task: Task[R],
        upstream: Mapping[str, Task] | None = None,
        *,
        retry_policy: RetryPolicy | int | None = None,
        check: bool = True,
    ) -> TaskResult[R]:
        """Run a task, all its attempts, and return its result.

        The handler runs on a worker thread while the calling thread waits, so Ctrl-C is noticed at
        any moment.

        Events, each saved before it is delivered: STARTED, any PROGRESS and OUTPUT, then
        SUCCEEDED, FAILED or CANCELLED; the same again for each retry.

        If an earlier execution of the task has just ended, this waits until its end is announced.

        Args:
            task: any task that can start: not RUNNING, SUCCEEDED or CANCELLED, and not between two
                attempts of another execution.
            upstream: id to task; what the handler sees as ``context.upstream``.
            retry_policy: policy or number of attempts that replaces the task's own; None means the
                task's own, or else the executor's.
            check: raise what made the task FAILED or CANCELLED. If false, return the result
                instead, as ``subprocess.run`` does; the last four errors below are still raised.

        Raises:
            TaskExecutionError, TaskTimeoutError, TaskCancelled: after the task has ended; so is
                whatever else the handler raised. TaskCancelled also if the caller is a handler that
                was left behind; then the task is unchanged.
            HandlerNotFoundError: its type has no handler; the task is FAILED.
            InvalidTransitionError: it cannot start, or the caller is a subscriber that is being
                told of its end; it is unchanged.
            RuntimeError: the executor is shut down; or it was called in a coroutine that this
                executor runs: use ``await executor.aexecute(task)`` there.
            KeyboardInterrupt: Ctrl-C in the main thread, after the task has ended; it is CANCELLED
                unless it had ended before.
        """
        check_bool("check", check)
        tasks, retry = self._check(task, upstream, retry_policy)
        self._refuse_loop("use await executor.aexecute(task) in a coroutine")
        scheduler, requests = self._scheduler, Requests(self._clock)
        error = None
        # Outermost, so that Ctrl-C takes effect before or after all this, and is only noted within.
        with Signals(requests.interrupt):
            outer = scheduler.enter()
            try:
                if not self._reuse(task, tasks):
                    work = Work(task, tasks, retry)
                    self._single.note(work, outer)
                    error = self._single.execute(work, requests, outer)
            finally:
                scheduler.leave(outer)
        if error is not None and (check or not _is_outcome(error, task)):
            raise error
        assert task.result is not None
        return task.result

    def attempt(
        self,
        task: Task[R],
        upstream: Mapping[str, Task] | None = None,
        *,
        retry_policy: RetryPolicy | int | None = None,
    ) -> TaskResult[R]:
        """Run a task like ``execute(check=False)``: return its result even if it FAILED.

        Example:
            >>> with TaskExecutor() as executor:
            ...     result = executor.attempt(Task.bash("exit 3"))
            >>> result.status.value, result.returncode
            ('failed', 3)
        """
        return self.execute(task, upstream, retry_policy=retry_policy, check=False)

    def submit(
        self,
        task: Task[R],
        upstream: Mapping[str, Task] | None = None,
        *,
        retry_policy: RetryPolicy | int | None = None,
    ) -> TaskFuture[R]:
        """Run a task on a thread of the executor, as ``execute`` does, and return at once.

        Cancelling the future cancels the task if it has not started. Arguments as for `execute`;
        ``upstream`` is copied.

        Returns:
            A future of the result; it raises what ``execute`` raises. It can be awaited, too.

        Raises:
            RuntimeError: the executor is shut down.
        """
        return self._submit(task, upstream, retry_policy, None)

    def _submit(
        self,
        task: Task[R],
        upstream: Mapping[str, Task] | None,
        retry_policy: RetryPolicy | int | None,
        loop: AbstractEventLoop | None,
    ) -> TaskFuture[R]:
        """``submit``; a coroutine of the task runs on ``loop``, or on the executor's if None."""
        from ttasks.engine.bridge import Promise

        tasks, retry = self._check(task, upstream, retry_policy)
        promise = Promise(task, self.cancel, self._scheduler.awaiting)
        context = copy_context()
        context.run(CURRENT.set, None)  # it is not part of the task that submits it
        context.run(CALLER_LOOP.set, loop)
        work = Work(task, tasks, retry)
        work.context = context
        work.may_start, work.on_end = promise.may_start, promise.end
        with Signals():
            self._scheduler.enter_alone()
            try:
                if self._reuse(task, tasks):
                    promise.end(TaskStatus.SUCCEEDED, None)
                else:
                    self._single.note(work, None)
                    self._single.submit(work)
            except RuntimeError as error:  # no thread could be started
                promise.end(TaskStatus.FAILED, error)
            finally:
                self._scheduler.leave(None)
        return promise.future

    async def aexecute(
        self,
        task: Task[R],
        upstream: Mapping[str, Task] | None = None,
        *,
        retry_policy: RetryPolicy | int | None = None,
    ) -> TaskResult[R]:
        """``execute``, for coroutines: wait for the result without blocking the event loop.

        If the task is a coroutine it runs on the caller's loop, and may share what lives there.
        Cancelling the awaiting coroutine cancels the task, waits until it has ended and then
        raises ``asyncio.CancelledError``. Arguments and errors as for `execute`.
        """
        import asyncio

        outer = self._scheduler.ambient()
        if outer is None or not outer.held:
            return await self._submit(task, upstream, retry_policy, asyncio.get_running_loop())
        from ttasks.engine.bridge import run_off_loop

        # As a part of that task, to use its places in groups: nobody gives it others.
        await run_off_loop(
            lambda: self.execute(task, upstream, retry_policy=retry_policy),
            lambda: self.cancel(task),
        )
        assert task.result is not None
        return task.result

    def running(self, service: Task[R]) -> AbstractContextManager[Task[R]]:
        """Run a service while a ``with`` block runs: start it, wait until it is ready, stop it.

        The block begins when the service is ready, and gets the task. Its end stops the service
        with its whole tree and waits until it has ended, at most ``grace`` and a second; so does
        `shutdown`. Do not use it in a coroutine: it blocks the event loop.

        Events: STARTED, READY among any OUTPUT, then SUCCEEDED, FAILED or CANCELLED.

        Raises:
            ServiceError: when the block begins: the service died, or was not ready in time; when it
                ends without an exception of its own: the service has died meanwhile.
            TaskCancelled: somebody has cancelled it. Whatever else made it end is raised, too.
            ValueError: the task is no service.
            InvalidTransitionError: it cannot start, because it has run before.
            RuntimeError: the executor is shut down.

        Example:
            >>> from ttasks import ready
            >>> service = Task.service("echo listening; sleep 60", ready=ready.output("listening"))
            >>> with TaskExecutor() as executor, executor.running(service) as it:
            ...     it.status.value
            'running'
            >>> service.status.value
            'succeeded'
        """
        from ttasks.engine.service_use import ServiceUse

        check_task("service", service)
        check_names((service,), self._recorder.redactor)
        if not is_service(service):
            raise ValueError(
                f"Task {service.title!r} is no service: make one with Task.service(command), or "
                "Task.python(function, service=True)"
            )
        self._refuse_loop("a service cannot be used on it")
        retry = service.retry or self._services.retry
        return ServiceUse(
            service, retry, self._scheduler, self._services_alone, self.cancel, self._service_uses
        )

    def run_graph(self, graph: TaskGraph, options: RunOptions) -> None:
        """Run a graph; `TaskGraph.run` calls this."""
        self._refuse_loop("use await graph.arun(executor) in a coroutine")
        self._run_graph(graph, options, Requests(self._clock))

    def arun_graph(self, graph: TaskGraph, options: RunOptions) -> Awaitable[None]:
        """Run a graph off the event loop; `TaskGraph.arun` calls this."""
        from ttasks.engine.bridge import run_off_loop

        requests = Requests(self._clock)  # takes a cancellation before the run has begun
        signals = None
        if options.handle_sigterm:
            signals = Signals(requests.interrupt, handle_sigterm=True)
        return run_off_loop(
            lambda: self._run_graph(graph, options, requests),
            lambda: requests.interrupt("cancelled"),
            signals,
        )

    def start_graph(self, graph: TaskGraph, options: RunOptions) -> Run:
        """Run a graph on a thread of its own; `TaskGraph.start` calls this."""
        from ttasks.engine.starting import start

        requests = Requests(self._clock)
        return start(
            lambda begun: self._run_graph(graph, options, requests, begun), self._scheduler
        )

    def _run_graph(
        self,
        graph: TaskGraph,
        options: RunOptions,
        requests: Requests,
        begun: Callable[[Run], None] | None = None,
    ) -> None:
        from ttasks.engine.graph_run import GraphRun

        with Signals(requests.interrupt, handle_sigterm=options.handle_sigterm):
            outer = self._scheduler.enter()
            try:
                run = GraphRun(self._scheduler, self._store, graph, options, requests, outer, begun)
                run.run()
            finally:
                self._scheduler.leave(outer)

    def cancel(self, task: Task) -> bool:
        """Cancel a task in any state; may be called from any thread, and does not wait.

        A task that has not started, or waits for a retry, is CANCELLED when this returns, and that
        has been announced. A running task is asked to stop, and becomes CANCELLED when its handler
        has ended, whatever that returned: a command is ended, a coroutine is cancelled, and a plain
        handler sees ``context.cancelled``.

        Returns:
            True if the task is or will be CANCELLED, False if it SUCCEEDED before.
        """
        check_task("task", task)
        with Signals():
            return self._scheduler.cancel(task)

    def is_running(self, task_id: str) -> bool:
        """True while this executor runs the task with this id."""
        return check_str("task_id", task_id) in self._running

    def mark_blocked(self, task: Task, parent_id: str) -> None:
        """Make a task that is not running BLOCKED; save and announce it.

        Args:
            task: a task that is neither RUNNING, SUCCEEDED nor CANCELLED.
            parent_id: id of the task that blocks it; becomes ``blocked_by``.

        Raises:
            InvalidTransitionError: the task cannot become BLOCKED; it is unchanged.
        """
        check_task("task", task)
        check_str("parent_id", parent_id, empty=False)
        with Signals(), self._scheduler.working:
            is_blocked = settle(
                self._recorder,
                task,
                TaskStatus.BLOCKED,
                because=f"blocked by task {parent_id}",
                blocked_by=parent_id,
            )
        if not is_blocked:
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.BLOCKED.value
            )

    def _check(
        self,
        task: Task,
        upstream: Mapping[str, Task] | None,
        retry_policy: RetryPolicy | int | None,
    ) -> tuple[tuple[Task, ...], RetryPolicy | None]:
        """The upstream tasks, and the policy that holds for the task."""
        check_task("task", task)
        check_names((task,), self._recorder.redactor)
        if is_service(task):
            raise ValueError(
                f"Task {task.title!r} is a service, which does not end by itself: add it to a "
                "graph, or write `with executor.running(service):`"
            )
        retry = check_retry("retry_policy", retry_policy) or task.retry or self._services.retry
        if upstream is None:
            return (), retry
        if not isinstance(upstream, Mapping):
            raise wrong_type("upstream", upstream, "a mapping from id to Task")
        for key, value in upstream.items():
            check_task(f"upstream[{key!r}]", value)
            if key != value.id:
                raise ValueError(f"upstream[{key!r}] must be under its own id, {value.id!r}")
        return tuple(upstream.values()), retry

    def _reuse(self, task: Task, upstream: tuple[Task, ...]) -> bool:
        """Take over the result of an equal task in the store, if the task asks for that."""
        if self._store is None:
            return False
        from ttasks.engine.looks import Looks
        from ttasks.engine.resume import reuse_one

        return reuse_one(task, upstream, self._store, self._recorder, Looks(self._take_snapshots))

    def _take_over_saved(self, task: Task) -> bool:
        """See `Scheduler.take_over_saved`."""
        if self._store is None:
            return False
        from ttasks.engine.looks import Looks
        from ttasks.engine.resume import Finder, take_over_equal

        try:
            return take_over_equal(task, Finder(self._store), Looks(self._take_snapshots))
        except Exception:  # a store that cannot be read; the task runs
            return False

    def _take_snapshots(self) -> Snapshots:
        """See `Scheduler.snapshots`."""
        from ttasks.engine.snapshots import Snapshots

        if self._snapshots is None:
            assert self._store is not None
            self._snapshots = Snapshots(self._store)
        return self._snapshots

    def _watch(self, task: Task, upstream: Sequence[Task], is_verified: bool) -> Watch | None:
        """See `Scheduler.watch`."""
        if self._store is None:
            return None
        from ttasks.engine.resume import watch_for

        return watch_for(task, upstream, self._store, self._take_snapshots, is_verified)

    def _refuse_loop(self, hint: str) -> None:
        """Raise RuntimeError in a coroutine on our loop, which would wait for itself."""
        if self._loop.is_current():
            raise RuntimeError(f"this blocks the event loop that its own tasks run on; {hint}")

    # Queries

    @property
    def max_workers(self) -> int:
        """Threads for ``submit``, and for each run of a graph that names no number of its own."""
        return self._max_workers

    @property
    def store(self) -> Store | None:
        """Where transitions are saved; None for nowhere."""
        return self._store

    @property
    def clock(self) -> Clock:
        """Where times come from."""
        return self._clock

    @property
    def breaker_states(self) -> dict[str | TaskType, BreakerStatus]:
        """State of each circuit breaker, now, by the name of its group or by its type.

        Groups that use the breaker for ``"*"`` are listed once one of their tasks has run.
        """
        return self._breakers.states()

    @property
    def events(self) -> EventBus:
        """Where to subscribe to what happens."""
        return self._bus

    @property
    def persistence_errors(self) -> dict[str, Exception]:
        """Latest failed write to the store by task id."""
        return dict(self._recorder.task_errors)

    @property
    def graph_persistence_errors(self) -> dict[str, Exception]:
        """Latest failed write to the store by graph id."""
        return dict(self._recorder.graph_errors)

    @property
    def abandoned(self) -> int:
        """The number of threads that were left behind with their handler and still run."""
        return max(0, self._scheduler.abandoned)

    @property
    def is_shutdown(self) -> bool:
        """True once `shutdown` was called."""
        return self._scheduler.is_closed

    # The end

    def cancel_all(self) -> None:
        """Cancel everything that is queued or running, and go on.

        Finally tasks of graphs still run, and what begins after the call is not affected. May be
        called from any thread; does not wait.
        """
        with Signals():
            self._scheduler.cancel_all()

    def shutdown(
        self, wait: bool = True, cancel: bool = False, *, timeout: float | None = None
    ) -> None:
        """Accept no more work, and stop the services of `running`. Idempotent; thread-safe.

        Args:
            wait: return when everything that is queued or running has ended. On a thread that works
                for this executor (in a handler or subscriber) the call never waits.
            cancel: cancel everything that is queued or running; finally tasks of graphs still run.
            timeout: seconds, at least 0, after which what is left is cancelled and waited for. None
                means no limit.

        Warns:
            RuntimeWarning: the store still refuses what it could not save before, which is lost
                when the process ends. Without ``wait`` this comes when the last work has ended.

        Raises:
            TypeError, ValueError: an argument is wrong, or there is a timeout without a wait.
        """
        check_bool("wait", wait)
        check_bool("cancel", cancel)
        if timeout is not None:
            check_number("timeout", timeout, least=0)
            if not wait:
                raise ValueError(f"timeout ({timeout:g}) needs wait=True")
        self._scheduler.close()
        for use in list(self._service_uses):
            use.dismiss()
        if cancel:
            with Signals():
                self._scheduler.ending.cancel()
        if wait and not self._scheduler.is_inside():
            if timeout is not None and not self._scheduler.wait_idle_until(
                self._clock.now() + timeout
            ):
                with Signals():
                    self._scheduler.ending.cancel()
            self._is_awaited = True
            self._scheduler.wait_idle()
        self._recorder.catch_up()
        for handler in [*self._replaced, *(handler for _, handler in self._handlers.values())]:
            close = getattr(handler, "close", None)
            if close is not None:
                close()
        self._scheduler.close_when_idle()
        if self._is_awaited:
            self._tell_unsaved()

    def _close_all(self) -> None:
        """Close the backends, when nothing runs any more."""
        if self._snapshots is not None:
            self._snapshots.keep()
        for backend in list(self._backends.values()):
            backend.close()
        if not self._is_awaited:
            self._recorder.catch_up()
            self._tell_unsaved()

    def _tell_unsaved(self) -> None:
        """Warn of what could not be saved, once."""
        unsaved = self._recorder.unsaved()
        if unsaved is not None and unsaved != self._told:
            self._told = unsaved
            warn(f"The executor is shut down, and {unsaved}", RuntimeWarning, stacklevel=3)

    def close(self) -> None:
        """Call ``shutdown()``."""
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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut down without blocking the event loop; if this is cancelled, cancel all work."""
        from asyncio import CancelledError

        from ttasks.engine.bridge import run_off_loop

        cancel = isinstance(error, (KeyboardInterrupt, CancelledError))
        await run_off_loop(
            lambda: self.shutdown(cancel=cancel), lambda: self.shutdown(wait=False, cancel=True)
        )


clock_of: Callable[[TaskExecutor], Clock] = attrgetter("_clock")
"""Where the times of an executor come from."""
redactor_of: Callable[[TaskExecutor], Redactor | None] = attrgetter("_recorder.redactor")
"""What hides the secrets of an executor; None if it has none."""


def _is_outcome(error: BaseException, task: Task) -> bool:
    """True if an error explains the result of the task; False if the task could not run."""
    result = task.result
    if result is None or result.status is TaskStatus.SUCCEEDED:
        return False
    return not (
        isinstance(error, InvalidTransitionError)
        and (error.task_id, error.target) == (task.id, TaskStatus.RUNNING.value)
    )
