"""The run of a graph: what happens before its first task and after its last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from ttasks.engine.attempt import Work
from ttasks.engine.dispatch import Assignment
from ttasks.engine.ending import settle
from ttasks.engine.equals import announce_reused
from ttasks.engine.history import GraphHistory
from ttasks.engine.interrupted import INTERRUPTED
from ttasks.engine.limits import Places, RunPlaces
from ttasks.engine.looks import Looks
from ttasks.engine.requests import Requests
from ttasks.engine.resume import prepare_ledger
from ttasks.engine.run import Run
from ttasks.engine.run_log import RunRecord
from ttasks.engine.service import check_services, for_plan, services_in
from ttasks.engine.signals import Signals
from ttasks.errors import (
    GraphError,
    StoreError,
    TaskCancelled,
    TaskExecutionError,
    TaskTimeoutError,
    describe,
)
from ttasks.model.clock import SYSTEM_CLOCK
from ttasks.model.event import TaskEventType, make_event
from ttasks.model.graph import state_of, topology_of
from ttasks.model.plan import Plan
from ttasks.model.redact import check_names, redacted_title
from ttasks.model.run import Run as PublicRun
from ttasks.model.run import source_of
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, lifecycle_of, service_of
from ttasks.model.topology import in_order

if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt
    from ttasks.engine.scheduler import Scheduler
    from ttasks.model.breaker import BreakerStatus
    from ttasks.model.graph import Node, TaskGraph
    from ttasks.model.redact import Redactor
    from ttasks.model.result import TaskResult
    from ttasks.model.running import RunOptions
    from ttasks.model.store import Store
    from ttasks.model.task_type import TaskType
    from ttasks.model.topology import Topology


class GraphRun:
    """One run of a graph. It implements `ttasks.model.running.RunHandle`. Thread-safe.

    The graph refers to it even before the ledger is read, so that no request to stop is lost.

    Args:
        scheduler, store: of the executor.
        graph: the graph.
        options: how to run it.
        requests: to stop it.
        outer: what `Scheduler.enter` returned.
        begun: called with the run when it begins, or begins to wait for its key.

    Attributes:
        started_at, ended_at: aware UTC; None before.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store | None,
        graph: TaskGraph,
        options: RunOptions,
        requests: Requests,
        outer: Attempt | None,
        begun: Callable[[PublicRun], None] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._recorder = scheduler.services.recorder
        self._store = store
        self._graph = graph
        self._options = options
        self._run: Run | None = None
        self._requests = requests
        self._outer = outer
        self.started_at: datetime | None = None
        self.ended_at: datetime | None = None
        self._begun = begun
        self._history = GraphHistory(scheduler.services, graph, options, outer, self.cancel)
        self._history.number = state_of(graph).count + 1  # unless the store counts
        self._public = PublicRun(self._history)
        log = getattr(store, "runs", None)
        self._record = RunRecord(
            log if hasattr(log, "begin") else None, self._recorder, self._public, self._history
        )
        self._reused: list[Task] = []
        self._looks = Looks(scheduler.snapshots)

    def run(self) -> None:
        """Run the graph; see `TaskGraph.run`."""
        state, history = state_of(self._graph), self._history
        is_mine = False
        try:
            with state.lock:
                if state.active:
                    raise GraphError(f"Graph {self._graph.title!r} is running already")
                # In this order, so that a request to stop an active graph reaches this run.
                before, state.handle = state.handle, self
                is_mine = state.active = True
            latest = None if state.run is None else source_of(state.run)
            try:
                run = self._prepare()
            except BaseException as error:
                state.handle = before
                state.run = None if latest is None else PublicRun(latest)
                outcome = "cancelled" if isinstance(error, TaskCancelled) else "failed"
                history.end(outcome, describe(error))
                raise
            state.error = None
            state.errors = run.errors
            if self._recorder.redactor is not None:
                state.title_of = partial(_title_of, self._recorder.redactor)
            state.run = self._public
            state.count += 1
            self.started_at = datetime.now(UTC)
            self._carry_out(run)
        finally:
            if is_mine:
                state.active = False
            history.let_go()

    def _prepare(self) -> Run:
        """Check the graph, compare it with the store, and make the run.

        Errors are raised before anything has started.
        """
        graph, options, scheduler = self._graph, self._options, self._scheduler
        nodes = self._nodes = graph.nodes()
        redactor = self._recorder.redactor
        check_names(graph, redactor, graph.key)
        topology = self._topology = topology_of(graph)
        for node in nodes:
            if lifecycle_of(node.task).owner is not None:
                raise GraphError(
                    f"Task {node.task.title!r} ({node.task.id}) is running elsewhere; wait for its "
                    "end before you run this graph"
                )
        record = self._record
        wait = self._tell_begun if options.wait else None
        self._services = services_in(nodes)
        if self._services:
            check_services(nodes, topology, self._services)
        tokens = scheduler.outer_tokens(self._outer)
        record.claim(self._requests, scheduler.services.clock, wait, tokens)
        try:
            return self._claimed(nodes, topology)
        except BaseException:
            record.discard()
            raise

    def _tell_begun(self) -> None:
        """Let `TaskGraph.start` return; later errors are errors of the run."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun(self._public)

    def _claimed(self, nodes: list[Node], topology: Topology) -> Run:
        """Make the run, now that nobody else runs graphs of this key."""
        graph, options, scheduler = self._graph, self._options, self._scheduler
        self._keep_latest()
        self._reused, reasons = prepare_ledger(
            graph, nodes, topology, self._store, self._recorder, options, self._looks
        )
        redactor = self._recorder.redactor
        title = graph.title if redactor is None else redactor.text(graph.title)
        outer = self._outer
        places = RunPlaces(
            Places(options.limits),
            scheduler.places,
            frozenset() if outer is None else outer.held,
        )
        retry = scheduler.services.retry
        works = [
            Work(
                node.task,
                node.after,
                node.task.retry or retry,
                node.finally_,
                node.required,
                is_tried_again=not node.task.is_pending,
                run=self._public,
            )
            for node in nodes
        ]
        for at in self._services:
            works[at].service = service_of(nodes[at].task)
        plan, before = self._plan(nodes, topology, places)
        if redactor is not None:
            hide = redactor.text
            reasons = {at: (why, tuple(map(hide, names))) for at, (why, names) in reasons.items()}
        self._history.begin(plan, topology.dependencies, before, reasons)
        self._record.describe(before, reasons)
        name = f"ttasks-{title or 'graph'}"
        assignment = Assignment(
            works, plan, places, options, copy_context(), name, outer, "The graph run"
        )
        follows = scheduler.outer_tokens(outer)
        # A clock that tests move must not know of moments that they did not ask for.
        asked = self._record.asked if scheduler.services.clock is SYSTEM_CLOCK else None
        return Run(scheduler, assignment, self._requests, follows, self._tell_stop, asked)

    def _keep_latest(self) -> None:
        """Have the previous run keep its facts, if it is still referred to: its tasks change
        now."""
        state = state_of(self._graph)
        if state.run is not None:
            latest = ref(state.run)
            state.run = None
            run = latest()
            source = None if run is None else source_of(run)
            if isinstance(source, GraphHistory):
                source.freeze()

    def _plan(
        self, nodes: list[Node], topology: Topology, places: RunPlaces
    ) -> tuple[Plan, frozenset[int]]:
        """The plan for what is left to do, and the nodes that have ended."""
        finished, orders, groups, finals = {}, {}, {}, []
        for number, node in enumerate(nodes):
            task = node.task
            status = task.status
            # One whose end is still being announced is waited for, as if it ran elsewhere.
            if status.is_sink and lifecycle_of(task).owner is None:
                finished[number] = status
            if task.priority or task.deadline is not None:
                orders[number] = (task.priority, task.deadline)
            if task.group is not None or places.has_types:
                limited = places.limited(task)
                if limited:
                    groups[number] = limited
            if node.finally_:
                finals.append(number)
        policies = [node.policy for node in nodes]
        began = self._history.began
        services = self._services
        edges = for_plan(nodes, topology, services, finished)
        plan = Plan(edges, policies, frozenset(finals), orders, groups, finished, began, services)
        return plan, frozenset(finished)

    def _carry_out(self, run: Run) -> None:
        try:
            self._recorder.save_graph(self._graph)
            self._run = run
            self._announce(TaskEventType.RUN_STARTED, TaskStatus.PENDING, TaskStatus.RUNNING)
            announce_reused(self._reused, self._public, self._recorder)
            self._tell_begun()
            for task in self._graph:
                if task.is_running:  # without an owner: it was interrupted, and is tried again
                    settle(
                        self._recorder,
                        task,
                        TaskStatus.FAILED,
                        TaskExecutionError(INTERRUPTED),
                        reason="interrupted",
                        run=self._public,
                    )
            run.supervise()
        except StoreError as error:  # of a strict executor
            run.error = run.error or error
            raise
        finally:
            self.ended_at = datetime.now(UTC)
            state_of(self._graph).error = run.error
            if run.has_decided:
                self._note_downstream()
            if run.error is not None:
                self._recorder.save_outcome(self._graph)
            self._recorder.catch_up()
            self._looks.keep()
            self._end(run)

    def _tell_stop(self, message: str) -> None:
        running = TaskStatus.RUNNING
        self._announce(TaskEventType.RUN_STOPPING, running, running, message)

    def _end(self, run: Run) -> None:
        """Record and announce how the run has ended."""
        outcome, history = self._outcome(run), self._history
        history.elsewhere = run.elsewhere
        history.end(outcome, None if run.error is None else describe(run.error))
        self._record.end()
        if self._run is None:
            return  # its start was not announced either
        self._announce(
            TaskEventType.RUN_ENDED,
            TaskStatus.RUNNING,
            _STATUSES.get(outcome, TaskStatus.FAILED),
            self._public.error,
        )

    def _outcome(self, run: Run) -> str:
        """The word for how the run has ended; see `RunFacts`."""
        if isinstance(run.error, TaskTimeoutError):
            return "timeout"
        if run.stopped_by == "interrupted":
            return "interrupted"
        if self._graph.ok:
            return "ok"
        return run.stopped_by or "failed"

    def _announce(
        self,
        kind: TaskEventType,
        previous: TaskStatus,
        status: TaskStatus,
        error: str | None = None,
    ) -> None:
        """Announce something of the run itself."""
        if self._recorder.wants(kind):
            none: Any = None  # such an event has no task
            now = datetime.now(UTC)
            self._recorder.report(
                make_event(kind, "", none, now, previous, status, error, run=self._public)
            )

    def _note_downstream(self) -> None:
        """Tell each failure which tasks did not run because of it."""
        nodes = self._nodes
        causes: dict[int, dict[int, None]] = {}  # of each task that did not run; an ordered set
        victims: dict[int, list[tuple[str, str]]] = {}
        numbers: dict[str | None, int] = {nodes[at].task.id: at for at in self._services}
        for number in in_order(self._topology):
            task = nodes[number].task
            if task.status not in (TaskStatus.BLOCKED, TaskStatus.SKIPPED):
                continue
            mine = causes[number] = {}
            for upstream in self._topology.dependencies[number]:
                if nodes[upstream].task.status is not TaskStatus.SUCCEEDED:
                    mine.update(causes.get(upstream, {upstream: None}))
            if not mine and task.blocked_by in numbers:  # a service, over several steps
                mine[numbers[task.blocked_by]] = None
            shown = self._recorder.shown(task)
            for cause in mine:
                victims.setdefault(cause, []).append((shown.title, task.id))
        for cause, downstream in victims.items():
            task = nodes[cause].task
            if lifecycle_of(task).amend(partial(_with_downstream, tuple(downstream))):
                self._recorder.resave(task)

    # Calls from its graph

    def cancel(self) -> None:
        """Stop the run; see `TaskGraph.cancel`."""
        if self._run is None:
            self._requests.ask_cancel()
        else:
            with Signals():
                self._run.cancel()

    def request_cancel(self) -> None:
        """Ask the supervisor to stop the run; the second time, to kill what is left of it."""
        self._requests.interrupt("cancelled")

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, or how long it took."""
        return 0.0 if self._run is None else self._run.elapsed

    @property
    def retries(self) -> int:
        """Attempts after the first that it has decided on."""
        return 0 if self._run is None else self._run.retries

    @property
    def waiting(self) -> int:
        """Tasks that wait for a retry, or for another run that is executing them."""
        return 0 if self._run is None else self._run.waiting

    @property
    def retry_budget(self) -> int | None:
        """How many attempts after the first it may start; None means any number."""
        return self._options.retry_budget

    @property
    def breakers(self) -> Mapping[str | TaskType, BreakerStatus]:
        """State of each circuit breaker of the executor."""
        breakers = self._scheduler.services.breakers
        return {} if breakers is None else breakers.states()


def _title_of(redactor: Redactor, titled: Task | TaskGraph) -> str:
    if isinstance(titled, Task):
        return redacted_title(titled, redactor)
    return redactor.text(titled.title)


_STATUSES = {
    "ok": TaskStatus.SUCCEEDED,
    "cancelled": TaskStatus.CANCELLED,
    "interrupted": TaskStatus.CANCELLED,
}


def _with_downstream(
    downstream: tuple[tuple[str, str], ...], result: TaskResult
) -> TaskResult | None:
    failure = result.failure
    return (
        None
        if failure is None
        else replace(result, failure=replace(failure, downstream=downstream))
    )
