"""The crew: threads as they are needed, each with a slot of its own."""

from __future__ import annotations

import threading

import pytest

from support import WAIT, wait
from ttasks import sync
from ttasks.engine.crew import Crew


def hire(crew: Crew) -> sync.Thread | None:
    """A thread of the crew that has not been begun; None if there is none to be had."""
    helper = crew.helper()
    assert helper is None or isinstance(helper, sync.Thread)
    return helper


def locked() -> sync.Lock:
    lock = sync.Lock()
    lock.acquire()
    return lock


def idle(slot: int) -> None:
    """Work that is over at once."""


def test_it_has_no_more_threads_than_its_size_each_with_a_slot_of_its_own() -> None:
    slots: list[int] = []
    go = threading.Event()

    def work(slot: int) -> None:
        slots.append(slot)
        wait(go)

    crew = Crew(work, 3, "crew-test")
    threads = [hire(crew) for _ in range(3)]
    assert hire(crew) is None
    assert (crew.size, crew.all_work) == (3, True)
    for thread in threads:
        assert thread is not None
        assert thread.daemon
        assert Crew.begin(thread)
    go.set()
    for thread in threads:
        assert thread is not None
        thread.join(WAIT)
    assert sorted(slots) == [1, 2, 3]
    assert [thread.name for thread in threads if thread] == [f"crew-test-{n}" for n in (1, 2, 3)]


def test_one_that_rests_is_woken_before_another_is_started() -> None:
    crew = Crew(idle, 2, "crew-test")
    assert hire(crew) is not None
    crew.rest(wake := locked())
    assert (crew.size, crew.all_work) == (1, False)
    assert crew.helper() is wake
    assert Crew.begin(wake)
    assert wake.acquire(False)
    assert hire(crew) is not None


def test_the_slot_of_a_thread_that_is_gone_is_given_to_the_next_one() -> None:
    slots: list[int] = []
    crew = Crew(slots.append, 2, "crew-test")
    first, second = hire(crew), hire(crew)
    assert first is not None
    assert second is not None
    crew.drop(first)
    crew.drop(first)  # only once
    assert crew.size == 1
    third = hire(crew)
    assert third is not None
    assert hire(crew) is None
    Crew.begin(third)
    third.join(WAIT)
    assert slots == [1]


def test_a_thread_that_cannot_be_started_is_said_to_be_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crew = Crew(idle, 1, "crew-test")
    thread = hire(crew)
    assert thread is not None
    monkeypatch.setattr(type(thread), "start", refuse)
    assert not Crew.begin(thread)
    crew.drop(thread)
    assert crew.size == 0
    assert hire(crew) is not None


def test_closing_wakes_all_who_rest_and_starts_nobody() -> None:
    crew = Crew(idle, 3, "crew-test")
    threads = [hire(crew), hire(crew)]
    wakes = [locked(), locked()]
    for wake in wakes:
        crew.rest(wake)
    resting, joined = crew.close()
    assert (resting, joined) == (wakes, threads)
    assert crew.closing
    assert hire(crew) is None
    assert crew.close() == ([], threads)
