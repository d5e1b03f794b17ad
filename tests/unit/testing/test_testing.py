"""ttasks.testing: the clock, the handler and the recorder keep to what they say."""

from __future__ import annotations

import _thread
import doctest
import threading
from threading import Lock
from typing import Any

import pytest

import ttasks
import ttasks.model.policy
from support import WAIT, background, wait
from ttasks import (
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskTimeoutError,
    TaskType,
    testing,
)
from ttasks.model.cancel import CancelToken
from ttasks.model.clock import Clock
from ttasks.testing import EventRecorder, FakeClock, FakeHandler

FAKE = TaskType("fake")
BOOM = ValueError("boom")


def held() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock


def task_of(title: str, **options: Any) -> Task:
    return Task(title, None, FAKE, **options)


@pytest.mark.parametrize("module", [testing, ttasks.model.policy, ttasks])
def test_examples_of_docstrings_run(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


# --- FakeClock ----------------------------------------------------------------------------------


def test_it_stands_still_until_it_is_moved() -> None:
    clock: Clock = FakeClock()
    assert clock.now() == clock.now() == 0.0
    assert isinstance(clock, FakeClock)
    clock.advance(2.5)
    clock.advance(0)
    assert clock.now() == 2.5


@pytest.mark.parametrize(
    ("seconds", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
def test_it_never_goes_back(seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seconds"):
        FakeClock().advance(seconds)


def test_a_wait_ends_when_its_time_has_come_and_not_before() -> None:
    clock = FakeClock()
    future = background(lambda: clock.wait_until(held(), 5))
    clock.wait_for_waits()
    clock.advance(4.999)
    assert clock.waiting == 1
    assert not future.done()
    clock.advance(0.001)
    assert future.result(WAIT) is False
    assert clock.waiting == 0


@pytest.mark.parametrize("seconds", [5, None])
def test_a_wait_ends_when_its_lock_is_released(seconds: float | None) -> None:
    clock, lock = FakeClock(), held()
    future = background(lambda: clock.wait_until(lock, seconds))
    lock.release()
    assert future.result(WAIT) is True
    assert lock.locked()
    assert clock.now() == 0.0


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_wait_for_nothing_is_over_at_once(seconds: float) -> None:
    clock = FakeClock()
    assert clock.wait_until(held(), seconds) is False
    assert clock.wait_until(Lock(), seconds) is True


def test_the_steps_of_the_clock_are_the_ends_of_the_waits_in_order() -> None:
    clock = FakeClock()
    futures = {
        seconds: background(lambda s=seconds: clock.wait_until(held(), s)) for seconds in (3, 1, 2)
    }
    clock.wait_for_waits(3)
    assert clock.waiting == 3
    for seconds in (1, 2, 3):  # without a look at whether the one before has noticed its end
        assert clock.advance_to_next() == seconds
    assert all(future.result(WAIT) is False for future in futures.values())


def test_it_waits_for_a_wait_to_begin() -> None:
    clock = FakeClock()
    future = background(clock.advance_to_next)
    token = CancelToken()
    assert background(lambda: token.wait(7, clock)).result(WAIT) is False
    assert future.result(WAIT) == 7.0


def test_it_says_when_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ttasks.testing.clock.PATIENCE_SECONDS", 0.01)
    clock = FakeClock()
    with pytest.raises(TimeoutError, match="fewer than 1 wait for the fake clock"):
        clock.advance_to_next()
    with pytest.raises(TimeoutError, match="fewer than 2 "):
        clock.wait_for_waits(2)


@pytest.mark.parametrize("seconds", [60, None])
def test_ctrl_c_ends_its_waits(seconds: float | None) -> None:
    clock = FakeClock()

    def interrupt() -> None:
        if seconds is not None:
            clock.wait_for_waits()
        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        background(interrupt)
        clock.wait_until(held(), seconds)
    assert clock.waiting == 0


# --- FakeHandler --------------------------------------------------------------------------------


def with_handler(handler: FakeHandler, **options: Any) -> TaskExecutor:
    executor = TaskExecutor.empty(**options)
    executor.register(FAKE, handler)
    return executor


def test_a_handler_follows_its_script_and_repeats_the_last_step() -> None:
    handler = FakeHandler({"t": [BOOM, KeyError, "page"], "u": OSError}, default=7)
    executor = with_handler(handler)
    task = task_of("t", retry=RetryPolicy(5))
    assert executor.execute(task).value == "page"
    assert executor.execute(task_of("other")).value == 7
    with pytest.raises(OSError):
        executor.execute(task_of("u", retry=RetryPolicy(2)))
    assert handler.titles == ["t", "t", "t", "other", "u", "u"]
    assert [context.attempt for context in handler.calls] == [1, 2, 3, 1, 1, 2]


def test_the_steps_of_a_task_go_on_over_its_runs() -> None:
    handler = FakeHandler(default=[BOOM, "fine"])
    executor = with_handler(handler)
    graph = TaskGraph()
    task, other = graph.add(task_of("t")), task_of("t")
    graph.run(executor)
    assert task.is_failed
    graph.run(executor)
    assert task.is_succeeded
    with pytest.raises(ValueError):
        executor.execute(other)  # the same title, but a task of its own


def test_delays_pass_on_the_clock_of_the_executor() -> None:
    clock = FakeClock()
    executor = with_handler(FakeHandler(delays={"t": 3600}), clock=clock)
    task = task_of("t")
    future = background(lambda: executor.execute(task))
    assert clock.advance_to_next() == 3600.0
    assert future.result(WAIT).duration == 3600.0


def test_a_cancellation_ends_a_delay() -> None:
    clock = FakeClock()
    executor = with_handler(FakeHandler(delays={"t": 3600}), clock=clock)
    task = task_of("t")
    future = background(lambda: executor.execute(task))
    clock.wait_for_waits()
    executor.cancel(task)
    assert isinstance(future.exception(WAIT), TaskCancelled)
    assert clock.now() == 0.0


def test_a_delay_beyond_the_timeout_is_a_timeout() -> None:
    clock = FakeClock()
    executor = with_handler(FakeHandler(delays={"t": 60}), clock=clock)
    future = background(lambda: executor.execute(task_of("t", timeout=30)))
    clock.wait_for_waits(2)
    assert clock.advance_to_next() == 30.0
    assert isinstance(future.exception(WAIT), TaskTimeoutError)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"script": [1]}, TypeError, "script must be a mapping from the titles of tasks"),
        ({"script": {1: 2}}, TypeError, "script must be a mapping"),
        ({"script": {"t": []}}, ValueError, r"script\['t'\] must be a list with a step"),
        ({"default": []}, ValueError, "default must be a list with a step"),
        ({"delays": 5}, TypeError, "delays must be a mapping"),
        ({"delays": {"t": -1}}, ValueError, r"delays\['t'\] must be a finite number >= 0"),
        ({"delays": {"t": "1"}}, TypeError, r"delays\['t'\] must be a number"),
    ],
)
def test_a_wrong_script_is_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FakeHandler(**arguments)


