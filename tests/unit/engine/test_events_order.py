"""The promised order of events, per task and between tasks, and the store before the event."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from support import (
    EventRecorder,
    FailingStore,
    FakeHandler,
    executor_with,
    make,
    run,
)
from ttasks import (
    DependencyPolicy,
    InMemoryStore,
    RetryPolicy,
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
)
from ttasks.model.event import EVENT_OF_STATUS, make_event


def layered(layers: int, width: int, seed: int) -> TaskGraph:
    chance = random.Random(seed)
    graph = TaskGraph()
    above: list[Task] = []
    for layer in range(layers):
        above = [
            graph.add(
                make(f"{layer}.{n}", retry=chance.choice([None, RetryPolicy(2)])),
                after=chance.sample(above, min(len(above), 2)),
                required=chance.random() < 0.8,
                finally_=chance.random() < 0.1,
                on_dep_failure=chance.choice(list(DependencyPolicy)),
            )
            for n in range(width)
        ]
    return graph


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_every_task_of_a_graph_has_its_events_in_order(workers: int, seed: int) -> None:
    chance = random.Random(seed)

    def handler(context: TaskContext) -> None:
        context.emit_output("x")
        context.emit_progress(50)
        if chance.random() < 0.2:
            raise ValueError("boom")

    executor, recorder = executor_with(handler, store=InMemoryStore())
    graph = layered(8, 8, seed)
    run(graph, executor, workers)
    recorder.check(graph)
    for task in graph:
        assert recorder.of(task)[-1] is EVENT_OF_STATUS[task.status]


def test_when_an_event_is_delivered_the_store_has_been_written() -> None:
    store = FailingStore()
    executor = executor_with(FakeHandler({"bad": ValueError("boom")}), store=store)[0]
    missing: list[TaskEvent] = []

    def check(event: TaskEvent) -> None:
        if (event.task.title, event.status) not in store.saved:
            missing.append(event)

    executor.events.subscribe(check)
    graph = TaskGraph()
    good = graph.add(make("good"))
    bad = graph.add(make("bad", retry=RetryPolicy(2)), after=good)
    graph.add(make("blocked"), after=bad)
    graph.add(make("skipped"), after=bad, on_dep_failure=DependencyPolicy.SKIP)
    run(graph, executor)
    assert missing == []
    assert set(store.saved) >= {
        ("good", TaskStatus.SUCCEEDED),
        ("bad", TaskStatus.FAILED),
        ("blocked", TaskStatus.BLOCKED),
        ("skipped", TaskStatus.SKIPPED),
    }


def test_events_are_delivered_on_the_thread_that_caused_them() -> None:
    where: list[tuple[TaskEventType, int]] = []
    ran: list[int] = []
    executor = executor_with(lambda context: ran.append(threading.get_ident()))[0]
    executor.events.subscribe(lambda event: where.append((event.type, threading.get_ident())))
    executor.execute(make("t"))
    assert ran != [threading.get_ident()]  # the calling thread supervises
    assert {ident for _, ident in where} == set(ran)


def test_a_terminal_event_is_over_before_a_dependent_starts() -> None:
    delivered: list[str] = []
    handler = FakeHandler({"b": lambda context: delivered.append("b runs")})
    executor = executor_with(handler)[0]
    pause = threading.Event()

    def slow(event: TaskEvent) -> None:
        if event.task.title == "a":
            pause.wait(0.05)  # gives a wrong start every opportunity
            delivered.append("a ended")

    executor.events.subscribe(slow, types=TaskEventType.SUCCEEDED)
    graph = TaskGraph()
    graph.add(make("b"), after=graph.add(make("a")))
    run(graph, executor)
    assert delivered == ["a ended", "b runs"]


def test_a_blocked_event_is_over_before_what_follows_from_it() -> None:
    executor, recorder = executor_with(FakeHandler({"a": ValueError("boom")}))
    graph = TaskGraph()
    a = graph.add(make("a"))
    b = graph.add(make("b"), after=a)
    c = graph.add(make("c"), after=b)
    graph.add(make("last"), after=c, finally_=True)
    run(graph, executor, 4)
    order = [
        (event.task.title, event.type.value)
        for event in recorder.events
        if event.type is not TaskEventType.STARTED
    ]
    assert order == [("a", "failed"), ("b", "blocked"), ("c", "blocked"), ("last", "succeeded")]
    recorder.check(graph)


def test_statuses_and_attempts_in_events_are_those_of_their_moment() -> None:
    executor, recorder = executor_with(FakeHandler({"t": [ValueError("boom"), "done"]}))
    task = make("t", retry=RetryPolicy(2))
    executor.execute(task)
    told = [
        (e.type.value, e.previous_status.value, e.status.value, e.attempt, e.error, e.retry_in)
        for e in recorder.events
    ]
    assert told == [
        ("started", "pending", "running", 1, None, None),
        ("failed", "running", "failed", 1, "boom", 0.0),
        ("started", "failed", "running", 2, None, None),
        ("succeeded", "running", "succeeded", 2, None, None),
    ]
    assert all(event.timestamp.tzinfo is not None for event in recorder.events)
    stamps = [event.timestamp for event in recorder.events]
    assert stamps == sorted(stamps)


def test_events_nobody_subscribed_to_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []

    def spy(kind: TaskEventType, *rest: Any, **fields: Any) -> TaskEvent:
        built.append(kind)
        return make_event(kind, *rest, **fields)

    for module in ("attempt", "recorder", "reports"):
        monkeypatch.setattr(f"ttasks.engine.{module}.make_event", spy)
    executor = TaskExecutor.empty()
    executor.register(make("t").type, lambda context: context.emit_output("x"))
    executor.execute(make("t"))
    assert built == []
    executor.events.subscribe(lambda event: None, types=TaskEventType.OUTPUT)
    executor.execute(make("t"))
    assert built == [TaskEventType.OUTPUT]


def test_subscribing_and_unsubscribing_while_events_fly_loses_none_of_the_others() -> None:
    executor, recorder = executor_with(FakeHandler())
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            unsubscribe = executor.events.subscribe(lambda event: None)
            unsubscribe()
            unsubscribe()

    helper = threading.Thread(target=churn)
    helper.start()
    try:
        graph = TaskGraph()
        for number in range(200):
            graph.add(make(str(number)))
        run(graph, executor)
    finally:
        stop.set()
        helper.join(10)
    assert len(recorder.events) == 400
    recorder.check(graph)


def test_the_recorder_of_these_tests_notices_disorder() -> None:
    executor, recorder = executor_with(FakeHandler())
    executor.execute(make("t"))
    started, succeeded = recorder.events
    for wrong in ([started], [succeeded], [started, started, succeeded], [started, succeeded] * 2):
        broken = EventRecorder(executor)
        broken.events = list(wrong)
        with pytest.raises(AssertionError):
            broken.check()
