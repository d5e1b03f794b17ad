"""Pace: whether the tasks of a run are over so quickly that one worker does better than several."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from threading import Thread

QUICK_SECONDS = 50e-6
"""A handler that takes less has hardly waited for anything."""

QUICK_IN_ALL_SECONDS = 500e-6
"""The same for all that belongs to a task: guards, store and subscribers, too."""

STREAK = 16
"""Quick tasks in a row until one worker goes on alone."""

LOOK_SECONDS = 0.005
"""How often the supervisor has to look whether it gets on."""


class Pace:
    """Lets one worker, the runner, go on alone while every task is quick.

    Threads help while something waits. Where nothing does, threads only hand the interpreter lock
    to each other, which takes longer than such a task. So after a streak of quick ones the others
    rest. Two tasks in a row that are not quick end that when they end; one that goes on and on is
    noticed by ``is_stuck``.

    Its state is owned by the lock of the dispatch, which every method is called with.

    Args:
        on_runner: called when there is a new one; must not block.
    """

    __slots__ = (
        "_looked_at",
        "_on_runner",
        "_seen",
        "_streak",
        "_taken",
        "_was_slow",
        "is_watched",
        "runner",
    )

    def __init__(self, on_runner: Callable[[], None]) -> None:
        self._on_runner = on_runner
        self.runner: Thread | None = None
        self.is_watched = False
        """Whether the supervisor waits, so that it will look; there is no new runner else."""
        self._taken = 0  # by runners
        self._streak = 0
        self._was_slow = False
        self._seen = 0
        self._looked_at = -inf

    def note(self, handler: float, share: float) -> None:
        """A task has ended.

        Args:
            handler: seconds that its handler took; inf if it was none or did not succeed.
            share: seconds that all of it took, by the number of workers that were busy: they may
                only have waited for each other.
        """
        if handler < QUICK_SECONDS and share < QUICK_IN_ALL_SECONDS:
            self._streak += 1
            self._was_slow = False
        elif self._was_slow:
            self.reset()
        else:  # a single one may only have met the garbage collector, or a checkpoint of the ledger
            self._was_slow = True

    def reset(self) -> None:
        """Let all workers go on."""
        self._streak = 0
        self.runner = None

    def holds(self, worker: Thread) -> bool:
        """Whether this worker is not to take another task; it may have become the runner."""
        if self._streak < STREAK or not self.is_watched:
            return False
        if self.runner is None:
            self.runner = worker
            self._on_runner()
        self._taken += self.runner is worker
        return self.runner is not worker

    def leave(self, worker: Thread) -> None:
        """This worker has nothing to do."""
        if self.runner is worker:
            self.reset()

    def is_stuck(self, now: float) -> bool:
        """Whether there is a runner that has taken no task for `LOOK_SECONDS`."""
        if self.runner is None or self._seen != self._taken:
            self._seen = self._taken
            self._looked_at = now
            return False
        return now - self._looked_at >= LOOK_SECONDS
