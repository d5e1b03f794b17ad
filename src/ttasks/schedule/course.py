"""Course: how far a schedule has come, and what it does next. Pure.

Moments are whole microseconds since 1970 in UTC.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import NamedTuple

from ttasks.model.checks import check_number, wrong_type, wrong_value
from ttasks.model.slots import SlotRequest
from ttasks.schedule.rules import MOST_SECONDS, SECOND, Rule

OVERLAPS = ("skip", "queue", "cancel", "allow")
MISSED = ("latest", "all", "skip")
SKIP_GRACE_SECONDS = 60.0
"""How late a slot may be with ``missed="skip"`` and no ``grace``."""
MOST_WAITING = 1000
"""Slots of a schedule that are caught up at a time; the others are taken when these have begun."""

_HORIZONS = [seconds * SECOND for seconds in (60, 3600, 86_400, 7 * 86_400)]
"""Where to look for the latest slot, before looking at all of them."""


class Policy(NamedTuple):
    """Checked options of a schedule; see `Scheduler.every`. Times are microseconds."""

    overlap: str
    missed: str
    grace: int | None
    jitter: int

    @classmethod
    def checked(cls, overlap: object, missed: object, grace: float | None, jitter: float) -> Policy:
        """The options, checked."""
        for name, value, known in (("overlap", overlap, OVERLAPS), ("missed", missed, MISSED)):
            if not isinstance(value, str):
                raise wrong_type(name, value, "a str")
            if value not in known:
                raise wrong_value(name, value, " or ".join(map(repr, known)))
        if grace is not None:
            check_number("grace", grace, least=0, most=MOST_SECONDS)
        elif missed == "skip":
            grace = SKIP_GRACE_SECONDS
        check_number("jitter", jitter, least=0, most=MOST_SECONDS)
        return cls(
            str(overlap),
            str(missed),
            None if grace is None else round(grace * SECOND),
            round(jitter * SECOND),
        )


class Taken(NamedTuple):
    """What came of the slots that are due: ``wanted`` wait to be run; the others are counted."""

    wanted: list[int]
    missed: int
    skipped: int


class Course:
    """How far a schedule has come. Protected by the lock of its scheduler.

    Args:
        name: of the schedule.
        rule, policy: its moments, and what to do with them.
        since: slots up to this moment are none of its business.

    Attributes:
        is_paused: slots that come due are left out.
        is_asked: a store was asked for a slot, and has not answered yet.
        is_blocked: slots wait until one of another process has ended.
        running: slots that run in this process.
        missed, skipped, started: numbers of slots.
    """

    def __init__(self, name: str, rule: Rule, policy: Policy, since: int) -> None:
        self.name = name
        self.rule = rule
        self.policy = policy
        self.is_paused = False
        self.is_asked = False
        self.is_blocked = False
        self.running = 0
        self.missed = 0
        self.skipped = 0
        self.started = 0
        self.version = 0  # of its next moment; see `Scheduler`
        self._waiting: deque[tuple[int, bool]] = deque()  # slots, and whether each waits for others
        self._head = rule.after(since)

    @property
    def is_over(self) -> bool:
        """True if nothing is left to do."""
        return self._head is None and not self._waiting

    @property
    def is_waiting(self) -> bool:
        """True if a slot is due that has not been claimed."""
        return bool(self._waiting)

    def restart(self, since: int) -> None:
        """Go on with the slots after a moment, and forget those that wait."""
        self._waiting.clear()
        self._head = self.rule.after(since)

    def delay(self, slot: int) -> int:
        """The jitter of a slot, the same in every process."""
        if not self.policy.jitter:
            return 0
        digest = blake2b(f"{self.name}\0{slot}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") * self.policy.jitter >> 64

    def due(self) -> int | None:
        """When the next slot is due; None if there is none, or many wait already."""
        if self._head is None or len(self._waiting) >= MOST_WAITING:
            return None
        return self._head + self.delay(self._head)

    def take(self, now: int) -> Taken:
        """Let the slots that are due wait to be run, as far as the policies want them."""
        missed, wanted = self._jump(now), list[int]()
        while (due := self.due()) is not None and due <= now and len(wanted) < MOST_WAITING:
            slot, self._head = self._head, self.rule.after(self._head or 0)
            assert slot is not None
            if self.is_late(slot, now):
                missed += 1
            elif self.policy.missed == "all":
                wanted.append(slot)
            else:
                missed += len(wanted)
                wanted = [slot]
        if self.is_paused:
            return Taken([], 0, 0)
        skipped = self._admit(wanted)
        self.missed += missed
        self.skipped += skipped
        return Taken(wanted, missed, skipped)

    def _jump(self, now: int) -> int:
        """Pass over slots that nobody wants, if they may be many; 1 if there were any."""
        policy, head = self.policy, self._head
        if head is None:
            return 0
        if policy.missed == "all":
            if policy.grace is None:
                return 0
            near = self.rule.after(now - policy.grace - policy.jitter - 1)
            if near is not None and near > head:
                self._head = near
                return 1
            return 0
        for back in _HORIZONS:
            near = self.rule.after(now - back - policy.jitter)
            if near is not None and near + policy.jitter <= now:
                self._head = max(near, head)
                return int(near > head)
        return 0

    def is_late(self, slot: int, now: int) -> bool:
        """True if a slot is beyond the grace."""
        grace = self.policy.grace
        return grace is not None and now - slot - self.delay(slot) > grace

    def _admit(self, wanted: list[int]) -> int:
        """Let slots wait; the number of those that are skipped instead."""
        if not wanted:
            return 0
        overlap = self.policy.overlap
        if overlap == "skip":
            if self._waiting:  # it is catching up
                return len(wanted)
            self._waiting.extend((slot, slot != wanted[0]) for slot in wanted)
            return 0
        if overlap == "cancel" and self.policy.missed != "all":
            before = len(self._waiting) + len(wanted) - 1
            self._waiting.clear()
            self._waiting.append((wanted[-1], True))
            return before
        self._waiting.extend((slot, True) for slot in wanted)
        return 0

    def requests(self) -> list[SlotRequest]:
        """The slots to claim now; they wait no longer, unless `put_back` returns them."""
        is_alone = self.policy.overlap != "allow"
        found = list[SlotRequest]()
        while self._waiting and not self.is_asked:
            slot, waits = self._waiting[0]
            if is_alone and waits and (self.running or self.is_blocked):
                break
            self._waiting.popleft()
            found.append(SlotRequest(self.name, slot, is_alone, waits))
            self.is_asked = is_alone
        return found

    def put_back(self, requests: list[SlotRequest]) -> None:
        """Let slots wait again, before the others."""
        self._waiting.extendleft((item.slot, item.waits) for item in reversed(requests))

    def pause(self) -> None:
        """Leave out what comes due from now on, and what waits."""
        self.is_paused = True
        self._waiting.clear()

    def upcoming(self, number: int, now: int) -> list[int]:
        """The next slots after ``now``, without their jitter."""
        found: list[int] = []
        moment = max(now, (self._head or now + 1) - 1)
        while len(found) < number:
            following = self.rule.after(moment)
            if following is None:
                break
            found.append(following)
            moment = following
        return found
