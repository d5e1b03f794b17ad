"""Rows of ``runs``, and what the details of an event say of a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from time import time_ns
from typing import Any, NamedTuple

from ttasks.model.notes import Notes
from ttasks.model.status import TaskStatus
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.plain import from_json, from_optional, to_json

COLUMNS = (
    *("id", "subject", "number", "key", "owner", "parent", "started_at"),
    *("outcome", "facts", "nodes", "ending"),
)
SELECT = f"""
SELECT runs.seq, {", ".join(f"runs.{name}" for name in COLUMNS)}, runs.checksum, after,
    owners.seq, host, boot, pid, owners.started, opened_at, owners.checksum
FROM runs LEFT JOIN owners ON owners.seq = runs.owner
"""
_LAST_EVENT = "(SELECT coalesce(max(seq), 0) FROM events)"
INSERT = f"""
INSERT INTO runs (seq, {", ".join(COLUMNS)}, checksum, after)
VALUES (?, {", ".join("?" * len(COLUMNS))}, ? + {_LAST_EVENT}, {_LAST_EVENT})
"""


class Row(NamedTuple):
    """A row of ``runs``; the last seven columns are of its owner."""

    seq: int
    id: str
    subject: str
    number: int
    key: Any
    owner: int
    parent: int | None
    started_at: int
    outcome: str | None
    facts: Any
    nodes: Any
    ending: Any
    checksum: int
    after: int
    owner_seq: int | None
    host: Any
    boot: str | None
    pid: int | None
    started: str | None
    opened_at: int | None
    owner_checksum: int | None


class Noted(NamedTuple):
    """An event of a task, with what the plan had noted until then (see `run_details`)."""

    status: TaskStatus
    error: str | None
    is_retried: bool
    notes: Sequence[Any]

    @property
    def is_last(self) -> bool:
        """True if it is the last event of its task in the run."""
        return not self.status.is_active and not self.is_retried


def noted_of(columns: Sequence[Any], names: tuple[int, str]) -> Noted | None:
    """What an event says of a run; None if it is not part of that.

    Args:
        columns: of the event, from its type to its text.
        names: number and id of the run.
    """
    details = columns[6]
    if not isinstance(details, str) or not details.startswith('{"run":['):
        return None
    told = from_json(details)
    name, *notes = told["run"]
    if name not in names:
        return None
    return Noted(TaskStatus(columns[3]), from_optional(columns[5]), "retry_in" in told, notes)


def notes_of(noted: Sequence[Noted], reason: str | None) -> Notes:
    """What the plan has noted of a task, from its events in a run."""
    notes = Notes()
    for entry in noted:
        ended, *more = entry.notes
        if more:
            ready, started, slot, unlocked_by, waits = more
            told = tuple((moment, what, _detail(what, detail)) for moment, what, detail in waits)
            notes = Notes(ready, unlocked_by, started, slot, told)
        last = entry
    if ended is None:
        return notes
    if last.is_retried:  # the plan notes that after the event
        return notes._replace(waits=(*notes.waits, (ended, "retry", (last.error, reason))))
    return notes._replace(ended=ended)


def _detail(what: str, detail: Any) -> Any:
    return tuple(detail) if what == "retry" and isinstance(detail, list) else detail


def restored(told: Sequence[Any]) -> Notes:
    ready, unlocked_by, started, slot, waits, ended = told
    shown = tuple((moment, what, _detail(what, detail)) for moment, what, detail in waits)
    return Notes(ready, unlocked_by, started, slot, shown, ended)


def checksum_of(seq: int, row: Sequence[Any]) -> int:
    """Of the number of a run and the columns of `COLUMNS`; ``after`` is added to it."""
    return checksums.of_columns(seq, *row)


def checked(found: Sequence[Any]) -> Row:
    """The row, unless it is damaged."""
    row = Row(*found)
    what = f"run {row.id!r}"
    if not isinstance(row.after, int):
        raise checksums.damaged(what, f"after is {row.after!r}")
    checksums.check(row.checksum, checksum_of(row.seq, found[1:12]) + row.after, what)
    if row.owner is not None:
        process = checksums.of_columns(*found[14:20])
        checksums.check(row.owner_checksum, process, f"the process of {what}")
    return row


_CANCEL = "cancel"
"""Member of ``nodes`` of a run that goes on: when another process asked to stop it."""

_ASKED = f"SELECT seq FROM json_each(?) JOIN runs ON seq=value WHERE instr(nodes, '\"{_CANCEL}\":')"


def ask_cancel(connection: sqlite3.Connection, run_id: str) -> None:
    """Note in the row of a run that it is to be stopped, unless it has ended."""
    found = connection.execute(f"{SELECT} WHERE runs.id=?", (run_id,)).fetchone()
    if found is None:
        return
    row = checked(found)
    if row.outcome is not None or row.ending is not None:
        return
    told = from_json(row.nodes) or {}
    nodes = to_json(told | {_CANCEL: told.get(_CANCEL, time_ns() // 1000)})
    values = (*found[1:10], nodes, row.ending)
    connection.execute(
        "UPDATE runs SET nodes=?, checksum=? + after WHERE seq=?",
        (nodes, checksum_of(row.seq, values), row.seq),
    )


def cancelled_of(connection: sqlite3.Connection, seqs: Sequence[int]) -> set[int]:
    """Those of these runs that somebody has asked to stop."""
    found = set()
    # One query: thousands of submitted tasks are asked for several times a second.
    for (seq,) in connection.execute(_ASKED, (to_json(seqs),)).fetchall():
        row = checked(connection.execute(f"{SELECT} WHERE runs.seq=?", (seq,)).fetchone())
        if _CANCEL in (from_json(row.nodes) or {}):
            found.add(seq)
    return found


def is_cancelled(connection: sqlite3.Connection, seq: int) -> bool:
    """True if somebody has asked to stop a run."""
    return bool(cancelled_of(connection, [seq]))


def with_cancel(connection: sqlite3.Connection, seq: int, nodes: str | None) -> str | None:
    """The ``nodes`` of a run, with what was asked of it meanwhile."""
    if not is_cancelled(connection, seq):
        return nodes
    (before,) = connection.execute("SELECT nodes FROM runs WHERE seq=?", (seq,)).fetchone()
    asked = from_json(before)[_CANCEL]
    return to_json((from_json(nodes) or {}) | {_CANCEL: asked})


def prune_runs(connection: sqlite3.Connection, before: int) -> None:
    """Delete the runs of graphs and tasks that are gone and that began before ``before``."""
    connection.execute(
        """
        DELETE FROM runs WHERE started_at<? AND NOT EXISTS (
            SELECT 1 FROM graphs WHERE graphs.id=subject
        ) AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id=subject)
        """,
        (before,),
    )
