"""Rules: which moments a schedule has. Pure.

Moments are whole microseconds since 1970 in UTC, as in `ttasks.model.slots`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Protocol

from ttasks.model.checks import check_moment, check_number, wrong_type, wrong_value

if TYPE_CHECKING:
    from ttasks.schedule.cron import CronTimes

SECOND = 1_000_000
LEAST_SECONDS = 0.001
"""The shortest interval."""
MOST_SECONDS = 1e9
"""The longest interval, grace and jitter."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


_LAST = to_micros(datetime.max.replace(tzinfo=UTC))


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)


def _check_range(name: str, moment: datetime) -> None:
    """Refuse what would not be in the years 1 to 9999 in UTC."""
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise wrong_value(name, moment, "in the years 1 to 9999 in UTC") from None


class Rule(Protocol):
    """Which moments a schedule has. ``str`` tells it for people; ``zone`` is for showing them."""

    zone: tzinfo

    def after(self, moment: int) -> int | None:
        """The first moment after one; None if there is none."""


class Every:
    """Moments at a distance: ``start``, and then every ``seconds``. They never drift."""

    zone: tzinfo = UTC

    def __init__(self, seconds: float, start: datetime | None) -> None:
        self._seconds = check_number("seconds", seconds, least=LEAST_SECONDS, most=MOST_SECONDS)
        self._step = round(self._seconds * SECOND)
        moment = check_moment("start", start)
        if moment is not None:
            _check_range("start", moment)
        self._start = None if moment is None else to_micros(moment)

    def after(self, moment: int) -> int | None:
        """See `Rule`."""
        start = self._start or 0
        if self._start is not None and moment < start:
            return start
        following = start + ((moment - start) // self._step + 1) * self._step
        return following if following <= _LAST else None

    def __str__(self) -> str:
        return f"every {self._seconds:g} s"


class At:
    """One moment."""

    def __init__(self, moment: datetime) -> None:
        if check_moment("moment", moment) is None:
            raise wrong_type("moment", moment, "an aware datetime")
        _check_range("moment", moment)
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
