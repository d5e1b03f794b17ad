"""Owners: which process runs a task, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from time import time_ns
from typing import Any

from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.plain import from_micros, from_optional, to_text
from ttasks.stores.sqlite.writer import Writer

_RUNNING = """
SELECT tasks.id, title, updated_at, host, boot, pid, started, opened_at
FROM tasks LEFT JOIN works ON works.task = tasks.seq LEFT JOIN owners ON owners.seq = tasks.owner
WHERE tasks.status = 'running' AND listed ORDER BY tasks.seq
"""
# Start times that psutil computes move a little when the clock is set.
_CLOCK_SECONDS = 2.0


class Liveness(Enum):
    """What is known of an owner. Values are the lower-case names.

    UNKNOWN is one on another host or in another container, which cannot be looked at from here.
    """

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so that no other can ever be taken for it.

    Attributes:
        host: name of the machine (or container).
        boot: what tells one start of the machine, and one space of pids, from another; empty where
            start times do that.
        pid: id of the process.
        started: when it started: clock ticks since the boot on Linux, else seconds since 1970.
    """

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> Owner:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _boot(), pid, _start_of(pid) or "")

    def liveness(self) -> Liveness:
        """Whether it still runs; a zombie does not."""
        if self.host != socket.gethostname():
            return Liveness.UNKNOWN
        mine, theirs = _boot().partition("/"), self.boot.partition("/")
        if mine[0] != theirs[0]:
            return Liveness.GONE
        if mine[2] != theirs[2]:
            return Liveness.UNKNOWN
        started = _start_of(self.pid)
        is_same = started is not None and _is_same_start(started, self.started)
        return Liveness.ALIVE if is_same else Liveness.GONE


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that is RUNNING by the ledger.

    Attributes:
        task_id, title: the task.
        since: when that was saved, aware UTC.
        owner: the process that runs it; None if it was saved by nobody who executes it.
        liveness: whether that process still runs; GONE if there is none.
    """

    task_id: str
    title: str
    since: datetime
    owner: Owner | None
    liveness: Liveness


class Owners:
    """The processes that use a ledger. Thread-safe."""

    def __init__(self, ledger: Ledger, writer: Writer) -> None:
        self._ledger = ledger
        self._writer = writer
        self._mine: tuple[int, int] | None = None  # generation of the ledger, and the row

    def mine(self) -> int:
        """The row of this process; made on first use.

        Two threads may make two at once, which does no harm.
        """
        generation = self._ledger.generation
        if self._mine is None or self._mine[0] != generation:
            row = Owner.current()
            self._mine = (generation, self._writer.write(lambda at: _insert(at, row)))
        return self._mine[1]

    def running(self) -> list[RunningTask]:
        """The tasks that are RUNNING by the ledger, in the order of first saving."""
        with self._ledger.reading() as connection:
            rows = connection.execute(_RUNNING).fetchall()
        known: dict[Owner, Liveness] = {}
        return [_decode(row, known) for row in rows]


def _insert(connection: sqlite3.Connection, owner: Owner) -> int:
    row = (to_text(owner.host), owner.boot, owner.pid, owner.started, time_ns() // 1000)
    cursor = connection.execute(
        "INSERT INTO owners (host, boot, pid, started, opened_at) VALUES (?, ?, ?, ?, ?)", row
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _decode(row: tuple[Any, ...], known: dict[Owner, Liveness]) -> RunningTask:
    task_id, title, since, host, boot, pid, started, _ = row
    owner, liveness = None, Liveness.GONE
    if pid is not None:
        owner = Owner(from_optional(host) or "", boot, pid, started)
        liveness = known[owner] = known.get(owner) or owner.liveness()
    return RunningTask(task_id, from_optional(title) or "", from_micros(since), owner, liveness)


def _boot() -> str:
    """On Linux the id of this boot and the space of pids, joined by "/"; elsewhere empty."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When a process started; None if there is none, or only its zombie."""
    if sys.platform.startswith("linux"):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                # The name is in parentheses, and may hold blanks and parentheses itself.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X", b"x") else fields[19].decode()
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return str(process.create_time())
    except psutil.Error:
        return None


def _is_same_start(one: str, other: str) -> bool:
    if one == other:
        return True
    if sys.platform.startswith("linux"):
        return False
    try:
        return abs(float(one) - float(other)) < _CLOCK_SECONDS
    except ValueError:
        return False
