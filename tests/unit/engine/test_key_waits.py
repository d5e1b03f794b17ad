"""Who is told that runs wait for each other's keys."""

from __future__ import annotations

from ttasks.engine.key_waits import KeyWaits


def test_of_a_circle_the_last_is_told() -> None:
    waits = KeyWaits()
    assert waits.begin("a in b", ["b"], "a")
    assert waits.begin("b in c", ["c"], "b")
    assert not waits.begin("c in a", ["a"], "c")
    assert waits.begin("a in b", ["b"], "a")  # looks again


def test_who_has_ended_is_waited_for_no_more() -> None:
    waits = KeyWaits()
    assert waits.begin("a in b", ["b"], "a")
    waits.end("a in b")
    waits.end("a in b")
    assert waits.begin("b in a", ["a"], "b")


def test_runs_in_between_count() -> None:
    waits = KeyWaits()
    assert waits.begin("a in x in b", ["x", "b"], "a")
    assert not waits.begin("b in y in a", ["y", "a"], "b")


def test_a_circle_of_others_tells_nobody_else() -> None:
    waits = KeyWaits()
    assert waits.begin("a in b", ["b"], "a")
    assert not waits.begin("b in a", ["a"], "b")
    assert waits.begin("a in c", ["c"], "a")


def test_a_run_that_is_part_of_nothing_can_wait_for_anybody() -> None:
    waits = KeyWaits()
    assert waits.begin("b", [], "a")
    assert waits.begin("a", [], "b")
