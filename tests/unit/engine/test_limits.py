"""Places in groups: counting, sharing, telling who waits."""

from __future__ import annotations

import threading

from support import WAIT, background
from ttasks.engine.limits import GroupLimits, RunLimits

NONE: frozenset[str] = frozenset()


def test_a_group_has_as_many_places_as_its_limit() -> None:
    limits = GroupLimits({"db": 2})
    assert [limits.acquire("db") for _ in range(3)] == [True, True, False]
    limits.release("db")
    assert [limits.acquire("db") for _ in range(2)] == [True, False]


def test_a_group_without_a_limit_is_never_full() -> None:
    limits = GroupLimits({"db": 1})
    assert all(limits.acquire("web") for _ in range(100))
    limits.release("web")
    assert "web" not in limits
    assert "db" in limits
    assert limits
    assert not GroupLimits()


def test_a_later_change_of_the_mapping_changes_nothing() -> None:
    given = {"db": 1}
    limits = GroupLimits(given)
    given["db"] = 5
    assert [limits.acquire("db") for _ in range(2)] == [True, False]


def test_listeners_hear_of_every_free_place_until_they_end() -> None:
    limits = GroupLimits({"db": 1})
    heard: list[str] = []
    stop = limits.listen(lambda group: heard.append(f"first {group}"))
    limits.listen(lambda group: heard.append(f"second {group} {limits.acquire(group)}"))
    limits.acquire("db")
    limits.release("db")
    assert heard == ["first db", "second db True"]
    stop()
    limits.release("db")
    assert heard[2:] == ["second db True"]


def test_a_run_needs_a_place_under_every_limit_or_takes_none() -> None:
    own, shared = GroupLimits({"db": 2}), GroupLimits({"db": 1})
    first, second = RunLimits(own, shared, NONE), RunLimits(GroupLimits(), shared, NONE)
    assert second.acquire("db")
    assert not first.acquire("db")
    second.release("db")
    assert first.acquire("db")
    assert own.acquire("db")  # the refused place was given back
    assert not own.acquire("db")


def test_only_a_place_that_others_share_is_told_to_them() -> None:
    shared = GroupLimits({"db": 1})
    run = RunLimits(GroupLimits({"web": 1}), shared, NONE)
    run.acquire("web")
    run.acquire("db")
    assert run.release("web")  # so the run itself must look who waits
    assert not run.release("db")


def test_a_nested_run_shares_the_place_of_the_task_around_it() -> None:
    shared = GroupLimits({"db": 1})
    outer = RunLimits(GroupLimits(), shared, NONE)
    assert outer.acquire("db")
    inner = RunLimits(GroupLimits(), shared, outer.held_by("db"))
    assert inner.acquire("db")
    assert not inner.acquire("db")
    assert inner.release("db")
    assert inner.held_by(None) == inner.held_by("db") == {"db"}
    assert inner.held_by("web") == {"db", "web"}
    assert not shared.acquire("db")
    outer.release("db")
    assert shared.acquire("db")


def test_racing_threads_never_hold_more_places_than_there_are() -> None:
    limits = GroupLimits({"db": 3})
    lock = threading.Lock()
    now = most = 0

    def work() -> None:
        nonlocal now, most
        for _ in range(500):
            if not limits.acquire("db"):
                continue
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1
            limits.release("db")

    for future in [background(work) for _ in range(6)]:
        future.result(WAIT)
    assert 1 <= most <= 3
    assert [limits.acquire("db") for _ in range(4)] == [True] * 3 + [False]
