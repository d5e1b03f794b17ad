"""The journal of a ledger: an append-only record of what happened, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ttasks.errors import StoreError
from ttasks.model.checks import check_callable, check_int, check_number, wrong_type
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.graph import TaskGraph
from ttasks.model.run import Run
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.stores.sqlite import checksums, event_rows, graph_rows
from ttasks.stores.sqlite.codec import (
    DAMAGE,
    PARTS,
    STATE,
    WORK_IN_SHORT,
    check_state,
    check_work,
)
from ttasks.stores.sqlite.connection import Connection
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.plain import (
    from_json,
    from_micros,
    from_optional,
    from_text,
    to_text,
)
from ttasks.stores.sqlite.run_rows import SELECT as RUNS
from ttasks.stores.sqlite.run_rows import checked as checked_run
from ttasks.stores.sqlite.tasks import check_absent
from ttasks.stores.sqlite.transitions import encode_event, insert_events

LIFECYCLE = frozenset(TaskEventType) - {
    TaskEventType.OUTPUT,
    TaskEventType.PROGRESS,
    TaskEventType.PERSISTENCE_FAILED,
    TaskEventType.RUN_STARTED,
    TaskEventType.RUN_STOPPING,
    TaskEventType.RUN_ENDED,
}
"""The events that a journal keeps by default. Those of runs are in the ledger's ``runs``."""

SELECT_EVENTS = f"""
SELECT {event_rows.COLUMNS}, tasks.created_at, {WORK_IN_SHORT}
FROM {event_rows.TABLES} LEFT JOIN works ON works.task = events.task
WHERE events.seq > ?
"""
"""The columns that `decode_event` expects, for a condition and an order to follow."""
_LAST = f"SELECT {event_rows.COLUMNS} FROM {event_rows.TABLES} WHERE events.seq=?"
_ORDER = " ORDER BY events.seq LIMIT ?"
_OF_TASK = "events.task = (SELECT seq FROM tasks WHERE id=?)"
_OF_GRAPH = """
events.task IN (SELECT task FROM nodes WHERE graph = (SELECT seq FROM graphs WHERE id=?))
"""
# Tasks of its graph, or its only task, and those of the runs inside of it.
_OF_RUN = """
events.task IN (
    WITH RECURSIVE inside(seq, subject) AS (
        SELECT seq, subject FROM runs WHERE id=?
        UNION SELECT runs.seq, runs.subject FROM runs JOIN inside ON runs.parent = inside.seq
    )
    SELECT nodes.task FROM inside JOIN graphs ON graphs.id = inside.subject
        JOIN nodes ON nodes.graph = graphs.seq
    UNION SELECT tasks.seq FROM inside JOIN tasks ON tasks.id = inside.subject
)
"""
_UP_TO = " AND events.seq <= ?"
_TASK = f"""
SELECT {STATE}, results.checksum, {WORK_IN_SHORT} FROM tasks {PARTS} WHERE id=?
"""

