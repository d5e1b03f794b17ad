"""Choices: who goes on at each point."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any


class Choices:
    """Who goes on: at each point anybody with some probability, else whoever runs.

    Args:
        random: decides.
        switch: probability that a point switches at all.
        slip: probability that at a point the time moves on although somebody could run, as it does
            on a machine that is late.
    """

    def __init__(self, random: Random, switch: float = 0.3, slip: float = 0.0) -> None:
        self.random = random
        self.switch = switch
        self.slip = slip

    def pick(self, running: Any, ready: list[Any]) -> Any:
        """One of the threads that are ready; the running one may be among them."""
        if running.is_ready and self.random.random() >= self.switch:
            return running
        return self.random.choice(ready)

    def welcome(self, thread: Any) -> None:
        """A thread is new."""

    def demote(self, thread: Any) -> None:
        """A thread looked in vain, and lets others go first."""


class Priorities(Choices):
    """The thread with the highest priority runs; at a few random points it becomes the lowest.

    A bug that needs d things in a certain order is found with a probability of at least
    1 / (n * k ** (d - 1)) for n threads and k points: Burckhardt, Kothari, Musuvathi, Nagarakatte,
    "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010.

    Args:
        random: decides.
        changes: how many points change the priorities (d - 1).
        length: number of points of a run, roughly (k).
        slip: as above.
    """

    def __init__(self, random: Random, changes: int, length: int, slip: float = 0.0) -> None:
        super().__init__(random, slip=slip)
        self._changes = {random.randrange(length) for _ in range(changes)}
        self._points = count()
        self._lowest = count(-1, -1)

    def pick(self, running: Any, ready: list[Any]) -> Any:
        if next(self._points) in self._changes:
            self.demote(running)
        best = ready[0]
        for thread in ready:
            if thread.priority > best.priority:
                best = thread
        return best

    def welcome(self, thread: Any) -> None:
        thread.priority = self.random.random()

    def demote(self, thread: Any) -> None:
        thread.priority = next(self._lowest)
