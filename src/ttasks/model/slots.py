"""Slots: the moments of a schedule, each of which is run once; what remembers them.

Moments are whole microseconds since 1970 in UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum
from typing import NamedTuple, Protocol


class SlotRequest(NamedTuple):
    """A slot that somebody wants to run.

    Attributes:
        schedule: name of the schedule.
        slot: the moment.
        is_alone: only if no other slot of the schedule is open.
        waits: if one is open, leave the slot as it is; otherwise it is over, as "skipped".
    """

    schedule: str
    slot: int
    is_alone: bool = False
    waits: bool = False


class Claim(NamedTuple):
    """A slot that belongs to whoever holds this, until it ends it.

    Attributes:
        number: of its row.
        schedule, slot: see `SlotRequest`.
        graph: id of the graph that an owner who is gone had begun to run for it; None if none had.
    """

    number: int
    schedule: str
    slot: int
    graph: str | None = None


class Refusal(Enum):
    """Why a slot was not claimed.

    TAKEN: somebody else has run it, or does. BUSY: another slot of the schedule is open, so it has
    to wait. SKIPPED: the same, and it does not wait.
    """

    TAKEN = "taken"
    BUSY = "busy"
    SKIPPED = "skipped"


class SlotLog(Protocol):
    """What the ``slots`` of a store must do. Thread-safe.

    A slot is open from its claim to its end. All methods may raise StoreError, and then nothing has
    changed.
    """

    def latest(self, schedule: str) -> int | None:
        """The latest slot that was ever claimed; None if none was."""

    def claim(self, requests: Sequence[SlotRequest]) -> list[Claim | Refusal]:
        """Claim slots, all in one write; an answer for each request."""

    def begin(self, claim: Claim, graph: str) -> None:
        """Note the id of the graph that is about to run for a slot."""

    def end(self, claim: Claim, outcome: str) -> None:
        """Note what became of a slot."""

    def take_over(self, schedules: Collection[str]) -> list[Claim]:
        """Claim the open slots of these schedules whose owners are gone."""

    def held_elsewhere(self, schedules: Collection[str]) -> list[Claim]:
        """The open slots of these schedules that other processes have."""
