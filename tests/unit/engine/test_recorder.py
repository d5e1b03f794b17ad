"""Stores that fail: the work goes on, or stops if it was told to."""

from __future__ import annotations

import threading

import pytest

from support import (
    TERMINAL,
    WAIT,
    FailingStore,
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
    RetryPolicy,
    StoreError,
    Task,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
)
from ttasks.engine import executor as executor_module
from ttasks.engine import run as run_module

PERSISTENCE_FAILED = TaskEventType.PERSISTENCE_FAILED


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


def mend(store: FailingStore, executor: TaskExecutor) -> None:
    """Let the store work again, and the executor save and announce what is missing."""
    store.broken = lambda task: False
    executor.shutdown()


def two(graph: TaskGraph) -> None:
    first = graph.add(make("a"))
    graph.add(make("last"), after=graph.add(make("b"), after=first), finally_=True)


def test_a_failing_save_is_kept_and_announced_and_the_work_goes_on(store: FailingStore) -> None:
    store.broken = lambda task: task.title == "a"
    executor, recorder = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    two(graph)
    run(graph, executor)
    assert graph.ok
    a, b, _ = graph
    assert recorder.of(a) == [
        PERSISTENCE_FAILED,
        TaskEventType.STARTED,
        PERSISTENCE_FAILED,
        TaskEventType.SUCCEEDED,
    ]
    assert list(executor.persistence_errors) == [a.id]
    assert "disk full while saving a" in str(executor.persistence_errors[a.id])
    assert b.id in store.tasks
    told = [event for event in recorder.events if event.type is PERSISTENCE_FAILED]
    assert "disk full" in (told[0].error or "")
    assert told[0].status is told[0].previous_status
    recorder.check(graph)


def test_the_next_transition_saves_what_is_missing(store: FailingStore) -> None:
    fails = iter([False, True])  # the start of "a" is saved, its end is not, all else is
    store.broken = lambda task: next(fails, False)
    executor, recorder = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    two(graph)
    run(graph, executor, 1)
    a, b, last = graph
    ended, running = TaskStatus.SUCCEEDED, TaskStatus.RUNNING
    by_one = [(task.title, status) for task in (b, last) for status in (running, ended)]
    assert store.saved[-6:] == [(a.title, running), (a.title, ended), *by_one]
    assert list(executor.persistence_errors) == [a.id]
    recorder.check(graph)


def test_a_graph_that_could_not_be_saved_is_saved_with_the_next_transition(
    store: FailingStore,
) -> None:
    store.graphs_broken = True
    executor, _recorder = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    two(graph)
    executor.events.subscribe(
        lambda event: setattr(store, "graphs_broken", False), types=[PERSISTENCE_FAILED]
    )
    run(graph, executor)
    assert graph.id in store.graphs


def test_what_fails_for_ever_is_tried_less_and_less(store: FailingStore) -> None:
    tries = []

    def broken(task: Task) -> bool:
        if task.title == "a":
            tries.append(task.status)
        return task.title == "a"

    store.broken = broken
    executor, recorder = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    graph.add(make("a"))
    for number in range(200):
        graph.add(make(str(number)))
    run(graph, executor, 1)
    assert graph.ok
    assert 5 < len(tries) < 40  # of 400 transitions
    recorder.check(graph)


def test_errors_are_copies(store: FailingStore) -> None:
    executor = executor_with(FakeHandler(), store=store)[0]
    executor.persistence_errors["x"] = OSError()
    executor.graph_persistence_errors["x"] = OSError()
    assert executor.persistence_errors == executor.graph_persistence_errors == {}


def test_a_graph_that_cannot_be_saved_is_kept_and_runs(store: FailingStore) -> None:
    store.graphs_broken = True
    executor, recorder = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    two(graph)
    run(graph, executor)
    assert graph.ok
    assert list(executor.graph_persistence_errors) == [graph.id]
    assert PERSISTENCE_FAILED in {event.type for event in recorder.events}
    recorder.check(graph)


def test_a_strict_executor_does_not_start_a_graph_that_cannot_be_saved(
    store: FailingStore,
) -> None:
    store.graphs_broken = True
    handler = FakeHandler()
    executor, recorder = executor_with(handler, store=store, strict_persistence=True)
    graph = TaskGraph()
    two(graph)
    with pytest.raises(StoreError, match="disk full"):
        run(graph, executor)
    assert set(statuses(graph).values()) == {"pending"}
    assert handler.calls == []
    store.graphs_broken = False
    assert run(graph, executor).ok
    recorder.check(graph)


@pytest.mark.parametrize("moment", [TaskStatus.RUNNING, TaskStatus.SUCCEEDED, TaskStatus.FAILED])
@pytest.mark.parametrize("retry", [None, RetryPolicy(3)])
def test_strict_persistence_stops_the_run(
    store: FailingStore, moment: TaskStatus, retry: RetryPolicy | None
) -> None:
    store.broken = lambda task: task.title == "a" and task.status is moment
    handler = FakeHandler({"a": ValueError("boom") if moment is TaskStatus.FAILED else "done"})
    executor, recorder = executor_with(handler, store=store, strict_persistence=True)
    graph = TaskGraph()
    a = graph.add(make("a", retry=retry))
    graph.add(make("last"), after=graph.add(make("b"), after=a), finally_=True)
    run(graph, executor)
    assert isinstance(graph.run_error, StoreError)
    assert not graph.ok
    assert statuses(graph)["b"] == "cancelled"
    assert statuses(graph)["last"] == "succeeded"
    assert a.is_terminal
    assert ("a" in handler.calls) == (moment is not TaskStatus.RUNNING)
    told = [event.status for event in recorder.events if event.type in TERMINAL and event.task == a]
    if moment is TaskStatus.FAILED and retry is not None:  # the cancellation could be saved again
        assert told == [TaskStatus.FAILED, TaskStatus.CANCELLED]
    elif moment is not TaskStatus.RUNNING:  # nothing is announced that was not saved
        assert told == []
        assert recorder.of(a)[-1] is PERSISTENCE_FAILED
    mend(store, executor)
    assert store.tasks[a.id].status is a.status
    recorder.check(graph)


