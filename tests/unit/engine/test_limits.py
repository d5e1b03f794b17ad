"""Places in groups: of an executor, of a run, and of a run inside a task that has one."""

from __future__ import annotations

import pytest

from support import make
from ttasks.engine.limits import Places, RunPlaces

NONE: frozenset[str] = frozenset()


def taken(places: RunPlaces, *groups: str) -> bool:
    return not places.take(groups)


def of(limits: dict[str, int]) -> RunPlaces:
    return RunPlaces(Places(limits), Places(), NONE)


def test_a_group_has_as_many_places_as_its_limit_says() -> None:
    places = of({"db": 2})
    assert [taken(places, "db") for _ in range(3)] == [True, True, False]
    places.give_back(("db",))
    assert taken(places, "db")
    assert not taken(places, "db")


def test_a_task_gets_a_place_in_each_of_its_groups_or_in_none() -> None:
    places = of({"a": 1, "b": 1, "c": 2})
    assert taken(places, "b", "c")
    assert places.take(("a", "b", "c")) == ("b", "a", "c")  # what is full, then what is not
    assert taken(places, "a", "c")  # the refusal has taken nothing
    assert places.take(("c", "b", "a")) == ("c",)  # all are full
    places.give_back(("b", "c"))
    assert places.take(("a", "b", "c")) == ("a", "b", "c")
    places.give_back(("a", "c"))
    assert taken(places, "a", "b", "c")


def test_the_groups_of_a_task_that_count_are_those_with_a_limit() -> None:
    places = RunPlaces(Places({"own": 1}), Places({"shared": 1}), NONE)
    assert places.limited(make("t")) == ()
    assert places.limited(make("t", group="other")) == ()
    assert places.limited(make("t", group="own")) == ("own",)
    assert places.limited(make("t", group=["shared", "other", "own"])) == ("shared", "own")


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
    assert taken(first, "db")
    assert not taken(first, "db")  # its own limit
    assert taken(second, "db")
    assert not taken(second, "db")  # that of the executor
    first.give_back(("db",))
    assert taken(second, "db")
    assert not taken(first, "db")
    second.give_back(("db",))
    assert taken(first, "db")  # the attempt before has kept nothing of its own limit


def test_a_run_inside_a_task_shares_the_place_of_that_task() -> None:
    shared = Places({"db": 1, "net": 1})
    shared.take("db")  # of the task itself
    inner = RunPlaces(Places(), shared, frozenset({"db"}))
    assert taken(inner, "db", "net")
    assert not taken(inner, "db")  # one at a time
    inner.give_back(("db", "net"))
    assert not shared.is_free("db")  # the task still has its place
    assert shared.is_free("net")
    assert taken(inner, "db")


def test_what_a_task_holds_is_its_groups_and_those_that_its_run_is_in() -> None:
    outer = RunPlaces(Places(), Places(), NONE)
    assert outer.held_by(()) == NONE
    assert outer.held_by(("db",)) == {"db"}
    inner = RunPlaces(Places(), Places(), outer.held_by(("db",)))
    assert inner.held_by(()) == {"db"}
    assert inner.held_by(("net", "disk")) == {"db", "net", "disk"}
