"""CancelToken: a one-way signal of two levels that wakes whoever waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from threading import Barrier, Event, Thread

import pytest

from ttasks.model.cancel import CancelToken


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def levels(token: CancelToken) -> tuple[bool, bool, str | None]:
    return token.cancelled, token.killed, token.reason


def test_a_new_token_is_not_cancelled() -> None:
    assert levels(CancelToken()) == (False, False, None)


def test_each_level_is_raised_once_and_the_first_reason_stays() -> None:
    token = CancelToken()
    assert token.cancel("timeout")
    assert levels(token) == (True, False, "timeout")
    assert not token.cancel("interrupted")
    assert token.cancel("interrupted", kill=True)
    assert levels(token) == (True, True, "timeout")
    assert not token.cancel(kill=True)
    assert not token.cancel()
    assert levels(token) == (True, True, "timeout")


def test_killing_at_once_is_both_levels() -> None:
    token = CancelToken()
    assert token.cancel(kill=True)
    assert levels(token) == (True, True, "cancelled")


def test_callbacks_are_called_at_each_level() -> None:
    token = CancelToken()
    seen: list[tuple[bool, bool, str | None]] = []
    token.add_callback(lambda: seen.append(levels(token)))
    for kill in (False, False, True, True):
        token.cancel(kill=kill)
    assert seen == [(True, False, "cancelled"), (True, True, "cancelled")]


def test_a_late_callback_is_called_at_once() -> None:
    token = CancelToken()
    token.cancel()
    seen: list[bool] = []
    token.add_callback(lambda: seen.append(token.killed))
    assert seen == [False]
    token.cancel(kill=True)
    assert seen == [False, True]


def test_a_removed_callback_is_not_called() -> None:
    token = CancelToken()
    seen: list[str] = []
    remove = token.add_callback(lambda: seen.append("removed"))
    token.add_callback(lambda: seen.append("kept"))
    remove()
    remove()
    token.cancel()
    assert seen == ["kept"]


def test_a_callback_may_use_the_token() -> None:
    token = CancelToken()
    removers: list[object] = []

    def callback() -> None:
        removers.append(token.add_callback(lambda: None))
        token.cancel(kill=True)

    remove = token.add_callback(callback)
    token.cancel()
    remove()
    assert token.killed


def test_waiting_ends_with_the_signal() -> None:
    token = CancelToken()
    waiting = Event()
    answers: list[bool] = []

    def wait() -> None:
        waiting.set()
        answers.append(token.wait(60))

    thread = Thread(target=wait)
    thread.start()
    assert waiting.wait(30)
    token.cancel()
    thread.join(30)
    assert answers == [True]
    assert token.wait(60), "a signal that stands ends every wait"


@pytest.mark.parametrize("seconds", [0, 0.001])
def test_waiting_in_vain_ends_in_time(seconds: float) -> None:
    assert CancelToken().wait(seconds) is False


def test_one_may_wait_longer_than_the_clock_can_count() -> None:
    token = CancelToken()
    thread = Thread(target=token.wait, args=(1e300,))
    thread.start()
    token.cancel()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.usefixtures("switching")
def test_of_racing_cancels_exactly_one_changes_something() -> None:
    threads_count, rounds = 4, 200
    tokens = [CancelToken() for _ in range(rounds)]
    calls: list[list[int]] = [[] for _ in tokens]
    won: list[list[int]] = [[] for _ in tokens]
    for token, called in zip(tokens, calls, strict=True):
        token.add_callback(lambda called=called: called.append(1))  # type: ignore[misc]
    barrier = Barrier(threads_count, timeout=30)

    def cancel(me: int) -> None:
        for token, winners in zip(tokens, won, strict=True):
            barrier.wait()
            if token.cancel(f"by {me}"):
                winners.append(me)

    threads = [Thread(target=cancel, args=(me,)) for me in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for token, called, winners in zip(tokens, calls, won, strict=True):
        assert len(winners) == 1
        assert len(called) == 1
        assert token.reason == f"by {winners[0]}"


@pytest.mark.usefixtures("switching")
def test_a_callback_that_races_with_the_signal_is_never_missed() -> None:
    rounds = 300
    tokens = [CancelToken() for _ in range(rounds)]
    called = [Event() for _ in tokens]
    barrier = Barrier(2, timeout=30)

    def cancel() -> None:
        for token in tokens:
            barrier.wait()
            token.cancel()

    thread = Thread(target=cancel)
    thread.start()
    for token, event in zip(tokens, called, strict=True):
        barrier.wait()
        token.add_callback(event.set)
    thread.join()
    assert all(event.is_set() for event in called)
