"""Past runs: runs in a ledger, including those that other processes carry out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from time import time_ns
from typing import TYPE_CHECKING, Any

from ttasks.errors import StoreError
from ttasks.model.facts import RunFacts
from ttasks.model.gather import Child, Seen, gather, with_waits
from ttasks.model.graph import Node
from ttasks.model.notes import Notes
from ttasks.model.policy import DependencyPolicy
from ttasks.model.run import OUTCOMES, Opening, opening_of, poll_end
from ttasks.model.status import TaskStatus
from ttasks.processes import Liveness, ProcessIdentity
from ttasks.stores.sqlite import checksums, event_rows
from ttasks.stores.sqlite.codec import DAMAGE
from ttasks.stores.sqlite.plain import from_json, from_micros, from_optional
from ttasks.stores.sqlite.run_rows import (
    SELECT,
    Noted,
    Row,
    ask_cancel,
    checked,
    noted_of,
    notes_of,
    restored,
)

if TYPE_CHECKING:
    from ttasks.stores.sqlite.graphs import LedgerGraphs
    from ttasks.stores.sqlite.ledger import Ledger
    from ttasks.stores.sqlite.tasks import LedgerTasks

POLL_SECONDS = 0.05
"""How often `Run.wait` looks at a run of another process."""

_EVENTS = f"""
SELECT {event_rows.COLUMNS} FROM {event_rows.TABLES}
WHERE events.seq > ? AND events.seq <= ? ORDER BY events.seq LIMIT ?
"""
_PAGE = 2000
_MOST = 2**62  # fits into an integer of SQLite


class RunReader:
    """Reads what a ledger knows of runs. Thread-safe.

    Args:
        ledger: the file.
        graphs, tasks: its collections.
        is_mine: True for the row of this process among the owners.
        is_open: True for the id of a run that this store is writing.
    """

    def __init__(
        self,
        ledger: Ledger,
        graphs: LedgerGraphs,
        tasks: LedgerTasks,
        is_mine: Callable[[int], bool],
        is_open: Callable[[str], bool],
    ) -> None:
        self._ledger = ledger
        self.graphs = graphs
        self.tasks = tasks
        self._is_mine = is_mine
        self._is_open = is_open

    def row(self, where: str, *values: Any) -> Row | None:
        with self._ledger.reading() as connection:
            try:
                found = connection.execute(SELECT + where, values).fetchone()
            except UnicodeEncodeError:
                return None
        return None if found is None else checked(found)

    def row_of(self, run_id: str) -> Row:
        """The row of a run.

        Raises:
            StoreError: it has been deleted, or is damaged.
        """
        row = self.row("WHERE runs.id=?", run_id)
        if row is None:
            raise StoreError(f"Run {run_id!r} is no longer in the ledger")
        return row

    def inside(self, seq: int) -> list[Row]:
        """The runs inside of one, in the order of their start."""
        with self._ledger.reading() as connection:
            rows = connection.execute(
                f"{SELECT} WHERE parent=? ORDER BY runs.seq", (seq,)
            ).fetchall()
        return [checked(row) for row in rows]

    def is_latest(self, row: Row) -> bool:
        """True if its graph has not run again since."""
        return self.row("WHERE subject=? AND runs.seq>?", row.subject, row.seq) is None

    def events(self, row: Row) -> dict[str, list[Noted]]:
        """What was noted of the tasks of a run, by id."""
        single = from_json(row.facts)["single"]
        after, told = row.after, (from_json(row.ending) or {}).get("events")
        path, found = self._ledger.path, dict[str, list[Noted]]()
        while True:
            with self._ledger.reading() as connection:
                last = max(event_rows.last_event(connection, path), told or 0)
                values = (after, told or _MOST, _PAGE)
                page = connection.execute(_EVENTS, values).fetchall()
                after = event_rows.check_page(connection, path, page, after, told or last, _PAGE)
            for columns in page:
                task_id = event_rows.check_event(columns)
                entry = noted_of(columns[5:], (row.seq, row.id))
                if entry is not None and task_id is not None:
                    found.setdefault(task_id, []).append(entry)
                    if single and entry.is_last:
                        return found
            if len(page) < _PAGE:
                return found

    def ask_cancel(self, run_id: str) -> None:
        """Ask the process of a run to stop it; nothing happens if it has ended."""
        self._ledger.writer.write(lambda connection: ask_cancel(connection, run_id))

    def liveness(self, row: Row) -> Liveness:
        """Whether the process of a run still runs it."""
        if self._is_mine(row.owner):
            return Liveness.ALIVE if self._is_open(row.id) else Liveness.GONE
        if row.pid is None:
            return Liveness.GONE
        identity = ProcessIdentity(
            from_optional(row.host) or "", row.boot or "", row.pid, row.started or ""
        )
        return identity.liveness()


class PastRun:
    """A run as the ledger has it: a `ttasks.model.run.RunSource`."""

    is_single = False
    parent = None

    def __init__(self, runs: RunReader, run_id: str) -> None:
        self._runs = runs
        self.id = run_id
        self._ended: RunFacts | None = None

    @property
    def graph_ids(self) -> frozenset[str]:
        return frozenset((self._runs.row_of(self.id).subject,))

    def opening(self) -> Opening:
        return opening_of(self.head())

    def head(self) -> RunFacts:
        if self._ended is not None:
            return self._ended
        head = self._head(self._runs.row_of(self.id))
        if head.ended_at is not None:
            self._ended = head  # nobody changes that any more
        return head

    def _head(self, row: Row) -> RunFacts:
        facts, ending = from_json(row.facts), from_json(row.ending)
        head = RunFacts(
            id=row.id,
            number=row.number,
            graph_id=row.subject,
            graph_key=from_optional(row.key),
            title=facts["title"],
            started_at=from_micros(row.started_at),
            host=from_optional(row.host) or "",
            pid=row.pid or 0,
            workers=facts["workers"],
            options=facts["options"],
            parent_id=facts.get("parent"),
            schedule=facts.get("schedule"),
            slot=from_micros(facts["slot"]) if "slot" in facts else None,
        )
        if ending is not None:
            return replace(
                head,
                ended_at=from_micros(ending["ended"]),
                duration=ending["duration"],
                outcome=row.outcome or "interrupted",
                error=ending["error"],
                elapsed=ending["duration"],
                counts=ending.get("counts", {}),
                failed=tuple(ending.get("failed", ())),
            )
        if facts["single"]:
            return self._single(row, head)
        return self._unfinished(row, head)

    def _unfinished(self, row: Row, head: RunFacts) -> RunFacts:
        """A run without an end goes on, or its process is gone."""
        if row.outcome is not None or self._runs.liveness(row) is Liveness.GONE:
            return replace(head, outcome="interrupted")
        return replace(head, elapsed=max(0.0, (time_ns() // 1000 - row.started_at) / 1e6))

    def _single(self, row: Row, head: RunFacts) -> RunFacts:
        """The run of one task has ended with it."""
        events = self._runs.events(row).get(row.subject, [])
        if not events or not events[-1].is_last:
            return self._unfinished(row, head)
        ended = events[-1].notes[0]
        return replace(
            head,
            ended_at=head.started_at + timedelta(seconds=ended),
            duration=ended,
            outcome=OUTCOMES[events[-1].status],
            elapsed=ended,
        )

    def facts(self) -> RunFacts:
        row = self._runs.row_of(self.id)
        return self._facts(row)

    def _facts(self, row: Row) -> RunFacts:
        try:
            return self._decoded(row)
        except DAMAGE as problem:
            raise checksums.damaged(f"run {row.id!r}", repr(problem)) from problem

    def _decoded(self, row: Row) -> RunFacts:
        head = self._head(row)
        facts, told = from_json(row.facts), from_json(row.nodes) or {}
        elsewhere = (from_json(row.ending) or {}).get("elsewhere", {})
        nodes = self._nodes(row, facts["single"])
        events, is_latest = self._runs.events(row), self._runs.is_latest(row)
        before = frozenset(told.get("before", ()))
        reasons = told.get("reasons", {})
        number = {node.task.id: at for at, node in enumerate(nodes)}
        seen: list[Seen] = []
        for at, node in enumerate(nodes):
            task = node.task
            noted = events.get(task.id, [])
            result = task.result if is_latest else None
            notes = Notes()
            if noted:
                notes = notes_of(noted, None if result is None else result.termination_reason)
            if task.id in elsewhere:
                notes = restored(elsewhere[task.id])
            status, error = task.status, task.error
            if not is_latest and at not in before:
                status, error = (noted[-1].status, noted[-1].error) if noted else _NEVER
            if noted and noted[-1].is_retried and head.outcome == "running":
                status = TaskStatus.PENDING  # it waits for its next attempt
            reason = reasons.get(str(at))
            seen.append(
                Seen(
                    task,
                    [number[end.id] for end in node.after if end.id in number],
                    notes,
                    node.finally_,
                    node.required,
                    status,
                    error,
                    task.blocked_by if is_latest else None,
                    result,
                    at in before,
                    None if reason is None else (reason[0], tuple(reason[1])),
                )
            )
        if head.outcome == "running":
            seen = with_waits(seen, head.workers)
        if not head.elapsed and head.outcome == "interrupted":
            head = replace(head, elapsed=_last_moment(seen))
        return gather(head, seen, self._children(row))

    def _nodes(self, row: Row, single: bool) -> list[Node]:
        if single:
            task = self._runs.tasks.get(row.subject)
            return [] if task is None else [Node(task, (), False, True, DependencyPolicy.BLOCK)]
        graph = self._runs.graphs.get(row.subject)
        if graph is None:
            len([*self._runs.graphs])  # it was deleted, unless the id in one of them is damaged
            return []
        return graph.nodes()

    def _children(self, row: Row) -> list[Child]:
        children = []
        for inner in self._runs.inside(row.seq):
            facts = from_json(inner.facts)
            children.append(Child(facts["task"], facts["start"], self._facts(inner)))
        return children

    def wait(self, timeout: float | None) -> bool:
        return poll_end(self, timeout, POLL_SECONDS)

    def cancel(self) -> None:
        if self.head().outcome == "running":
            self._runs.ask_cancel(self.id)


_NEVER = (TaskStatus.PENDING, None)


def _last_moment(seen: Sequence[Seen]) -> float:
    moments = [0.0]
    for item in seen:
        notes = item.notes
        found = [notes.ready, notes.started, notes.ended, *(wait[0] for wait in notes.waits)]
        moments += [moment for moment in found if moment is not None]
    return max(moments)
