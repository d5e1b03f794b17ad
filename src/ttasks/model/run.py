"""Run: one run of a graph or of a single task, as users see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib import import_module
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ttasks import sync
from ttasks.errors import GraphError
from ttasks.model.checks import check_seconds, wrong_type
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from ttasks.model.facts import RunFacts
    from ttasks.model.notes import Notes

OUTCOMES = {
    TaskStatus.SUCCEEDED: "ok",
    TaskStatus.FAILED: "failed",
    TaskStatus.CANCELLED: "cancelled",
    TaskStatus.BLOCKED: "failed",
    TaskStatus.SKIPPED: "ok",
}
"""The outcome of the run of a single task, by the status of the task."""

Reason = tuple[str, tuple[str, ...]]
"""``not_reused`` and ``changed`` of `TaskFacts`."""


class Opening(NamedTuple):
    """What a store keeps when a run begins; see `RunFacts`.

    ``subject`` is the id of its graph, or of its only task.
    """

    subject: str
    key: str | None
    title: str
    started_at: datetime
    workers: int
    options: Mapping[str, Any]
    schedule: str | None = None
    slot: datetime | None = None


class RunSource(Protocol):
    """Where a `Run` gets its data: a live executor, or a ledger. Thread-safe.

    Attributes:
        id: of the run.
        is_single: it is the run of a single task.
        parent: the outer run, the id of the task there that runs this one, and the moment of the
            outer run when this one began; None if there is no outer run.
        graph_ids: ids of its graph and of the graphs around it.
    """

    @property
    def id(self) -> str: ...
    @property
    def is_single(self) -> bool: ...
    @property
    def parent(self) -> tuple[Run, str, float] | None: ...
    @property
    def graph_ids(self) -> frozenset[str]: ...

    def opening(self) -> Opening:
        """How it began."""

    def head(self) -> RunFacts:
        """Its facts, without tasks."""

    def facts(self) -> RunFacts:
        """Its facts as of now."""

    def wait(self, timeout: float | None) -> bool:
        """Wait at most ``timeout`` seconds for its end; False if it has not ended."""

    def cancel(self) -> None:
        """Stop it."""


class Run:
    """One run of a graph, or of a single task: what happens in it, and why. Thread-safe.

    `TaskGraph.start`, `TaskGraph.latest_run`, events and ``store.runs`` return runs. A run from a
    ledger may belong to another process, and can be watched while it goes on.

    Attributes:
        id: a uuid4 as str.

    Example:
        >>> from ttasks import Task, TaskExecutor, TaskGraph
        >>> graph = TaskGraph("hello")
        >>> hello = graph.add(Task.bash("echo hello"))
        >>> with TaskExecutor() as executor:
        ...     run = graph.start(executor)
        ...     run.wait(), run.ok
        (True, True)
        >>> run.why(hello)
        "'echo hello' ran because it has no dependencies."
    """

    __slots__ = ("__weakref__", "_source", "id")

    def __init__(self, source: RunSource) -> None:
        self._source = source
        self.id = source.id  # an attribute: each event of a ledger asks for it

    @property
    def number(self) -> int:
        """Its number among the runs of its graph key, from 1; without a key, of its graph."""
        return self._source.head().number

    @property
    def graph_id(self) -> str:
        """Id of its graph; of the task, if it is the run of a single one."""
        return self._source.head().graph_id

    @property
    def graph_key(self) -> str | None:
        """Key of its graph."""
        return self._source.head().graph_key

    @property
    def title(self) -> str:
        """Title of its graph, or of its only task."""
        return self._source.head().title

    @property
    def started_at(self) -> datetime:
        """When it began, aware UTC."""
        return self._source.head().started_at

    @property
    def done(self) -> bool:
        """True once it has ended, or its process is gone."""
        return self.outcome != "running"

    @property
    def outcome(self) -> str:
        """One of "running", "ok", "failed", "cancelled", "timeout" and "interrupted"."""
        return self._source.head().outcome

    @property
    def ok(self) -> bool:
        """True if the outcome is "ok"."""
        return self.outcome == "ok"

    @property
    def error(self) -> str | None:
        """What ended the whole run early, for example a time limit, or None."""
        return self._source.head().error

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the run.

        Args:
            timeout: seconds, above 0; None waits for as long as it takes.

        Returns:
            True if it has ended, False if the time was up.

        Raises:
            TypeError, ValueError: the timeout is wrong.
        """
        return self._source.wait(check_seconds("timeout", timeout))

    def cancel(self) -> None:
        """Stop the run as `TaskGraph.cancel` does. Does not wait; does nothing after its end.

        A run in another process is asked by way of the ledger, which that process looks at four
        times a second, unless its executor has a clock of its own.

        Raises:
            GraphError: it is a copy.
            StoreError: the ledger cannot be written.
        """
        self._source.cancel()

    def facts(self) -> RunFacts:
        """Return what has happened so far, as plain data that no longer changes."""
        return self._source.facts()

    def head(self) -> RunFacts:
        """``facts`` without those of its tasks, which makes it quick."""
        return self._source.head()

    def why(self, task: object) -> str:
        """Say in one sentence why a task waits, ran, did not run or failed.

        Args:
            task: the task, or its id, key or title.

        Raises:
            TypeError: it is of another type.
            LookupError: the run has no such task, or several with that title.
        """
        return self._source.facts().why(task)

    def report(self) -> Any:
        """Return a `RunReport` of the run as it is now."""
        # By name: reports are made from the model, so the model must not import them.
        return import_module("ttasks.report").RunReport(self.facts())

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy knows what is known now, without the tasks.
        return _remembered, (self._source.head(),)

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Run) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        head = self._source.head()
        return f"<Run {self.id} {head.title!r} #{head.number} {head.outcome}>"


