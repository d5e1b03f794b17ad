"""GroupLimits: how many tasks of a group run at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock

from ttasks.model.running import check_limits


class GroupLimits:
    """Counts the tasks of each limited group that are running. Thread-safe.

    The lock owns the counts and the listeners; it is not held while listeners are told that a
    place is free.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        check_limits(limits)
        self._lock = Lock()
        self._limits = dict(limits or {})
        self._used = dict.fromkeys(self._limits, 0)
        self._listeners: list[Callable[[str], None]] = []

    def __contains__(self, group: object) -> bool:
        return group in self._limits

    def __bool__(self) -> bool:
        return bool(self._limits)

    def acquire(self, group: str) -> bool:
        """Take a place if one is free; True also for a group without a limit."""
        limit = self._limits.get(group)
        if limit is None:
            return True
        with self._lock:
            if self._used[group] >= limit:
                return False
            self._used[group] += 1
            return True

    def release(self, group: str) -> None:
        """Give a place back and tell the listeners."""
        if group not in self._limits:
            return
        with self._lock:
            self._used[group] -= 1
            listeners = list(self._listeners)
        for listener in listeners:
            listener(group)

    def listen(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call ``listener`` with the group of every place that becomes free; returns the end."""
        with self._lock:
            self._listeners.append(listener)

        def remove() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return remove


class RunLimits:
    """The limits that hold in one run: its own, and those of its executor. Thread-safe.

    Args:
        own: limits of this run alone.
        shared: limits over all runs of the executor.
        held: groups in which the task that this run is part of has a place. The run shares that
            place, one task at a time; asking for another one could wait for itself.
    """

    def __init__(self, own: GroupLimits, shared: GroupLimits, held: frozenset[str]) -> None:
        self._own = own
        self._shared = shared
        self.held = held
        self._lent = GroupLimits(dict.fromkeys(held, 1))

    def __contains__(self, group: object) -> bool:
        return group in self._own or group in self._shared

    def acquire(self, group: str) -> bool:
        """Take a place if one is free under every limit."""
        if group in self._lent:
            return self._lent.acquire(group)
        if not self._own.acquire(group):
            return False
        if not self._shared.acquire(group):
            self._own.release(group)
            return False
        return True

    def release(self, group: str) -> bool:
        """Give a place back; True if nobody has been told of it."""
        if group in self._lent:
            self._lent.release(group)
            return True
        self._own.release(group)
        self._shared.release(group)
        return group not in self._shared

    def held_by(self, group: str | None) -> frozenset[str]:
        """Groups in which a task of this run, being in ``group``, has a place."""
        return self.held if group is None else self.held | {group}
