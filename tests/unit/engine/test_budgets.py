"""Budgets of retries, and the times of attempts: in the result, the events and the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from support import CUSTOM, WAIT, FakeHandler, background, executor_with, make, run
from ttasks import (
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
)
from ttasks.testing import FakeClock

BOOM = ValueError("boom")
SPENT = "boom (not tried again: the run's retry budget of 1 is spent)"
OVER = "boom (not tried again: max_elapsed of 5 s is spent)"


def said_of(task: Task, recorder: Any) -> set[str | None]:
    """The message of the failure, wherever it stands."""
    assert task.result is not None
    assert task.result.failure is not None
    failed = [event for event in recorder.events if event.type is TaskEventType.FAILED]
    assert failed[-1].task is task
    assert failed[-1].retry_in is None
    return {task.error, task.result.failure.message, task.result.error, failed[-1].error}


def test_a_spent_budget_leaves_the_last_failure_and_says_so() -> None:
    last = KeyError("never")
    handler = FakeHandler({"a": [BOOM, BOOM, last], "b": [BOOM, last]})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    a = graph.add(make("a", retry=RetryPolicy(9)))
    b = graph.add(make("b", retry=RetryPolicy(9)), finally_=True, after=a)
    run(graph, executor, 1, retry_budget=1)
    assert handler.calls == ["a", "a", "b"]
    assert graph.errors == {a.id: BOOM, b.id: BOOM}
    assert graph.statistics().retries == 1
    assert said_of(b, recorder) == {SPENT}
    assert a.error == SPENT
    assert b.result is not None
    assert b.result.failure is not None
    assert (b.result.failure.type, b.result.attempts) == ("builtins.ValueError", 1)
    recorder.check(graph)


@pytest.mark.parametrize("way", ["execute", "submit", "graph"])
def test_max_elapsed_leaves_the_last_failure_and_says_so(way: str) -> None:
    clock = FakeClock()

    def fail(context: TaskContext) -> None:
        clock.advance(1)
        raise BOOM

    executor, recorder = executor_with(fail, clock=clock)
    task = make("t", retry=RetryPolicy(9, backoff=1.5, max_elapsed=5))
    graph = TaskGraph()
    graph.add(task)
    with executor:
        if way == "graph":
            future: Any = background(lambda: graph.run(executor))
        elif way == "submit":
            future = executor.submit(task)
        else:
            future = background(lambda: executor.execute(task))
        assert clock.advance_to_next() == 2.5  # 1 s of work, 1.5 s of backoff; the next is due at 5
        assert clock.advance_to_next() == 5.0
        assert future.exception(WAIT) is (None if way == "graph" else BOOM)
    assert said_of(task, recorder) == {OVER}
    assert task.result is not None
    assert task.result.attempts == 3
    assert task.result.attempt_durations == (1.0, 1.0, 1.0)
    assert task.result.total_duration == 6.0
    assert task.result.duration == 1.0
    recorder.check()


def test_a_failure_after_all_attempts_says_nothing_of_budgets() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    graph = TaskGraph()
    task = graph.add(make("t", retry=RetryPolicy(2, max_elapsed=60)))
    run(graph, executor, retry_budget=9)
    assert said_of(task, recorder) == {"boom"}
    recorder.check(graph)


def test_what_stderr_has_is_kept_beside_the_budget() -> None:
    executor = TaskExecutor()
    graph = TaskGraph()
    task = graph.add(Task.bash("echo why >&2; exit 3", retry=RetryPolicy(2)))
    graph.run(executor, retry_budget=0)
    assert task.result is not None
    assert task.result.error == "why\n"
    assert task.error is not None
    assert task.error.endswith("(not tried again: the run's retry budget of 0 is spent)")


def test_a_budget_of_one_run_is_none_of_the_next() -> None:
    handler = FakeHandler({"t": [BOOM, BOOM, BOOM]})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("t", retry=RetryPolicy(2)))
    for _ in range(2):
        run(graph, executor, retry_budget=1)
    assert handler.calls == ["t"] * 4
    recorder.check(graph)


def test_a_cancelled_attempt_takes_nothing_of_the_budget() -> None:
    def fail_when_cancelled(context: TaskContext) -> None:
        executor.cancel(cancelled)
        raise BOOM

    handler = FakeHandler({"cancelled": fail_when_cancelled, "t": [BOOM, "done"]})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    cancelled = graph.add(make("cancelled", retry=RetryPolicy(2, retry_on=BaseException)))
    task = graph.add(make("t", retry=RetryPolicy(2)))
    run(graph, executor, 1, retry_budget=1)
    assert cancelled.is_cancelled
    assert isinstance(graph.errors[cancelled.id], TaskCancelled)
    assert task.is_succeeded
    assert graph.statistics().retries == 1
    recorder.check(graph)


def test_a_task_without_a_policy_has_no_times_of_attempts() -> None:
    executor, _ = executor_with(FakeHandler())
    result = executor.execute(make("t"))
    assert (result.attempt_durations, result.total_duration) == ((), None)
    result = executor.execute(make("t", retry=RetryPolicy()))
    assert len(result.attempt_durations) == 1
    assert result.total_duration is not None
    assert result.total_duration >= result.duration


def test_times_of_attempts_come_back_from_a_ledger(tmp_path: Any) -> None:
    clock = FakeClock()
    steps = iter([BOOM, None])

    def work(context: TaskContext) -> str:
        clock.advance(0.1)
        error = next(steps)
        if error is not None:
            raise error
        return "done"

    store = SQLiteStore(tmp_path / "ledger.db")
    executor = TaskExecutor.empty(store, clock=clock)
    executor.register(CUSTOM, work)
    tried, plain = make("tried", retry=RetryPolicy(3, backoff=1)), make("plain")
    future = background(lambda: executor.execute(tried))
    clock.advance_to_next()
    future.result(WAIT)
    steps = iter([None])
    executor.execute(plain)
    for task in (tried, plain):
        assert store.tasks[task.id].result == task.result
    again = store.tasks[tried.id].result
    assert again is not None
    assert again.attempt_durations == pytest.approx((0.1, 0.1))
    assert again.total_duration == pytest.approx(1.2)
    store.close()


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)]
)
def test_a_bad_budget_is_named(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="retry_budget"):
        TaskGraph().run(TaskExecutor.empty(), retry_budget=value)


@pytest.mark.parametrize("value", [3.0, "3", RetryPolicy, {"max_attempts": 3}])
def test_a_policy_that_is_none_is_named(value: Any) -> None:
    executor = TaskExecutor.empty()
    with pytest.raises(TypeError, match="retry must be a RetryPolicy"):
        make("t", retry=value)
    for call in (executor.execute, executor.submit):
        with pytest.raises(TypeError, match="retry_policy must be a RetryPolicy"):
            call(make("t"), retry_policy=value)
