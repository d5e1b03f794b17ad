"""Deadlocks: tasks that hold places in groups while they wait for each other's.

If a task of group a runs a graph with a task of group b, while a task of group b runs one with a
task of group a, both would wait for ever. So would a task that waits for the future of a task that
needs its place. When a worker of a nested run has nothing to do, or a task begins to wait for a
future, it looks for such a deadlock here. The task that can never get its place fails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ttasks.errors import TaskRejectedError
from ttasks.model.redact import redacted_title

if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt
    from ttasks.model.redact import Redactor
    from ttasks.model.task import Task

_RUNS, _AWAITS = "runs", "waits for"


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

    def parked(self, awaited: Collection[str] = ()) -> list[Parked]:
        """For each such group, a node that waits for a place in it.

        Args:
            awaited: ids of tasks whose nodes are among them if they wait for such a place.
        """


Awaits = Mapping["Attempt", Collection[str]]
"""The ids of the submitted tasks for whose futures an attempt waits."""


class Deadlock(NamedTuple):
    """A node that will never get its place.

    Attributes:
        parked: the node.
        chain: who has the place that the previous one waits for, and what that holder waits for in
            turn, in a run of its own ("runs") or by a future ("waits for"); the last of them waits
            for the node.
    """

    parked: Parked
    chain: list[Link]


class Link(NamedTuple):
    """One that has a place, and what keeps it from ending."""

    holder: Attempt
    verb: str
    below: Parked


def find_deadlock(run: Holder, runs: Iterable[Holder], awaits: Awaits) -> Deadlock | None:
    """Return a node of this run that can never get its place; None if there is none."""
    if run.outer is None and not awaits:
        return None
    awaited = {task_id for ids in awaits.values() for task_id in ids}
    waiting = run.parked(awaited)
    if not waiting:
        return None
    look = _Look(runs, awaits, awaited)
    for parked in waiting:
        goals = [attempt for attempt, ids in awaits.items() if parked.task.id in ids]
        if run.outer is not None:
            goals.append(run.outer)
        goal = next((attempt for attempt in goals if attempt in look.stuck), None)
        if goal is not None and look.is_hopeless(parked):
            return Deadlock(parked, list(look.chain(parked, goal)))
    return None


def refusal_of(deadlock: Deadlock, redactor: Redactor | None) -> TaskRejectedError:
    """The error of the task that never gets its place."""

    def named(task: Task) -> str:
        return repr(redacted_title(task, redactor))

    parked = deadlock.parked
    text = f"Task {named(parked.task)} would wait for ever for a place in group {parked.group!r}"
    for holder, verb, below in deadlock.chain:
        text += (
            f"; {named(holder.task)} has one, and {verb} {named(below.task)}, which waits for a "
            f"place in group {below.group!r}"
        )
    if any(verb == _AWAITS for _, verb, _ in deadlock.chain):
        return TaskRejectedError(f"{text}. Use execute, run or aexecute there, which share places")
    return TaskRejectedError(f"{text}. Tasks that run others must not need each other's groups")


class _Look:
    """All runs at one moment.

    Attributes:
        stuck: the attempts that cannot end, because a run inside of them, or a task for whose
            future they wait, cannot.
    """

    def __init__(self, runs: Iterable[Holder], awaits: Awaits, awaited: Collection[str]) -> None:
        self._inner: dict[Attempt, list[Holder]] = {}
        self._holders: dict[str, list[Attempt]] = {}
        self._awaits = awaits
        self._parked: dict[str, Parked] = {}  # by id of an awaited task
        self._running: dict[str, Attempt] = {}  # likewise
        for run in runs:
            if run.outer is not None:
                self._inner.setdefault(run.outer, []).append(run)
            if awaited:
                self._parked |= {one.task.id: one for one in run.parked(awaited)}
            for attempt in run.alive():
                if attempt.task.id in awaited:
                    self._running[attempt.task.id] = attempt
                for group in run.groups_held_by(attempt):
                    self._holders.setdefault(group, []).append(attempt)
        # What is cancelled ends soon. Of the others those are stuck for which a reason is left
        # when all without one have been taken out.
        waiting = {*self._inner, *awaits}
        self.stuck = {attempt for attempt in waiting if not attempt.token.cancelled}
        while free := {attempt for attempt in self.stuck if not self._is_stuck(attempt)}:
            self.stuck -= free

    def _is_stuck(self, attempt: Attempt) -> bool:
        return any(
            any(map(self.is_hopeless, run.parked())) or not self.stuck.isdisjoint(run.alive())
            for run in self._inner.get(attempt, ())
        ) or any(
            self._waits_hopelessly(task_id) or self._running.get(task_id) in self.stuck
            for task_id in self._awaits.get(attempt, ())
        )

    def _waits_hopelessly(self, task_id: str) -> bool:
        parked = self._parked.get(task_id)
        return parked is not None and self.is_hopeless(parked)

    def is_hopeless(self, parked: Parked) -> bool:
        """True if all places of its group belong to attempts that are stuck."""
        holders = self._holders.get(parked.group, ())
        # If there are fewer than places, one has been given to somebody who is about to start.
        return len(holders) >= parked.limit and self.stuck.issuperset(holders)

    def chain(self, parked: Parked, goal: Attempt) -> Iterator[Link]:
        """Follow one holder after the other, until one waits for ``goal`` or comes again."""
        seen: set[Attempt] = set()
        while True:
            holder = self._holders[parked.group][0]
            path, verb, parked = self._below(holder)
            yield Link(holder, verb, parked)
            if goal in path or holder in seen:
                return
            seen.add(holder)

    def _below(self, attempt: Attempt) -> tuple[set[Attempt], str, Parked]:
        """The stuck attempts from one down to the innermost, and what that one waits for."""
        path: set[Attempt] = set()
        while True:
            path.add(attempt)
            runs, awaited = self._inner.get(attempt, ()), self._awaits.get(attempt, ())
            for run in runs:
                for parked in run.parked():
                    if self.is_hopeless(parked):
                        return path, _RUNS, parked
            for task_id in awaited:
                if self._waits_hopelessly(task_id):
                    return path, _AWAITS, self._parked[task_id]
            inner = [found for run in runs for found in run.alive()]
            inner += [self._running[task_id] for task_id in awaited if task_id in self._running]
            attempt = next(one for one in inner if one in self.stuck and one not in path)
