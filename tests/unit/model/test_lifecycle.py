"""The lifecycle behind a task: only the attempt that owns a task ends it, and only once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier, Thread

import pytest

from ttasks import TaskResult, TaskStatus
from ttasks.model.cancel import CancelToken
from ttasks.model.lifecycle import Lifecycle

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, BLOCKED, SKIPPED = TaskStatus
NOW = datetime(2030, 1, 1, tzinfo=UTC)
DONE = TaskResult("id", SUCCEEDED, NOW, NOW, 0.0)
BROKEN = replace(DONE, status=FAILED)
ENDED = replace(DONE, status=CANCELLED)


def owned() -> tuple[Lifecycle, CancelToken]:
    life, token = Lifecycle(), CancelToken()
    assert life.move(RUNNING, None, token) is PENDING
    return life, token


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_move_answers_the_status_before_or_none() -> None:
    life = Lifecycle()
    assert life.move(SUCCEEDED, None) is None
    assert life.move(BLOCKED, "why") is PENDING
    assert life.move(CANCELLED, None) is BLOCKED
    assert life.move(CANCELLED, None) is None
    assert life.error == "why"


def test_an_attempt_ends_its_task_once() -> None:
    life, token = owned()
    assert life.finish(token, BROKEN, "oops")
    assert (life.status, life.error, life.result, life.owner) == (FAILED, "oops", BROKEN, None)
    assert not life.finish(token, DONE, None)
    assert (life.status, life.error, life.result) == (FAILED, "oops", BROKEN)


def test_a_stranger_cannot_end_an_attempt() -> None:
    life, token = owned()
    assert not life.finish(CancelToken(), DONE, None)
    assert life.settle(SKIPPED, None, None) is None
    assert (life.status, life.owner, life.result) == (RUNNING, token, None)


def test_a_task_does_not_start_again_while_its_last_attempt_goes_on() -> None:
    life, token = owned()
    assert life.move(FAILED, "given up from outside") is RUNNING
    assert life.move(RUNNING, None, CancelToken()) is None
    assert life.owner is token
    assert life.finish(token, BROKEN, "late")
    assert life.error == "given up from outside"
    assert life.move(RUNNING, None, CancelToken()) is FAILED


def test_a_success_does_not_overrule_a_cancellation() -> None:
    life, token = owned()
    token.cancel()
    assert not life.finish(token, DONE, None)
    assert life.status is RUNNING
    assert life.finish(token, ENDED, "stopped")
    assert (life.status, life.error, life.result) == (CANCELLED, "stopped", ENDED)


def test_a_timeout_ends_as_a_failure() -> None:
    life, token = owned()
    token.cancel("timeout")
    assert life.finish(token, BROKEN, "too late")
    assert (life.status, life.error) == (FAILED, "too late")


def test_an_attempt_adds_its_result_to_a_task_that_was_cancelled_meanwhile() -> None:
    life, token = owned()
    assert life.move(CANCELLED, None) is RUNNING
    assert not life.finish(token, DONE, None)
    assert life.finish(token, ENDED, "stopped")
    assert (life.status, life.error, life.result, life.owner) == (
        CANCELLED,
        "stopped",
        ENDED,
        None,
    )


@pytest.mark.parametrize("before", [PENDING, FAILED, BLOCKED, SKIPPED])
@pytest.mark.parametrize("target", [FAILED, CANCELLED, BLOCKED, SKIPPED])
def test_what_nobody_runs_can_be_settled(before: TaskStatus, target: TaskStatus) -> None:
    life = Lifecycle()
    if before is not PENDING:
        assert life.settle(before, "old", BROKEN, "old") is PENDING
    assert life.settle(target, "why", None, "upstream") is before
    assert (life.status, life.error, life.result, life.blocked_by) == (
        target,
        "why",
        None,
        "upstream",
    )


@pytest.mark.parametrize("sink", [SUCCEEDED, CANCELLED])
def test_what_has_ended_for_good_cannot_be_settled(sink: TaskStatus) -> None:
    life = Lifecycle()
    life.move(RUNNING, None)
    life.move(sink, None)
    assert life.settle(FAILED, "why", None) is None
    assert (life.status, life.error) == (sink, None)


@pytest.mark.usefixtures("switching")
def test_of_racing_ends_of_one_attempt_exactly_one_counts() -> None:
    threads_count, rounds = 4, 150
    lives = [owned() for _ in range(rounds)]
    results = [replace(BROKEN, duration=float(me)) for me in range(threads_count)]
    won: list[list[int]] = [[] for _ in lives]
    barrier = Barrier(threads_count, timeout=30)

    def finisher(me: int) -> None:
        for (life, token), winners in zip(lives, won, strict=True):
            barrier.wait()
            if life.finish(token, results[me], str(me)):
                winners.append(me)

    threads = [Thread(target=finisher, args=(me,)) for me in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (life, _), winners in zip(lives, won, strict=True):
        assert len(winners) == 1
        assert life.result is results[winners[0]]
        assert life.error == str(winners[0])


@pytest.mark.usefixtures("switching")
def test_a_cancel_that_races_with_the_end_of_an_attempt_is_never_lost() -> None:
    rounds = 200
    lives = [owned() for _ in range(rounds)]
    barrier = Barrier(2, timeout=30)

    def finish() -> None:
        for life, token in lives:
            barrier.wait()
            while not (life.finish(token, DONE, None) or life.finish(token, ENDED, "stopped")):
                pass

    thread = Thread(target=finish)
    thread.start()
    for life, token in lives:
        barrier.wait()
        cancelled = life.move(CANCELLED, None) is not None
        token.cancel()
        if cancelled:
            assert life.status is CANCELLED
    thread.join()
    for life, _ in lives:
        assert life.owner is None
        assert life.result is not None
        assert life.result.status is life.status
