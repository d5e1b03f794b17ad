"""Pace: whether tasks are so quick that one worker does better alone."""

from __future__ import annotations

from math import inf

QUICK_SECONDS = 50e-6
"""A handler that takes less has hardly waited for anything."""

QUICK_IN_ALL_SECONDS = 1e-3
"""The same for all that belongs to a task: guards, store and subscribers, too."""

STREAK = 16
"""Quick tasks in a row until one worker goes on alone."""

LOOK_SECONDS = 0.005
"""How often the supervisor checks whether that worker makes progress."""


class Pace:
    """Lets one worker, the runner, go on alone while every task is quick.

    Threads help while tasks wait. Otherwise they only pass the interpreter lock to each other,
    which takes longer than a quick task. So the other workers rest after a streak of quick tasks.
    Two slow tasks in a row wake them again; the supervisor notices a task that does not end
    (``is_stuck``).

    The lock of the scheduler protects it: call every method with it held. Workers are known by
    their slots.

    Attributes:
        runner: the slot of the worker that goes on alone; None if all may work.
        is_watched: the supervisor waits, and so will look; otherwise there is no new runner.
    """

    __slots__ = ("_looked_at", "_seen", "_streak", "_taken", "_was_slow", "is_watched", "runner")

    def __init__(self) -> None:
        self.runner: int | None = None
        self.is_watched = False
        self._taken = 0  # by runners
        self._streak = 0
        self._was_slow = False
        self._seen = 0
        self._looked_at = -inf

    def note(self, handler: float, share: float) -> None:
        """A task has ended.

        Args:
            handler: seconds that its handler took; inf if there was none or it did not succeed.
            share: seconds that all of it took, divided by the number of busy workers, which may
                only have waited for each other.
        """
        if handler < QUICK_SECONDS and share < QUICK_IN_ALL_SECONDS:
            self._streak += 1
            self._was_slow = False
        elif self._was_slow:
            self.reset()
        else:  # a single one may have met the garbage collector, or a checkpoint of the ledger
            self._was_slow = True

    def reset(self) -> None:
        """Let all workers go on."""
        self._streak = 0
        self.runner = None

    def begins(self, slot: int) -> bool:
        """True if this worker has just become the runner, so that the supervisor has to look."""
        if self.runner is not None or self._streak < STREAK or not self.is_watched:
            return False
        self.runner = slot
        return True

    def holds(self, slot: int) -> bool:
        """True if this worker must not take another task."""
        if self.runner is None:
            return False
        self._taken += self.runner == slot
        return self.runner != slot

    def leave(self, slot: int) -> None:
        """Note that this worker has nothing to do."""
        if self.runner == slot:
            self.reset()

    def is_stuck(self, now: float) -> bool:
        """True if there is a runner that has taken no task for `LOOK_SECONDS`."""
        if self.runner is None or self._seen != self._taken:
            self._seen = self._taken
            self._looked_at = now
            return False
        return now - self._looked_at >= LOOK_SECONDS
