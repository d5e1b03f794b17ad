"""Retries: in execute, submit and graphs, cancellation in between, budgets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support import (
    WAIT,
    EventRecorder,
    FakeHandler,
    Obedient,
    background,
    bounded,
    executor_with,
    make,
    run,
    statuses,
    wait,
)
from ttasks import (
    RetryPolicy,
    TaskCancelled,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskRejectedError,
    TaskStatus,
)
from ttasks.engine.retry import Tries, Verdict
from ttasks.testing import FakeClock

BOOM = ValueError("boom")
LONG = 60.0
"""Seconds of a backoff that no test waits for."""


def no_jitter() -> float:
    raise AssertionError("no random number is needed")


def decided(tries: Tries, error: BaseException) -> Verdict:
    """What is decided after an attempt that no function of the user's is asked about."""

    def no_result(error: BaseException | None) -> Any:
        raise AssertionError("no result is needed")

    return tries.decide(error, no_result)


def decisions(tries: Tries, count: int) -> list[float | None]:
    """What is decided after each of so many failed attempts."""
    found = []
    for _ in range(count):
        tries.next_number()
        found.append(decided(tries, BOOM).retry_in)
    return found


def test_a_policy_decides_by_attempts_and_backs_off() -> None:
    policy = RetryPolicy(4, backoff=1.0, multiplier=3.0, max_backoff=5.0)
    tries = Tries(policy, FakeClock(), random=no_jitter)
    assert decisions(tries, 4) == [1.0, 3.0, 5.0, None]


@pytest.mark.parametrize(("share", "expected"), [(0.0, 5.0), (0.5, 10.0), (1.0, 15.0)])
def test_jitter_changes_a_delay_by_its_share_at_most(share: float, expected: float) -> None:
    tries = Tries(RetryPolicy(2, backoff=10.0, jitter=0.5), FakeClock(), random=lambda: share)
    assert decisions(tries, 1) == [expected]


def test_no_retry_starts_later_than_max_elapsed() -> None:
    clock = FakeClock()
    policy = RetryPolicy(9, backoff=2.0, max_elapsed=5.0)
    tries = Tries(policy, clock, random=no_jitter)
    assert decisions(tries, 1) == [2.0]
    clock.advance(3.0)
    assert decisions(tries, 1) == [2.0]
    clock.advance(0.5)
    tries.next_number()
    assert decided(tries, BOOM)[1:] == (None, "not tried again: max_elapsed of 5 s is spent")


@pytest.mark.parametrize("error", [TaskCancelled(), TaskRejectedError("no")])
def test_cancellation_and_rejection_are_never_retried(error: BaseException) -> None:
    policy = RetryPolicy(9, retry_on=(BaseException,))
    tries = Tries(policy, FakeClock())
    tries.next_number()
    assert decided(tries, error) == (error, None, "")
    handler = FakeHandler({"t": error})
    executor, recorder = executor_with(handler)
    with pytest.raises(type(error)):
        executor.execute(make("t", retry=policy))
    assert handler.calls == ["t"]
    recorder.check()


@pytest.mark.parametrize("way", ["task", "call", "submit", "graph"])
def test_a_task_is_tried_until_it_succeeds(way: str) -> None:
    handler = FakeHandler({"t": [BOOM, KeyError("x"), "done"]})
    executor, recorder = executor_with(handler)
    policy = RetryPolicy(5)
    task = make("t", retry=None if way in ("call", "submit") else policy)
    graph = TaskGraph()
    with executor:
        if way == "task":
            executor.execute(task)
        elif way == "call":
            executor.execute(task, retry_policy=policy)
        elif way == "submit":
            executor.submit(task, retry_policy=policy).result(WAIT)
        else:
            graph.add(task)
            assert run(graph, executor).ok
            assert graph.errors == {}
            assert graph.statistics().retries == 2
    assert task.result is not None
    assert (task.result.output, task.result.attempts) == ("done", 3)
    assert len(handler.calls) == 3
    promises = [e.retry_in for e in recorder.events if e.type is TaskEventType.FAILED]
    assert promises == [0.0, 0.0]
    recorder.check()


def test_the_policy_of_the_call_replaces_that_of_the_task() -> None:
    handler = FakeHandler({"t": BOOM})
    executor, recorder = executor_with(handler)
    with pytest.raises(ValueError):
        executor.execute(make("t", retry=RetryPolicy(9)), retry_policy=RetryPolicy(2))
    assert len(handler.calls) == 2
    recorder.check()


