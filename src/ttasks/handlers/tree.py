"""Find and signal a command's whole process tree, also what has run away from it.

A process belongs to the tree when one of these holds; each catches what the others miss:

- it is in the session or process group of the command (children, also orphaned ones);
- a member is its parent (children that called ``setsid``, while their parent lives);
- its environment carries the marker of the command (daemons: ``setsid`` *and* orphaned).

What hides from all three, a daemon that also cleaned its environment, is not found. A process is
identified by pid *and* start time, so that a recycled pid is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from ttasks.handlers import libc
from ttasks.handlers.environment import MARKER

_DEAD = b"ZXx"
_STOPPED = b"Tt"
_KERNEL_THREADS = 2  # parent of those, on Linux


class Row(NamedTuple):
    """One process of the system, as of one scan."""

    pid: int
    parent: int
    group: int
    session: int
    state: bytes
    start: int

    @property
    def is_alive(self) -> bool:
        return self.state not in _DEAD


def read_row(pid: int) -> Row | None:
    """The process with this pid, from Linux' /proc; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            data = file.read(1024)
        # The name is in parentheses and may itself hold blanks and parentheses.
        fields = data[data.rindex(b")") + 2 :].split()
        return Row(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0], int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def _scan_proc() -> list[Row]:
    rows = (read_row(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [row for row in rows if row is not None]


def _environment_proc(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b"?"  # not ours to read


def _read_row_psutil(pid: int) -> Row | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            dead = process.status() == psutil.STATUS_ZOMBIE
            stopped = process.status() == psutil.STATUS_STOPPED
            return Row(
                pid,
                process.ppid(),
                os.getpgid(pid),
                os.getsid(pid),
                b"Z" if dead else b"T" if stopped else b"S",
                int(process.create_time() * 1e6),
            )
    except (psutil.Error, OSError):
        return None


def _scan_psutil() -> list[Row]:
    import psutil

    rows = (_read_row_psutil(pid) for pid in psutil.pids())
    return [row for row in rows if row is not None]


def _environment_psutil(pid: int) -> bytes:
    import psutil

    try:
        value = psutil.Process(pid).environ().get(MARKER, "")
    except (psutil.Error, OSError):
        return b"?"
    return f"{MARKER}={value}".encode(errors="replace")


class System(NamedTuple):
    """How to look at the processes of this machine; tests put a fake in its place."""

    scan: Callable[[], Iterable[Row]]
    row: Callable[[int], Row | None]
    environment: Callable[[int], bytes]


def this_system() -> System:
    """How to look at the processes of this machine."""
    if sys.platform == "linux" and os.path.exists("/proc/self/stat"):
        return System(_scan_proc, read_row, _environment_proc)
    return System(_scan_psutil, _read_row_psutil, _environment_psutil)


class Snapshot:
    """All processes at one moment, and the marks of those that may be a command's orphans.

    Attributes:
        rows: pid to process.
        children: pid to pids.
        marks: pid to its value of ``TTASKS_TASK``.

    Args:
        system: how to look.
        everyone: read the marks of all processes, also of those that this program cannot have
            started; slower.
    """

    def __init__(self, system: System, *, everyone: bool = False) -> None:
        self.rows = {row.pid: row for row in system.scan()}
        self.children: dict[int, list[int]] = {}
        for row in self.rows.values():
            self.children.setdefault(row.parent, []).append(row.pid)
        self._patience = 20
        alive = [row.pid for row in self.rows.values() if row.is_alive]
        self.marks = {
            pid: mark
            for pid in (alive if everyone else self._orphans())
            if (mark := self._mark(system, self.rows[pid]))
        }

    def _orphans(self) -> list[int]:
        """What does not descend from this program, but is younger. Reading an environment is
        slow, and everything else is known by its session or by its parents."""
        host = self.rows.get(os.getpid())
        below: set[int] = set()
        # A program that adopts orphans, such as the first of a container, has them as children.
        todo = [] if host is None or libc.adopts_orphans() else [host.pid]
        while todo:
            pid = todo.pop()
            if pid not in below:
                below.add(pid)
                todo.extend(self.children.get(pid, ()))
        start = 0 if host is None else host.start
        return [
            row.pid
            for row in self.rows.values()
            if row.start >= start and row.is_alive and row.pid not in below
        ]

    def _mark(self, system: System, row: Row) -> bytes:
        environment = system.environment(row.pid)
        while environment == b"" and row.parent != _KERNEL_THREADS and self._patience > 0:
            # It has none, or is just about to become another program: then it shows it soon.
            self._patience -= 1
            time.sleep(0.0005)
            environment = system.environment(row.pid)
        _, found, value = environment.partition(MARKER.encode() + b"=")
        return value.split(b"\0", 1)[0] if found else b""


class Scanner:
    """Takes snapshots, one at a time, and gives one to all who asked before it was begun.

    Without that, ending hundreds of commands at once would look at every process of the machine
    hundreds of times. Thread-safe; the lock owns the latest snapshot. Arguments as for `Snapshot`.
    """

    def __init__(self, system: System, *, everyone: bool = False) -> None:
        self.system = system
        self._everyone = everyone
        self._lock = threading.Lock()
        self._begun = 0.0
        self._latest: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """All processes, as of some moment after the call."""
        asked = time.monotonic()
        # In a process forked meanwhile the lock may be held for ever: do without it then.
        locked = self._lock.acquire(timeout=1)
        try:
            if self._latest is None or self._begun <= asked or not locked:
                begun = time.monotonic()
                self._latest = Snapshot(self.system, everyone=self._everyone)
                self._begun = begun
            return self._latest
        finally:
            if locked:
                self._lock.release()


@lru_cache(maxsize=1)
def _shared_scanner() -> Scanner:
    return Scanner(this_system())


class Tree:
    """The command with pid ``root`` and all that descends from it.

    The caller guarantees that ``root`` leads its own session or group and has not been reaped, so
    that its number cannot have been given to somebody else. Not thread-safe.

    Args:
        root: pid of the command.
        marker: what identifies it in the environment variable ``TTASKS_TASK``.
    """

    def __init__(self, root: int, marker: str, scanner: Scanner | None = None) -> None:
        self.root = root
        self._marker = marker.encode()
        self._scanner = scanner or _shared_scanner()
        self._system = self._scanner.system
        self._members: dict[int, int] = {}
        row = self._system.row(root) if root > 0 else None
        self._start = row.start if row is not None else 0

    def find(self) -> list[Row]:
        """Look at the system; remember and return the members that are alive now."""
        snapshot = self._scanner.snapshot()
        rows = snapshot.rows
        todo = [row.pid for row in rows.values() if self._is_known(row)]
        todo += [
            pid
            for pid, mark in snapshot.marks.items()
            if rows[pid].start >= self._start and self._is_marked(mark)
        ]
        ours: dict[int, Row] = {}
        while todo:
            pid = todo.pop()
            if pid not in ours:
                ours[pid] = rows[pid]
                todo.extend(snapshot.children.get(pid, ()))
        ours.pop(os.getpid(), None)
        alive = [row for row in ours.values() if row.is_alive]
        self._members = {row.pid: row.start for row in alive}
        return alive

    def _is_marked(self, mark: bytes) -> bool:
        return self._marker in mark

    def _is_known(self, row: Row) -> bool:
        return (
            row.session == self.root
            or row.group == self.root
            or row.pid == self.root
            or self._members.get(row.pid) == row.start
        )

    def is_gone(self) -> bool:
        """Whether nothing of the tree runs any more; cheap as long as something known does."""
        return not self.known_lives() and not self.find()

    def known_lives(self) -> bool:
        """Whether a member lives that the last look at the system has found."""
        for pid, start in self._members.items():
            row = self._system.row(pid)
            if row is not None and row.start == start and row.is_alive:
                if row.state in _STOPPED:
                    # A stopped process takes TERM only when it goes on.
                    send(self._system, row, signal.SIGCONT)
                return True
        return False

    def signal(self, number: int) -> bool:
        """Find the members and send them a signal; False if there were none."""
        rows = self.find()
        if any(row.group == self.root for row in rows):
            # One call for the group: nothing in it can slip away by forking meanwhile.
            with contextlib.suppress(OSError):
                os.killpg(self.root, number)
        for row in rows:
            if row.group != self.root:
                send(self._system, row, number)
            if row.state in _STOPPED and number != signal.SIGKILL:
                send(self._system, row, signal.SIGCONT)
        return bool(rows)


def send(system: System, row: Row, number: int) -> None:
    """Send a signal to this very process, never to one that has its pid by now."""
    fd = -1
    with contextlib.suppress(OSError):
        try:
            if hasattr(os, "pidfd_open"):
                with contextlib.suppress(OSError):
                    fd = os.pidfd_open(row.pid)
            now = system.row(row.pid)
            if now is None or now.start != row.start:
                return
            if fd >= 0:
                signal.pidfd_send_signal(fd, number)
            else:
                os.kill(row.pid, number)
        finally:
            if fd >= 0:
                os.close(fd)
