"""Process trees: all processes of a command or worker, including those that have left it.

A process belongs to the tree if one of these holds; each catches processes that the others miss:

- it is in the session or process group of the root (children, also orphaned ones);
- a member is its parent (children that called ``setsid``, while their parent lives);
- its environment carries the mark of the root (daemons: ``setsid`` *and* orphaned).

A daemon that has also cleaned its environment is not found.

A mark holds the id of a task. With that `end_orphans` finds the processes that a killed program has
left running, from any other program. It cannot find a process whose environment may not be read (on
Linux one of another user, for example below ``sudo``), unless it finds its parent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable
from functools import lru_cache
from time import monotonic

from ttasks import processes, sync
from ttasks.processes import Row, System, this_system

MARKER = "TTASKS_TASK"
"""The environment variable with the mark: the id of the task (if there is one), a dot and random
characters. The marks of nested commands are joined by "/"."""

TERM_SECONDS = 2.0
"""How long orphans may take to end after TERM."""

KILL_SECONDS = 1.0
"""How long to wait for orphans after KILL."""

START_SECONDS = 0.5
"""How long to wait for a process that may be about to execute its command."""

_POLL_SECONDS = 0.01
_INIT = 1  # pid of the process that adopts orphans, if no other does
_KERNEL_THREADS = 2  # parent of those, on Linux


def joined(outer: str | None, mark: str) -> str:
    """The value of ``TTASKS_TASK`` for a process started below one that has ``outer``."""
    return mark if outer is None else f"{outer}/{mark}"


class Snapshot:
    """All processes at one moment, and the marks of those that may be orphans of a command.

    Attributes:
        rows: pid to process.
        children: pid to pids.
        marks: pid to its value of ``TTASKS_TASK``.

    Args:
        system: how to look.
        everyone: read the marks of all processes, even those that this program cannot have
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
        """Processes that are younger than this program and do not descend from it.

        Reading an environment is slow, and all others are known by their session or parents.
        """
        host = self.rows.get(os.getpid())
        below: set[int] = set()
        # A program that adopts orphans, such as the first of a container, has them as children.
        todo = [] if host is None or processes.adopts_orphans() else [host.pid]
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
            # It has none, or is about to execute a program, and soon has one.
            self._patience -= 1
            sync.sleep(0.0005)
            environment = system.environment(row.pid)
        return mark_in(environment)


def mark_in(environment: bytes) -> bytes:
    """The value of ``TTASKS_TASK`` in an environment; empty if there is none."""
    _, _, value = (b"\0" + environment).partition(f"\0{MARKER}=".encode())
    return value.split(b"\0", 1)[0]


class Scanner:
    """Takes snapshots, one at a time, and shares each with all who asked before it was begun.

    Otherwise, ending hundreds of commands at once would look at every process of the machine
    hundreds of times. Thread-safe. Arguments as for `Snapshot`.
    """

    def __init__(self, system: System, *, everyone: bool = False) -> None:
        self.system = system
        self._everyone = everyone
        self._lock = sync.Lock()  # protects the latest snapshot; held while one is taken
        self._begun = 0.0
        self._latest: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """All processes, as of some moment after the call."""
        asked = monotonic()
        # In a forked process the lock may be held for ever; do without it then.
        locked = self._lock.acquire(timeout=1)
        try:
            if self._latest is None or self._begun <= asked or not locked:
                begun = monotonic()
                self._latest = Snapshot(self.system, everyone=self._everyone)
                self._begun = begun
            return self._latest
        finally:
            if locked:
                self._lock.release()


@lru_cache(maxsize=1)
def shared_scanner() -> Scanner:
    """The scanner of this program."""
    return Scanner(this_system())


