"""A clock that tests drive: whatever takes time goes by it, and nothing really waits."""

from __future__ import annotations

import _thread
import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support import (
    WAIT,
    EventRecorder,
    FakeHandler,
    Gate,
    background,
    executor_with,
    make,
    run,
    statuses,
    wait,
)
from ttasks import (
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskTimeoutError,
)
from ttasks.testing import EventRecorder as Recorder
from ttasks.testing import FakeClock

BOOM = ValueError("boom")
HOUR = 3600.0
PATIENT = RetryPolicy(3, backoff=HOUR, multiplier=2)


def on_clock(handler: Any, **options: Any) -> tuple[FakeClock, TaskExecutor, EventRecorder]:
    clock = FakeClock()
    return clock, *executor_with(handler, clock=clock, **options)


def listen(executor: TaskExecutor) -> Recorder:
    recorder = Recorder()
    executor.events.subscribe(recorder)
    return recorder


# Driven


@pytest.mark.parametrize("way", ["execute", "submit", "graph"])
def test_retries_go_by_the_clock(way: str) -> None:
    clock, executor, recorder = on_clock(FakeHandler({"t": [BOOM, BOOM, "done"]}))
    task = make("t", retry=PATIENT)
    graph = TaskGraph()
    graph.add(task)
    with executor:
        if way == "submit":
            future: Any = executor.submit(task)
        else:
            future = background(
                lambda: graph.run(executor) if way == "graph" else executor.execute(task)
            )
        assert [clock.advance_to_next() for _ in range(2)] == [HOUR, 3 * HOUR]
        future.result(WAIT)
    assert task.result is not None
    assert (task.result.value, task.result.attempts) == ("done", 3)
    assert task.result.attempt_durations == (0.0, 0.0, 0.0)
    assert task.result.total_duration == 3 * HOUR
    recorder.check()


def test_the_time_of_a_graph_and_of_its_handlers_goes_by_the_clock() -> None:
    def work(context: TaskContext) -> float | None:
        left = context.remaining()
        clock.advance(10)
        assert context.remaining() == (None if left is None else left - 10)
        return left

    clock, executor, recorder = on_clock(work)
    graph = TaskGraph()
    a = graph.add(make("a"))
    b = graph.add(make("b", timeout=60), after=a)
    run(graph, executor, 1)
    assert [task.result and (task.result.duration, task.result.value) for task in (a, b)] == [
        (10.0, None),
        (10.0, 60.0),
    ]
    assert graph.statistics().elapsed == 20.0
    recorder.check(graph)


def test_a_timeout_of_a_graph_ends_a_backoff_at_once() -> None:
    clock, executor, recorder = on_clock(FakeHandler({"t": BOOM}))
    graph = TaskGraph()
    task = graph.add(make("t", retry=RetryPolicy(2, backoff=2 * HOUR)))
    graph.add(make("last"), after=task, finally_=True)
    heard = listen(executor)
    future = background(lambda: graph.run(executor, timeout=HOUR))
    while not graph.statistics().waiting:
        pass
    clock.wait_for_waits()
    clock.advance(HOUR)
    future.result(WAIT)
    assert clock.now() == HOUR
    assert statuses(graph) == {"t": "cancelled", "last": "succeeded"}
    assert graph.statistics().waiting == 0
    assert task.result is not None
    assert task.result.attempts == 1
    assert task.result.error == "Graph timed out after 3600 seconds"
    assert (task.error, heard.of(task)[-1].error) == ("boom", "boom")  # what had gone wrong
    recorder.check(graph)


def test_a_finally_timeout_goes_by_the_clock() -> None:
    clock, executor, recorder = on_clock(lambda context: context.wait_cancelled(10 * HOUR))
    graph = TaskGraph()
    first = graph.add(make("first"))
    last = graph.add(make("last"), after=first, finally_=True)
    heard = listen(executor)
    future = background(lambda: graph.run(executor, timeout=HOUR, finally_timeout=HOUR))
    clock.wait_for_waits(2)
    clock.advance(HOUR)
    heard.wait_for(last, TaskEventType.STARTED)
    # Its handler waits, and the supervisor for the end of its time.
    clock.wait_for_waits(2)
    clock.advance(HOUR)
    future.result(WAIT)
    assert statuses(graph) == {"first": "cancelled", "last": "cancelled"}
    assert clock.now() == 2 * HOUR
    recorder.check(graph)


@pytest.mark.parametrize("way", ["execute", "graph"])
def test_the_timeout_of_a_plain_handler_goes_by_the_clock(way: str) -> None:
    clock, executor, recorder = on_clock(lambda context: context.wait_cancelled(10 * HOUR))
    task = make("t", timeout=HOUR)
    graph = TaskGraph()
    graph.add(task)
    future = background(
        lambda: graph.run(executor) if way == "graph" else executor.submit(task).exception(WAIT)
    )
    clock.wait_for_waits(2)  # of the handler, and of the one who waits for it
    assert clock.advance_to_next() == HOUR
    future.result(WAIT)
    assert task.is_failed
    assert task.result is not None
    assert task.result.termination_reason == "timeout"
    assert task.result.duration == HOUR
    executor.shutdown()
    recorder.check()


