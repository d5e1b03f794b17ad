"""Pace: whether the tasks of a run are over so quickly that one worker does better than several."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

QUICK_SECONDS = 50e-6
"""A handler that takes less has hardly waited for anything."""

QUICK_IN_ALL_SECONDS = 500e-6
"""The same for a whole attempt, with guards, store and subscribers."""

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
        enabled: whether there ever is a runner.
        on_runner: called when there is a new one; must not block.
    """

    __slots__ = ("_enabled", "_on_runner", "_seen", "_streak", "is_watched", "runner", "taken")

    def __init__(self, enabled: bool, on_runner: Callable[[], None]) -> None:
        self._enabled = enabled
        self._on_runner = on_runner
        self.runner: Thread | None = None
        self.is_watched = False
        """Whether the supervisor waits, so that it will look; there is no new runner else."""
        self.taken = 0
        """How many tasks runners have taken; they count them here."""
        self._streak = 0
        self._seen: int | None = None

    def note(self, seconds: float) -> None:
        """A task has ended whose handler took this long; inf if other things have waited."""
        if seconds < QUICK_SECONDS and self._enabled:
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
        return self.runner is not worker

    def is_stuck(self) -> bool:
        """Whether the runner has taken no task since this was asked last."""
        stuck = self._seen == self.taken
        self._seen = self.taken
        return stuck