class Tree:
    """The process ``root`` and all that descends from it. Not thread-safe.

    Args:
        root: pid of the process that leads, or led, a session or group of its own.
        mark: what identifies it in the environment variable ``TTASKS_TASK``.
        start: when the root started, according to its `Row`. None means to look now; the root must
            not have been reaped then.
    """

    def __init__(
        self, root: int, mark: str, scanner: Scanner | None = None, *, start: int | None = None
    ) -> None:
        self.root = root
        self._mark = mark.encode()
        self._scanner = scanner or shared_scanner()
        self._system = self._scanner.system
        self._members: dict[int, int] = {}
        self._start = 0 if start is None else start  # 0: not known
        if start is None and root > 0:
            with contextlib.suppress(OSError):
                row = self._system.row(root)
                self._start = 0 if row is None else row.start

    def find(self) -> list[Row]:
        """Look at the system; remember and return the members that are alive."""
        try:
            snapshot = self._scanner.snapshot()
        except OSError:
            return self._group()
        rows = snapshot.rows
        todo = [pid for pid, start in self._members.items() if _is(rows.get(pid), start)]
        if self._has_its_number(rows):
            todo += [
                row.pid for row in rows.values() if self.root in (row.session, row.group, row.pid)
            ]
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

    def _group(self) -> list[Row]:
        """One row for the whole group, if no descriptor is free to look at the system.

        A group can be signalled without one.
        """
        try:
            if self.root > 0:
                os.killpg(self.root, 0)
                return [Row(self.root, 0, self.root, self.root, b"S", self._start)]
        except OSError:
            pass  # nobody is in it
        return []

    def _is_marked(self, mark: bytes) -> bool:
        return self._mark in mark

    def _has_its_number(self, rows: dict[int, Row]) -> bool:
        """False if another process has the root's pid by now, and so perhaps a group of that id.

        The system reuses a pid only when no process, group or session has it any more.
        """
        return self.root > 0 and (
            self.root not in rows or not self._start or _is(rows[self.root], self._start)
        )

    def is_gone(self) -> bool:
        """Whether nothing of the tree runs any more; cheap while a known member does."""
        return not self.known_lives() and not self.find()

    def known_lives(self) -> bool:
        """Whether a member that `find` found last is still alive."""
        for pid, start in self._members.items():
            try:
                row = self._system.row(pid)
            except OSError:
                return bool(self._group())
            if row is not None and row.start == start and row.is_alive:
                if row.is_stopped:
                    # A stopped process handles TERM only when it goes on.
                    processes.send(self._system, row, signal.SIGCONT)
                return True
        return False

    def signal(self, number: int) -> bool:
        """Find the members and send them a signal; False if there were none."""
        rows = self.find()
        if any(row.group == self.root for row in rows):
            # One call for the group, so that no member can escape by forking meanwhile.
            with contextlib.suppress(OSError):
                os.killpg(self.root, number)
        for row in rows:
            if row.group != self.root:
                processes.send(self._system, row, number)
            if row.is_stopped and number != signal.SIGKILL:
                processes.send(self._system, row, signal.SIGCONT)
        return bool(rows)


def _is(row: Row | None, start: int) -> bool:
    return row is not None and row.start == start


class OrphanTree(Tree):
    """The processes of commands whose program is gone, by the ids of their tasks."""

    def __init__(self, task_ids: frozenset[str], scanner: Scanner | None = None) -> None:
        super().__init__(-1, "", scanner or Scanner(this_system(), everyone=True))
        self._ids = frozenset(task_id.encode() for task_id in task_ids)

    def _is_marked(self, mark: bytes) -> bool:
        return any(part.partition(b".")[0] in self._ids for part in mark.split(b"/"))

    def await_starts(self) -> None:
        """Wait until no orphan is about to execute its command, but not for long.

        A program that is killed while it starts a command leaves a copy of itself, which has no
        mark until it executes the command. On a busy machine that can take a while.
        """
        rows = {row.pid: row for row in self._system.scan()}
        copies = [row for row in rows.values() if _is_orphan(row, rows) and self._may_start(row)]
        give_up = monotonic() + START_SECONDS
        while copies and monotonic() < give_up:
            sync.sleep(_POLL_SECONDS / 10)
            copies = [row for row in copies if self._may_start(row)]

    def _may_start(self, row: Row) -> bool:
        """True if a process is at work, and has no mark of these tasks."""
        now = self._system.row(row.pid)
        if now is None or now.start != row.start or not now.is_busy or row.pid == os.getpid():
            return False
        environment = self._system.environment(row.pid)
        return environment != b"?" and not self._is_marked(mark_in(environment))


def _is_orphan(row: Row, rows: dict[int, Row]) -> bool:
    """True if the process that started this one seems to be gone."""
    parent = rows.get(row.parent)
    return row.parent == _INIT or parent is None or parent.session != row.session


def end_orphans(task_ids: Iterable[str]) -> int:
    """End every process that was started for these tasks, by any program.

    TERM first, KILL after two seconds. Blocks until they are gone, for at most three seconds.

    Returns:
        The number of processes found.
    """
    wanted = frozenset(task_ids)
    if not wanted:
        return 0
    if sys.platform == "win32":
        return end_with_psutil(wanted)
    tree = OrphanTree(wanted)
    with contextlib.suppress(OSError):  # no descriptor is free to look with
        tree.await_starts()
    return _end(tree)


def end_session(pid: int) -> int:
    """End a process that leads a session, and all that descends from it, as `end_orphans` does.

    For a program that overwrites its environment, as some servers do to show a title in ``ps``.

    Returns:
        The number of processes found.
    """
    return _end(Tree(pid, os.urandom(8).hex()))  # nothing has this mark


def _end(tree: Tree) -> int:
    found = len(tree.find())
    if found:
        tree.signal(signal.SIGTERM)
        if not _wait_gone(tree, TERM_SECONDS):
            tree.signal(signal.SIGKILL)
            _wait_gone(tree, KILL_SECONDS)
    return found


def _wait_gone(tree: Tree, seconds: float) -> bool:
    end = monotonic() + seconds
    while not tree.is_gone():
        if monotonic() >= end:
            return False
        sync.sleep(_POLL_SECONDS)
    return True


def end_with_psutil(task_ids: frozenset[str]) -> int:
    """`end_orphans` for systems without sessions and TERM. Not yet tested on Windows."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            mark = process.environ().get(MARKER, "")
            if any(part.partition(".")[0] in task_ids for part in mark.split("/")):
                found.append(process)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()  # psutil compares the start time
    psutil.wait_procs(found, KILL_SECONDS)
    return len(found)
