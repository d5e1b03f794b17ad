"""Agenda: what a run has to do at which moment."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Agenda(Generic[Item]):
    """Items by the moment at which they are due. Protected by the lock of the scheduler.

    A dropped item is forgotten at once. Its pair of numbers stays in the heap for a while; such
    pairs never make up more than half of a heap of any size.
    """

    __slots__ = ("_heap", "_items", "_last")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []  # moment and ticket
        self._items: dict[int, Item] = {}  # by ticket
        self._last = 0

    def add(self, moment: float, item: Item) -> tuple[int, bool]:
        """Add an item; return its ticket, and whether it is now the first."""
        self._last += 1
        self._items[self._last] = item
        heappush(self._heap, (moment, self._last))
        return self._last, self._heap[0][1] == self._last

    def drop(self, ticket: int) -> None:
        """Forget an item; nothing happens if it was taken or dropped before."""
        if self._items.pop(ticket, None) is None:
            return
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._items):
            self._heap = [entry for entry in self._heap if entry[1] in self._items]
            heapify(self._heap)

    def next(self) -> float | None:
        """When the first item is due; None if there is none."""
        while self._heap and self._heap[0][1] not in self._items:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> Item | None:
        """Take the first item that is due; None if there is none."""
        moment = self.next()
        if moment is None or moment > now:
            return None
        return self._items.pop(heappop(self._heap)[1])
