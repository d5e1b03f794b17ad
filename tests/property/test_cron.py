"""Cron expressions against a slow oracle, over every minute of a year in five time zones.

The oracle is written from the rules in docs/how-to/schedules.md: it walks through the year minute
by minute, reads the clock on the wall, and knows neither cronsim nor the code under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

cronsim = pytest.importorskip("cronsim")

from ttasks.schedule.cron import CronTimes  # noqa: E402

MINUTE = timedelta(minutes=1)
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
ZONES = (
    "Europe/Berlin",  # an hour at night
    "Australia/Lord_Howe",  # half an hour
    "America/Havana",  # at midnight
    "Antarctica/Troll",  # two hours
    "Asia/Kathmandu",  # never; 45 minutes from others
)
USUAL = ("30 2 * * *", "*/15 2 * * *")
EXPRESSIONS = (
    "* * * * *",
    "0,15,45 0-3 * * *",
    "59 23 * * 0",
    "0 12 1,15 * 3",
    "30 */2 * * *",
    "*/20 * 8 3-4 *",
    "1-5/2 * * 10,11 0,6",
)


@cache
def year(zone: str) -> list[datetime]:
    """What the clock on the wall shows in each minute of the year."""
    place, found, moment = ZoneInfo(zone), [], BEGIN - MINUTE
    while moment < END:
        found.append(moment.astimezone(place).replace(tzinfo=None, fold=0))
        moment += MINUTE
    return found


class Fields:
    """Which times of the clock fit an expression."""

    def __init__(self, expression: str) -> None:
        minute, hour, day, month, weekday = self.texts = expression.split()
        self.minutes, self.hours = values(minute, 0, 59), values(hour, 0, 23)
        self.days, self.months = values(day, 1, 31), values(month, 1, 12)
        self.weekdays = {number % 7 for number in values(weekday, 0, 7)}

    @property
    def are_fixed(self) -> bool:
        return not self.texts[0].startswith("*") and not self.texts[1].startswith("*")

    def fit(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours:
            return False
        if wall.month not in self.months:
            return False
        by_day, by_weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        if self.texts[2].startswith("*") or self.texts[4].startswith("*"):
            return by_day and by_weekday
        return by_day or by_weekday


def values(text: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        begin = least if span == "*" else int(first)
        end = most if span == "*" else int(last or first)
        found.update(range(begin, end + 1, int(step or 1)))
    return found


def expected(expression: str, zone: str) -> Iterator[datetime]:
    """The moments of the year, by the rules in the docs."""
    fields, walls = Fields(expression), year(zone)
    latest = walls[0]  # that the clock has shown
    for number, wall in enumerate(walls[1:]):
        moment = BEGIN + number * MINUTE
        if not fields.are_fixed:
            if fields.fit(wall):
                yield moment
            continue
        skipped, meant = latest + MINUTE, False
        while skipped <= wall:  # the minute itself, and those that the clock has left out
            meant = meant or fields.fit(skipped)
            skipped += MINUTE
        latest = max(latest, wall)
        if meant:
            yield moment


def found(expression: str, zone: str) -> Iterator[datetime]:
    times = CronTimes(expression, ZoneInfo(zone))
    moment = times.after(BEGIN - MINUTE)
    while moment is not None and moment < END:
        yield moment
        moment = times.after(moment)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "expression", [*USUAL, *(pytest.param(one, marks=pytest.mark.campaign) for one in EXPRESSIONS)]
)
def test_a_year_of_slots_is_what_the_rules_say(expression: str, zone: str) -> None:
    right = list(expected(expression, zone))
    assert list(found(expression, zone)) == right
    assert len(right) > 50


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/15 1-3 * * *"])
def test_slots_do_not_depend_on_where_one_begins(expression: str, zone: str) -> None:
    times = CronTimes(expression, ZoneInfo(zone))
    for begin in (datetime(2026, 3, 7, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC)):
        slots = [slot for slot in found(expression, zone) if begin < slot]
        for step in range(0, 60 * 24 * 29, 97):
            moment = begin + step * MINUTE
            while slots[0] <= moment:
                slots.pop(0)
            assert times.after(moment) == slots[0], moment


@pytest.mark.parametrize("expression", ["30 2 * * *", "30 1-3 * * *", "30 */2 * * *", "0 0 1 * 1"])
def test_zones_that_change_by_whole_hours_are_as_in_cronsim(expression: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    theirs = cronsim.CronSim(expression, (BEGIN - MINUTE).astimezone(zone))
    for moment in found(expression, "Europe/Berlin"):
        assert next(theirs).astimezone(UTC) == moment
