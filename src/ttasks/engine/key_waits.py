"""Which runs wait for the keys of which others, in this process."""

from __future__ import annotations

from collections.abc import Collection
from itertools import count
from typing import NamedTuple


class _Wait(NamedTuple):
    number: int
    outer: Collection[str]
    holder: str


class KeyWaits:
    """Runs that wait until others give back their keys. Thread-safe.

    It needs no lock: setting, removing and copying entries are single operations of the dict.
    Waiting runs poll, so none misses an entry for long.
    """

    def __init__(self) -> None:
        self._waits: dict[str, _Wait] = {}  # by the id of the run that waits
        self._numbers = count()

    def begin(self, run_id: str, outer: Collection[str], holder: str) -> bool:
        """Note that a run waits, or still does; False if it would wait for itself.

        If runs wait for each other in a circle, the one that began to wait last gets False.

        Args:
            run_id: the run.
            outer: ids of the runs that it is part of, which cannot end before.
            holder: id of the run that has its key.
        """
        known = self._waits.get(run_id)
        mine = _Wait(next(self._numbers) if known is None else known.number, outer, holder)
        self._waits[run_id] = mine
        waits = list(self._waits.values())
        circle = [wait for wait in _after(mine, waits) if mine in _after(wait, waits)]
        return mine.number < max((wait.number for wait in circle), default=mine.number + 1)

    def end(self, run_id: str) -> None:
        """Forget that a run waits, if it does."""
        self._waits.pop(run_id, None)


def _after(wait: _Wait, waits: list[_Wait]) -> list[_Wait]:
    """The waits that must end before this one can, over any number of steps."""
    found: list[_Wait] = []
    holders = [wait.holder]
    for holder in holders:  # which grows
        new = [other for other in waits if holder in other.outer and other not in found]
        found += new
        holders += [other.holder for other in new]
    return found


KEY_WAITS = KeyWaits()
"""The waits of all executors of this process, which may share a store."""