@pytest.mark.parametrize("moment", [TaskStatus.RUNNING, TaskStatus.SUCCEEDED])
def test_strict_execute_raises(store: FailingStore, moment: TaskStatus) -> None:
    store.broken = lambda task: task.status is moment
    executor, recorder = executor_with(FakeHandler(), store=store, strict_persistence=True)
    task = make("t", retry=RetryPolicy(3))
    with pytest.raises(StoreError, match="'t' could not be saved: disk full"):
        executor.execute(task)
    assert task.is_terminal
    assert not executor.is_running(task.id)
    mend(store, executor)
    recorder.check()


def test_strict_and_every_write_fails_ends_all_the_same(store: FailingStore) -> None:
    store.broken = lambda task: True
    handler = FakeHandler()
    executor, recorder = executor_with(handler, store=store, strict_persistence=True)
    graph = TaskGraph()
    two(graph)
    for number in range(20):
        graph.add(make(str(number)))
    run(graph, executor)
    assert isinstance(graph.run_error, StoreError)
    assert handler.calls == ["last"]  # the finally task
    assert all(task.is_terminal for task in graph)
    assert {event.type for event in recorder.events} == {PERSISTENCE_FAILED}
    mend(store, executor)
    recorder.check(graph)


def test_strict_and_a_handler_that_will_not_end(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "CANCEL_PATIENCE", 0.05)
    gate = Gate()
    executor, recorder = executor_with(
        FakeHandler({"a": gate}), store=store, strict_persistence=True
    )
    graph = TaskGraph()
    two(graph)
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    store.broken = lambda task: task.title == "a"
    graph.cancel()
    future.result(10)
    assert statuses(graph) == {"a": "cancelled", "b": "cancelled", "last": "succeeded"}
    assert isinstance(graph.run_error, StoreError)
    gate.open()
    mend(store, executor)
    recorder.check(graph)


def test_a_store_that_fails_at_times_never_breaks_the_order(store: FailingStore) -> None:
    flips = iter([True, False] * 10_000)
    store.broken = lambda task: next(flips)
    executor, recorder = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    for number in range(100):
        graph.add(make(str(number)))
    run(graph, executor)
    assert graph.ok
    recorder.check(graph)


def test_a_slow_store_of_one_task_does_not_hold_back_others(store: FailingStore) -> None:
    saving, go_on = threading.Event(), threading.Event()

    def slow(task: Task) -> None:
        if task.title == "slow":
            saving.set()
            wait(go_on)

    store.saving = slow
    executor, recorder = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    graph.add(make("slow"))
    quick = [graph.add(make(str(number))) for number in range(10)]
    done = threading.Event()

    def count(event: TaskEvent) -> None:
        if all(task.is_succeeded for task in quick):
            done.set()

    executor.events.subscribe(count, types=TaskEventType.SUCCEEDED)
    future = background(lambda: graph.run(executor, 2))
    wait(saving)
    wait(done)
    go_on.set()
    assert future.result(10).ok
    recorder.check(graph)


def test_cancelling_while_a_save_is_under_way(store: FailingStore) -> None:
    saving, go_on = threading.Event(), threading.Event()

    def slow(task: Task) -> None:
        if task.title == "a" and task.is_running:
            saving.set()
            wait(go_on)

    store.saving = slow
    executor, recorder = executor_with(FakeHandler({"a": Obedient()}), store=store)
    graph = TaskGraph()
    two(graph)
    future = background(lambda: graph.run(executor))
    wait(saving)
    graph.cancel()
    go_on.set()
    future.result(10)
    assert statuses(graph) == {"a": "cancelled", "b": "cancelled", "last": "succeeded"}
    recorder.check(graph)


def test_shutdown_says_what_could_not_be_saved(store: FailingStore) -> None:
    store.broken = lambda task: task.title in "ab"
    executor, _ = executor_with(FakeHandler(), store=store)
    graph = TaskGraph()
    two(graph)
    run(graph, executor)
    with pytest.warns(
        RuntimeWarning, match=r"^The executor is shut down, and 2 tasks could not be saved in <"
    ) as told:
        executor.shutdown()
    executor.shutdown()  # says it once
    assert len(told) == 1
    assert told[0].filename == __file__
    mend(store, executor)  # nothing is missing any more


def test_shutdown_without_waiting_says_it_when_the_last_work_has_ended(
    store: FailingStore,
) -> None:
    gate = Gate()
    store.broken = lambda task: True
    executor, _ = executor_with(gate, store=store)
    future = executor.submit(make("a"))
    gate.wait_reached()
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor_module, "warn", lambda text, *_, **__: told.append(text))
        executor.shutdown(wait=False)
        assert told == []
        gate.open()
        future.result(WAIT)
        executor._scheduler.wait_idle()
        executor._scheduler.close_when_idle()
    assert len(told) == 1
    assert "1 task could not be saved in <" in told[0]
