"""The run of a graph: what happens before its first task and after its last one."""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ttasks.engine.attempt import Work
from ttasks.engine.ending import settle
from ttasks.engine.interrupted import INTERRUPTED
from ttasks.engine.limits import Places, RunPlaces
from ttasks.engine.requests import Requests
from ttasks.engine.resume import in_order, prepare_ledger
from ttasks.engine.run import Run
from ttasks.engine.signals import Signals
from ttasks.errors import GraphError, TaskExecutionError
from ttasks.model.graph import state_of, topology_of
from ttasks.model.plan import Plan
from ttasks.model.redact import check_names, redacted_title
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, lifecycle_of

if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt
    from ttasks.engine.scheduler import Scheduler
    from ttasks.model.graph import Node, TaskGraph
    from ttasks.model.redact import Redactor
    from ttasks.model.result import TaskResult
    from ttasks.model.running import RunOptions
    from ttasks.model.store import Store
    from ttasks.model.topology import Topology


class GraphRun:
    """One run of a graph. It implements `ttasks.model.running.RunHandle`. Thread-safe.

    The graph refers to it even before the ledger is read, so that no request to stop is lost.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store | None,
        graph: TaskGraph,
        options: RunOptions,
        requests: Requests,
        outer: Attempt | None,
    ) -> None:
        self._scheduler = scheduler
        self._recorder = scheduler.services.recorder
        self._store = store
        self._graph = graph
        self._options = options
        self._run: Run | None = None
        self._requests = requests
        self._outer = outer

    def run(self) -> None:
        """Run the graph; see `TaskGraph.run`."""
        state = state_of(self._graph)
        with state.lock:
            if state.active:
                raise GraphError(f"Graph {self._graph.title!r} is running already")
            # In this order, so that a request to stop an active graph reaches this run.
            before, state.handle = state.handle, self
            state.active = True
        try:
            try:
                run = self._prepare()
            except BaseException:
                state.handle = before
                raise
            state.error = None
            state.errors = run.errors
            if self._recorder.redactor is not None:
                state.title_of = partial(_title_of, self._recorder.redactor)
            self._recorder.save_graph(self._graph)
            self._run = run
            self._carry_out(run)
        finally:
            state.active = False

    def _prepare(self) -> Run:
        """Check the graph, bring it in line with the store, and make the run.

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
        prepare_ledger(graph, nodes, topology, self._store, self._recorder, options.resume)
        title = graph.title if redactor is None else redactor.text(graph.title)
        outer = self._outer
        places = RunPlaces(
            Places(options.limits),
            scheduler.places,
            frozenset() if outer is None else outer.held,
        )
        works = [
            Work(
                node.task,
                node.after,
                node.task.retry,
                node.finally_,
                node.required,
                is_tried_again=not node.task.is_pending,
            )
            for node in nodes
        ]
        return Run(
            scheduler,
            works,
            self._plan(nodes, topology, places),
            places,
            options,
            copy_context(),
            f"ttasks-{title or 'graph'}",
            self._requests,
            scheduler.outer_tokens(outer),
            outer=outer,
            label="The graph run",
        )

    def _plan(self, nodes: list[Node], topology: Topology, places: RunPlaces) -> Plan:
        """The plan for what is left to do."""
        finished, orders, groups, finals = {}, {}, {}, []
        for number, node in enumerate(nodes):
            task = node.task
            status = task.status
            # One whose end is still being announced is waited for, as if it ran elsewhere.
            if status.is_sink and lifecycle_of(task).owner is None:
                finished[number] = status
            if task.priority or task.deadline is not None:
                orders[number] = (task.priority, task.deadline)
            if task.group is not None and task.group in places:
                groups[number] = task.group
            if node.finally_:
                finals.append(number)
        policies = [node.policy for node in nodes]
        now = self._scheduler.services.clock.now()
        return Plan(topology, policies, frozenset(finals), orders, groups, finished, now)

    def _carry_out(self, run: Run) -> None:
        for task in self._graph:
            if task.is_running:  # and without an owner: it was interrupted, and is tried again
                settle(
                    self._recorder,
                    task,
                    TaskStatus.FAILED,
                    TaskExecutionError(INTERRUPTED),
                    reason="interrupted",
                )
        try:
            run.supervise()
        finally:
            state_of(self._graph).error = run.error
            if run.has_decided:
                self._note_downstream()
            if run.error is not None:
                self._recorder.save_outcome(self._graph)
            self._recorder.catch_up()

    def _note_downstream(self) -> None:
        """Tell each failure which tasks did not run because of it."""
        nodes = self._nodes
        causes: dict[int, dict[int, None]] = {}  # of each task that did not run; an ordered set
        victims: dict[int, list[tuple[str, str]]] = {}
        for number in in_order(self._topology):
            task = nodes[number].task
            if task.status not in (TaskStatus.BLOCKED, TaskStatus.SKIPPED):
                continue
            mine = causes[number] = {}
            for upstream in self._topology.dependencies[number]:
                if nodes[upstream].task.status is not TaskStatus.SUCCEEDED:
                    mine.update(causes.get(upstream, {upstream: None}))
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


def _title_of(redactor: Redactor, titled: Task | TaskGraph) -> str:
    if isinstance(titled, Task):
        return redacted_title(titled, redactor)
    return redactor.text(titled.title)


def _with_downstream(
    downstream: tuple[tuple[str, str], ...], result: TaskResult
) -> TaskResult | None:
    failure = result.failure
    return (
        None
        if failure is None
        else replace(result, failure=replace(failure, downstream=downstream))
    )
