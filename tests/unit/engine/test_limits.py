"""Places in groups: of an executor, of a run, and of a run inside a task that has one."""

from __future__ import annotations

import pytest

from ttasks.engine.limits import Places, RunPlaces

NONE: frozenset[str] = frozenset()


def test_a_group_has_as_many_places_as_its_limit_says() -> None:
    places = Places({"db": 2})
    assert [places.take("db") for _ in range(3)] == [True, True, False]
    places.give_back("db")
    assert places.take("db")
    assert not places.take("db")


def test_a_group_without_a_limit_has_places_for_all() -> None:
    places = Places({"db": 1})
    assert "db" in places
    assert "net" not in places
    assert all(places.take("net") for _ in range(5))
    places.give_back("net")


@pytest.mark.parametrize(
    ("limits", "error"),
    [({"db": 0}, ValueError), ({"db": "1"}, TypeError), ({"": 1}, ValueError), (["db"], TypeError)],
)
def test_wrong_limits_are_refused(limits: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="limits"):
        Places(limits)  # type: ignore[arg-type]


def test_a_run_needs_a_place_under_its_own_limits_and_under_those_of_the_executor() -> None:
    shared = Places({"db": 2, "net": 1})
    first = RunPlaces(Places({"db": 1}), shared, NONE)
    second = RunPlaces(Places(), shared, NONE)
    assert first.take("db")
    assert not first.take("db")  # its own limit
    assert second.take("db")
    assert not second.take("db")  # that of the executor
    first.give_back("db")
    assert second.take("db")
    assert not first.take("db")
    second.give_back("db")
    assert first.take("db")  # the attempt before has kept nothing of its own limit


def test_a_run_knows_the_groups_of_both_limits() -> None:
    places = RunPlaces(Places({"own": 1}), Places({"shared": 1}), NONE)
    assert ["own" in places, "shared" in places, "other" in places] == [True, True, False]


def test_a_run_inside_a_task_shares_the_place_of_that_task() -> None:
    shared = Places({"db": 1})
    assert shared.take("db")  # of the task itself
    inner = RunPlaces(Places(), shared, frozenset({"db"}))
    assert inner.take("db")
    assert not inner.take("db")  # one at a time
    inner.give_back("db")
    assert not shared.take("db")  # the task still has its place
    assert inner.take("db")


def test_what_a_task_holds_is_its_group_and_those_that_its_run_is_in() -> None:
    outer = RunPlaces(Places(), Places(), NONE)
    assert outer.held_by(None) == NONE
    assert outer.held_by("db") == {"db"}
    inner = RunPlaces(Places(), Places(), outer.held_by("db"))
    assert inner.held_by(None) == {"db"}
    assert inner.held_by("net") == {"db", "net"}
