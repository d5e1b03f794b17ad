"""The life of a task: the whole table of moves, what each clears, and who wins a race."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from itertools import product
from threading import Barrier, Thread
from typing import Any

import pytest

from ttasks import InvalidTransitionError, Task, TaskResult, TaskStatus, TaskType
from ttasks.model.cancel import CancelToken
from ttasks.model.task import lifecycle_of

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, BLOCKED, SKIPPED = TaskStatus
WORK = TaskType("work")

ALLOWED = {
    PENDING: {RUNNING, CANCELLED, BLOCKED, SKIPPED, FAILED},
    RUNNING: {SUCCEEDED, FAILED, CANCELLED},
    SUCCEEDED: set(),
    FAILED: {RUNNING, CANCELLED},
    CANCELLED: set(),
    BLOCKED: {RUNNING, CANCELLED},
    SKIPPED: {RUNNING, CANCELLED},
}
WAYS = {
    PENDING: (),
    RUNNING: (RUNNING,),
    SUCCEEDED: (RUNNING, SUCCEEDED),
    FAILED: (RUNNING, FAILED),
    CANCELLED: (CANCELLED,),
    BLOCKED: (BLOCKED,),
    SKIPPED: (SKIPPED,),
}
PREDICATES = {
    "is_pending": {PENDING},
    "is_running": {RUNNING},
    "is_succeeded": {SUCCEEDED},
    "is_done": {SUCCEEDED},
    "is_failed": {FAILED},
    "is_cancelled": {CANCELLED},
    "is_blocked": {BLOCKED},
    "is_skipped": {SKIPPED},
    "is_terminal": {SUCCEEDED, FAILED, CANCELLED, BLOCKED, SKIPPED},
}
PAIRS = [pytest.param(a, b, id=f"{a.value}-{b.value}") for a, b in product(TaskStatus, TaskStatus)]


def task_in(status: TaskStatus) -> Task:
    task = Task("work", None, WORK)
    for step in WAYS[status]:
        task.transition_to(step)
    assert task.status is status
    return task


def fill(task: Task) -> tuple[str, TaskResult, str]:
    """Give a task everything that an earlier execution may have left."""
    now = task.created_at
    result = TaskResult(task.id, FAILED, now, now, 0.0)
    life = lifecycle_of(task)
    life.error, life.result, life.blocked_by = "old error", result, "upstream"
    return "old error", result, "upstream"


def left(task: Task) -> tuple[str | None, TaskResult | None, str | None]:
    return task.error, task.result, task.blocked_by


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# The table


def test_statuses_have_lower_case_values_in_the_promised_order() -> None:
    assert [status.value for status in TaskStatus] == [
        "pending",
        "running",
        "succeeded",
        "failed",
        "cancelled",
        "blocked",
        "skipped",
    ]
    assert all(status.name.lower() == status.value for status in TaskStatus)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_move_is_made_if_the_table_allows_it_and_refused_if_not(
    before: TaskStatus, after: TaskStatus
) -> None:
    task = task_in(before)
    kept = fill(task)
    allowed = after in ALLOWED[before]
    assert task.can_transition_to(after) is allowed
    assert task.status is before, "asking changes nothing"
    if allowed:
        task.transition_to(after)
        assert task.status is after
        return
    with pytest.raises(InvalidTransitionError) as caught:
        task.transition_to(after, "new error")
    assert isinstance(caught.value, ValueError)
    assert repr(before.value) in str(caught.value)
    assert repr(after.value) in str(caught.value)
    assert repr(task.title) in str(caught.value)
    assert (caught.value.task_id, caught.value.title) == (task.id, task.title)
    assert (caught.value.current, caught.value.target) == (before.value, after.value)
    assert task.status is before
    assert left(task) == kept, "a refused move changes nothing"


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_entering_a_status_clears_what_is_no_longer_true(
    before: TaskStatus, after: TaskStatus
) -> None:
    if after not in ALLOWED[before]:
        return
    task = task_in(before)
    error, result, blocked_by = fill(task)
    task.transition_to(after)
    if after is RUNNING:
        assert left(task) == (None, None, None)
    elif after is CANCELLED:
        assert left(task) == (error, result, blocked_by)
    else:
        assert left(task) == (None, result, blocked_by)


@pytest.mark.parametrize("after", [FAILED, CANCELLED, BLOCKED, SKIPPED])
def test_a_move_keeps_the_error_it_is_given(after: TaskStatus) -> None:
    task = task_in(PENDING)
    fill(task)
    task.transition_to(after, "new error")
    assert task.error == "new error"


@pytest.mark.parametrize("after", [RUNNING, SUCCEEDED])
def test_what_runs_or_succeeded_has_no_error(after: TaskStatus) -> None:
    task = task_in(PENDING if after is RUNNING else RUNNING)
    task.transition_to(after, "new error")
    assert task.error is None


@pytest.mark.parametrize("status", TaskStatus)
def test_predicates_tell_the_status(status: TaskStatus) -> None:
    task = task_in(status)
    assert {name: getattr(task, name) for name in PREDICATES} == {
        name: status in statuses for name, statuses in PREDICATES.items()
    }


@pytest.mark.parametrize("status", TaskStatus)
def test_a_status_tells_its_kind(status: TaskStatus) -> None:
    assert status.is_sink is (status in {SUCCEEDED, CANCELLED})
    assert status.is_sink is (not ALLOWED[status])
    assert status.is_bad is (status in {FAILED, CANCELLED, BLOCKED})
    assert status.is_active is (status in {PENDING, RUNNING})


@pytest.mark.parametrize("status", TaskStatus)
def test_a_status_stays_itself_as_a_key_and_through_pickle(status: TaskStatus) -> None:
    assert pickle.loads(pickle.dumps(status)) is status
    assert {status: 1}[TaskStatus(status.value)] == 1


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("running",), "status", "'running'"),
        ((None,), "status", "None"),
        ((WORK,), "status", "TaskType('work')"),
        ((RUNNING, 5), "error", "5"),
        ((RUNNING, ValueError("x")), "error", "ValueError('x')"),
    ],
)
def test_transition_to_names_what_it_cannot_take(
    arguments: tuple[object, ...], name: str, value: str
) -> None:
    task = task_in(PENDING)
    with pytest.raises(TypeError) as caught:
        task.transition_to(*arguments)  # type: ignore[arg-type]
    assert name in str(caught.value)
    assert value in str(caught.value)
    assert task.is_pending


# Cancelling


@pytest.mark.parametrize("status", TaskStatus)
def test_cancel_is_idempotent_and_spares_what_succeeded(status: TaskStatus) -> None:
    task = task_in(status)
    kept = fill(task)
    for _ in range(3):
        task.cancel()
        assert task.status is (SUCCEEDED if status is SUCCEEDED else CANCELLED)
        assert left(task) == kept, "an existing error is kept"


def test_cancel_asks_the_attempt_that_is_running_to_stop() -> None:
    task = task_in(PENDING)
    token = CancelToken()
    lifecycle_of(task).start(token)
    task.cancel()
    assert task.is_cancelled
    assert token.cancelled
    assert token.reason == "cancelled"


def test_moving_to_cancelled_asks_the_attempt_that_is_running_to_stop() -> None:
    task = task_in(PENDING)
    token = CancelToken()
    lifecycle_of(task).start(token)
    task.transition_to(CANCELLED, "enough")
    assert token.cancelled
    assert task.error == "enough"


# Races

THREADS = 6
ROUNDS = 150


def race(before: TaskStatus, targets: list[TaskStatus]) -> None:
    """Let one thread per target move the same task at once, again and again."""
    tasks = [task_in(before) for _ in range(ROUNDS)]
    barrier = Barrier(len(targets), timeout=30)
    won: list[list[int]] = [[] for _ in tasks]
    raised: list[list[int]] = [[] for _ in tasks]

    def mover(me: int) -> None:
        for task, winners, losers in zip(tasks, won, raised, strict=True):
            barrier.wait()
            try:
                task.transition_to(targets[me], f"by {me}")
            except InvalidTransitionError:
                losers.append(me)
            else:
                winners.append(me)

    threads = [Thread(target=mover, args=(me,)) for me in range(len(targets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for task, winners, losers in zip(tasks, won, raised, strict=True):
        assert len(winners) == 1
        assert sorted(winners + losers) == list(range(len(targets)))
        winner = winners[0]
        assert task.status is targets[winner]
        if task.status is FAILED:
            assert task.error == f"by {winner}", "the state is all of the winner's"


@pytest.mark.parametrize(
    ("before", "targets"),
    [
        pytest.param(PENDING, [RUNNING] * THREADS, id="start"),
        pytest.param(RUNNING, [SUCCEEDED] * THREADS, id="succeed"),
        pytest.param(RUNNING, [SUCCEEDED, CANCELLED] * 3, id="succeed-or-cancel"),
        pytest.param(FAILED, [RUNNING] * THREADS, id="retry"),
        pytest.param(PENDING, [BLOCKED, SKIPPED, FAILED] * 2, id="settle"),
        pytest.param(PENDING, [CANCELLED] * THREADS, id="cancel"),
    ],
)
@pytest.mark.usefixtures("switching")
def test_of_racing_moves_exactly_one_wins_and_the_others_raise(
    before: TaskStatus, targets: list[TaskStatus]
) -> None:
    race(before, targets)


@pytest.mark.usefixtures("switching")
def test_a_cancel_that_races_with_a_success_leaves_one_of_the_two() -> None:
    tasks = [task_in(RUNNING) for _ in range(ROUNDS)]
    barrier = Barrier(2, timeout=30)
    refused: set[str] = set()

    def succeed() -> None:
        for task in tasks:
            barrier.wait()
            try:
                task.transition_to(SUCCEEDED)
            except InvalidTransitionError:
                refused.add(task.id)

    thread = Thread(target=succeed)
    thread.start()
    for task in tasks:
        barrier.wait()
        task.cancel()  # never raises
    thread.join()
    for task in tasks:
        assert task.status is (CANCELLED if task.id in refused else SUCCEEDED)


@pytest.mark.parametrize("wrong", ["running", None, 5, TaskStatus])
def test_only_a_status_is_asked_about(wrong: Any) -> None:
    with pytest.raises(TypeError, match="status must be a TaskStatus"):
        task_in(TaskStatus.PENDING).can_transition_to(wrong)
