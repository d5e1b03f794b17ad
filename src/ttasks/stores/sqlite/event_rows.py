"""Rows of ``events``: whose they are, and whether any is missing.

Events are numbered without a gap. Only `delete_stray_events` removes some, and it notes their
numbers in ``gaps``, so counting tells whether rows are missing. Their tasks have been deleted by
then; until then ``deleted`` keeps the ids, which the checksums of the events cover.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ttasks.errors import StoreError
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.plain import from_json
from ttasks.stores.sqlite.transitions import of_event, with_task

COLUMNS = """
events.seq, events.checksum, events.task, tasks.id, deleted.id,
    events.type, at, previous, events.status, attempt, events.error, events.details, chunk
"""
"""The columns that `check_event` expects, for a SELECT from `TABLES`."""
WIDTH = 13
"""The number of these columns."""
TABLES = """
events LEFT JOIN tasks ON tasks.seq=events.task LEFT JOIN deleted ON deleted.task=events.task
"""
IS_ODD = f"(events.checksum - events.seq - events.task) % {checksums.TASK_MODULUS} IS NOT 0"
"""True for a row whose task is not the one that it was written for, as far as SQL can tell.

A condition must let these pass, so that `check_event` sees them.
"""

_ENDS = """
SELECT (SELECT coalesce(min(seq), 1) FROM events), (SELECT coalesce(max(seq), 0) FROM events),
    (SELECT after FROM runs ORDER BY seq DESC LIMIT 1),
    (SELECT ending FROM runs ORDER BY seq DESC LIMIT 1)
"""
_COUNT = """
SELECT (SELECT count(*) FROM events WHERE seq>:after AND seq<=:last) + (
    SELECT coalesce(sum(min(gaps.last, :last) - max(gaps.first, :after + 1) + 1), 0)
    FROM gaps WHERE gaps.last>:after AND gaps.first<=:last
)
"""
_STRAY = """
DELETE FROM events
WHERE task IN (SELECT task FROM deleted) AND seq < (SELECT max(seq) FROM events)
"""
_NOTE_GAPS = """
INSERT INTO gaps SELECT before + 1, seq - 1
FROM (SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS before FROM events) WHERE seq > before + 1
"""


def check_event(row: Sequence[Any]) -> str | None:
    """Check the columns of `COLUMNS`; the id of the task, or None if that has been deleted.

    Raises:
        StoreError: the row is damaged.
    """
    seq, checksum, number, task_id, deleted_id, *columns = row
    what = f"event {seq}"
    known = deleted_id if task_id is None else task_id
    if known is None or not isinstance(number, int):
        raise checksums.damaged(what, f"there is no task {number!r}")
    found = of_event(known, *columns)
    checksums.check(checksum, with_task(found, number) + seq, what)
    return None if task_id is None else str(task_id)


def last_event(connection: sqlite3.Connection, path: str) -> int:
    """Number of the newest event; 0 if there never was one.

    Raises:
        StoreError: a run tells of later ones, so events are missing.
    """
    first, last, after, ending = connection.execute(_ENDS).fetchone()
    try:
        told = max(after or 0, (from_json(ending) or {}).get("events", 0))
    except (ValueError, TypeError, AttributeError) as problem:
        raise checksums.damaged("the latest run", repr(problem)) from problem
    if first < 1 or last < told:
        raise _missing(path, 0, max(last, told))
    return int(last)


def check_complete(connection: sqlite3.Connection, path: str, after: int, last: int) -> None:
    """Check that no event with a number above ``after``, up to ``last``, is missing.

    Raises:
        StoreError: one is, or there are too many.
    """
    (found,) = connection.execute(_COUNT, {"after": after, "last": last}).fetchone()
    if found != last - after:
        raise _missing(path, after, last)


def check_page(
    connection: sqlite3.Connection,
    path: str,
    rows: Sequence[Sequence[Any]],
    after: int,
    last: int,
    limit: int,
) -> int:
    """Check that rows that were read are in order and that none before their end is missing.

    Args:
        connection, path: the ledger.
        rows: each with its number first.
        after: they were to have higher numbers.
        last: `last_event` before they were read, or a lower number if they were not to be higher.
        limit: at most so many were to be read.

    Returns:
        The number up to which they have been read.

    Raises:
        StoreError: the ledger is damaged.
    """
    numbers = [row[0] for row in rows]
    end = numbers[-1] if len(rows) == limit else max([last, *numbers[-1:]])
    if any(one >= other for one, other in pairwise([after, *numbers])):
        raise _missing(path, after, end)
    check_complete(connection, path, after, end)
    return int(end)


def delete_stray_events(connection: sqlite3.Connection, path: str) -> None:
    """Delete the events of deleted tasks; not the newest event, whose number would be reused.

    Raises:
        StoreError: events are missing already, which could not be told afterwards.
    """
    check_complete(connection, path, 0, last_event(connection, path))
    connection.execute(_STRAY)
    connection.execute("DELETE FROM gaps")
    connection.execute(_NOTE_GAPS)
    connection.execute(
        "DELETE FROM deleted WHERE task IS NOT (SELECT task FROM events ORDER BY seq DESC LIMIT 1)"
    )


def note_earlier(connection: sqlite3.Connection) -> None:
    """Note which events a ledger of an earlier version does not have, or has of deleted tasks."""
    connection.execute(
        "INSERT INTO deleted SELECT DISTINCT task, '' FROM events"
        " WHERE task NOT IN (SELECT seq FROM tasks)"
    )
    connection.execute(_NOTE_GAPS)


def _missing(path: str, after: int, last: int) -> StoreError:
    return StoreError(
        f"Ledger {path!r} is damaged: of the events {after + 1} to {last} some are missing, or "
        "there are too many"
    )