@pytest.mark.parametrize("way", ["execute", "graph"])
def test_the_timeout_of_a_coroutine_goes_by_the_clock(way: str) -> None:
    async def handler(context: TaskContext) -> None:
        await asyncio.Event().wait()

    clock, executor, recorder = on_clock(handler)
    task = make("t", timeout=HOUR)
    graph = TaskGraph()
    graph.add(task)
    future = background(lambda: graph.run(executor) if way == "graph" else executor.execute(task))
    assert clock.advance_to_next() == HOUR
    error = future.exception(WAIT) or graph.errors[task.id]
    assert isinstance(error, TaskTimeoutError)
    recorder.check()


def test_wait_cancelled_goes_by_the_clock() -> None:
    clock, executor, recorder = on_clock(lambda context: context.wait_cancelled(HOUR))
    future = background(lambda: executor.execute(make("t")))
    assert clock.advance_to_next() == HOUR
    assert future.result(WAIT).value is False
    recorder.check()


def test_a_deadline_only_orders() -> None:
    handler = FakeHandler()
    clock, executor, recorder = on_clock(handler)
    clock.advance(100 * HOUR)
    now = datetime.now(UTC)
    graph = TaskGraph()
    for title, hours in (("late", 2), ("soon", 1), ("over", -1000)):
        graph.add(make(title, deadline=now + timedelta(hours=hours)))
    graph.add(make("never"))
    assert run(graph, executor, 1).ok
    assert handler.calls == ["over", "soon", "late", "never"]
    recorder.check(graph)


# Stopped during a backoff


def test_shutdown_ends_the_backoff_of_what_was_submitted() -> None:
    clock, executor, recorder = on_clock(FakeHandler({"t": BOOM}))
    task = make("t", retry=PATIENT)
    future = executor.submit(task)
    clock.wait_for_waits()
    executor.shutdown(cancel=True)
    assert isinstance(future.exception(WAIT), TaskCancelled)
    assert task.is_cancelled
    assert clock.now() == 0.0
    recorder.check()


def test_ctrl_c_ends_the_backoff_of_execute() -> None:
    clock, executor, recorder = on_clock(FakeHandler({"t": BOOM}))
    task = make("t", retry=PATIENT)
    with pytest.raises(KeyboardInterrupt):
        background(lambda: (clock.wait_for_waits(), _thread.interrupt_main()))
        executor.execute(task)
    assert task.is_cancelled
    assert clock.now() == 0.0
    recorder.check()


@pytest.mark.parametrize("clock", [FakeClock(), None], ids=["fake", "system"])
def test_ctrl_c_ends_the_backoff_of_a_graph(clock: FakeClock | None) -> None:
    executor, recorder = executor_with(FakeHandler({"t": BOOM}), clock=clock)
    graph = TaskGraph()
    task = graph.add(make("t", retry=PATIENT))
    graph.add(make("last"), after=task, finally_=True)

    def interrupt() -> None:
        while not graph.statistics().waiting:
            pass
        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        background(interrupt)
        graph.run(executor)
    assert statuses(graph) == {"t": "cancelled", "last": "succeeded"}
    assert task.result is not None
    assert (task.result.attempts, task.result.termination_reason) == (1, "interrupted")
    recorder.check(graph)


def test_a_task_cancelled_in_its_backoff_keeps_count_of_its_attempts() -> None:
    clock, executor, recorder = on_clock(FakeHandler({"t": BOOM}))
    task = make("t", retry=PATIENT)
    future = background(lambda: executor.execute(task))
    assert clock.advance_to_next() == HOUR
    clock.wait_for_waits()
    executor.cancel(task)
    assert isinstance(future.exception(WAIT), TaskCancelled)
    assert task.result is not None
    assert task.result.attempts == 2
    assert task.result.attempt_durations == (0.0, 0.0)
    assert task.result.termination_reason == "cancelled"
    recorder.check()


def test_statistics_show_what_waits() -> None:
    graph = TaskGraph()
    tasks = [graph.add(make(str(number), retry=RetryPolicy(2, HOUR))) for number in range(5)]
    handler = FakeHandler({task.title: [BOOM, "done"] for task in tasks})
    clock, executor, recorder = on_clock(handler)
    future = background(lambda: graph.run(executor, 2))
    while graph.statistics().waiting < 5:
        pass
    now = graph.statistics()
    assert (now.running, now.retries) == ((), 5)
    clock.wait_for_waits()
    clock.advance_to_next()
    future.result(WAIT)
    assert graph.ok
    assert graph.statistics().waiting == 0
    recorder.check(graph)


@pytest.mark.parametrize("clock", [0.5, object(), type("Half", (), {"now": print})()])
def test_a_clock_that_is_none_is_a_type_error(clock: Any) -> None:
    with pytest.raises(
        TypeError, match=r"clock must be a Clock \(with now and wait_until\) or None"
    ):
        TaskExecutor(clock=clock)


def test_commands_run_in_real_time() -> None:
    executor = TaskExecutor(clock=FakeClock())
    task = Task.bash("sleep 30", timeout=0.05)
    with pytest.raises(TaskTimeoutError):
        executor.execute(task)
    assert executor.execute(Task.bash("echo x", timeout=60)).output == "x\n"


def test_a_handler_that_would_not_end_is_left_behind_by_the_clock() -> None:
    stubborn = Gate()

    clock, executor, recorder = on_clock(stubborn)
    graph = TaskGraph()
    graph.add(make("t"))
    future = background(lambda: graph.run(executor))
    wait(stubborn.reached)
    graph.cancel()
    assert clock.advance_to_next() == 2.0
    future.result(WAIT)
    assert statuses(graph) == {"t": "cancelled"}
    stubborn.open()
    while executor.abandoned:
        pass
    recorder.check(graph)
