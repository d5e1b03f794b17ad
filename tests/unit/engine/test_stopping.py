"""Every way of stopping a run, and what is left behind by handlers that will not end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import (
    WAIT,
    FakeHandler,
    Gate,
    Obedient,
    background,
    bounded,
    chain,
    executor_with,
    make,
    run,
    statuses,
    threads,
    wait,
)
from ttasks import (
    GraphFailedError,
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskTimeoutError,
)
from ttasks.engine import run as run_module

BOOM = ValueError("boom")
STARTED = TaskEventType.STARTED
STOPPED = {"a": "cancelled", "b": "cancelled", "last": "succeeded"}
PATIENCE = 0.05


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled handlers that do not end are left behind after a twentieth of a second."""
    monkeypatch.setattr(run_module, "CANCEL_PATIENCE", PATIENCE)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end, whatever happens."""
    gate = Gate()
    yield gate
    gate.open()


def stoppable(handler: Any, **options: Any) -> tuple[TaskGraph, TaskExecutor, Any]:
    """A graph of "a", then "b", and a finally task "last"."""
    executor, recorder = executor_with(handler, **options)
    graph = TaskGraph("stoppable")
    _, second = chain(graph, "a", "b")
    graph.add(make("last"), after=second, finally_=True)
    return graph, executor, recorder


def none_abandoned(executor: TaskExecutor) -> None:
    pause = threading.Event()
    for _ in range(5000):
        if executor.abandoned == 0 and not threads():
            return
        pause.wait(0.002)
    pytest.fail(f"{executor.abandoned} abandoned, {threads()}")


# graph.cancel


@pytest.mark.parametrize("workers", [1, 4])
def test_cancel_from_another_thread(workers: int) -> None:
    obedient = Obedient()
    graph, executor, recorder = stoppable(FakeHandler({"a": obedient}))
    future = background(lambda: graph.run(executor, workers))
    obedient.wait_reached()
    graph.cancel()
    graph.cancel()
    assert future.result(WAIT) is graph
    assert statuses(graph) == STOPPED
    assert not graph.ok
    assert set(graph.errors) == {task.id for task in graph.cancelled}
    a, b, _ = graph
    assert a.result is not None
    assert b.result is not None
    assert a.result.termination_reason == b.result.termination_reason == "cancelled"
    assert (a.result.attempts, b.result.attempts) == (1, 0)
    with pytest.raises(GraphFailedError, match="cancelled"):
        graph.raise_for_failure()
    assert threads() == []
    recorder.check(graph)


@pytest.mark.parametrize("workers", [1, 2])
def test_cancel_from_a_handler(workers: int) -> None:
    def handler(context: TaskContext) -> None:
        if context.title == "a":
            graph.cancel()
            context.raise_if_cancelled()

    graph, executor, recorder = stoppable(handler)
    run(graph, executor, workers)
    assert statuses(graph) == STOPPED
    recorder.check(graph)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", [STARTED, TaskEventType.OUTPUT, TaskEventType.SUCCEEDED])
def test_cancel_from_a_subscriber(kind: TaskEventType, workers: int) -> None:
    graph, executor, recorder = stoppable(lambda context: context.emit_output(context.title))
    executor.events.subscribe(
        lambda event: graph.cancel() if event.task.title == "a" else None, types=kind
    )
    run(graph, executor, workers)
    over = kind is TaskEventType.SUCCEEDED
    assert statuses(graph) == {**STOPPED, "a": "succeeded" if over else "cancelled"}
    recorder.check(graph)


def test_cancel_from_a_subscriber_of_the_cancellation_itself() -> None:
    obedient = Obedient()
    graph, executor, recorder = stoppable(FakeHandler({"a": obedient}))
    executor.events.subscribe(lambda event: graph.cancel(), types=TaskEventType.CANCELLED)
    future = background(lambda: graph.run(executor))
    obedient.wait_reached()
    graph.cancel()
    future.result(WAIT)
    assert statuses(graph) == STOPPED
    recorder.check(graph)


def test_cancel_from_the_last_event_of_a_run_is_too_late() -> None:
    graph, executor, recorder = stoppable(FakeHandler())
    executor.events.subscribe(
        lambda event: graph.cancel() if event.task.title == "last" else None,
        types=TaskEventType.SUCCEEDED,
    )
    run(graph, executor)
    assert set(statuses(graph).values()) == {"succeeded"}
    assert graph.ok
    recorder.check(graph)


def test_cancel_without_a_run_cancels_what_is_pending_but_no_finally_task() -> None:
    handler = FakeHandler()
    graph, executor, recorder = stoppable(handler)
    graph.cancel()
    assert statuses(graph) == {**STOPPED, "last": "pending"}
    run(graph, executor)
    assert statuses(graph) == STOPPED
    assert handler.calls == ["last"]
    graph.cancel()
    recorder.check(graph)


def test_cancel_at_any_moment_ends_the_run_and_runs_the_finally_task() -> None:
    for round_ in range(150):
        handler = FakeHandler()
        graph, executor, recorder = stoppable(handler)
        for number in range(10):
            graph.add(make(str(number)))
        future = background(lambda graph=graph, executor=executor: graph.run(executor, 2))
        for _ in range(round_ * 30):
            pass
        graph.cancel()
        future.result(WAIT)
        assert all(task.is_succeeded or task.is_cancelled for task in graph)
        assert statuses(graph)["last"] == "succeeded"
        assert set(handler.calls) >= {task.title for task in graph.succeeded}
        assert len(handler.calls) == len(set(handler.calls))
        recorder.check(graph)


def test_a_cancelled_run_lets_another_run_of_the_same_executor_go_on(gate: Gate) -> None:
    obedient = Obedient()
    graph, executor, recorder = stoppable(FakeHandler({"a": obedient, "other": gate}))
    other = TaskGraph()
    other.add(make("other"))
    futures = [background(lambda: other.run(executor)), background(lambda: graph.run(executor))]
    gate.wait_reached()
    obedient.wait_reached()
    graph.cancel()
    futures[1].result(WAIT)
    assert statuses(other) == {"other": "running"}
    gate.open()
    assert futures[0].result(WAIT).ok
    recorder.check()


def test_cancelling_a_run_cancels_the_runs_inside_it_which_run_their_finally_tasks(
    impatient: None,
) -> None:
    obedient, tidy = Obedient(), Gate()
    inner = TaskGraph("inner")
    inner.add(make("inner last"), after=inner.add(make("inner a")), finally_=True)
    slow = FakeHandler({"inner a": obedient, "inner last": tidy})

    def handler(context: TaskContext) -> Any:
        if context.title == "a":
            inner.run(executor)
        return slow(context)

    graph, executor, recorder = stoppable(handler)
    future = background(lambda: graph.run(executor))
    obedient.wait_reached()
    graph.cancel()
    tidy.wait_reached()
    # However long it tidies up, the task around it is not left behind meanwhile.
    threading.Event().wait(PATIENCE * 4)
    assert executor.abandoned == 0
    assert not future.done()
    tidy.open()
    future.result(WAIT)
    assert statuses(inner) == {"inner a": "cancelled", "inner last": "succeeded"}
    assert statuses(graph) == STOPPED
    recorder.check()


def test_the_timeout_of_a_task_stops_the_run_inside_it() -> None:
    obedient = Obedient()
    ended = threading.Event()
    inner = TaskGraph("inner")
    chain(inner, "inner a", "inner b")
    inner.add(make("inner last"), after=list(inner), finally_=True)

    def handler(context: TaskContext) -> Any:
        if context.title == "inner a":
            return obedient(context)
        if context.title == "outer":
            inner.run(executor)
            ended.set()
        return None

    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("outer", timeout=0.05))
    run(graph, executor)
    wait(ended)
    assert statuses(graph) == {"outer": "failed"}
    assert statuses(inner) == {
        "inner a": "cancelled",
        "inner b": "cancelled",
        "inner last": "succeeded",
    }
    assert {task.result.termination_reason for task in inner.cancelled if task.result} == {
        "cancelled"
    }
    none_abandoned(executor)
    recorder.check()


# fail_fast


@pytest.mark.parametrize("workers", [1, 3])
def test_fail_fast_stops_at_the_first_required_failure(workers: int) -> None:
    handler = FakeHandler({"bad": BOOM})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    bad = graph.add(make("bad", priority=1))
    graph.add(make("next"), after=bad)
    graph.add(make("fallback"), after=bad, required=False)
    graph.add(make("last"), after=bad, finally_=True)
    run(graph, executor, workers, fail_fast=True)
    found = statuses(graph)
    assert (found["bad"], found["next"], found["last"]) == ("failed", "cancelled", "succeeded")
    assert graph.errors[bad.id] is BOOM
    assert graph.run_error is None
    assert "'bad' failed (fail_fast)" in str(graph.errors[graph.cancelled[0].id])
    recorder.check(graph)


def test_fail_fast_cancels_what_is_running() -> None:
    obedient = Obedient()

    def fail(context: TaskContext) -> None:
        obedient.wait_reached()
        raise BOOM

    executor, recorder = executor_with(FakeHandler({"slow": obedient, "bad": fail}))
    graph = TaskGraph()
    graph.add(make("slow"))
    graph.add(make("bad"))
    run(graph, executor, 2, fail_fast=True)
    assert statuses(graph) == {"slow": "cancelled", "bad": "failed"}
    recorder.check(graph)


def test_fail_fast_ignores_optional_failures_and_blocked_tasks() -> None:
    executor, recorder = executor_with(FakeHandler({"bad": BOOM}))
    graph = TaskGraph()
    bad = graph.add(make("bad", priority=1), required=False)
    graph.add(make("next"), after=bad)
    graph.add(make("other"))
    run(graph, executor, 1, fail_fast=True)
    assert statuses(graph) == {"bad": "failed", "next": "blocked", "other": "succeeded"}
    recorder.check(graph)


# Timeouts of a run


def test_the_timeout_of_a_run_stops_it() -> None:
    graph, executor, recorder = stoppable(FakeHandler({"a": Obedient()}))
    run(graph, executor, timeout=0.05)
    assert statuses(graph) == STOPPED
    assert isinstance(graph.run_error, TaskTimeoutError)
    assert str(graph.run_error) == "Graph timed out after 0.05 seconds"
    assert not graph.ok
    with pytest.raises(GraphFailedError, match="timed out"):
        graph.raise_for_failure()
    recorder.check(graph)


def test_the_timeout_of_a_run_stops_waiting_for_a_retry() -> None:
    executor, recorder = executor_with(FakeHandler({"a": BOOM}))
    graph = TaskGraph()
    graph.add(make("a", retry=RetryPolicy(2, backoff=60)))
    run(graph, executor, timeout=0.05)
    assert statuses(graph) == {"a": "cancelled"}
    recorder.check(graph)


def test_a_timeout_that_does_not_pass_changes_nothing() -> None:
    graph, executor, recorder = stoppable(FakeHandler())
    run(graph, executor, timeout=1e15, finally_timeout=1e15)
    assert graph.ok
    recorder.check(graph)


def test_a_run_that_ends_at_its_deadline_is_done_or_timed_out() -> None:
    for _ in range(100):
        graph, executor, recorder = stoppable(FakeHandler())
        run(graph, executor, timeout=0.002)
        assert graph.ok or isinstance(graph.run_error, TaskTimeoutError)
        assert graph.run_error is not None or not graph.cancelled
        recorder.check(graph)


def test_finally_tasks_together_have_their_own_time_once_a_run_is_stopped() -> None:
    last = Obedient()
    handler = FakeHandler({"a": Obedient(), "last": last})
    graph, executor, recorder = stoppable(handler)
    graph.add(make("very last"), after=list(graph)[-1], finally_=True)
    run(graph, executor, timeout=0.02, finally_timeout=0.05)
    assert statuses(graph) == {**STOPPED, "last": "cancelled", "very last": "cancelled"}
    assert str(graph.run_error) == "Graph timed out after 0.02 seconds"
    assert "Finally tasks timed out after 0.05" in str(graph.errors[graph.cancelled[-1].id])
    recorder.check(graph)


def test_finally_tasks_of_a_run_that_was_not_stopped_take_their_time() -> None:
    graph, executor, recorder = stoppable(
        FakeHandler({"last": lambda context: context.wait_cancelled(0.1)})
    )
    run(graph, executor, finally_timeout=0.02)
    assert graph.ok
    recorder.check(graph)


# Handlers that will not end


def test_a_cancelled_handler_that_will_not_end_is_left_behind(impatient: None, gate: Gate) -> None:
    graph, executor, recorder = stoppable(FakeHandler({"a": gate}))
    future = background(lambda: graph.run(executor, 1))
    gate.wait_reached()
    graph.cancel()
    future.result(WAIT)
    assert statuses(graph) == STOPPED
    assert executor.abandoned == 1
    a = next(iter(graph))
    assert a.result is not None
    assert a.result.termination_reason == "cancelled"
    assert "would not end" in (a.error or "")
    count = len(recorder.events)
    gate.open()
    none_abandoned(executor)
    assert len(recorder.events) == count
    assert a.is_cancelled
    recorder.check(graph)


def test_a_timed_out_handler_is_left_behind_and_the_run_goes_on(gate: Gate) -> None:
    executor, recorder = executor_with(FakeHandler({"a": gate}))
    graph = TaskGraph()
    a = graph.add(make("a", timeout=0.05))
    graph.add(make("b"), after=a)
    graph.add(make("c"))
    run(graph, executor, 1)
    assert statuses(graph) == {"a": "failed", "b": "blocked", "c": "succeeded"}
    assert executor.abandoned == 1
    gate.open()
    none_abandoned(executor)
    recorder.check(graph)


def test_a_handler_with_a_timeout_that_is_cancelled_and_stuck(impatient: None, gate: Gate) -> None:
    executor, recorder = executor_with(FakeHandler({"a": gate}))
    graph = TaskGraph()
    graph.add(make("a", timeout=0.3))
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    graph.cancel()
    future.result(WAIT)
    assert statuses(graph) == {"a": "cancelled"}
    assert executor.abandoned >= 1
    gate.open()
    none_abandoned(executor)
    recorder.check(graph)


def test_many_stuck_handlers_are_left_behind_and_their_groups_freed(
    impatient: None, gate: Gate
) -> None:
    reached = threading.Barrier(4)

    def stuck(context: TaskContext) -> None:
        reached.wait(WAIT)
        wait(gate.opened)

    executor, recorder = executor_with(
        FakeHandler({str(number): stuck for number in range(3)}), limits={"db": 3}
    )
    graph = TaskGraph()
    for number in range(3):
        graph.add(make(str(number), group="db"))
    graph.add(make("last", group="db"), after=list(graph), finally_=True)
    future = background(lambda: graph.run(executor, 3))
    reached.wait(WAIT)
    graph.cancel()
    future.result(WAIT)
    assert statuses(graph)["last"] == "succeeded"
    assert executor.abandoned == 3
    gate.open()
    none_abandoned(executor)
    recorder.check(graph)


def test_an_end_that_races_with_being_left_behind_has_one_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_module, "CANCEL_PATIENCE", 0.002)

    def slow(context: TaskContext) -> None:
        assert context.wait_cancelled(WAIT)
        moment = time.monotonic() + 0.002
        while time.monotonic() < moment:
            pass

    for _ in range(60):
        graph, executor, recorder = stoppable(FakeHandler({"a": slow}))
        executor.events.subscribe(lambda event, graph=graph: graph.cancel(), types=STARTED)
        run(graph, executor)
        assert statuses(graph) == STOPPED
        none_abandoned(executor)
        recorder.check(graph)


def test_a_finally_task_is_not_left_behind_before_it_is_cancelled(
    impatient: None, gate: Gate
) -> None:
    graph, executor, recorder = stoppable(FakeHandler({"a": Obedient(), "last": gate}))
    executor.events.subscribe(lambda event: graph.cancel(), types=STARTED)
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    threading.Event().wait(PATIENCE * 3)
    assert not future.done()
    gate.open()
    future.result(WAIT)
    assert statuses(graph) == STOPPED
    recorder.check(graph)


def test_a_stuck_finally_task_is_left_behind_at_its_timeout(impatient: None, gate: Gate) -> None:
    graph, executor, recorder = stoppable(FakeHandler({"a": Obedient(), "last": gate}))
    executor.events.subscribe(lambda event: graph.cancel(), types=STARTED)
    run(graph, executor, finally_timeout=0.05)
    assert statuses(graph) == {**STOPPED, "last": "cancelled"}
    assert executor.abandoned == 1
    gate.open()
    none_abandoned(executor)
    recorder.check(graph)


# request_cancel


def test_request_cancel_once_and_twice() -> None:
    for requests, last in ((1, "succeeded"), (2, "cancelled")):
        obedient, tidy = Obedient(), Obedient()
        handler = FakeHandler({"a": obedient, "last": tidy if requests == 2 else None})
        graph, executor, recorder = stoppable(handler)
        graph.request_cancel()  # without a run it asks for nothing
        future = background(lambda graph=graph, executor=executor: graph.run(executor))
        obedient.wait_reached()
        graph.request_cancel()
        if requests == 2:
            tidy.wait_reached()
            graph.request_cancel()
        future.result(WAIT)
        assert statuses(graph) == {**STOPPED, "last": last}
        recorder.check(graph)


# Everything at once


@pytest.mark.parametrize("workers", [1, 3])
def test_racing_ways_of_stopping_end_in_one_outcome(workers: int) -> None:
    for round_ in range(40):
        stops: list[Callable[[], Any]] = []
        obedient = Obedient()
        handler = FakeHandler({"a": obedient, "bad": [BOOM]})
        graph, executor, recorder = stoppable(handler)
        graph.add(make("bad"))
        tasks: list[Task] = list(graph)
        future = background(
            lambda graph=graph, executor=executor: graph.run(
                executor, workers, timeout=0.05, fail_fast=True
            )
        )
        stops = [
            graph.cancel,
            graph.request_cancel,
            lambda executor=executor: executor.shutdown(cancel=True),
            lambda executor=executor, tasks=tasks: executor.cancel(tasks[0]),
        ]
        barrier = threading.Barrier(len(stops))

        def at_once(stop: Callable[[], Any], barrier: threading.Barrier = barrier) -> None:
            barrier.wait(WAIT)
            stop()

        for stopped in [background(lambda stop=stop: at_once(stop)) for stop in stops]:
            stopped.result(WAIT)
        if isinstance(future.exception(WAIT), RuntimeError):  # shut down before it had begun
            assert not recorder.titles(STARTED)
        else:
            assert statuses(graph)["last"] == "succeeded", round_
            assert all(task.is_terminal for task in graph)
        bounded(executor.shutdown)
        recorder.check(graph)


def test_a_run_after_a_stopped_run_is_like_any_other() -> None:
    handler = FakeHandler({"a": BOOM})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("a"))
    run(graph, executor, fail_fast=True)
    handler.script.clear()
    assert run(graph, executor).ok
    assert graph.run_error is None
    assert graph.errors == {}
    recorder.check()


def test_what_was_cancelled_says_why() -> None:
    told: list[TaskEvent] = []
    obedient = Obedient()
    graph, executor, recorder = stoppable(FakeHandler({"a": obedient}))
    executor.events.subscribe(told.append, types=TaskEventType.CANCELLED)
    future = background(lambda: graph.run(executor))
    obedient.wait_reached()
    graph.cancel()
    future.result(WAIT)
    by_title = {event.task.title: event for event in told}
    assert by_title["b"].error == "The graph run was cancelled"
    assert by_title["b"].status is TaskStatus.CANCELLED
    assert all(isinstance(error, TaskCancelled) for error in graph.errors.values())
    recorder.check(graph)


# RUN_STOPPING


def told_of_runs(executor: TaskExecutor) -> list[tuple[str, str | None]]:
    """The events of runs from now on, as type and message."""
    told: list[tuple[str, str | None]] = []
    kinds = (TaskEventType.RUN_STARTED, TaskEventType.RUN_STOPPING, TaskEventType.RUN_ENDED)
    executor.events.subscribe(
        lambda event: told.append((event.type.value, event.error)), types=kinds
    )
    return told


def test_a_run_tells_that_it_is_being_stopped_while_its_tasks_still_run(gate: Gate) -> None:
    stopping = threading.Event()
    graph, executor, _ = stoppable(FakeHandler({"a": gate}))
    told = told_of_runs(executor)
    executor.events.subscribe(lambda _: stopping.set(), types=TaskEventType.RUN_STOPPING)
    future = background(lambda: graph.run(executor, 1))
    gate.wait_reached()
    graph.cancel()
    wait(stopping)
    assert next(iter(graph)).is_running
    gate.open()
    future.result(WAIT)
    assert [kind for kind, _ in told] == ["run_started", "run_stopping", "run_ended"]
    assert told[1][1] == "The graph run was cancelled"


def test_a_run_that_is_killed_tells_it_again() -> None:
    last = Obedient()
    graph, executor, _ = stoppable(FakeHandler({"a": Obedient(), "last": last}))
    told = told_of_runs(executor)
    started = threading.Event()
    executor.events.subscribe(lambda _: started.set(), types=STARTED)
    future = background(lambda: graph.run(executor, 1))
    wait(started)
    graph.request_cancel()
    last.wait_reached()
    graph.request_cancel()
    future.result(WAIT)
    assert [error for kind, error in told if kind == "run_stopping"] == [
        "The graph run was cancelled",
        "The graph run was killed",
    ]


def test_fail_fast_tells_whose_fault_it_is() -> None:
    slow = Obedient()

    def fail(_context: TaskContext) -> None:
        slow.wait_reached()
        raise BOOM

    graph = TaskGraph("fast")
    executor, _ = executor_with(FakeHandler({"bad": fail, "slow": slow}))
    told = told_of_runs(executor)
    graph.add(make("slow"))
    graph.add(make("bad"))
    run(graph, executor, 2, fail_fast=True)
    assert told[1] == ("run_stopping", "The graph run was stopped: 'bad' failed (fail_fast)")


def test_a_time_limit_tells_that_it_is_over(impatient: None) -> None:
    graph, executor, _ = stoppable(FakeHandler({"a": Obedient()}))
    told = told_of_runs(executor)
    run(graph, executor, 1, timeout=0.05)
    assert told[1] == ("run_stopping", "Graph timed out after 0.05 seconds")
