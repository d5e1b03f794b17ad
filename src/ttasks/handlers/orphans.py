"""Orphans: what a process that was killed has left running."""

from __future__ import annotations

import signal
from threading import Lock
from time import monotonic

from ttasks.handlers.tree import Tree

TERM_SECONDS = 2.0
KILL_SECONDS = 1.0
POLL_SECONDS = 0.01


def end_orphans(task_id: str) -> bool:
    """End every process of a command that was started for a task, wherever it comes from.

    They are recognised by the mark that their environment carries, and signalled by pid and start
    time together. TERM first, KILL after two seconds.

    Returns:
        True if there were any.
    """
    tree = Tree(-1, task_id)
    if not tree.signal(signal.SIGTERM):
        return False
    if not _wait_gone(tree, TERM_SECONDS):
        tree.signal(signal.SIGKILL)
        _wait_gone(tree, KILL_SECONDS)
    return True


def _wait_gone(tree: Tree, seconds: float) -> bool:
    end = monotonic() + seconds
    never = Lock()
    never.acquire()
    while not tree.is_gone():
        if monotonic() >= end:
            return False
        never.acquire(timeout=POLL_SECONDS)
    return True
