"""Places: how many tasks of a group run at once.

Nothing here has a lock of its own: the lock of the scheduler protects it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ttasks.model.running import check_limits


class Places:
    """Counts the tasks of each limited group that are running."""

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        check_limits(limits)
        self._limits = dict(limits or {})
        self._used = dict.fromkeys(self._limits, 0)

    def __contains__(self, group: object) -> bool:
        return group in self._limits

    def take(self, group: str) -> bool:
        """Take a place if one is free; always True for a group without a limit."""
        if group not in self._limits:
            return True
        if self._used[group] >= self._limits[group]:
            return False
        self._used[group] += 1
        return True

    def limit_of(self, group: str | None) -> int | None:
        """How many places a group has; None if it has no limit."""
        return None if group is None else self._limits.get(group)

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
    """

    def __init__(self, own: Places, shared: Places, held: frozenset[str]) -> None:
        self._own = own
        self._shared = shared
        self._held = held
        self._lent = Places(dict.fromkeys(held, 1))

    def __contains__(self, group: object) -> bool:
        return group in self._own or group in self._shared

    def take(self, group: str) -> bool:
        """Take a place if one is free under every limit."""
        if group in self._lent:
            return self._lent.take(group)
        if not self._own.take(group):
            return False
        if not self._shared.take(group):
            self._own.give_back(group)
            return False
        return True

    def give_back(self, group: str) -> None:
        """Give a place back."""
        if group in self._lent:
            self._lent.give_back(group)
        else:
            self._own.give_back(group)
            self._shared.give_back(group)

    def shared_limit_of(self, group: str | None) -> int | None:
        """How many places a group has over all runs; None for no limit, or a place of the outer."""
        return None if group in self._held else self._shared.limit_of(group)

    def held_by(self, group: str | None) -> frozenset[str]:
        """The groups in which a task of this run that is in ``group`` has a place."""
        return self._held if group is None else self._held | {group}
