"""The runs of a ledger: who ran what, when, and how it ended.

A run has a row of its own, written when it begins and when it ends. What the plan noted about
its tasks (`ttasks.model.notes.Notes`) goes into the details of their events, so it costs no further
commit. A run whose process is gone without having written an end reads as interrupted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ttasks.errors import GraphError
from ttasks.model.checks import check_bool, check_int, check_optional_str
from ttasks.model.facts import RunFacts
from ttasks.model.graph import TaskGraph
from ttasks.model.notes import Notes
from ttasks.model.run import Holder, Opening, Run, source_of, subject_id
from ttasks.model.task import Task
from ttasks.processes import Liveness
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.past_run import PastRun, RunReader
from ttasks.stores.sqlite.plain import (
    from_micros,
    from_optional,
    to_json,
    to_micros,
    to_optional,
    to_text,
)
from ttasks.stores.sqlite.run_rows import (
    INSERT,
    SELECT,
    Row,
    cancelled_of,
    checked,
    checksum_of,
    is_cancelled,
    with_cancel,
)

if TYPE_CHECKING:
    from ttasks.model.run import Reason
    from ttasks.stores.sqlite.graphs import LedgerGraphs
    from ttasks.stores.sqlite.ledger import Ledger
    from ttasks.stores.sqlite.owners import Owners
    from ttasks.stores.sqlite.tasks import LedgerTasks

# The owner of a task is part of its checksum, see `checksums.with_owner`. A running task without an
# owner counts as interrupted.
_DISOWN = f"""
UPDATE tasks SET owner=NULL,
    checksum=(checksum - owner * {checksums.OWNER_FACTOR}) & {checksums.MASK}
