"""GraphRun: one run of a graph, from its validation to its end, and every way of stopping it."""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import replace
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from ttasks.engine.attempt import sheltering
from ttasks.engine.core import Core, follow
from ttasks.engine.dispatch import Dispatch
from ttasks.engine.interrupt import Signals
from ttasks.engine.interrupted import INTERRUPTED
from ttasks.engine.limits import GroupLimits, RunLimits
from ttasks.engine.resume import prepare_ledger
from ttasks.engine.retry import RetryBudget
from ttasks.errors import GraphError, TaskCancelled, TaskExecutionError, TaskTimeoutError
from ttasks.model.cancel import CancelToken
from ttasks.model.graph import state_of, topology_of
from ttasks.model.plan import Plan
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ttasks.model.clock import Clock
    from ttasks.model.graph import Node, TaskGraph
    from ttasks.model.running import RunOptions
    from ttasks.model.task import Task
    from ttasks.model.topology import Topology

CANCEL_PATIENCE = 2.0
"""Seconds after its cancellation until a handler that will not end is left behind."""


class Alarm:
    """Wakes up the one thread that waits. ``ring`` blocks on no lock: safe in signal handlers."""

    __slots__ = ("_clock", "_lock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the wait, or the next one."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it rings already

    def wait_until(self, moment: float | None) -> None:
        """Wait until it rings, or until that moment; None means without a limit."""
        self._clock.wait_until(self._lock, moment)


class GraphRun:
    """One run of a graph. It implements `ttasks.model.running.RunHandle`.

    The thread that calls ``run`` supervises: it waits for the end and for what is due at a certain
    time, and carries out requests to stop that come from signal handlers and event loops. Its lock
    owns who stops the run first; the requests are plain assignments.
    """

    def __init__(
        self,
        core: Core,
        working: Callable[[], AbstractContextManager[None]],
        graph: TaskGraph,
        options: RunOptions,
        token: CancelToken | None = None,
    ) -> None:
        self._core = core
        self._working = working
        self._graph = graph
        self._options = options
        self._token = token or CancelToken()
        self._clock = core.clock
        self._nodes: list[Node] = []
        self._alarm = Alarm(core.clock)
        self._lock = Lock()
        self._stopped_at: float | None = None
        self._finally_over = False
        self._killed = False
        self._cancel_wanted = False
        self._requests = 0  # by people: the second one kills
        self._request_reason = "cancelled"
        self._stuck: dict[int, float] = {}  # cancelled nodes: when they were first seen running on
        self._owner = get_ident()
        self._began = self._clock.now()
        self._ended: float | None = None
        self._outer = core.ambient()
        self._budget = RetryBudget(options.retry_budget)
        self._errors: dict[str, BaseException] = {}
        self._dispatch: Dispatch

    def _prepare(self) -> None:
        """Make what is needed to run; raises if the graph cannot run."""
        graph, outer = self._graph, self._outer
        self._nodes = graph.nodes()
        topology = topology_of(graph)
        limits = RunLimits(
            GroupLimits(self._options.limits),
            self._core.limits,
            frozenset() if outer is None else outer.held,
        )
        self._check_free()
        core = self._core
        prepare_ledger(
            graph, self._nodes, topology, core.store, core.recorder, self._options.resume
        )
        self._dispatch = Dispatch(
            self._core,
            self._nodes,
            self._make_plan(topology, limits),
            limits,
            self._options.max_workers,
            self._budget,
            copy_context(),
            self._working,
            f"ttasks-{graph.title or 'graph'}",
            self._errors,
            self._on_trouble,
            self._alarm.ring,
        )

    def _check_free(self) -> None:
        for node in self._nodes:
            task = node.task
            if lifecycle_of(task).owner is not None:
                raise GraphError(
                    f"Task {task.title!r} ({task.id}) is running elsewhere; wait for its end "
                    "before you run this graph"
                )

    def _make_plan(self, topology: Topology, limits: RunLimits) -> Plan:
        """The plan of what is left to do."""
        finished, orders, groups, finals = {}, {}, {}, []
        for number, node in enumerate(self._nodes):
            task = node.task
            status = task.status
            if status.is_sink:
                finished[number] = status
            if task.priority or task.deadline is not None:
                orders[number] = (task.priority, task.deadline)
            if task.group is not None and task.group in limits:
                groups[number] = task.group
            if node.finally_:
                finals.append(number)
        policies = [node.policy for node in self._nodes]
        return Plan(topology, policies, frozenset(finals), orders, groups, finished)

    # On the thread that runs the graph

    def run(self) -> None:
        """Run the graph; see `TaskGraph.run`."""
        state = state_of(self._graph)
        with Signals(self._interrupt, handle_sigterm=self._options.handle_sigterm):
            with state.lock:
                if state.active:
                    raise GraphError(f"Graph {self._graph.title!r} is running already")
                state.active = True
            before, state.handle = state.handle, None
            try:
                try:
                    self._prepare()
                except BaseException:
                    state.handle = before
                    raise
                state.error = None
                state.errors = self._errors
                state.handle = self
                self._core.recorder.save_graph(self._graph)
                with self._core.run_registered(self), self._core.loop.held():
                    self._run()
            finally:
                self._ended = self._clock.now()
                state.active = False

    def _run(self) -> None:
        for node in self._nodes:
            self._fail_stale(node)
        unlisten = self._core.limits.listen(self._dispatch.unpark)
        unfollow = self._token.add_callback(self._on_token)
        try:
            with follow(self._token, *self._core.outer_tokens()), sheltering(self._outer):
                if self._cancel_wanted or self._requests:
                    self._do_due()
                self._dispatch.begin()
                self._supervise()
        finally:
            unlisten()
            unfollow()
            self._dispatch.join()
            self._note_downstream()

    def _fail_stale(self, node: Node) -> None:
        """A task that is RUNNING with nobody running it was interrupted; it is tried again."""
        if node.task.is_running:
            self._core.settle(
                node.task,
                TaskStatus.FAILED,
                TaskExecutionError(INTERRUPTED),
                reason="interrupted",
            )

    def _supervise(self) -> None:
        """Wait for the end, and do what is due meanwhile."""
        raised: BaseException | None = None
        while not self._dispatch.ended:
            try:
                self._do_due()
                if not self._dispatch.ended:
                    self._alarm.wait_until(self._next_moment())
            except BaseException as error:
                # Whatever handlers of yet other signals raise is as good as Ctrl-C. At the third
                # there is nothing left to be tried.
                if self._requests > 1:
                    raise
                raised = raised or error
                self._interrupt()
        if raised is not None:
            raise raised

    def _do_due(self) -> None:
        self._dispatch.attend()
        now = self._clock.now()
        options = self._options
        if self._cancel_wanted or self._requests:
            self._stop(self._request_reason, "The graph run was " + self._request_reason)
        if self._requests > 1 and not self._killed:
            self._killed = True
            self._stop_finally()
            self._dispatch.kill()
        if options.timeout is not None and now >= self._began + options.timeout:
            error = TaskTimeoutError(options.timeout, what="Graph")
            if self._stop("cancelled", str(error)):
                state_of(self._graph).error = error
        limit = options.finally_timeout
        if self._stopped_at is not None:
            over = limit is not None and now >= self._stopped_at + limit
            if limit is not None and over and not self._finally_over:
                self._stop_finally(TaskTimeoutError(limit, what="Finally tasks"))
            self._leave_stuck(now)
        self._dispatch.expire_due(now)
        self._dispatch.resume_due(now)

    def _next_moment(self) -> float | None:
        """When something is due next, by the clock; None if nothing is."""
        options = self._options
        moments = [self._dispatch.next_due()]
        if self._stopped_at is None:
            if options.timeout is not None:
                moments.append(self._began + options.timeout)
        else:
            if options.finally_timeout is not None and not self._finally_over:
                moments.append(self._stopped_at + options.finally_timeout)
            moments += [seen + CANCEL_PATIENCE for seen in self._stuck.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def _leave_stuck(self, now: float) -> None:
        """Leave behind cancelled handlers that have had their time and cannot be ended."""
        running = {
            node
            for node, (attempt, _thread) in list(self._dispatch.live.items())
            if attempt.token.cancelled and not attempt.ends_itself
        }
        self._stuck = {node: self._stuck.get(node, now) for node in running}
        for node, seen in list(self._stuck.items()):
            if self._killed or now >= seen + CANCEL_PATIENCE:
                del self._stuck[node]
                self._dispatch.leave_behind(node)

    # Stopping

    def cancel(self) -> None:
        """Stop the run; see `TaskGraph.cancel`."""
        if get_ident() == self._owner:
            # Perhaps from a signal handler that interrupts a critical section of this thread.
            self._cancel_wanted = True
            self._alarm.ring()
        else:
            self._stop("cancelled", "The graph run was cancelled")

    def request_cancel(self) -> None:
        """Ask the supervisor to stop the run, and if asked again to kill what is left of it."""
        self._requests += 1
        self._alarm.ring()

    def _interrupt(self) -> None:
        self._request_reason = "interrupted"
        self.request_cancel()

    def _on_token(self) -> None:
        self._request_reason = self._token.reason or "cancelled"
        self._cancel_wanted = True
        if self._token.killed:
            self._requests = max(self._requests, 2)
        self._alarm.ring()

    def notice_cancelled(self, task: Task) -> None:
        """A task was cancelled that may be waiting for another attempt; from any thread."""
        self._dispatch.hurry(task.id)

    def _on_trouble(self, node: int | None, error: BaseException) -> None:
        """A required node failed, or (None) the run as a whole cannot go on."""
        if node is None:
            if state_of(self._graph).error is None:
                state_of(self._graph).error = error
            self._stop("cancelled", f"The graph run was stopped: {error}")
        elif self._options.fail_fast:
            title = self._nodes[node].task.title
            self._stop("cancelled", f"The graph run was stopped: {title!r} failed (fail_fast)")

    def _stop(self, reason: str, message: str) -> bool:
        """Stop all but finally tasks; False if that has been done before."""
        with self._lock:
            if self._stopped_at is not None:
                return False
            self._stopped_at = self._clock.now()
        error = TaskCancelled(message)
        if reason == "interrupted":
            state_of(self._graph).error = error
        self._dispatch.stop(error, reason)
        self._alarm.ring()
        return True

    def _stop_finally(self, error: BaseException | None = None) -> None:
        """Stop finally tasks too."""
        self._finally_over = True
        if error is not None and state_of(self._graph).error is None:
            state_of(self._graph).error = error
        message = "The graph run was killed" if error is None else str(error)
        self._dispatch.stop(TaskCancelled(message), self._request_reason, also_finally=True)

    def _note_downstream(self) -> None:
        """Tell each failure which tasks did not run because of it."""
        roots: dict[int, int] = {}
        victims: dict[int, list[tuple[str, str]]] = {}
        for node, because in self._dispatch.because.items():
            root = roots[node] = roots.get(because, because)
            task = self._nodes[node].task
            victims.setdefault(root, []).append((task.title, task.id))
        for root, downstream in victims.items():
            task = self._nodes[root].task
            life = lifecycle_of(task)
            with life.lock:
                result = life.result
                if result is None or result.failure is None or life.owner is not None:
                    continue
                failure = replace(result.failure, downstream=tuple(downstream))
                life.result = replace(result, failure=failure)
            self._core.recorder.resave(task)

    # What its graph asks

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, or that it took."""
        return (self._clock.now() if self._ended is None else self._ended) - self._began

    @property
    def retries(self) -> int:
        """Attempts after the first that it has decided on."""
        return self._budget.used

    @property
    def waiting(self) -> int:
        """Tasks that wait for another attempt."""
        return self._dispatch.waiting
