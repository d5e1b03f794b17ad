"""Places: how many tasks of a group run at once.

A task that is in several groups gets a place in each, or in none. Nothing here has a lock of its
own: the lock of the scheduler protects it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttasks.model.groups import groups_of
from ttasks.model.running import Limits, check_limits
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType

Groups = tuple[str, ...]


def group_of_type(type: TaskType) -> str:
    """The name of the group of all tasks of a type."""
    return f"type {type.value}"


class Places:
    """Counts the tasks of each limited group that are running.

    The tasks of a type that has a limit are a group, too; see `group_of_type`.

    Attributes:
        has_types: some type has a limit.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        check_limits(limits)
        given: Mapping[Any, int] = limits or {}
        self._limits = {
            group_of_type(key) if isinstance(key, TaskType) else key: limit
            for key, limit in given.items()
        }
        self.has_types = any(isinstance(key, TaskType) for key in given)
        self._used = dict.fromkeys(self._limits, 0)

    def __contains__(self, group: object) -> bool:
        return group in self._limits

    def is_free(self, group: str) -> bool:
        """True if a place is free; always for a group without a limit."""
        return group not in self._limits or self._used[group] < self._limits[group]

    def take(self, group: str) -> None:
        """Take a place, which has to be free."""
        if group in self._limits:
            self._used[group] += 1

    def limit_of(self, group: str) -> int | None:
        """How many places a group has; None if it has no limit."""
        return self._limits.get(group)

    def give_back(self, group: str) -> None:
        """Give a place back."""
        if group in self._limits:
            self._used[group] -= 1


class RunPlaces:
    """The places of one run: under its own limits, and under those of its executor.

    Args:
        own: limits of this run alone.
        shared: limits over all runs of the executor.
        held: groups in which the outer task of this run has a place. The run uses that place, one
            task at a time; if it asked for another, it could wait for itself.

    Attributes:
        has_types: some type has a limit, so tasks without a group may need a place, too.
    """

    def __init__(self, own: Places, shared: Places, held: frozenset[str]) -> None:
        self._own = own
        self._shared = shared
        self._held = held
        self._lent = Places(dict.fromkeys(held, 1))
        self.has_types = own.has_types or shared.has_types

    def limited(self, task: Task) -> Groups:
        """The groups of a task that have a limit."""
        groups = groups_of(task)
        if self.has_types:
            groups = (*groups, group_of_type(task.type))
        elif not groups:
            return ()
        return tuple(group for group in groups if group in self._own or group in self._shared)

    def take(self, groups: Groups) -> Groups:
        """Take a place in each of the groups, if one is free in each.

        Returns:
            Nothing if it has taken them. Otherwise it has taken none, and returns a group that is
            full and then those of the others in which a place is free.
        """
        full = [group for group in groups if not self._is_free(group)]
        if full:
            return (full[0], *[group for group in groups if group not in full])
        for group in groups:
            if group in self._lent:
                self._lent.take(group)
            else:
                self._own.take(group)
                self._shared.take(group)
        return ()

    def _is_free(self, group: str) -> bool:
        """True if a place is free under every limit."""
        if group in self._lent:
            return self._lent.is_free(group)
        return self._own.is_free(group) and self._shared.is_free(group)

    def give_back(self, groups: Groups) -> None:
        """Give back a place in each of the groups."""
        for group in groups:
            if group in self._lent:
                self._lent.give_back(group)
            else:
                self._own.give_back(group)
                self._shared.give_back(group)

    def shared_limit_of(self, group: str) -> int | None:
        """How many places a group has over all runs; None for no limit, or a place of the outer."""
        return None if group in self._held else self._shared.limit_of(group)

    def held_by(self, groups: Groups) -> frozenset[str]:
        """The groups in which a task of this run that is in ``groups`` has a place."""
        return self._held.union(groups)
