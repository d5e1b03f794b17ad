"""Agenda: what a run has to do at a certain time."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt


class Agenda:
    """When to try which node again, and when to end which coroutine.

    Its state is owned by the lock of the dispatch, which every method is called with. Moments are
    those of the executor's clock.
    """

    __slots__ = ("_expiries", "_retries", "_waiting")

    def __init__(self) -> None:
        self._expiries: list[tuple[float, int, Attempt]] = []  # a heap
        self._retries: list[tuple[float, int, str]] = []  # a heap: when, node, id of its task
        self._waiting: dict[str, int] = {}  # node by id of its task

    def next(self) -> float | None:
        """The first moment; None if there is nothing to do."""
        moments: list[float] = []
        if self._expiries:
            moments.append(self._expiries[0][0])
        if self._retries:
            moments.append(self._retries[0][0])
        return min(moments, default=None)

    def add_retry(self, moment: float, node: int, task_id: str) -> bool:
        """Try a node again at that moment; True if that is before all others."""
        self._waiting[task_id] = node
        heappush(self._retries, (moment, node, task_id))
        return self._retries[0][1] == node

    def retry_at_once(self, task_id: str) -> bool:
        """Let a task not wait any longer; False if it does not."""
        node = self._waiting.get(task_id)
        if node is None:
            return False
        heappush(self._retries, (0.0, node, task_id))
        return True

    def retries(self, now: float) -> Iterator[int]:
        """Take the nodes whose time for another attempt has come; some may come twice."""
        while self._retries and self._retries[0][0] <= now:
            _moment, node, task_id = heappop(self._retries)
            self._waiting.pop(task_id, None)
            yield node

    def add_expiry(self, moment: float, node: int, attempt: Attempt) -> bool:
        """End an attempt at that moment; True if that is before all others."""
        heappush(self._expiries, (moment, node, attempt))
        return self._expiries[0][2] is attempt

    def expiry(self, now: float) -> tuple[int, Attempt] | None:
        """Take a node whose attempt's time is up, with the attempt; None if there is none."""
        if not self._expiries or self._expiries[0][0] > now:
            return None
        _moment, node, attempt = heappop(self._expiries)
        return node, attempt
