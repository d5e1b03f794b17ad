"""The slots of a ledger: which process runs which moment of which schedule, and what became of it.

A row is written when a slot is claimed, when its graph is about to run, and when it has ended.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from datetime import datetime
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks.model.checks import check_int, check_optional_str
from ttasks.model.slots import Claim, Refusal, SlotRequest
from ttasks.processes import Liveness, ProcessIdentity
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.plain import from_micros, from_optional, from_text, to_text

if TYPE_CHECKING:
    from ttasks.stores.sqlite.ledger import Ledger
    from ttasks.stores.sqlite.owners import Owners

_SELECT = """
SELECT slots.seq, schedule, slot, slots.owner, graph, outcome, claimed_at, slots.checksum,
    owners.seq, host, boot, pid, owners.started, opened_at, owners.checksum
FROM slots LEFT JOIN owners ON owners.seq=slots.owner
"""
# The last bit of a checksum says whether the slot is open, so that damage hides no open slot. It is
# the condition of the index, too.
_OPEN = "(outcome IS NULL OR slots.checksum & 1)"
_INSERT = "INSERT INTO slots (schedule, slot, owner, outcome, claimed_at) VALUES (?, ?, ?, ?, ?)"


class SlotFacts(NamedTuple):
    """What a ledger knows of a slot.

    Attributes:
        schedule: name of the schedule.
        slot: the moment, aware UTC.
        claimed_at: when a process began to work on it, aware UTC.
        graph_id: id of the graph that runs for it, or has; None before.
        outcome: that of its run, or "skipped", "missed", "error" or "interrupted" if it was not
            run, or not to its end; None while it is open.
        host, pid: the process.
    """

    schedule: str
    slot: datetime
    claimed_at: datetime
    graph_id: str | None
    outcome: str | None
    host: str
    pid: int


class _Row(NamedTuple):
    """A row of ``slots``; the last seven columns are of its owner."""

    seq: int
    schedule: Any
    slot: int
    owner: int
    graph: str | None
    outcome: str | None
    claimed_at: int
    checksum: int
    owner_seq: int | None
    host: Any
    boot: str | None
    pid: int | None
    started: str | None
    opened_at: int | None
    owner_checksum: int | None

    @property
    def claim(self) -> Claim:
        return Claim(self.seq, from_text(self.schedule), self.slot, self.graph)


Claims = list[Claim]  # inside of the class, `list` is its method
Answers = list[Claim | Refusal]
_Rows = list[_Row]


class LedgerSlots:
    """The slots of a ledger; a `ttasks.model.slots.SlotLog`. Thread-safe."""

    def __init__(self, ledger: Ledger, owners: Owners) -> None:
        self._ledger = ledger
        self._owners = owners

    def list(
        self, schedule: str | None = None, *, limit: int | None = None
    ) -> tuple[SlotFacts, ...]:
        """What is known of slots, the ones that were claimed last first.

        Args:
            schedule: name of a schedule; None means all.
            limit: maximum number of slots, at least 1; None means all.

        Raises:
            TypeError, ValueError: an argument is wrong.
            StoreError: a row is damaged.
        """
        name = check_optional_str("schedule", schedule)
        most = -1 if limit is None else check_int("limit", limit, least=1)
        where = "" if name is None else "WHERE schedule=?"
        values = [] if name is None else [to_text(name)]
        sql = f"{_SELECT} {where} ORDER BY slots.seq DESC LIMIT ?"
        return tuple([_facts(row) for row in self._fetch(sql, *values, most)])

    # For schedulers; see `ttasks.model.slots.SlotLog`

    def latest(self, schedule: str) -> int | None:
        """See `ttasks.model.slots.SlotLog`."""
        sql = f"{_SELECT} WHERE schedule=? ORDER BY slot DESC LIMIT 1"
        return next((row.slot for row in self._fetch(sql, to_text(schedule))), None)

    def claim(self, requests: Sequence[SlotRequest]) -> Answers:
        """See `ttasks.model.slots.SlotLog`."""
        owner = self._owners.mine()
        found: Answers = self._ledger.writer.write(
            lambda connection: [_claim(connection, one, owner) for one in requests]
        )
        return found

    def begin(self, claim: Claim, graph: str) -> None:
        """See `ttasks.model.slots.SlotLog`."""
        self._ledger.writer.write(lambda at: _update(at, claim.number, graph=graph))

    def end(self, claim: Claim, outcome: str) -> None:
        """See `ttasks.model.slots.SlotLog`."""
        self._ledger.writer.write(lambda at: _update(at, claim.number, outcome=outcome))

    def take_over(self, schedules: Collection[str]) -> Claims:
        """See `ttasks.model.slots.SlotLog`."""
        owner = self._owners.mine()
        wanted = [row for row in self._others(schedules) if _is_gone(row)]
        if not wanted:
            return []

        def work(connection: sqlite3.Connection) -> Claims:
            found = []
            for row in wanted:
                now = _find(connection, "slots.seq=?", row.seq)
                if now is not None and now.outcome is None and now.owner == row.owner:
                    _update(connection, row.seq, owner=owner)
                    found.append(now.claim)
            return found

        taken: Claims = self._ledger.writer.write(work)
        return taken

    def held_elsewhere(self, schedules: Collection[str]) -> Claims:
        """See `ttasks.model.slots.SlotLog`."""
        return [row.claim for row in self._others(schedules)]

    def _others(self, schedules: Collection[str]) -> _Rows:
        """Open slots of these schedules that this process has not claimed."""
        mine, names = self._owners.row, set(schedules)
        rows = self._fetch(f"{_SELECT} WHERE {_OPEN} ORDER BY slots.seq")
        return [row for row in rows if row.owner != mine and from_text(row.schedule) in names]

    def _fetch(self, sql: str, *values: object) -> _Rows:
        with self._ledger.reading() as connection:
            return [_checked(row) for row in connection.execute(sql, values).fetchall()]


def _claim(connection: sqlite3.Connection, request: SlotRequest, owner: int) -> Claim | Refusal:
    schedule, slot, is_alone, waits = request
    name, outcome = to_text(schedule), None
    if _find(connection, "schedule=? AND slot=?", name, slot) is not None:
        return Refusal.TAKEN
    if is_alone and _find(connection, f"schedule=? AND {_OPEN}", name) is not None:
        if waits:
            return Refusal.BUSY
        outcome = "skipped"
    row = (name, slot, owner, outcome, time_ns() // 1000)
    seq = connection.execute(_INSERT, row).lastrowid
    assert seq is not None
    _update(connection, seq)
    return Claim(seq, schedule, slot) if outcome is None else Refusal.SKIPPED


def _update(connection: sqlite3.Connection, seq: int, **changes: Any) -> None:
    """Change columns of a row, and its checksum; without changes, give it one."""
    found = connection.execute(f"{_SELECT} WHERE slots.seq=?", (seq,)).fetchone()
    if found is None:
        return  # it was pruned
    row = (_checked(found) if changes else _Row(*found))._replace(**changes)
    connection.execute(
        "UPDATE slots SET owner=?, graph=?, outcome=?, checksum=? WHERE seq=?",
        (row.owner, row.graph, row.outcome, _checksum(row), seq),
    )


def _find(connection: sqlite3.Connection, where: str, *values: object) -> _Row | None:
    found = connection.execute(f"{_SELECT} WHERE {where} LIMIT 1", values).fetchone()
    return None if found is None else _checked(found)


def _checksum(row: _Row) -> int:
    is_open = int(row.outcome is None)
    return checksums.of_columns(*row[:7]) & ~1 | is_open


def _checked(found: Sequence[Any]) -> _Row:
    """The row, unless it is damaged."""
    row = _Row(*found)
    what = f"slot {row.slot!r} of schedule {row.schedule!r}"
    checksums.check(row.checksum, _checksum(row), what)
    process = checksums.of_columns(*row[8:14])
    checksums.check(row.owner_checksum, process, f"the process of {what}")
    return row


def _is_gone(row: _Row) -> bool:
    identity = ProcessIdentity(
        from_optional(row.host) or "", row.boot or "", row.pid or 0, row.started or ""
    )
    return identity.liveness() is Liveness.GONE


def _facts(row: _Row) -> SlotFacts:
    return SlotFacts(
        from_text(row.schedule),
        from_micros(row.slot),
        from_micros(row.claimed_at),
        row.graph,
        row.outcome,
        from_optional(row.host) or "",
        row.pid or 0,
    )


SELECT_SLOTS = f"{_SELECT} WHERE slots.seq>? ORDER BY slots.seq"
"""All slots, for a check of the whole ledger."""


def check_slot(found: Sequence[Any]) -> None:
    """Check a row of `SELECT_SLOTS`.

    Raises:
        StoreError: it is damaged.
    """
    _checked(found)


def prune_slots(connection: sqlite3.Connection, before: int) -> None:
    """Delete slots that ended and are older than ``before``, but the latest of each schedule."""
    connection.execute(
        """
        DELETE FROM slots WHERE slot<? AND claimed_at<? AND outcome IS NOT NULL AND EXISTS (
            SELECT 1 FROM slots AS later
            WHERE later.schedule=slots.schedule AND later.slot>slots.slot
        )
        """,
        (before, before),
    )