# --- EventRecorder ------------------------------------------------------------------------------


def events_of(*kinds: str) -> EventRecorder:
    recorder, task = EventRecorder(), task_of("t")
    for kind in kinds:
        recorder(
            TaskEvent(
                TaskEventType(kind),
                task.id,
                task,
                task.created_at,
                TaskStatus.PENDING,
                TaskStatus.PENDING,
            )
        )
    return recorder


@pytest.mark.parametrize(
    "kinds",
    [
        "",
        "started succeeded",
        "started output progress failed started cancelled",
        "failed",
        "blocked",
        "skipped started succeeded",
        "started circuit_opened failed cancelled",
        "persistence_failed started persistence_failed succeeded",
    ],
)
def test_what_may_happen_passes_the_check(kinds: str) -> None:
    events_of(*kinds.split()).check_order()


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        ("started", "not ended"),
        ("started started", "started twice"),
        ("output", "output outside of an attempt"),
        ("started failed progress", "progress outside of an attempt"),
        ("started blocked", "blocked while running"),
        ("succeeded", "succeeded without a start"),
        ("started succeeded succeeded", "succeeded after succeeded"),
        ("cancelled started failed", "started after cancelled"),
    ],
)
def test_what_may_not_happen_is_shown(kinds: str, problem: str) -> None:
    with pytest.raises(AssertionError) as caught:
        events_of(*kinds.split()).check_order()
    assert problem in str(caught.value)
    assert str(caught.value).endswith(", ".join(kinds.split()))


def test_a_recorder_keeps_the_events_of_each_task_and_waits_for_one() -> None:
    recorder = EventRecorder()
    executor = with_handler(FakeHandler({"a": [BOOM, "fine"]}))
    executor.events.subscribe(recorder)
    a, b = task_of("a", retry=RetryPolicy(2)), task_of("b")
    waiting = background(lambda: recorder.wait_for(a, TaskEventType.STARTED, attempt=2))
    executor.execute(a)
    executor.execute(b)
    assert waiting.result(WAIT).attempt == 2
    assert recorder.wait_for(a, TaskEventType.FAILED).retry_in == 0.0
    kinds = [kind.value for kind in recorder.types(a)]
    assert kinds == ["started", "failed", "started", "succeeded"]
    assert [event.task for event in recorder.of(b)] == [b, b]
    assert len(recorder.events) == 6
    recorder.check_order()
    recorder.check_order([b])


def test_a_recorder_says_what_did_not_come() -> None:
    with pytest.raises(TimeoutError, match="no failed of task 't' came"):
        EventRecorder().wait_for(task_of("t"), TaskEventType.FAILED, timeout=0.0)


def test_waiting_ends_with_the_event_and_not_with_the_time() -> None:
    recorder, task, begun = EventRecorder(), task_of("t"), threading.Event()
    executor = with_handler(FakeHandler())
    executor.events.subscribe(recorder)

    def waiter() -> TaskEvent:
        begun.set()
        return recorder.wait_for(task, TaskEventType.SUCCEEDED)

    future = background(waiter)
    wait(begun)
    executor.execute(task)
    assert future.result(WAIT).task is task
