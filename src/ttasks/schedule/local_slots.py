"""LocalSlots: the slots of a scheduler without a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import count

from ttasks import sync
from ttasks.model.slots import Claim, Refusal, SlotRequest


class LocalSlots:
    """Remembers which slots are open, in this process; a `ttasks.model.slots.SlotLog`.

    It keeps nothing of a slot that has ended: a scheduler asks for each slot once.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._lock = sync.Lock()  # protects the open slots
        self._open: Counter[str] = Counter()

    def latest(self, schedule: str) -> int | None:
        """See `ttasks.model.slots.SlotLog`."""
        return None

    def claim(self, requests: Sequence[SlotRequest]) -> list[Claim | Refusal]:
        """See `ttasks.model.slots.SlotLog`."""
        with self._lock:
            return [self._claim(request) for request in requests]

    def _claim(self, request: SlotRequest) -> Claim | Refusal:
        if request.is_alone and self._open[request.schedule]:
            return Refusal.BUSY if request.waits else Refusal.SKIPPED
        self._open[request.schedule] += 1
        return Claim(next(self._numbers), request.schedule, request.slot)

    def begin(self, claim: Claim, graph: str) -> None:
        """See `ttasks.model.slots.SlotLog`."""

    def end(self, claim: Claim, outcome: str) -> None:
        """See `ttasks.model.slots.SlotLog`."""
        with self._lock:
            self._open[claim.schedule] -= 1

    def take_over(self, schedules: Collection[str]) -> list[Claim]:
        """See `ttasks.model.slots.SlotLog`."""
        return []

    def held_elsewhere(self, schedules: Collection[str]) -> list[Claim]:
        """See `ttasks.model.slots.SlotLog`."""
        return []
