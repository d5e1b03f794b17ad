"""Guards: asked before the handler of each attempt; they may refuse a task or stop its graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from support import (
    CUSTOM,
    WAIT,
    FakeHandler,
    Gate,
    Obedient,
    background,
    executor_with,
    make,
    run,
    statuses,
    wait,
)
from ttasks import (
    CircuitBreaker,
    RetryPolicy,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskRejectedError,
    TaskTimeoutError,
    current_context,
)
from ttasks.testing import FakeClock

BOOM = ValueError("boom")


def reject(context: TaskContext) -> None:
    raise TaskRejectedError(f"{context.title} is not allowed")


def guarded(guard: Callable[[TaskContext], Any], handler: Any = None, **options: Any) -> Any:
    """Handler, executor and recorder."""
    handler = handler or FakeHandler()
    return handler, *executor_with(handler, guards=[guard], **options)


@pytest.mark.parametrize("way", ["execute", "submit", "graph"])
def test_a_guard_rejects_a_task_and_its_handler_is_never_called(way: str) -> None:
    handler, executor, recorder = guarded(reject)
    task = make("t", retry=RetryPolicy(5, retry_on=BaseException))
    with executor:
        if way == "execute":
            with pytest.raises(TaskRejectedError):
                executor.execute(task)
        elif way == "submit":
            assert isinstance(executor.submit(task).exception(WAIT), TaskRejectedError)
        else:
            graph = TaskGraph()
            graph.add(task)
            graph.add(make("next"), after=task)
            run(graph, executor)
            assert statuses(graph) == {"t": "failed", "next": "blocked"}
    assert handler.calls == []
    assert task.is_failed
    assert task.error == "t is not allowed"
    assert task.result is not None
    assert (task.result.termination_reason, task.result.attempts) == ("rejected", 1)
    assert recorder.of(task) == [TaskEventType.STARTED, TaskEventType.FAILED]
    recorder.check()


def test_guards_are_asked_in_turn_until_one_refuses_before_each_attempt() -> None:
    asked: list[tuple[str, int]] = []

    def note(name: str, context: TaskContext) -> None:
        assert current_context() is context
        assert context.status.value == "running"
        asked.append((name, context.attempt))
        if name == "second" and context.attempt == 2:
            raise TaskRejectedError("once is enough")

    names = ("first", "second", "third")
    handler = FakeHandler({"t": BOOM})
    executor, recorder = executor_with(handler, guards=[partial(note, name) for name in names])
    with pytest.raises(TaskRejectedError):
        executor.execute(make("t", retry=RetryPolicy(3)))
    assert asked == [("first", 1), ("second", 1), ("third", 1), ("first", 2), ("second", 2)]
    assert handler.calls == ["t"]
    recorder.check()


class Fussy:
    def __call__(self, context: TaskContext) -> None:
        raise KeyError("no key")


def fussy(context: TaskContext) -> None:
    raise ZeroDivisionError("division by zero")


def leaving(context: TaskContext) -> None:
    raise SystemExit(3)


def cancelling(context: TaskContext) -> None:
    raise TaskCancelled


async def asynchronous(context: TaskContext) -> None:
    raise AssertionError("nobody awaits it")


@pytest.mark.parametrize(
    ("guard", "message"),
    [
        (fussy, "Guard fussy rejected the task, because it raised ZeroDivisionError: division"),
        (Fussy(), "Guard Fussy rejected the task, because it raised KeyError: 'no key'"),
        (leaving, "Guard leaving rejected the task, because it raised SystemExit: 3"),
        (cancelling, "Guard cancelling rejected the task, because it raised TaskCancelled"),
        (partial(fussy), "Guard partial rejected the task, because it raised ZeroDivisionError"),
        (asynchronous, "Guard asynchronous rejected the task, because it raised TypeError: a g"),
    ],
)
def test_a_guard_that_raises_anything_else_rejects_too_and_is_named(
    guard: Any, message: str
) -> None:
    handler, executor, recorder = guarded(guard)
    task = make("t")
    with pytest.raises(TaskRejectedError) as caught:
        executor.execute(task)
    assert str(caught.value).startswith(message)
    assert caught.value.__cause__ is not None
    assert handler.calls == []
    assert task.result is not None
    assert task.result.termination_reason == "rejected"
    recorder.check()


def test_a_guard_may_cancel_the_whole_graph() -> None:
    graph = TaskGraph()

    def stop(context: TaskContext) -> None:
        if context.title == "b":
            graph.cancel()

    handler, executor, recorder = guarded(stop)
    a = graph.add(make("a"))
    b = graph.add(make("b"), after=a)
    graph.add(make("c"), after=b)
    graph.add(make("last"), after=b, finally_=True)
    run(graph, executor)
    assert statuses(graph) == {"a": "succeeded", "b": "cancelled", "c": "cancelled"} | {
        "last": "succeeded"
    }
    assert handler.calls == ["a", "last"]
    recorder.check(graph)


def test_a_guard_that_cancels_its_task_keeps_the_next_ones_from_being_asked() -> None:
    def stop(context: TaskContext) -> None:
        executor.cancel(task)

    handler = FakeHandler()
    executor, recorder = executor_with(handler, guards=[stop, reject])
    task = make("t")
    with pytest.raises(TaskCancelled):
        executor.execute(task)
    assert task.is_cancelled
    assert handler.calls == []
    recorder.check()


def test_a_task_that_is_cancelled_while_its_guard_asks_is_cancelled_not_rejected() -> None:
    asked = threading.Event()

    def patient(context: TaskContext) -> None:
        asked.set()
        context.wait_cancelled(WAIT)
        context.raise_if_cancelled()

    _, executor, recorder = guarded(patient)
    task = make("t")
    future = background(lambda: executor.execute(task))
    wait(asked)
    executor.cancel(task)
    assert isinstance(future.exception(WAIT), TaskCancelled)
    assert task.is_cancelled
    recorder.check()


@pytest.mark.parametrize("way", ["execute", "submit", "graph"])
def test_no_lock_is_held_while_a_guard_runs(way: str) -> None:
    """The guard has another thread call everything that takes a lock, and waits for it."""
    graph = TaskGraph()
    other = TaskGraph()
    task = graph.add(make("t", group="g"))
    pending = graph.add(make("pending", group="g"), after=task)
    other.add(make("other", group="g2"))
    seen: list[str] = []

    def call_everything() -> None:
        seen.append(task.status.value)
        graph.statistics()
        assert graph.succeeded == []
        assert executor.is_running(task.id)
        assert not executor.is_shutdown
        assert executor.breaker_states
        executor.register(CUSTOM, handler)
        executor.events.subscribe(print)()
        executor.cancel(make("never"))
        executor.cancel(pending)
        executor.submit(make("free"), retry_policy=RetryPolicy(2)).result(WAIT)
        other.run(executor)
        with pytest.raises(ValueError):
            task.transition_to(task.status)
        executor.cancel(task)

    def guard(context: TaskContext) -> None:
        if context.title == "t":
            background(call_everything).result(WAIT)

    handler, executor, recorder = guarded(
        guard, limits={"g": 1, "g2": 1}, breakers={"g": CircuitBreaker()}, max_workers=2
    )
    with executor:
        if way == "graph":
            run(graph, executor)
        else:
            call = executor.execute if way == "execute" else lambda t: executor.submit(t).result()
            future = background(lambda: call(task))
            assert isinstance(future.exception(WAIT), TaskCancelled)
    assert seen == ["running"]
    assert task.is_cancelled
    assert pending.is_cancelled
    assert sorted(handler.calls) == ["free", "other"]
    recorder.check()


@pytest.mark.parametrize("way", ["execute", "graph"])
def test_coroutines_have_guards_too(way: str) -> None:
    called: list[str] = []

    async def handler(context: TaskContext) -> None:
        called.append(context.title)

    def guard(context: TaskContext) -> None:
        if context.title == "bad":
            reject(context)

    _, executor, recorder = guarded(guard, handler)
    graph = TaskGraph()
    bad, fine = graph.add(make("bad")), graph.add(make("fine"))
    if way == "graph":
        run(graph, executor)
    else:
        executor.execute(fine)
        with pytest.raises(TaskRejectedError):
            executor.execute(bad)
    assert statuses(graph) == {"bad": "failed", "fine": "succeeded"}
    assert called == ["fine"]
    recorder.check()


def test_what_a_guard_returns_does_not_matter() -> None:
    handler, executor, _ = guarded(lambda context: False)
    executor.execute(make("t"))
    assert handler.calls == ["t"]


def test_the_time_of_a_guard_is_time_of_the_attempt() -> None:
    clock = FakeClock()
    handler, executor, recorder = guarded(lambda context: clock.advance(5), clock=clock)
    task = make("t", timeout=5)
    with pytest.raises(TaskTimeoutError):
        executor.execute(task)
    assert handler.calls == []
    assert executor.execute(make("t", timeout=6)).duration == 5.0
    recorder.check()


def test_a_guard_is_not_asked_for_a_task_that_was_cancelled_before() -> None:
    gate = Gate()
    asked: list[str] = []
    handler = FakeHandler({"a": gate, "b": Obedient()})
    executor, recorder = executor_with(
        handler, guards=[lambda context: asked.append(context.title)]
    )
    graph = TaskGraph()
    graph.add(make("a"))
    b = graph.add(make("b"))
    future = background(lambda: graph.run(executor, 1))
    gate.wait_reached()
    executor.cancel(b)
    gate.open()
    future.result(WAIT)
    assert asked == ["a"]
    recorder.check()


def test_secrets_are_hidden_in_the_message_of_a_guard() -> None:
    def leak(context: TaskContext) -> None:
        raise ValueError("token hunter2 is wrong")

    _, executor, _ = guarded(leak, redact=["hunter2"])
    task = make("t")
    with pytest.raises(TaskRejectedError):
        executor.execute(task)
    assert task.error is not None
    assert task.error.endswith("ValueError: token *** is wrong")


@pytest.mark.parametrize(
    ("guards", "message"),
    [
        (None, "guards must be an iterable of callables, got NoneType"),
        (reject, "guards must be an iterable of callables, got function"),
        ("reject", "guards must be an iterable of callables, got str"),
        ([reject, None], r"guards\[1\] must be a callable, got NoneType"),
        (["reject"], r"guards\[0\] must be a callable, got str: 'reject'"),
    ],
)
def test_bad_guards_are_type_errors(guards: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TaskExecutor(guards=guards)