class _Memory:
    """The source of a copied or pickled run: its head, as it was then."""

    is_single = False
    parent = None

    def __init__(self, head: RunFacts) -> None:
        self._head = head
        self.id = head.id
        self.graph_ids = frozenset((head.graph_id,))

    def opening(self) -> Opening:
        return opening_of(self._head)

    def head(self) -> RunFacts:
        return self._head

    def facts(self) -> RunFacts:
        return self._head

    def wait(self, timeout: float | None) -> bool:
        if self._head.outcome != "running":
            return True
        raise self._not_here()

    def cancel(self) -> None:
        if self._head.outcome == "running":
            raise self._not_here()

    def _not_here(self) -> GraphError:
        return GraphError(
            f"This is a copy of run {self.id}, which belongs to process {self._head.pid} on "
            f"{self._head.host!r}; take the run from store.runs to wait for it"
        )


def opening_of(head: RunFacts) -> Opening:
    """How a run began, from its facts."""
    return Opening(
        head.graph_id,
        head.graph_key,
        head.title,
        head.started_at,
        head.workers,
        head.options,
        head.schedule,
        head.slot,
    )


def _remembered(head: RunFacts) -> Run:
    return Run(_Memory(head))


class Holder(NamedTuple):
    """The run that a graph key belongs to.

    Attributes:
        run_id: its id.
        pid, host: its process.
        since: when it began, aware UTC.
        is_certain: False if it cannot be seen from here whether that process still runs.
    """

    run_id: str
    pid: int
    host: str
    since: datetime
    is_certain: bool = True


class RunLog(Protocol):
    """What the ``runs`` of a store must do. Thread-safe; runs are identified by their ``id``."""

    def begin(
        self, run: Run, opening: Opening, parent: tuple[Run, str, float] | None
    ) -> int | Holder:
        """Record that a run begins, unless another run has the key of its graph.

        Args:
            run: the run.
            opening: what to keep of it.
            parent: see `RunSource`.

        Returns:
            Its number; or, with nothing recorded, the run that has the key.
        """

    def describe(self, run: Run, before: frozenset[int], reasons: dict[int, Reason]) -> None:
        """Record which nodes had ended before, and why the others were not reused."""

    def discard(self, run: Run) -> None:
        """Forget a run that could not begin after all."""

    def end(self, run: Run, head: RunFacts, elsewhere: Mapping[str, Notes]) -> None:
        """Record how a run ended, and the notes of tasks whose end is not recorded yet."""

    def __getitem__(self, key: str) -> Run: ...
    def __contains__(self, key: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...


def poll_end(source: RunSource, timeout: float | None, every: float) -> bool:
    """Wait for the end of a run by polling.

    Args:
        source: the run.
        timeout: seconds; None waits for as long as it takes.
        every: seconds between two polls.

    Returns:
        True if it has ended, False if the time was up.
    """
    give_up = None if timeout is None else monotonic() + timeout
    while source.head().outcome == "running":
        left = every if give_up is None else min(every, give_up - monotonic())
        if left <= 0.0:
            return False
        sync.sleep(left)
    return True


source_of: Callable[[Run], RunSource] = attrgetter("_source")
"""The source of a run; for the engine and for stores."""


def subject_id(graph: object) -> str:
    """Return the id of a graph or task, given by itself or by its id."""
    found = graph if isinstance(graph, str) else getattr(graph, "id", None)
    if isinstance(found, str):
        return found
    raise wrong_type("graph", graph, "a TaskGraph, a Task, an id or None")
