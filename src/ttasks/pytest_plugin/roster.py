"""Rosters: the tasks that a process has started, in files that outlive it.

A pytest that is killed leaves its commands running. They carry the ids of their tasks as marks (see
`ttasks.trees`), so the next pytest needs only these ids to find and end them. A server may
overwrite its environment, and with it the mark; so a roster also has the commands that run whenever
a service is ready.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from ttasks import sync
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.ids import new_id
from ttasks.processes import Liveness, ProcessIdentity, this_system
from ttasks.trees import end_orphans, end_session


def own_folder(path: Path) -> Path:
    """Make a folder that only this user can write to, below the one for temporary files.

    Raises:
        PermissionError: it belongs to somebody else, or others may write to it.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    for folder in (path.parent, path):
        found = folder.lstat()
        is_ours = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        if not stat.S_ISDIR(found.st_mode) or not is_ours or found.st_mode & 0o022:
            raise PermissionError(f"{folder} is not a folder of this user alone; remove it")
    return path


def make_below(path: Path) -> Path:
    """Make a folder and those above it, though another process may be removing empty ones."""
    for _ in range(100):
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileNotFoundError:
            continue
        break
    return path


def identity_text(identity: ProcessIdentity | None = None) -> str:
    """Return a process, this one if None, as one line of JSON."""
    return json.dumps(asdict(identity or ProcessIdentity.current()))


def identity_of(text: str) -> ProcessIdentity | None:
    """Return the process that a line stands for; None if it is damaged."""
    try:
        return ProcessIdentity(**json.loads(text))
    except (ValueError, TypeError):
        return None


class Roster:
    """A subscriber that writes the ids of tasks to a file before they start. Thread-safe.

    The file is made when the first task starts. Subscribe it to `TYPES`.
    """

    TYPES = (TaskEventType.STARTED, TaskEventType.READY)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = sync.Lock()  # protects the file's making and its end
        self._fd = -1
        self._path: Path | None = None
        self._is_over = False

    def __call__(self, event: TaskEvent) -> None:
        """Take an event STARTED or READY."""
        if event.type is TaskEventType.STARTED:
            line = f"{event.task_id}\n".encode()
        else:
            line = "".join(f"{identity_text(child)}\n" for child in _children()).encode()
        with self._lock:
            if self._is_over:
                return
            if self._path is None:
                self._path, self._fd = self._open()
                line = f"{identity_text()}\n".encode() + line
            os.write(self._fd, line)

    def _open(self) -> tuple[Path, int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        while True:
            path = make_below(self._folder) / new_id()
            try:
                return path, os.open(path, flags, 0o600)
            except FileNotFoundError:  # another process has just removed the empty folder
                continue

    def remove(self) -> None:
        """Remove the file, when nothing runs any more. Idempotent."""
        with self._lock:
            self._is_over = True
            fd, self._fd = self._fd, -1
            path, self._path = self._path, None
        if fd >= 0:
            os.close(fd)
        if path is not None:
            path.unlink(missing_ok=True)


def _children() -> list[ProcessIdentity]:
    """The children of this process that lead a session, as commands do."""
    me = os.getpid()
    rows = this_system().scan()
    return [
        ProcessIdentity.of(row.pid) for row in rows if (row.parent, row.session) == (me, row.pid)
    ]


def sweep(folder: Path) -> int:
    """End what processes that are gone have left running, and remove their rosters.

    Returns:
        The number of processes that were found.
    """
    found = 0
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            try:
                head, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
            except OSError:  # somebody else has just removed it
                continue
            owner = identity_of(head)
            # A file without a whole first line has no ids: it was killed while it wrote that.
            if owner is None or owner.liveness() is Liveness.GONE:
                lines = rest.splitlines()
                found += end_orphans(line for line in lines if not line.startswith("{"))
                for server in filter(None, map(identity_of, lines)):
                    if server.liveness() is Liveness.ALIVE:
                        found += end_session(server.pid)
                path.unlink(missing_ok=True)
    return found