def test_only_named_exceptions_are_retried() -> None:
    handler = FakeHandler({"t": [BOOM, KeyError("x"), "never"]})
    executor, recorder = executor_with(handler)
    task = make("t", retry=RetryPolicy(5, retry_on=ValueError))
    with pytest.raises(KeyError):
        executor.execute(task)
    assert len(handler.calls) == 2
    recorder.check()


def test_a_timeout_counts_per_attempt_and_is_retried() -> None:
    handler = FakeHandler({"t": [lambda context: context.wait_cancelled(WAIT), "done"]})
    executor, recorder = executor_with(handler)
    result = bounded(lambda: executor.execute(make("t", timeout=0.05, retry=RetryPolicy(2))))
    assert (result.output, result.attempts) == ("done", 2)
    recorder.check()


# Cancelled in between


def after_failure(executor: TaskExecutor) -> threading.Event:
    failed = threading.Event()
    executor.events.subscribe(lambda event: failed.set(), types=TaskEventType.FAILED)
    return failed


def test_cancel_during_the_backoff_of_execute_takes_effect_at_once() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    failed = after_failure(executor)
    task = make("t", retry=RetryPolicy(2, backoff=LONG))
    future = background(lambda: executor.execute(task))
    wait(failed)
    assert executor.cancel(task)
    assert task.is_cancelled
    with pytest.raises(TaskCancelled):
        future.result(WAIT)
    recorder.check()


def test_cancel_during_the_backoff_of_a_graph_takes_effect_at_once() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    failed = after_failure(executor)
    graph = TaskGraph()
    task = graph.add(make("t", retry=RetryPolicy(2, backoff=LONG)))
    graph.add(make("next"), after=task)
    future = background(lambda: graph.run(executor))
    wait(failed)
    assert executor.cancel(task)
    future.result(WAIT)
    assert statuses(graph) == {"t": "cancelled", "next": "blocked"}
    recorder.check(graph)


@pytest.mark.parametrize("way", ["execute", "graph"])
def test_cancel_from_the_subscriber_that_hears_of_the_failure(way: str) -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    executor.events.subscribe(lambda event: executor.cancel(event.task), types=TaskEventType.FAILED)
    task = make("t", retry=RetryPolicy(2, backoff=LONG))
    if way == "graph":
        graph = TaskGraph()
        graph.add(task)
        run(graph, executor)
    else:
        with pytest.raises(TaskCancelled):
            bounded(lambda: executor.execute(task))
    assert task.is_cancelled
    recorder.check()


def test_cancel_of_the_outer_task_ends_the_backoff_of_the_inner() -> None:
    inner = make("inner", retry=RetryPolicy(2, backoff=LONG))
    outer = make("outer")
    handler = FakeHandler({"inner": BOOM, "outer": lambda context: executor.execute(inner)})
    executor, recorder = executor_with(handler)
    failed = after_failure(executor)
    future = background(lambda: executor.execute(outer))
    wait(failed)
    executor.cancel(outer)
    with pytest.raises(TaskCancelled):
        future.result(WAIT)
    assert inner.is_cancelled
    recorder.check()


def test_stopping_a_graph_ends_the_backoff_of_its_tasks() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    failed = after_failure(executor)
    graph = TaskGraph()
    task = graph.add(make("t", retry=RetryPolicy(2, backoff=LONG)))
    graph.add(make("last"), after=task, finally_=True)
    future = background(lambda: graph.run(executor))
    wait(failed)
    while not graph.statistics().waiting:
        pass
    graph.cancel()
    future.result(WAIT)
    assert statuses(graph) == {"t": "cancelled", "last": "succeeded"}
    recorder.check(graph)


def test_a_stop_just_before_the_backoff_takes_back_the_promise_of_a_retry() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    graph = TaskGraph()
    task = graph.add(make("t", retry=RetryPolicy(2, backoff=LONG)))
    graph.add(make("last"), after=task, finally_=True)
    executor.events.subscribe(lambda event: graph.cancel(), types=TaskEventType.FAILED)
    run(graph, executor)
    assert statuses(graph) == {"t": "cancelled", "last": "succeeded"}
    recorder.check(graph)


