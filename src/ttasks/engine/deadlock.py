"""Deadlocks: tasks that have places in groups and wait, in runs of their own, for each other's.

A task of group a that runs a graph with a task of group b, while a task of group b does it the
other way round, would wait for ever. Whenever a worker of such an inner run has nothing to do, it
looks for that here, and the task that cannot get its place is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ttasks.errors import TaskRejectedError
from ttasks.model.redact import redacted_title

if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt
    from ttasks.model.redact import Redactor
    from ttasks.model.task import Task


class Parked(NamedTuple):
    """A node that waits for a place that all runs of the executor share."""

    node: int
    task: Task
    group: str
    limit: int


class Holder(Protocol):
    """A run, as this module sees it. Everything is called with the scheduler's lock held."""

    @property
    def outer(self) -> Attempt | None:
        """The attempt that the run is part of; None if there is none."""

    def alive(self) -> list[Attempt]:
        """The attempts that are under way."""

    def groups_held_by(self, attempt: Attempt) -> list[str]:
        """The groups in which an attempt of this run has a place that all runs share."""

    def parked(self) -> list[Parked]:
        """For each such group, a node that waits for a place in it."""


class Deadlock(NamedTuple):
    """A node that will never get its place.

    Attributes:
        parked: the node.
        chain: who has the place that the one before waits for, and what that one waits for in
            turn; the last of them waits for the run of the node.
    """

    parked: Parked
    chain: list[tuple[Attempt, Parked]]


def find_deadlock(run: Holder, runs: Iterable[Holder]) -> Deadlock | None:
    """A node of this run that waits for the end of the run itself; None if there is none."""
    waiting = run.parked()
    if not waiting or run.outer is None:
        return None
    look = _Look(runs)
    for parked in waiting:
        if look.is_hopeless(parked) and run.outer in look.stuck:
            return Deadlock(parked, list(look.chain(parked, run.outer)))
    return None


def refusal_of(deadlock: Deadlock, redactor: Redactor | None) -> TaskRejectedError:
    """The error of the task that never gets its place."""

    def named(task: Task) -> str:
        return repr(redacted_title(task, redactor))

    parked = deadlock.parked
    text = f"Task {named(parked.task)} would wait for ever for a place in group {parked.group!r}"
    for holder, below in deadlock.chain:
        text += (
            f"; {named(holder.task)} has one, and runs {named(below.task)}, which waits for a "
            f"place in group {below.group!r}"
        )
    return TaskRejectedError(f"{text}. Tasks that run others must not need each other's groups")


class _Look:
    """All runs at one moment.

    Attributes:
        stuck: the attempts that cannot end, because a run inside of them cannot.
    """

    def __init__(self, runs: Iterable[Holder]) -> None:
        self._inner: dict[Attempt, list[Holder]] = {}
        self._holders: dict[str, list[Attempt]] = {}
        for run in runs:
            if run.outer is not None:
                self._inner.setdefault(run.outer, []).append(run)
            for attempt in run.alive():
                for group in run.groups_held_by(attempt):
                    self._holders.setdefault(group, []).append(attempt)
        # What is cancelled ends soon. Of the others those are stuck for which a reason is left
        # when all without one have been taken out.
        self.stuck = {attempt for attempt in self._inner if not attempt.token.cancelled}
        while free := {attempt for attempt in self.stuck if not self._is_stuck(attempt)}:
            self.stuck -= free

    def _is_stuck(self, attempt: Attempt) -> bool:
        return any(
            any(map(self.is_hopeless, run.parked())) or not self.stuck.isdisjoint(run.alive())
            for run in self._inner[attempt]
        )

    def is_hopeless(self, parked: Parked) -> bool:
        """True if all places of its group belong to attempts that are stuck."""
        holders = self._holders.get(parked.group, ())
        # If there are fewer than places, one has been given to somebody who is about to start.
        return len(holders) >= parked.limit and self.stuck.issuperset(holders)

    def chain(self, parked: Parked, goal: Attempt) -> Iterator[tuple[Attempt, Parked]]:
        """Follow one holder after the other, until one waits for ``goal`` or comes again."""
        seen: set[Attempt] = set()
        while True:
            holder = self._holders[parked.group][0]
            below = self._below(holder)
            parked = below[1]
            yield holder, parked
            if goal in below[0] or holder in seen:
                return
            seen.add(holder)

    def _below(self, attempt: Attempt) -> tuple[set[Attempt], Parked]:
        """The stuck attempts from one down to the innermost, and what a run in there waits for."""
        path: set[Attempt] = set()
        while True:
            path.add(attempt)
            for run in self._inner[attempt]:
                for parked in run.parked():
                    if self.is_hopeless(parked):
                        return path, parked
            inner = [
                found
                for run in self._inner[attempt]
                for found in run.alive()
                if found in self.stuck and found not in path
            ]
            attempt = inner[0]