_PAGE = 1000
_MOST = 2**62  # fits into an integer of SQLite


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An event as a journal keeps it.

    Attributes:
        seq: number in the journal; ascending, never used twice; there may be gaps.
        task_id: id of the task.
        title: title of the task as it was saved last.
        type: what happened.
        timestamp: aware UTC.
        previous_status, status: before and after; equal where the event is no transition.
        attempt: number of the attempt, from 1; 0 if the task never started.
        error, retry_in, progress_percent, progress_message, output_stream, output_chunk: see
            `TaskEvent`.
    """

    seq: int
    task_id: str
    title: str
    type: TaskEventType
    timestamp: datetime
    previous_status: TaskStatus
    status: TaskStatus
    attempt: int = 0
    error: str | None = None
    retry_in: float | None = None
    progress_percent: float | None = None
    progress_message: str | None = None
    output_stream: str | None = None
    output_chunk: str | None = None


class Journal:
    """Events in the order in which they were committed. Thread-safe.

    Other processes may read, follow and add at the same time. The events of a task disappear when
    it is deleted. Finding events by number is fast; those of a task or graph are searched for among
    all after the number (a million in about a second).

    Args:
        kinds: the events that the engine writes here.
    """

    def __init__(self, ledger: Ledger, kinds: frozenset[TaskEventType]) -> None:
        self._ledger = ledger
        self.kinds = kinds

    def wants(self, kind: TaskEventType) -> bool:
        """True if the engine writes this kind of event here."""
        return kind in self.kinds

    def append(self, *events: TaskEvent) -> None:
        """Add events of tasks that were saved before; when this returns, they are committed.

        Raises:
            TypeError: one is not a TaskEvent.
            StoreError: its task was never saved, or SQLite could not write; none was added.
        """
        rows = [encode_event(event) for event in events]
        self._ledger.writer.write(lambda connection: insert_events(connection, rows))

    @property
    def last(self) -> int:
        """Number of the newest event; 0 if there never was one."""
        with self._ledger.reading() as connection:
            last = event_rows.last_event(connection, self._ledger.path)
            rows = connection.execute(_LAST, (last,)).fetchall()
        for row in rows:
            event_rows.check_event(row)
        return last

    def read(
        self,
        *,
        task: Task | str | None = None,
        graph: TaskGraph | str | None = None,
        run: Run | str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[JournalEntry]:
        """The events with a number above ``after``, in order.

        Args:
            task: only those of this task (or the one with this id).
            graph: only those of tasks of this graph, as it was saved last.
            run: only those of this run (or the one with this id), and of runs inside of it.
            after: number of the last event that is known already; at least 0.
            limit: maximum number of events, at least 1; None means all.

        Raises:
            TypeError, ValueError: an argument is wrong.
            StoreError: it cannot be read.
        """
        where = _Filter(task, graph, run)
        check_int("after", after, least=0)
        if limit is not None:
            check_int("limit", limit, least=1)
        most = _MOST if limit is None else min(limit, _MOST)
        self._check(where)
        found, after, is_more = self._page(where, min(after, _MOST), most)
        while is_more and len(found) < most:  # there were events of deleted tasks among them
            entries, after, is_more = self._page(where, after, most - len(found))
            found += entries
        return found

    def follow(
        self,
        *,
        task: Task | str | None = None,
        graph: TaskGraph | str | None = None,
        run: Run | str | None = None,
        after: int = 0,
        poll: float = 0.1,
        until: Callable[[], bool] | None = None,
    ) -> Iterator[JournalEntry]:
        """The events with a number above ``after``, and then each new one as it comes.

        Ends when the store is closed, or when ``until`` has returned True and nothing new has come
        since. Arguments as for ``read``, and:

        Args:
            poll: seconds between two reads, above 0.
            until: called before each read.
        """
        where = _Filter(task, graph, run)
        check_int("after", after, least=0)
        check_number("poll", poll, above=0)
        if until is not None:
            check_callable("until", until)
        return self._follow(where, min(after, _MOST), poll, until)

    def _follow(
        self, where: _Filter, after: int, poll: float, until: Callable[[], bool] | None
    ) -> Iterator[JournalEntry]:
        is_checked = False
        while not self._ledger.is_closed:
            is_over = until is not None and until()
            try:
                if not is_checked:
                    self._check(where)
                    is_checked = True
                entries, after, is_more = self._page(where, after, _PAGE)
            except StoreError:
                if self._ledger.is_closed:
                    return
                raise
            yield from entries
            if not entries and not is_more:
                if is_over:
                    return
                self._ledger.wait_closed(poll)

    def _check(self, where: _Filter) -> None:
        """Check the rows that say which events are those of a task and of a graph."""
        row = None
        with self._ledger.reading() as connection:
            if where.task is not None:
                row = connection.execute(_TASK, (where.task,)).fetchone()
            if where.graph is not None:
                graph_rows.statuses(connection, where.graph)
        if row is not None:
            state, result, work = row[:9], row[9], row[10:]
            check_state(state, result)
            check_work(state[0], state[2], work)
        elif where.task is not None:
            check_absent(self._ledger, where.task)

    def _page(self, where: _Filter, after: int, limit: int) -> tuple[list[JournalEntry], int, bool]:
        """Events, the number up to which there are no others, and whether there may be more."""
        path = self._ledger.path
        with self._ledger.reading() as connection:
            # First, so that events committed in between belong to the next page.
            last = event_rows.last_event(connection, path)
            first, most = where.span(connection)
            after, last = max(after, first), min(last, most)
            if last <= after:
                return [], after, False
            rows = connection.execute(
                SELECT_EVENTS + where.sql + _UP_TO + _ORDER, (after, *where.values, most, limit)
            ).fetchall()
            end = event_rows.check_page(connection, path, rows, after, last, limit)
        titles: dict[str, str] = {}
        decoded = (decode_event(row, titles) for row in rows)
        return [entry for entry in decoded if entry is not None], end, len(rows) == limit


class _Filter:
    """The condition for the events of a task, of a graph and of a run."""

    def __init__(self, task: object, graph: object, run: object) -> None:
        self.task = _id_of("task", task, Task)
        self.graph = _id_of("graph", graph, TaskGraph)
        self._run = _id_of("run", run, Run)
        parts = ((self.task, _OF_TASK), (self.graph, _OF_GRAPH), (self._run, _OF_RUN))
        found = [(value, sql) for value, sql in parts if value is not None]
        if found:
            condition = " AND ".join(sql for _, sql in found)
            self.sql = f" AND ({condition} OR {event_rows.IS_ODD})"
        else:
            self.sql = ""
        self.values = tuple(value for value, _ in found)

    def span(self, connection: Connection) -> tuple[int, int]:
        """Numbers of the last event before those that are meant, and of the last one of them.

        Raises:
            StoreError: there is no such run, or its row is damaged.
        """
        if self._run is None:
            return 0, _MOST
        found = connection.execute(f"{RUNS} WHERE runs.id=?", (self._run,)).fetchone()
        if found is None:
            raise StoreError(f"Run {self._run!r} is not in the ledger")
        row = checked_run(found)
        try:
            end = (from_json(row.ending) or {}).get("events")
        except DAMAGE as problem:
            raise checksums.damaged(f"run {row.id!r}", repr(problem)) from problem
        if end is None:  # it goes on, was interrupted, or is that of a single task
            following = connection.execute(
                f"{RUNS} WHERE runs.subject=? AND runs.seq>? ORDER BY runs.seq LIMIT 1",
                (row.subject, row.seq),
            ).fetchone()
            end = _MOST if following is None else checked_run(following).after
        return row.after, end


def _id_of(name: str, value: object, kind: type[Task] | type[TaskGraph] | type[Run]) -> Any:
    if value is None:
        return None
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, kind):
        return value.id
    raise wrong_type(name, value, f"a {kind.__name__}, its id or None")


def decode_event(row: Sequence[Any], titles: dict[str, str]) -> JournalEntry | None:
    """The entry of a row; None if its task has been deleted.

    ``titles`` are those of the tasks whose works have been checked.
    """
    task_id = event_rows.check_event(row[: event_rows.WIDTH])
    if task_id is None:
        return None
    seq, columns = row[0], row[5 : event_rows.WIDTH]
    created_at, *work = row[event_rows.WIDTH :]
    what = f"event {seq}"
    try:
        if task_id not in titles:
            check_work(task_id, created_at, work)
            titles[task_id] = from_text(work[1])
        kind, at, previous, status, attempt, error, details, chunk = columns
        facts = from_json(details) or {}
        return JournalEntry(
            seq,
            task_id,
            titles[task_id],
            TaskEventType(kind),
            from_micros(at),
            TaskStatus(previous),
            TaskStatus(status),
            attempt,
            from_optional(error),
            facts.get("retry_in"),
            facts.get("percent"),
            facts.get("message"),
            facts.get("stream"),
            from_optional(chunk),
        )
    except DAMAGE as problem:
        raise checksums.damaged(what, repr(problem)) from problem
