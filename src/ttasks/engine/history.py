"""History: what the runs of this process did; the source of a `Run`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from os import getpid
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks import sync
from ttasks.model.ids import new_id
from ttasks.model.notes import Notes
from ttasks.model.run import Opening, Run, source_of
from ttasks.model.task import lifecycle_of

# Facts and what makes them are imported when somebody asks, to keep `import ttasks` quick.
if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt, Services
    from ttasks.model.facts import RunFacts
    from ttasks.model.gather import Seen
    from ttasks.model.graph import Node, TaskGraph
    from ttasks.model.lifecycle import Lifecycle
    from ttasks.model.plan import Plan
    from ttasks.model.policy import DependencyPolicy
    from ttasks.model.result import TaskResult
    from ttasks.model.run import Reason
    from ttasks.model.running import RunOptions
    from ttasks.model.status import TaskStatus
    from ttasks.model.task import Task

CHILDREN_KEPT = 1000
"""Runs inside of a run that are remembered, the latest ones."""

_LOOKS = 5
"""How often to look at a task that changes meanwhile."""

_MOST_FAILED = 20
"""Failed tasks that the facts of a run name even without its tasks."""


class Planned(NamedTuple):
    """A task of a graph as it is known when a run begins.

    Attributes:
        task_id, title, key: see `Task`; without secrets.
        groups: those of its groups that have a limit.
        after: ids of its direct dependencies.
        required, is_finally, policy: see `Node`.
        had_ended: it had ended before the run.
    """

    task_id: str
    title: str
    key: str | None
    groups: tuple[str, ...]
    after: tuple[str, ...]
    required: bool
    is_finally: bool
    policy: DependencyPolicy
    had_ended: bool


Parent = tuple[Run, str, float]
"""See `ttasks.model.run.RunSource`."""


class History:
    """What the run of a graph and that of a single task have in common.

    Each is a `ttasks.model.run.RunSource`. The thread that runs the work sets the fields; others
    read them at any time.

    Args:
        services: of the executor.
        subject: id of the graph or task.
        outer: the attempt that the run is part of; None if there is none.

    Attributes:
        id: of the run.
        began: when it began, by the executor's clock.
        parent, graph_ids: see `ttasks.model.run.RunSource`.
        number: see `Run`.
    """

    # Defaults that the run of a single task rarely changes.
    is_single = False
    number = 1
    began = 0.0
    parent: Parent | None = None
    _children: deque[tuple[str, float, History]] | None = None

    def __init__(self, services: Services, subject: str, outer: Attempt | None) -> None:
        self.id = new_id()
        self._services = services
        self._subject = subject
        self._outer = outer
        self._started_at = datetime.now(UTC)

    def start(self) -> None:
        """Take down that the run begins now."""
        self._begin(self._services.clock.now())

    def _begin(self, moment: float) -> None:
        self.began, self._started_at = moment, datetime.now(UTC)
        outer = self._outer
        if outer is not None and outer.run is not None:
            source = source_of(outer.run)
            assert isinstance(source, History)
            self.parent = outer.run, outer.task.id, self.began - source.began

    def join(self) -> None:
        """Become a part of the run that it is inside of."""
        if self.parent is not None:
            run, task_id, start = self.parent
            source = source_of(run)
            assert isinstance(source, History)
            source.add_child(task_id, start, self)

    @property
    def graph_ids(self) -> frozenset[str]:
        """See `ttasks.model.run.RunSource`."""
        mine = frozenset((self._subject,))
        return mine if self.parent is None else mine | source_of(self.parent[0]).graph_ids

    def add_child(self, task_id: str, start: float, child: History) -> None:
        """Remember a run inside of this one."""
        if self._children is None:
            self._children = deque(maxlen=CHILDREN_KEPT)
        self._children.append((task_id, start, child))

    def _now(self) -> float:
        return self._services.clock.now() - self.began

    def _gathered(self, head: RunFacts, nodes: Sequence[Seen]) -> RunFacts:
        from ttasks.model.gather import Child, gather

        children = [
            Child(task_id, start, history.facts())
            for task_id, start, history in list(self._children or ())
        ]
        return gather(head, nodes, children, self._services.redactor)

    def _seen(self, task: Task, notes: Callable[[], Notes]) -> Seen:
        """What there is to see of a task, at one moment."""
        from ttasks.model.gather import Seen

        life = lifecycle_of(task)
        for _ in range(_LOOKS):
            status, error, blocked_by, result = _state(life)
            noted = notes()
            if (noted.ended is None) is status.is_active:
                break  # else it has just ended, or is still to run again
        attempt = self._services.running.get(task.id)
        reports = None if attempt is None else attempt.reports
        return Seen(
            self._services.recorder.shown(task),
            (),
            noted,
            False,
            True,
            status,
            error,
            blocked_by,
            result,
            progress=(None, None) if reports is None else reports.latest,
        )

    def facts(self) -> RunFacts:
        """See `ttasks.model.run.RunSource`."""
        raise NotImplementedError


class GraphHistory(History):
    """What the run of a graph did. Thread-safe.

    Args:
        services, outer: see `History`.
        graph: the graph.
        options: how it is run.
        cancel: stops the run.

    Attributes:
        elsewhere: nodes whose end another run announces, or that somebody cancelled by hand.
        waiting_for: see `RunFacts`.
    """

    waiting_for: str | None = None

    def __init__(
        self,
        services: Services,
        graph: TaskGraph,
        options: RunOptions,
        outer: Attempt | None,
        cancel: Callable[[], None],
    ) -> None:
        super().__init__(services, graph.id, outer)
        self.start()
        redactor = services.redactor
        self._key = graph.key
        self._title = graph.title if redactor is None else redactor.text(graph.title)
        self._options = options
        self._nodes: Sequence[Node] = graph.nodes()
        self._edges: Sequence[Sequence[int]] = ((),) * len(self._nodes)
        self._plan: Plan | None = None
        self._before: frozenset[int] = frozenset()
        self._reasons: Mapping[int, Reason] = {}
        self._ending: tuple[str, str | None, float, datetime] | None = None
        self._frozen: RunFacts | None = None
        self._counts: dict[str, int] = {}  # at the end, as `_failed`
        self._failed: tuple[str, ...] = ()
        self._over = sync.Event()
        self._cancel = cancel
        self.elsewhere: set[int] = set()

    def begin(
        self,
        plan: Plan,
        edges: Sequence[Sequence[int]],
        before: frozenset[int],
        reasons: Mapping[int, Reason],
    ) -> None:
        """Take down how the run goes on from here."""
        self._edges, self._before, self._reasons = edges, before, reasons
        self._plan = plan
        self.join()

    def end(self, outcome: str, error: str | None) -> None:
        """Take down how the run has ended; `let_go` follows."""
        tasks = [node.task for node in self._nodes]
        self._counts = dict(Counter(task.status.value for task in tasks))
        self._failed = tuple([task.id for task in tasks if task.is_failed][:_MOST_FAILED])
        self._ending = outcome, error, self._now(), datetime.now(UTC)

    def let_go(self) -> None:
        """Let those go on who wait for the end."""
        self._cancel = _nothing
        self._over.set()

    def freeze(self) -> None:
        """Keep the facts as they are: the tasks are about to run again."""
        if self._frozen is None:
            self._frozen = self.facts()

    def opening(self) -> Opening:
        """See `ttasks.model.run.RunSource`."""
        return Opening(
            self._subject,
            self._key,
            self._title,
            self._started_at,
            self._options.max_workers,
            _options(self._options),
            self._options.schedule,
            self._options.slot,
        )

    def head(self) -> RunFacts:
        """See `ttasks.model.run.RunSource`."""
        from ttasks.model.facts import RunFacts

        outcome, error, duration, ended_at = self._ending or ("running", None, None, None)
        return RunFacts(
            id=self.id,
            number=self.number,
            graph_id=self._subject,
            graph_key=self._key,
            title=self._title,
            started_at=self._started_at,
            ended_at=ended_at,
            duration=duration,
            outcome=outcome,
            error=error,
            host=host(),
            pid=getpid(),
            workers=self._options.max_workers,
            options=_options(self._options),
            elapsed=self._now() if duration is None else duration,
            parent_id=None if self.parent is None else self.parent[0].id,
            waiting_for=self.waiting_for,
            counts=self._counts,
            failed=self._failed,
            schedule=self._options.schedule,
            slot=self._options.slot,
        )

    def facts(self) -> RunFacts:
        """See `ttasks.model.run.RunSource`."""
        if self._frozen is not None:
            return self._frozen
        head = self.head()
        return self._gathered(head, [self._node(at, node) for at, node in enumerate(self._nodes)])

    def planned(self) -> list[Planned]:
        """What is to run, in insertion order; much cheaper than `facts`."""
        shown = self._services.recorder.shown
        return [
            Planned(
                node.task.id,
                shown(node.task).title,
                node.task.key,
                () if self._plan is None else self._plan.groups_of(number),
                tuple([upstream.id for upstream in node.after]),
                node.required,
                node.finally_,
                node.policy,
                number in self._before,
            )
            for number, node in enumerate(self._nodes)
        ]

    def _node(self, number: int, node: Node) -> Seen:
        had_ended = number in self._before
        seen = self._seen(node.task, Notes if had_ended else lambda: self.notes(number))
        return seen._replace(
            after=self._edges[number],
            is_finally=node.finally_,
            is_required=node.required,
            had_ended=had_ended,
            reason=self._reasons.get(number),
        )

    def notes(self, number: int, ended: float | None = None) -> Notes:
        """What the plan has noted of a node; ``ended`` if its end is still to be noted."""
        return Notes() if self._plan is None else self._plan.notes(number, ended)

    def left_over(self) -> dict[str, Notes]:
        """What was noted of tasks whose end this run has not announced, by id."""
        return {self._nodes[number].task.id: self.notes(number) for number in self.elsewhere}

    def wait(self, timeout: float | None) -> bool:
        """See `ttasks.model.run.RunSource`."""
        return self._over.wait(timeout)

    def cancel(self) -> None:
        """See `ttasks.model.run.RunSource`."""
        self._cancel()


def host() -> str:
    """Name of this machine."""
    from ttasks.processes import host_name  # imports modules that a run does not need

    return host_name()


def _state(life: Lifecycle) -> tuple[TaskStatus, str | None, str | None, TaskResult | None]:
    with life.lock:
        return life.status, life.error, life.blocked_by, life.result


def _options(options: RunOptions) -> dict[str, Any]:
    """The arguments of a run that the other facts do not tell, as plain data."""
    found = {item.name: getattr(options, item.name) for item in fields(options)}
    for name in ("max_workers", "schedule", "slot"):
        del found[name]
    if found["limits"] is not None:
        named = {getattr(name, "value", name): limit for name, limit in found["limits"].items()}
        found["limits"] = named
    return found


def _nothing() -> None:
    """There is nothing left to cancel."""
