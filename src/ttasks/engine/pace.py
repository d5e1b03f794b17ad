"""Pace: whether the tasks of a run are over so quickly that one worker does better than several."""

from __future__ import annotations

from collections.abc import Callable
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
    rest. A task that is not quick ends that when it ends; one that goes on and on is noticed by
    ``is_stuck``.

    Its state is owned by the lock of the dispatch, which every method is called with.

    Args:
        on_runner: called when there is a new one; must not block.
    """

    __slots__ = ("_on_runner", "_seen", "_streak", "_taken", "is_watched", "runner")

    def __init__(self, on_runner: Callable[[], None]) -> None:
        self._on_runner = on_runner
        self.runner: Thread | None = None
        self.is_watched = False
        """Whether the supervisor waits, so that it will look; there is no new runner else."""
        self._taken = 0  # by runners
        self._streak = 0
        self._seen: int | None = None

    def note(self, handler: float, share: float) -> None:
        """A task has ended.

        Args:
            handler: seconds that its handler took; inf if it was none or did not succeed.
            share: seconds that all of it took, by the number of workers that were busy: they may
                only have waited for each other.
        """
        if handler < QUICK_SECONDS and share < QUICK_IN_ALL_SECONDS:
            self._streak += 1
        elif self._streak:
            self.reset()

    def reset(self) -> None:
        """Let all workers go on."""
        self._streak = 0
        self.runner = self._seen = None

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

    def is_stuck(self) -> bool:
        """Whether the runner has taken no task since this was asked last."""
        stuck = self._seen == self._taken
        self._seen = self._taken
        return stuck
