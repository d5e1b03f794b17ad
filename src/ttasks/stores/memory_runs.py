"""The runs of an `InMemoryStore`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.model.checks import check_bool, check_int, check_optional_str
from ttasks.model.run import Holder, Opening, Run, source_of, subject_id

if TYPE_CHECKING:
    from ttasks.model.facts import RunFacts
    from ttasks.model.graph import TaskGraph
    from ttasks.model.notes import Notes
    from ttasks.model.run import Reason
    from ttasks.model.task import Task


class MemoryRuns(Mapping[str, Run]):
    """Runs by id, the live ones; iteration goes from the latest to the first. Thread-safe."""

    def __init__(self) -> None:
        # Runs are added, removed and copied in one operation of the list each: no lock.
        self._runs: list[Run] = []
        # Protects ``_numbers`` and ``_holders``.
        self._lock = sync.Lock()
        self._numbers: dict[str, int] = {}
        self._holders: dict[str, tuple[Run, Holder]] = {}

    def __getitem__(self, key: str) -> Run:
        for run in self._latest_first():
            if run.id == key:
                return run
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        name = key.id if isinstance(key, Run) else key
        return any(run.id == name for run in self._latest_first())

    def __iter__(self) -> Iterator[str]:
        return iter([run.id for run in self._latest_first()])

    def __len__(self) -> int:
        return len(self._runs)

    def list(
        self,
        *,
        graph: TaskGraph | Task | str | None = None,
        key: str | None = None,
        limit: int | None = None,
        nested: bool = False,
    ) -> tuple[Run, ...]:
        """Runs, the latest first.

        Args:
            graph: only those of this graph, or of this single task, or of the one with this id.
            key: only those of graphs of this key.
            limit: maximum number of runs, at least 1; None means all.
            nested: also nested runs.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        subject = None if graph is None else subject_id(graph)
        check_optional_str("key", key)
        if limit is not None:
            check_int("limit", limit, least=1)
        check_bool("nested", nested)
        found = [
            run
            for run in self._latest_first()
            if (nested or source_of(run).parent is None)
            and (subject is None or run.graph_id == subject)
            and (key is None or run.graph_key == key)
        ]
        return tuple(found[:limit])

    def latest(
        self, *, graph: TaskGraph | Task | str | None = None, key: str | None = None
    ) -> Run | None:
        """The latest run, of a graph or a key if they are given; None if there is none."""
        return next(iter(self.list(graph=graph, key=key, limit=1)), None)

    def _latest_first(self) -> Sequence[Run]:
        """A copy, made in one operation: others may add and remove runs meanwhile."""
        return self._runs[::-1]

    # For the engine; see `ttasks.model.run.RunLog`

    def add(self, run: Run) -> None:
        """Remember the run of a single task."""
        self._runs.append(run)

    def begin(
        self, run: Run, opening: Opening, parent: tuple[Run, str, float] | None
    ) -> int | Holder:
        """See `ttasks.model.run.RunLog`."""
        key = opening.key
        name = opening.subject if key is None else f"key {key}"
        holder = _holder(run)
        with self._lock:
            if key is not None:
                if key in self._holders:
                    return self._holders[key][1]
                self._holders[key] = run, holder
            number = self._numbers[name] = self._numbers.get(name, 0) + 1
        self._runs.append(run)
        return number

    def describe(self, run: Run, before: frozenset[int], reasons: dict[int, Reason]) -> None:
        """Nothing: the run itself knows."""

    def discard(self, run: Run) -> None:
        """See `ttasks.model.run.RunLog`."""
        self._let_go(run)
        self._runs.remove(run)

    def end(self, run: Run, head: RunFacts, elsewhere: Mapping[str, Notes]) -> None:
        """Let others run the key of its graph; the run itself knows the rest."""
        self._let_go(run)

    def _let_go(self, run: Run) -> None:
        with self._lock:
            for key, (holder, _) in list(self._holders.items()):
                if holder is run:
                    del self._holders[key]


def _holder(run: Run) -> Holder:
    head = source_of(run).head()
    return Holder(head.id, head.pid, head.host, head.started_at)
