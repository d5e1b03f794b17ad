"""Orphans: what a process that was killed has left running.

Every command, and what descends from it, carries the id of its task in its environment. By that it
is found again, by whatever process looks, and signalled by pid and start time together.

Not found is what cleaned its environment, or whose environment may not be read (on Linux: a program
of another user, such as one below ``sudo``), unless a process that is found is its parent. What a
Python handler started by other means carries no mark either.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable
from threading import Lock
from time import monotonic

from ttasks.handlers.environment import MARKER
from ttasks.handlers.tree import Scanner, Tree, this_system

TERM_SECONDS = 2.0
KILL_SECONDS = 1.0
POLL_SECONDS = 0.01


def end_orphans(task_ids: Iterable[str]) -> int:
    """End every process of commands that were started for these tasks, wherever it comes from.

    TERM first, KILL after two seconds. Blocks until they are gone, at most for three seconds.

    Returns:
        How many there were.
    """
    wanted = frozenset(task_ids)
    if not wanted:
        return 0
    if sys.platform == "win32":
        return end_with_psutil(wanted)
    tree = OrphanTree(wanted)
    found = len(tree.find())
    if found:
        tree.signal(signal.SIGTERM)
        if not _wait_gone(tree, TERM_SECONDS):
            tree.signal(signal.SIGKILL)
            _wait_gone(tree, KILL_SECONDS)
    return found


class OrphanTree(Tree):
    """The processes of commands whose own process is gone, by the ids of their tasks."""

    def __init__(self, task_ids: frozenset[str], scanner: Scanner | None = None) -> None:
        super().__init__(-1, "", scanner or Scanner(this_system(), everyone=True))
        self._ids = frozenset(task_id.encode() for task_id in task_ids)

    def _is_marked(self, mark: bytes) -> bool:
        return any(part.partition(b".")[0] in self._ids for part in mark.split(b"/"))


def _wait_gone(tree: Tree, seconds: float) -> bool:
    end = monotonic() + seconds
    never = Lock()
    never.acquire()
    while not tree.is_gone():
        if monotonic() >= end:
            return False
        never.acquire(timeout=POLL_SECONDS)
    return True


def end_with_psutil(task_ids: frozenset[str]) -> int:
    """The same where processes have neither sessions nor TERM. Not run on Windows yet."""
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
