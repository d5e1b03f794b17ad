"""Owners: which process runs a task, according to the ledger."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from time import time_ns
from typing import Any

from ttasks.processes import Liveness, ProcessIdentity
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.codec import DAMAGE, STATE, WORK_IN_SHORT, check_state, check_work
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.plain import from_micros, from_text, to_text

# Also rows that were RUNNING by their checksum: a condition must not pass over a damaged row.
_RUNNING = f"""
SELECT {STATE}, {WORK_IN_SHORT}, owners.seq, host, boot, pid, started, opened_at, owners.checksum
FROM tasks LEFT JOIN works ON works.task=tasks.seq LEFT JOIN owners ON owners.seq=tasks.owner
WHERE tasks.status='running' AND (listed OR tasks.checksum>=0)
    OR tasks.checksum & 7={checksums.STATUS_CODES["running"]} AND tasks.checksum>=0
ORDER BY tasks.seq
"""


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that is RUNNING according to the ledger.

    Attributes:
        task_id, title: the task.
        since: when that was saved, aware UTC.
        owner: the process that runs it; None if the program that saved it did not execute it.
        liveness: whether that process still runs; GONE if there is none.
    """

    task_id: str
    title: str
    since: datetime
    owner: ProcessIdentity | None
    liveness: Liveness


class Owners:
    """The processes that use a ledger. Thread-safe.

    Attributes:
        row: of this process; None until `mine` was called.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.row: int | None = None

    def mine(self) -> int:
        """The row of this process, made on first use.

        Two threads may each make one at the same time, which does no harm.
        """
        if self.row is None:
            owner = ProcessIdentity.current()
            self.row = int(self._ledger.writer.write(lambda at: _insert(at, owner)))
        return self.row

    def running(self) -> list[RunningTask]:
        """The tasks that are RUNNING according to the ledger, in the order of first saving."""
        with self._ledger.reading() as connection:
            rows = connection.execute(_RUNNING).fetchall()
        known: dict[ProcessIdentity, Liveness] = {}
        return [_decode(row, known) for row in rows]


def _insert(connection: sqlite3.Connection, owner: ProcessIdentity) -> int:
    row = (to_text(owner.host), owner.boot, owner.pid, owner.started, time_ns() // 1000)
    seq = connection.execute(
        "INSERT INTO owners (host, boot, pid, started, opened_at) VALUES (?, ?, ?, ?, ?)", row
    ).lastrowid
    assert seq is not None
    checksum = checksums.of_columns(seq, *row)
    connection.execute("UPDATE owners SET checksum=? WHERE seq=?", (checksum, seq))
    return seq


def _decode(row: tuple[Any, ...], known: dict[ProcessIdentity, Liveness]) -> RunningTask:
    state, work, (*process, checksum) = row[:9], row[9:-7], row[-7:]
    task_id, _, created_at, _, _, since, number, *_ = state
    try:
        check_state(state, None)
        check_work(task_id, created_at, work)
        owner, liveness = None, Liveness.GONE
        if number is not None:
            found = checksums.of_columns(*process)
            checksums.check(checksum, found, f"the process that runs task {task_id!r}")
            _, host, boot, pid, started, _ = process
            owner = ProcessIdentity(from_text(host), boot, pid, started)
            liveness = known[owner] = known.get(owner) or owner.liveness()
        return RunningTask(task_id, from_text(work[1]), from_micros(since), owner, liveness)
    except DAMAGE as problem:
        raise checksums.damaged(f"task {task_id!r}", repr(problem)) from problem
