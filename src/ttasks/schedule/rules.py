"""Rules: which moments a schedule has. Pure.

Moments are whole microseconds since 1970 in UTC, as in `ttasks.model.slots`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Protocol

from ttasks.model.checks import check_moment, check_number, wrong_type

if TYPE_CHECKING:
    from ttasks.schedule.cron import CronTimes

SECOND = 1_000_000
LEAST_SECONDS = 0.001
"""The shortest interval."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)


class Rule(Protocol):
    """Which moments a schedule has. ``str`` tells it for people; ``zone`` is for showing them."""

    zone: tzinfo

    def after(self, moment: int) -> int | None:
        """The first moment after one; None if there is none."""


class Every:
    """Moments at a distance: ``start``, and then every ``seconds``. They never drift."""

    zone: tzinfo = UTC

    def __init__(self, seconds: float, start: datetime | None) -> None:
        self._seconds = check_number("seconds", seconds, least=LEAST_SECONDS)
        self._step = round(self._seconds * SECOND)
        moment = check_moment("start", start)
        self._start = None if moment is None else to_micros(moment)

    def after(self, moment: int) -> int | None:
        """See `Rule`."""
        start = self._start or 0
        if self._start is not None and moment < start:
            return start
        return start + ((moment - start) // self._step + 1) * self._step

    def __str__(self) -> str:
        return f"every {self._seconds:g} s"


class At:
    """One moment."""

    def __init__(self, moment: datetime) -> None:
        if check_moment("moment", moment) is None:
            raise wrong_type("moment", moment, "an aware datetime")
        self._moment = to_micros(moment)
        assert moment.tzinfo is not None
        self.zone: tzinfo = moment.tzinfo

    def after(self, moment: int) -> int | None:
        """See `Rule`."""
        return self._moment if moment < self._moment else None

    def __str__(self) -> str:
        return f"at {from_micros(self._moment).astimezone(self.zone):%Y-%m-%d %H:%M:%S %Z}"


class Cron:
    """The moments of a cron expression in a time zone."""

    def __init__(self, times: CronTimes) -> None:
        self._times = times
        self.zone: tzinfo = times.zone

    def after(self, moment: int) -> int | None:
        """See `Rule`."""
        found = self._times.after(from_micros(moment))
        return None if found is None else to_micros(found)

    def __str__(self) -> str:
        return f"cron {self._times.expression} ({self._times.zone})"
