"""Cron: the moments that a cron expression means in a time zone.

The fields are read by cronsim. The moments are found here, because which of them are meant when the
clocks change is a promise of this library:

- An expression whose minute or hour field begins with ``*`` means every minute that the clock on
  the wall shows and that fits. What the clock skips does not happen; what it shows twice happens
  twice.
- Any other expression means fixed times of the day, each once a day. One that the clock skips
  happens when the gap is over; one that it shows twice happens the first time. Several that would
  fall together are one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from ttasks.errors import MissingExtraError
from ttasks.model.checks import check_str, near, wrong_type, wrong_value

NEVER_YEARS = 50
"""Years without a match after which an expression counts as one that never matches."""

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_MARGIN = timedelta(hours=4)  # more than any change of the clocks but those that skip a day
_FIELDS = (
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L or LW"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of the week", "0 to 7 or SUN to SAT (0 and 7 are Sunday), as in 5L or 1#2, too"),
)
_LETTERS = ("", "", "LW", "ABCDEFGJLMNOPRSTUVY", "ADEFHILMNORSTUW#")
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_KEPT_DAYS = 16
_ANY = datetime(2000, 1, 1)  # noqa: DTZ001, since only the fields are read


class CronTimes:
    """The moments of a cron expression. Immutable but for what it keeps of the days.

    Args:
        expression: five fields, or a name such as ``@daily``.
        zone: the time zone.

    Raises:
        MissingExtraError: the extra ``schedule`` is not installed.
        TypeError, ValueError: the expression is wrong, or never matches.
    """

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self.expression = expression
        self.zone = zone
        self._fields = fields = _read(expression)
        self._minutes = sorted(fields.minutes)
        self._hours = sorted(fields.hours)
        self._days: dict[date, list[datetime]] = {}  # the moments of some; see `_of_day`
        minute, hour = _SHORT.get(expression.strip().lower(), expression).split()[:2]
        self._is_fixed = not (minute.startswith("*") or hour.startswith("*"))
        if self._next_day(date(2000, 1, 1)) is None:
            raise wrong_value("expression", expression, "one that matches a day in 50 years")

    def after(self, moment: datetime) -> datetime | None:
        """The first moment after one, in UTC; None if there is none in fifty years."""
        local = moment.astimezone(self.zone).replace(tzinfo=None)
        found = self._after_local(local)
        if found is None:
            return None
        if not (self._is_odd(local.date()) or self._is_odd(found.date())):
            return found.replace(tzinfo=self.zone).astimezone(UTC)
        # The clocks change near one of them, so look at whole days.
        day: date | None = local.date() - _DAY
        while day is not None:
            nearby = []
            for one in (day, day + _DAY, day + 2 * _DAY):
                moments = self._of_day(one)
                nearby += moments[bisect_right(moments, moment) :][:1]
            if nearby:
                return min(nearby)
            day = self._next_day(day + _DAY)
        return None

    def _after_local(self, local: datetime) -> datetime | None:
        """The first match after a moment, by a clock that nobody ever sets."""
        day = self._next_day(local.date())
        if day == local.date():
            for hour in self._hours:
                if hour < local.hour:
                    continue
                for minute in self._minutes:
                    if (hour, minute) > (local.hour, local.minute):
                        return datetime.combine(day, time(hour, minute))
            day = self._next_day(day + _DAY)
        return (
            None if day is None else datetime.combine(day, time(self._hours[0], self._minutes[0]))
        )

    def _next_day(self, day: date) -> date | None:
        """The first day that fits, from this one on."""
        last = min(day.year + NEVER_YEARS, date.max.year - 1)
        while day.year <= last:
            if day.month not in self._fields.months:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            elif self._fields.match_day(day):
                return day
            else:
                day += _DAY
        return None

    def _is_odd(self, day: date) -> bool:
        return _is_odd(self.zone, day)

    def _of_day(self, day: date) -> list[datetime]:
        """The moments of a day, in their order."""
        found = self._days.get(day)
        if found is None:
            found = []
            if day.month in self._fields.months and self._fields.match_day(day):
                for hour in self._hours:
                    for minute in self._minutes:
                        found += self._meant(datetime.combine(day, time(hour, minute)))
            if len(self._days) >= _KEPT_DAYS:
                self._days.clear()
            self._days[day] = found = sorted(found)
        return found

    def _meant(self, local: datetime) -> list[datetime]:
        """The moments at which a time of the clock on the wall happens, in UTC."""
        found = [
            moment
            for fold in (0, 1)
            if _local(moment := _utc(local, self.zone, fold), self.zone) == local
        ]
        if not self._is_fixed:
            return list(dict.fromkeys(found))
        while not found:
            local += _MINUTE
            moment = _utc(local, self.zone, 0)
            found = [moment] if _local(moment, self.zone) == local else []
        return found[:1]


def _utc(local: datetime, zone: tzinfo, fold: int) -> datetime:
    return local.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _local(moment: datetime, zone: tzinfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=4096)
def _is_odd(zone: tzinfo, day: date) -> bool:
    """True if the clocks change on a day, or a few hours before or after it."""
    begin = datetime.combine(day, time(), zone)
    first = (begin.astimezone(UTC) - _MARGIN).astimezone(zone).utcoffset()
    return first != (begin.astimezone(UTC) + _DAY + _MARGIN).astimezone(zone).utcoffset()


# Expressions


def _read(expression: str) -> Any:
    """The fields, as cronsim reads them."""
    try:
        import cronsim
    except ImportError:
        raise MissingExtraError("schedule", "A cron expression") from None
    check_str("expression", expression, empty=False)
    text = _SHORT.get(expression.strip().lower(), expression)
    parts = text.split()
    if text.startswith("@"):
        hint = f"one of {', '.join(_SHORT)}, or five fields"
        raise wrong_value("expression", expression, hint)
    if len(parts) != len(_FIELDS):
        wanted = "five fields: minute, hour, day of the month, month, day of the week"
        raise wrong_value("expression", expression, f"{wanted} ({len(parts)} were given)")
    try:
        return cronsim.CronSim(text, _ANY)
    except cronsim.CronSimError:
        pass
    for number, found in enumerate(re.finditer(r"\S+", text)):
        _check_field(expression, number, found[0], found.start(), cronsim)
    raise wrong_value("expression", expression, "one that matches some day: no month is so long")


def _check_field(expression: str, number: int, field: str, start: int, cronsim: Any) -> None:
    """Raise ValueError if a field is wrong by itself; the message says where."""
    name, allowed = _FIELDS[number]
    for term in re.finditer(r"[^,]*(?:,|$)", field):
        text = term[0].removesuffix(",")
        if term.start() == len(field) and field[-1:] != ",":
            continue  # the empty match at the end
        alone = ["*"] * len(_FIELDS)
        alone[number] = text or "?"
        try:
            cronsim.CronSim(" ".join(alone), _ANY)
        except cronsim.CronSimError:
            at = start + term.start()
            usual = "0123456789*/-" + _LETTERS[number]
            strange = next((i for i, one in enumerate(text.upper()) if one not in usual), None)
            what = f"{text!r} (character {at + 1})"
            if strange is not None:
                what = f"{text[strange]!r} (character {at + strange + 1})"
            raise ValueError(
                f"expression {expression!r} has a wrong {name}: {what}; write {allowed}, "
                "* for all, a-b for a range, */n for every n-th, or several with commas between"
            ) from None


def zone_of(value: str | tzinfo | None) -> tzinfo:
    """A time zone that is given by itself or by its name; None means UTC.

    Raises:
        TypeError: it is neither.
        ValueError: there is no such zone; near names are given.
    """
    if value is None:
        return UTC
    if hasattr(value, "localize"):  # of pytz, whose zones are not used as others are
        value = str(value)
    if isinstance(value, tzinfo):
        return value
    if not isinstance(value, str):
        raise wrong_type("tz", value, "the name of a time zone, a tzinfo or None")
    from zoneinfo import ZoneInfo, available_timezones

    try:
        return ZoneInfo(value)
    except (OSError, ValueError, LookupError):  # a name that is no path of a zone, or none at all
        names = near(value, available_timezones())
        hint = f", such as {' or '.join(map(repr, names))}" if names else ", as Europe/Berlin"
        raise wrong_value("tz", value, f"the name of a time zone{hint}") from None