def test_racing_cancels_and_retries_have_one_outcome() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    for round_ in range(150):
        task = make("t", retry=RetryPolicy(30))
        graph = TaskGraph()
        graph.add(task)
        barrier = threading.Barrier(2)

        def go(graph: TaskGraph = graph, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(WAIT)
            graph.run(executor, 1)

        future = background(go)
        barrier.wait(WAIT)
        for _ in range(round_ * 10):
            pass
        answer = executor.cancel(task)
        future.result(WAIT)
        assert answer == task.is_cancelled
        assert answer or task.is_failed
    recorder.check()


def test_a_failed_task_that_nobody_retries_can_still_be_cancelled() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    task = make("t")
    with pytest.raises(ValueError):
        executor.execute(task)
    assert executor.cancel(task)
    assert task.is_cancelled
    recorder.check()


# In graphs


def test_a_retry_does_not_hold_a_worker() -> None:
    handler = FakeHandler({"t": [BOOM, "done"]})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("t", retry=RetryPolicy(2, backoff=0.05)))
    for number in range(5):
        graph.add(make(str(number)))
    assert run(graph, executor, 1).ok
    assert handler.calls == ["t", "0", "1", "2", "3", "4", "t"]
    recorder.check(graph)


def test_only_the_last_attempt_decides_what_a_graph_does() -> None:
    handler = FakeHandler({"t": [BOOM, "done"], "u": [BOOM, KeyError("last")]})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("after t"), after=graph.add(make("t", retry=RetryPolicy(2))))
    graph.add(make("after u"), after=graph.add(make("u", retry=RetryPolicy(2))))
    run(graph, executor, fail_fast=False)
    assert statuses(graph) == {
        "t": "succeeded",
        "after t": "succeeded",
        "u": "failed",
        "after u": "blocked",
    }
    assert [type(error) for error in graph.errors.values()] == [KeyError]
    recorder.check(graph)


def test_a_failure_that_is_retried_does_not_trip_fail_fast() -> None:
    executor, recorder = executor_with(FakeHandler({"t": [BOOM, "done"]}))
    graph = TaskGraph()
    graph.add(make("t", retry=RetryPolicy(2)))
    assert run(graph, executor, fail_fast=True).ok
    recorder.check(graph)


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_a_budget_caps_the_retries_of_a_run(budget: int) -> None:
    handler = FakeHandler({str(number): BOOM for number in range(4)})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    for number in range(4):
        graph.add(make(str(number), retry=RetryPolicy(3)))
    run(graph, executor, retry_budget=budget)
    assert len(handler.calls) == 4 + budget
    assert graph.statistics().retries == budget
    assert {task.status for task in graph} == {TaskStatus.FAILED}
    recorder.check(graph)


def test_a_finally_task_is_retried_after_a_stop() -> None:
    handler = FakeHandler({"a": Obedient(), "last": [BOOM, "done"]})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    a = graph.add(make("a"))
    graph.add(make("last", retry=RetryPolicy(2, backoff=0.01)), after=a, finally_=True)
    executor.events.subscribe(
        lambda event: graph.cancel() if event.task is a else None, types=TaskEventType.STARTED
    )
    run(graph, executor)
    assert statuses(graph) == {"a": "cancelled", "last": "succeeded"}
    recorder.check(graph)


def test_a_backoff_beyond_what_threads_can_wait_can_be_cancelled() -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}))
    failed = after_failure(executor)
    for way in ("execute", "graph"):
        failed.clear()
        task = make("t", retry=RetryPolicy(2, backoff=1e300))
        graph = TaskGraph()
        graph.add(task)

        def go(way: str = way, task: Any = task, graph: TaskGraph = graph) -> Any:
            return executor.execute(task) if way == "execute" else graph.run(executor)

        future = background(go)
        wait(failed)
        executor.cancel(task)
        assert isinstance(future.exception(WAIT), TaskCancelled if way == "execute" else type(None))
        assert task.is_cancelled
    recorder.check()


def test_a_subscriber_sees_the_retry_before_it_begins() -> None:
    executor = executor_with(FakeHandler({"t": [BOOM, "done"]}))[0]
    seen: list[tuple[str, TaskStatus]] = []
    recorder = EventRecorder(executor)

    def look(event: TaskEvent) -> None:
        seen.append((event.type.value, event.task.status))

    executor.events.subscribe(look)
    executor.execute(make("t", retry=RetryPolicy(2)))
    assert seen == [
        ("started", TaskStatus.RUNNING),
        ("failed", TaskStatus.FAILED),
        ("started", TaskStatus.RUNNING),
        ("succeeded", TaskStatus.SUCCEEDED),
    ]
    recorder.check()
