"""The lifecycle behind a task: one owner, one end, and one next attempt."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier, Thread, get_ident

import pytest

from ttasks import TaskResult, TaskStatus
from ttasks.model.cancel import CancelToken
from ttasks.model.lifecycle import Lifecycle, Phase

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, BLOCKED, SKIPPED = TaskStatus
NOW = datetime(2030, 1, 1, tzinfo=UTC)
DONE = TaskResult("id", SUCCEEDED, NOW, NOW, 0.0)
BROKEN = replace(DONE, status=FAILED)
ENDED = replace(DONE, status=CANCELLED)


class Attempt:
    """An owner with a signal to stop."""

    def __init__(self) -> None:
        self.token = CancelToken()

    def cancel(self) -> bool:
        self.token.cancel()
        return True


def owned() -> tuple[Lifecycle, Attempt]:
    """A task whose handler may be running."""
    life, attempt = Lifecycle(), Attempt()
    assert life.start(attempt) is PENDING
    return life, attempt


def ending() -> tuple[Lifecycle, Attempt]:
    """A task whose attempt somebody has begun to end."""
    life, attempt = owned()
    assert life.begin_end(attempt)
    return life, attempt


def waiting() -> tuple[Lifecycle, Attempt]:
    """A task that waits for its next attempt."""
    life, attempt = ending()
    assert life.finish(attempt.token, BROKEN, "oops", retry=True)
    assert life.wait(attempt.token)
    return life, attempt


def in_status(status: TaskStatus) -> Lifecycle:
    """A task with that status, which nobody owns."""
    life, owner = Lifecycle(), Attempt()
    if status is RUNNING or status is SUCCEEDED:
        assert life.move(RUNNING, None) is PENDING
        if status is SUCCEEDED:
            assert life.move(SUCCEEDED, None) is RUNNING
    elif status is not PENDING:
        assert life.settle(owner, status, "old", BROKEN, "old") is PENDING
        life.release(owner)
    return life


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def race(rounds: int, *racers: Callable[[int], None]) -> None:
    """Run the racers at once, in rounds; each is called with the number of the round."""
    barrier = Barrier(len(racers), timeout=30)

    def run(racer: Callable[[int], None]) -> None:
        for number in range(rounds):
            barrier.wait()
            racer(number)

    threads = [Thread(target=run, args=(racer,)) for racer in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Moves by hand


def test_a_move_answers_the_status_before_or_none() -> None:
    life = Lifecycle()
    assert life.move(SUCCEEDED, None) is None
    assert life.move(BLOCKED, "why") is PENDING
    assert life.move(CANCELLED, None) is BLOCKED
    assert life.move(CANCELLED, None) is None
    assert life.error == "why"


def test_nobody_can_start_by_hand_what_has_an_owner() -> None:
    life, attempt = owned()
    assert life.move(FAILED, "given up from outside") is RUNNING
    assert life.move(RUNNING, None) is None
    assert (life.status, life.owner) == (FAILED, attempt)


def test_a_pending_task_takes_over_an_earlier_result() -> None:
    life = Lifecycle()
    assert life.take_over(DONE)
    assert (life.status, life.result) == (SUCCEEDED, DONE)
    assert not life.take_over(replace(DONE, output="other"))
    assert life.result is DONE


@pytest.mark.parametrize("make", [owned, waiting])
def test_what_has_an_owner_takes_no_earlier_result(
    make: Callable[[], tuple[Lifecycle, Attempt]],
) -> None:
    life, _ = make()
    before = life.status, life.result
    assert not life.take_over(DONE)
    assert (life.status, life.result) == before


def test_a_result_is_amended_only_when_nobody_executes_the_task() -> None:
    life, attempt = ending()
    assert not life.amend(lambda result: replace(result, output="more"))
    assert life.finish(attempt.token, BROKEN, "oops", retry=False)
    assert not life.amend(lambda result: replace(result, output="more"))
    life.release(attempt)
    assert not life.amend(lambda result: None)
    assert life.result is BROKEN
    assert life.amend(lambda result: replace(result, output="more"))
    assert life.result == replace(BROKEN, output="more")
    assert not Lifecycle().amend(lambda result: DONE)


# The start


@pytest.mark.parametrize("status", list(TaskStatus))
def test_an_attempt_starts_what_the_public_table_lets_run(status: TaskStatus) -> None:
    life, attempt = in_status(status), Attempt()
    may_start = status in (PENDING, FAILED, BLOCKED, SKIPPED)
    assert life.start(attempt) is (status if may_start else None)
    assert life.owner is (attempt if may_start else None)
    if may_start:
        assert (life.status, life.phase) == (RUNNING, Phase.ACTIVE)
        assert (life.error, life.result, life.blocked_by) == (None, None, None)


def test_a_task_has_one_owner_until_that_lets_go() -> None:
    life, attempt = ending()
    assert life.finish(attempt.token, BROKEN, "oops", retry=False)
    assert life.start(Attempt()) is None  # the failure is still to be announced
    assert life.owner is attempt
    life.release(attempt)
    assert life.start(Attempt()) is FAILED


# The end


def test_the_end_of_an_attempt_is_begun_once_and_by_its_owner() -> None:
    life, attempt = owned()
    assert not life.begin_end(Attempt())
    assert life.begin_end(attempt)
    assert not life.begin_end(attempt)


def test_the_thread_that_ends_a_task_is_known_until_it_lets_go() -> None:
    life, attempt = owned()
    assert life.ender is None
    assert life.begin_end(attempt)
    assert life.finish(attempt.token, DONE, None, retry=False)
    assert life.ender == get_ident()
    life.release(attempt)
    assert life.ender is None


@pytest.mark.parametrize(("result", "error"), [(DONE, None), (BROKEN, "oops"), (ENDED, "stopped")])
def test_a_finish_sets_status_error_and_result(result: TaskResult, error: str | None) -> None:
    life, attempt = ending()
    if result is ENDED:
        attempt.cancel()
    assert life.finish(attempt.token, result, error, retry=False)
    assert (life.status, life.error, life.result) == (result.status, error, result)
    assert (life.owner, life.phase, life.is_retrying) == (attempt, Phase.DECIDED, False)


@pytest.mark.parametrize("result", [DONE, BROKEN])
def test_no_other_end_overrules_a_cancellation(result: TaskResult) -> None:
    life, attempt = ending()
    attempt.cancel()
    assert not life.finish(attempt.token, result, None, retry=False)
    assert (life.status, life.result) == (RUNNING, None)
    assert life.finish(attempt.token, ENDED, "stopped", retry=False)
    assert (life.status, life.error, life.result) == (CANCELLED, "stopped", ENDED)


def test_a_timeout_ends_as_a_failure() -> None:
    life, attempt = ending()
    attempt.token.cancel("timeout")
    assert life.finish(attempt.token, BROKEN, "too late", retry=False)
    assert (life.status, life.error) == (FAILED, "too late")


def test_a_finish_fits_what_the_task_was_moved_to_by_hand() -> None:
    life, attempt = ending()
    assert life.move(CANCELLED, None) is RUNNING
    assert not life.finish(attempt.token, DONE, None, retry=False)
    assert life.finish(attempt.token, ENDED, "stopped", retry=False)
    assert (life.status, life.error, life.result) == (CANCELLED, "stopped", ENDED)


def test_a_finish_keeps_the_error_that_was_given_by_hand() -> None:
    life, attempt = ending()
    assert life.move(FAILED, "given up from outside") is RUNNING
    assert life.finish(attempt.token, BROKEN, "late", retry=False)
    assert (life.error, life.result) == ("given up from outside", BROKEN)


# Between two attempts


def test_a_task_that_will_be_tried_again_is_told_apart() -> None:
    life, attempt = ending()
    assert life.finish(attempt.token, BROKEN, "oops", retry=True)
    assert (life.status, life.is_retrying) == (FAILED, True)  # while that is announced
    assert life.wait(attempt.token)
    assert (life.status, life.is_retrying, life.phase) == (PENDING, True, Phase.WAITING)
    assert (life.error, life.result, life.owner) == ("oops", BROKEN, attempt)
    assert life.ender is None


@pytest.mark.parametrize("result", [DONE, ENDED])
def test_only_a_failure_is_tried_again(result: TaskResult) -> None:
    life, attempt = ending()
    if result is ENDED:
        attempt.cancel()
    assert life.finish(attempt.token, result, None, retry=True)
    assert not life.is_retrying


def test_the_next_attempt_takes_the_task_from_the_one_before() -> None:
    life, attempt = waiting()
    other, following = Attempt(), Attempt()
    assert life.start(other) is None
    assert life.start(other, Attempt()) is None
    assert life.start(following, attempt) is PENDING
    assert (life.status, life.is_retrying, life.owner) == (RUNNING, False, following)
    assert life.start(other, attempt) is None


def test_no_attempt_follows_before_the_last_one_is_over() -> None:
    life, attempt = owned()
    assert life.start(Attempt(), attempt) is None
    assert life.begin_end(attempt)
    assert life.finish(attempt.token, BROKEN, "oops", retry=True)
    assert life.start(Attempt(), attempt) is None


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_task_does_not_wait_if_it_was_cancelled_while_its_failure_was_announced(
    by_hand: bool,
) -> None:
    life, attempt = ending()
    assert life.finish(attempt.token, BROKEN, "oops", retry=True)
    if by_hand:
        assert life.move(CANCELLED, None) is FAILED
    else:
        attempt.cancel()
    assert not life.wait(attempt.token)
    assert life.settle(attempt, CANCELLED, "stopped", ENDED) is (CANCELLED if by_hand else FAILED)
    assert (life.status, life.error, life.is_retrying) == (CANCELLED, "stopped", False)


def test_a_waiting_task_is_ended_once() -> None:
    life, attempt = waiting()
    assert not life.end_wait(Attempt())
    assert life.end_wait(attempt)
    assert life.ender == get_ident()
    assert not life.end_wait(attempt)
    assert life.start(Attempt(), attempt) is None
    assert life.settle(attempt, CANCELLED, "stopped", ENDED) is PENDING
    assert (life.status, life.is_retrying) == (CANCELLED, False)


@pytest.mark.parametrize("make", [owned, ending])
def test_only_a_waiting_task_has_a_wait_to_be_ended(
    make: Callable[[], tuple[Lifecycle, Attempt]],
) -> None:
    life, attempt = make()
    assert not life.end_wait(attempt)


# Ends without an attempt


@pytest.mark.parametrize("before", [PENDING, FAILED, BLOCKED, SKIPPED])
@pytest.mark.parametrize("target", [FAILED, CANCELLED, BLOCKED, SKIPPED])
def test_what_nobody_runs_can_be_settled(before: TaskStatus, target: TaskStatus) -> None:
    life, owner = in_status(before), Attempt()
    assert life.settle(owner, target, "why", None, "upstream") is before
    assert (life.status, life.error, life.result, life.blocked_by) == (
        target,
        "why",
        None,
        "upstream",
    )
    assert (life.owner, life.phase) == (owner, Phase.DECIDED)
    assert life.start(Attempt()) is None  # until that has been announced
    life.release(owner)
    assert life.owner is None


@pytest.mark.parametrize("sink", [SUCCEEDED, CANCELLED])
def test_what_has_ended_for_good_cannot_be_settled(sink: TaskStatus) -> None:
    life = in_status(sink)
    before = life.error
    assert life.settle(Attempt(), FAILED, "why", None) is None
    assert (life.status, life.error, life.owner) == (sink, before, None)


@pytest.mark.parametrize("make", [owned, ending, waiting])
def test_a_stranger_settles_nothing(make: Callable[[], tuple[Lifecycle, Attempt]]) -> None:
    life, attempt = make()
    before = life.status, life.result
    assert life.settle(Attempt(), SKIPPED, None, None) is None
    assert (life.status, life.result) == before
    assert life.owner is attempt


# Letting go


def test_who_lets_go_is_told_whom_to_call_once() -> None:
    life, attempt = owned()
    called: list[str] = []
    assert life.on_release(lambda: called.append("first"))
    assert life.on_release(lambda: called.append("second"))
    assert life.release(Attempt()) == []  # of a stranger
    assert life.owner is attempt
    for callback in life.release(attempt):
        callback()
    assert called == ["first", "second"]
    assert life.release(attempt) == []
    assert (life.owner, life.phase) == (None, None)


def test_nobody_waits_for_the_release_of_what_has_no_owner() -> None:
    life, attempt = owned()
    life.release(attempt)
    assert not life.on_release(lambda: pytest.fail("it is called"))


def test_those_who_wait_for_a_release_wait_over_all_attempts() -> None:
    life, attempt = owned()
    assert life.on_release(lambda: None)
    assert life.begin_end(attempt)
    assert life.finish(attempt.token, BROKEN, "oops", retry=True)
    assert life.wait(attempt.token)
    following = Attempt()
    assert life.start(following, attempt) is PENDING
    assert life.release(attempt) == []
    assert len(life.release(following)) == 1


# Whether a cancellation comes in time


@pytest.mark.parametrize(
    ("reason", "expected"), [("cancelled", True), ("interrupted", True), ("timeout", False)]
)
def test_a_running_task_will_be_cancelled_unless_its_time_was_up_before(
    reason: str, expected: bool
) -> None:
    life, attempt = owned()
    assert not life.will_be_cancelled(attempt, attempt.token)
    attempt.token.cancel(reason)
    attempt.token.cancel("cancelled")
    assert life.will_be_cancelled(attempt, attempt.token) is expected
    assert not life.will_be_cancelled(Attempt(), attempt.token)


@pytest.mark.parametrize("result", [DONE, BROKEN])
def test_what_is_decided_will_not_be_cancelled(result: TaskResult) -> None:
    life, attempt = ending()
    assert life.finish(attempt.token, result, None, retry=False)
    attempt.cancel()
    assert not life.will_be_cancelled(attempt, attempt.token)


def test_what_will_be_tried_again_will_be_cancelled() -> None:
    life, attempt = ending()
    assert life.finish(attempt.token, BROKEN, "oops", retry=True)
    attempt.cancel()
    assert life.will_be_cancelled(attempt, attempt.token)


# Races


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("phase", ["end", "wait"])
def test_of_racing_ends_of_one_attempt_exactly_one_counts(phase: str) -> None:
    rounds = 150
    lives = [owned() if phase == "end" else waiting() for _ in range(rounds)]
    won: list[list[int]] = [[] for _ in lives]

    def racer(me: int) -> Callable[[int], None]:
        def end(number: int) -> None:
            life, attempt = lives[number]
            if life.begin_end(attempt) if phase == "end" else life.end_wait(attempt):
                won[number].append(me)

        return end

    race(rounds, *map(racer, range(4)))
    assert [len(winners) for winners in won] == [1] * rounds


@pytest.mark.usefixtures("switching")
def test_a_wait_that_is_cancelled_has_one_next_step() -> None:
    rounds = 200
    lives = [waiting() for _ in range(rounds)]
    next_steps: list[list[str]] = [[] for _ in lives]

    def follow(number: int) -> None:
        life, attempt = lives[number]
        if life.start(Attempt(), attempt) is not None:
            next_steps[number].append("attempt")

    def cancel(number: int) -> None:
        life, attempt = lives[number]
        if life.end_wait(attempt):
            next_steps[number].append("end")

    race(rounds, follow, cancel)
    assert [len(steps) for steps in next_steps] == [1] * rounds


@pytest.mark.usefixtures("switching")
def test_a_cancel_that_races_with_the_end_of_an_attempt_is_never_lost() -> None:
    rounds = 200
    lives = [owned() for _ in range(rounds)]
    promised: list[bool] = [False] * rounds

    def finish(number: int) -> None:
        life, attempt = lives[number]
        assert life.begin_end(attempt)
        if not life.finish(attempt.token, DONE, None, retry=False):
            assert life.finish(attempt.token, ENDED, "stopped", retry=False)
        life.release(attempt)

    def cancel(number: int) -> None:
        life, attempt = lives[number]
        attempt.cancel()
        promised[number] = life.will_be_cancelled(attempt, attempt.token)

    race(rounds, finish, cancel)
    for (life, _), will_be in zip(lives, promised, strict=True):
        assert life.owner is None
        assert life.result is not None
        assert life.result.status is life.status
        assert life.status is CANCELLED or not will_be