WHERE status='running' AND listed AND owner=? AND (
    id=? OR seq IN (SELECT task FROM nodes JOIN graphs ON graphs.seq=graph WHERE graphs.id=?)
)
"""
# Numbers are never used again, so that events of a deleted run are of no other.
_NEXT_RUN = """
1 + max(
    (SELECT coalesce(max(seq), 0) FROM runs),
    coalesce((SELECT seq FROM sqlite_sequence WHERE name='runs'), 0)
)
"""


class UnderWay(NamedTuple):
    """A run that this store is writing."""

    run: Run
    seq: int
    values: tuple[Any, ...]  # of its row, from ``id`` to ``facts``
    nodes: str | None = None
    is_single: bool = False


class LedgerRuns(Mapping[str, Run]):
    """Runs by id; iteration goes from the latest to the first. Thread-safe.

    A run that goes on in this process is live. Any other run is read from the ledger, anew for each
    question, so it can be watched while another process carries it out.
    """

    def __init__(
        self, ledger: Ledger, owners: Owners, graphs: LedgerGraphs, tasks: LedgerTasks
    ) -> None:
        self._ledger = ledger
        self._owners = owners
        # By id; set by the thread that begins a run, removed by the one that ends it, each in one
        # operation of the dict.
        self.under_way: dict[str, UnderWay] = {}
        self._unended: dict[str, UnderWay] = {}  # whose end could not be written yet
        self._reader = RunReader(
            ledger, graphs, tasks, lambda row: row == owners.row, self.under_way.__contains__
        )

    # Reading

    def __getitem__(self, key: str) -> Run:
        row = self._reader.row("WHERE runs.id=?", key) if isinstance(key, str) else None
        if row is None:
            raise KeyError(key)
        return self._run(row.id)

    def __contains__(self, key: object) -> bool:
        name = key.id if isinstance(key, Run) else key
        return isinstance(name, str) and self._reader.row("WHERE runs.id=?", name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([run.id for run in self.list(nested=True)])

    def __len__(self) -> int:
        with self._ledger.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])

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
        where: list[str] = ["1"]
        values: list[Any] = []
        if graph is not None:
            where.append("subject=?")
            values.append(subject_id(graph))
        if check_optional_str("key", key) is not None:
            where.append("key=?")
            values.append(to_text(cast(str, key)))
        if limit is not None:
            check_int("limit", limit, least=1)
        check_bool("nested", nested)
        sql = f"{SELECT} WHERE {' AND '.join(where)} ORDER BY runs.seq DESC"
        found: list[str] = []
        with self._ledger.reading() as connection:
            # Which run is inside of another is known once its row has been checked.
            for row in map(checked, connection.execute(sql, values)):
                if nested or row.parent is None:
                    found.append(row.id)
                    if len(found) == limit:
                        break
        return tuple(map(self._run, found))

    def latest(
        self, *, graph: TaskGraph | Task | str | None = None, key: str | None = None
    ) -> Run | None:
        """The latest run, of a graph or a key if they are given; None if there is none."""
        return next(iter(self.list(graph=graph, key=key, limit=1)), None)

    def _run(self, run_id: str) -> Run:
        known = self.under_way.get(run_id)
        return Run(PastRun(self._reader, run_id)) if known is None else known.run

    def mark_interrupted(self, run: Run | str) -> None:
        """Declare that the process of a run is gone, if that cannot be seen from here.

        Its host or container may have been lost. Afterwards the key of its graph is free, and tasks
        that were RUNNING count as interrupted. Does nothing if the run has ended.

        Args:
            run: the run, or its id.

        Raises:
            KeyError: there is no such run.
            GraphError: its process still runs on this machine.
            StoreError: SQLite could not write.
        """
        run_id = subject_id(run)
        if run_id not in self:
            raise KeyError(run_id)
        row = self._reader.row_of(run_id)
        if row.outcome is not None:
            return
        if self._reader.liveness(row) is Liveness.ALIVE:
            raise GraphError(
                f"Run {run_id} is still running in process {row.pid}; it was not interrupted"
            )

        def work(connection: sqlite3.Connection) -> None:
            _interrupt(connection, row)
            connection.execute(_DISOWN, (row.owner, row.subject, row.subject))

        self._ledger.writer.write(work)

    # Writing, for the engine; see `ttasks.model.run.RunLog`

    def begin(
        self, run: Run, opening: Opening, parent: tuple[Run, str, float] | None
    ) -> int | Holder:
        """See `ttasks.model.run.RunLog`."""
        owner = self._owners.mine()

        def work(connection: sqlite3.Connection) -> Holder | UnderWay:
            if opening.key is not None:
                holder = self._holder(connection, to_text(opening.key))
                if holder is not None:
                    return holder
            found = self._insert(connection, run, opening, owner, parent)
            # Before the commit: whoever asks next, even in the same transaction, must not take a
            # row of this process for one that nobody runs any more.
            self.under_way[run.id] = found
            return found

        try:
            found = self._ledger.writer.write(work)
        except BaseException:
            self.under_way.pop(run.id, None)
            raise
        if isinstance(found, Holder):
            return found
        return cast(int, found.values[2])

    def _insert(
        self,
        connection: sqlite3.Connection,
        run: Run,
        opening: Opening,
        owner: int,
        parent: tuple[Run, str, float] | None = None,
        *,
        single: bool = False,
    ) -> UnderWay:
        key = to_optional(opening.key)
        column, value = ("subject", opening.subject) if key is None else ("key", key)
        number, seq = connection.execute(
            f"SELECT coalesce(max(number), 0) + 1, {_NEXT_RUN} FROM runs WHERE {column}=?",
            (value,),
        ).fetchone()
        facts: dict[str, Any] = {
            "title": opening.title,
            "workers": opening.workers,
            "options": dict(opening.options),
            "single": single,
        }
        if opening.schedule is not None and opening.slot is not None:
            facts |= {"schedule": opening.schedule, "slot": to_micros(opening.slot)}
        outer = None
        if parent is not None:
            known = self.under_way.get(parent[0].id)
            outer = None if known is None else known.seq
            facts |= {"parent": parent[0].id, "task": parent[1], "start": parent[2]}
        started_at = to_micros(opening.started_at)
        text = to_json(facts)
        values = (run.id, opening.subject, number, key, owner, outer, started_at)
        row = (*values, None, text, None, None)
        connection.execute(INSERT, (seq, *row, checksum_of(seq, row)))
        return UnderWay(run, seq, (*values, text), is_single=single)

    def _holder(self, connection: sqlite3.Connection, key: Any) -> Holder | None:
        """Who runs the graphs of a key, if anybody does."""
        rows = connection.execute(
            f"{SELECT} WHERE key=? AND outcome IS NULL ORDER BY runs.seq DESC", (key,)
        ).fetchall()
        for found in rows:
            row = checked(found)
            liveness = self._reader.liveness(row)
            if liveness is Liveness.GONE:
                _interrupt(connection, row)  # so that nobody has to look at it again
            else:
                return Holder(
                    row.id,
                    row.pid or 0,
                    from_optional(row.host) or "",
                    from_micros(row.started_at),
                    liveness is Liveness.ALIVE,
                )
        return None

    def describe(self, run: Run, before: frozenset[int], reasons: dict[int, Reason]) -> None:
        """See `ttasks.model.run.RunLog`."""
        known = self.under_way.get(run.id)
        if known is None or not (before or reasons):
            return
        known = known._replace(nodes=to_json({"before": sorted(before), "reasons": reasons}))
        self.under_way[run.id] = known
        self._update(known, None, None)

    def discard(self, run: Run) -> None:
        """See `ttasks.model.run.RunLog`."""
        known = self.under_way.pop(run.id, None)
        if known is not None:
            self._ledger.writer.write(
                lambda connection: connection.execute("DELETE FROM runs WHERE seq=?", (known.seq,))
            )

    def end(self, run: Run, head: RunFacts, elsewhere: Mapping[str, Notes]) -> None:
        """See `ttasks.model.run.RunLog`."""
        known = self.under_way.pop(run.id, None) or self._unended.get(run.id)
        if known is None or head.ended_at is None:
            return
        self._unended[run.id] = known
        ending = {
            "ended": to_micros(head.ended_at),
            "duration": head.duration,
            "error": head.error,
            "elsewhere": elsewhere,
            "counts": head.counts,
            "failed": head.failed,
        }
        self._update(known, head.outcome, ending)
        del self._unended[run.id]

    def _update(self, known: UnderWay, outcome: str | None, ending: dict[str, Any] | None) -> None:
        def work(connection: sqlite3.Connection) -> None:
            text = None
            if ending is not None:
                (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
                text = to_json(ending | {"events": last})
            nodes = known.nodes
            if ending is None:
                nodes = with_cancel(connection, known.seq, nodes)
            *values, facts = known.values
            row = (*values, outcome, facts, nodes, text)
            connection.execute(
                "UPDATE runs SET outcome=?, nodes=?, ending=?, checksum=? + after WHERE seq=?",
                (outcome, nodes, text, checksum_of(known.seq, row), known.seq),
            )

        self._ledger.writer.write(work)

    def is_cancelled(self, run: Run) -> bool:
        """True if another process has asked to stop a run of this one."""
        known = self.under_way.get(run.id)
        if known is None:
            return False
        with self._ledger.reading() as connection:
            return is_cancelled(connection, known.seq)

    def single_to_cancel(self) -> tuple[Run, ...]:
        """Runs of single tasks of this process that another process has asked to stop."""
        singles = {one.seq: one.run for one in tuple(self.under_way.values()) if one.is_single}
        if not singles:
            return ()
        with self._ledger.reading() as connection:
            return tuple(singles[seq] for seq in cancelled_of(connection, list(singles)))

    def beginning(self, run: Run) -> Callable[[sqlite3.Connection], None] | None:
        """What writes the run of a single task, before its first event; None for other runs."""
        source = source_of(run)
        if not source.is_single:
            return None
        owner, opening = self._owners.mine(), source.opening()

        def insert(connection: sqlite3.Connection) -> None:
            self.under_way[run.id] = self._insert(
                connection, run, opening, owner, source.parent, single=True
            )

        return insert

    def let_go(self, run: Run) -> None:
        """Forget the run of a single task that has ended, or a run that could not be written."""
        self.under_way.pop(run.id, None)


def _interrupt(connection: sqlite3.Connection, row: Row) -> None:
    """Note that a run was interrupted."""
    values = (*row[1:8], "interrupted", *row[9:12])
    connection.execute(
        "UPDATE runs SET outcome='interrupted', checksum=? + after WHERE seq=?",
        (checksum_of(row.seq, values), row.seq),
    )
