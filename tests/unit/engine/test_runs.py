"""Runs: what they are called, how they end, what they tell, and who may run what."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from support import (
    CUSTOM,
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
    wait,
)
from ttasks import (
    GraphError,
    InMemoryStore,
    RetryPolicy,
    Run,
    SQLiteStore,
    StoreError,
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
)
from ttasks.model.facts import Span, WaitReason
from ttasks.model.run import Holder
from ttasks.stores.memory_runs import MemoryRuns
from ttasks.testing import FakeClock

BOOM = ValueError("boom")
RUN_EVENTS = [TaskEventType.RUN_STARTED, TaskEventType.RUN_ENDED]


def listening(executor: TaskExecutor, **options: object) -> list[TaskEvent]:
    events: list[TaskEvent] = []
    executor.events.subscribe(events.append, **{"types": TaskEventType, **options})  # type: ignore[arg-type]
    return events


def the_run(graph: TaskGraph) -> Run:
    assert graph.latest_run is not None
    return graph.latest_run


# start


def test_start_returns_at_once_and_the_run_says_how_it_goes() -> None:
    gate = Gate()
    executor, _ = executor_with(gate)
    graph = TaskGraph("nightly")
    task = graph.add(make("t"))
    with executor:
        started = graph.start(executor, 2)
        gate.wait_reached()
        assert (started.done, started.outcome, started.ok, started.error) == (
            False,
            "running",
            False,
            None,
        )
        assert graph.latest_run is started
        assert not started.wait(0.001)
        gate.open()
        assert started.wait(WAIT)
        assert (started.done, started.outcome, started.ok) == (True, "ok", True)
    assert task.is_succeeded
    assert (started.graph_id, started.title, started.number) == (graph.id, "nightly", 1)
    assert started.started_at.tzinfo is UTC
    assert started.facts().workers == 2
    assert started.facts().options["timeout"] is None


def test_a_started_run_is_cancelled_through_it() -> None:
    obedient = Obedient()
    executor, _ = executor_with(obedient)
    graph = TaskGraph()
    chain(graph, "a", "b")
    with executor:
        started = graph.start(executor)
        obedient.wait_reached()
        started.cancel()
        assert started.wait(WAIT)
        started.cancel()
    assert started.outcome == "cancelled"
    assert [task.status.value for task in graph] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"timeout": 0}, ValueError), ({"wait": 1}, TypeError), ({"max_workers": 0}, ValueError)],
)
def test_start_refuses_bad_arguments_before_a_thread_starts(
    options: dict[str, object], error: type[Exception]
) -> None:
    executor, _ = executor_with(FakeHandler())
    with executor, pytest.raises(error):
        TaskGraph().start(executor, **options)  # type: ignore[arg-type]


def test_start_raises_what_keeps_a_graph_from_running() -> None:
    gate = Gate()
    executor, _ = executor_with(gate)
    graph = TaskGraph("g")
    graph.add(make("t"))
    with executor:
        first = graph.start(executor)
        gate.wait_reached()
        with pytest.raises(GraphError, match="running already"):
            graph.start(executor)
        gate.open()
        assert first.wait(WAIT)
    with pytest.raises(RuntimeError, match="shut down"):
        graph.start(executor)
    with pytest.raises(TypeError, match="a TaskExecutor"):
        graph.start(None)  # type: ignore[arg-type]
    assert graph.latest_run is first
    assert first.ok


def test_a_run_that_a_handler_starts_is_not_part_of_its_task() -> None:
    inner = TaskGraph("inner")
    inner.add(make("in"))
    outer = TaskGraph("outer")
    outer.add(make("out"))

    def handler(context: TaskContext) -> None:
        if context.title == "out":
            assert inner.start(executor).wait(WAIT)

    executor, _ = executor_with(handler)
    with executor:
        run(outer, executor, 1)
    assert the_run(inner).ok
    assert the_run(inner).facts().parent_id is None
    assert list(the_run(outer).facts().tasks) == [task.id for task in outer]


# Outcomes


@pytest.mark.parametrize(
    ("step", "options", "outcome", "status"),
    [
        ("fine", {}, "ok", "succeeded"),
        (BOOM, {}, "failed", "failed"),
        (BOOM, {"fail_fast": True}, "failed", "failed"),
    ],
)
def test_the_outcome_is_that_of_the_graph(
    step: object, options: dict[str, bool], outcome: str, status: str
) -> None:
    executor, _ = executor_with(FakeHandler({"a": step}))
    events = listening(executor, types=RUN_EVENTS)
    graph = TaskGraph()
    chain(graph, "a", "b")
    with executor:
        run(graph, executor, 1, **options)
    assert the_run(graph).outcome == outcome
    assert (events[-1].previous_status.value, events[-1].status.value) == ("running", status)


def test_a_run_whose_time_is_up_says_so() -> None:
    clock = FakeClock()
    executor, _ = executor_with(FakeHandler({"t": BOOM}), clock=clock)
    events = listening(executor, types=RUN_EVENTS)
    graph = TaskGraph()
    graph.add(make("t", retry=RetryPolicy(2, backoff=100)))
    with executor:
        started = graph.start(executor, timeout=10)
        clock.advance_to_next()
        assert started.wait(WAIT)
    facts = started.facts()
    assert (facts.outcome, facts.duration) == ("timeout", 10.0)
    assert facts.error == events[-1].error == started.error
    assert "10" in (facts.error or "")
    assert events[-1].status.value == "failed"


def test_a_cancelled_run_in_which_all_succeeded_is_ok() -> None:
    executor, _ = executor_with(lambda context: graph.cancel())
    graph = TaskGraph()
    graph.add(make("t"))
    with executor:
        run(graph, executor)
    assert the_run(graph).outcome == ("ok" if graph.ok else "cancelled")


def test_an_empty_graph_has_a_run() -> None:
    executor, _ = executor_with(FakeHandler())
    graph = TaskGraph("nothing")
    with executor:
        run(graph, executor)
    assert the_run(graph).ok
    assert the_run(graph).facts().tasks == {}


def test_a_graph_that_never_ran_has_no_facts() -> None:
    graph = TaskGraph("idle")
    task = graph.add(make("t"))
    assert graph.latest_run is None
    for ask in (graph.facts, lambda: graph.why(task)):
        with pytest.raises(GraphError, match=r"'idle' has not run.*store\.runs"):
            ask()


# Events


def test_a_run_is_announced_first_and_last_and_all_between_is_part_of_it() -> None:
    executor, _ = executor_with(FakeHandler({"a": BOOM}))
    events = listening(executor)
    graph = TaskGraph()
    chain(graph, "a", "b")
    with executor:
        run(graph, executor)
    kinds = [event.type.value for event in events]
    assert kinds == ["run_started", "started", "failed", "blocked", "run_ended"]
    assert {event.run_id for event in events} == {the_run(graph).id}
    first, last = events[0], events[-1]
    assert (first.task, first.task_id, first.run) == (None, "", the_run(graph))
    assert (first.previous_status.value, first.status.value) == ("pending", "running")
    assert (last.task, last.error) == (None, None)
    assert last.timestamp >= first.timestamp


def test_a_subscriber_may_look_at_the_run_at_each_of_its_events() -> None:
    executor, _ = executor_with(FakeHandler({"a": [BOOM, 1]}))
    seen: list[tuple[str, str, int]] = []

    def look(event: TaskEvent) -> None:
        assert event.run is not None
        facts = event.run.facts()
        seen.append((event.type.value, facts.outcome, len(facts.find("a").attempts)))

    executor.events.subscribe(look, types=TaskEventType)
    graph = TaskGraph()
    graph.add(make("a", retry=RetryPolicy(2)))
    with executor:
        run(graph, executor)
    assert executor.events.errors == []
    assert seen == [
        ("run_started", "running", 0),
        ("started", "running", 1),
        ("failed", "running", 1),
        ("started", "running", 2),
        ("succeeded", "running", 2),
        ("run_ended", "ok", 2),
    ]


def test_subscribing_to_a_graph_hears_of_it_and_of_what_runs_inside() -> None:
    inner, outer, other = TaskGraph("inner"), TaskGraph("outer"), TaskGraph("other")
    inner.add(make("in"))
    outer.add(make("out"))
    other.add(make("else"))

    def handler(context: TaskContext) -> None:
        if context.title == "out":
            inner.run(executor)

    executor, _ = executor_with(handler)
    started = [TaskEventType.STARTED]
    of_outer = listening(executor, types=started, graph=outer)
    of_inner = listening(executor, types=started, graph=inner.id)
    with executor:
        run(outer, executor)
        run(other, executor)
        executor.execute(make("alone"))
    assert [event.task.title for event in of_outer] == ["out", "in"]
    assert [event.task.title for event in of_inner] == ["in"]
    with pytest.raises(TypeError, match="graph"):
        executor.events.subscribe(print, graph=3)  # type: ignore[arg-type]


def test_an_event_of_a_run_survives_pickle() -> None:
    executor, _ = executor_with(FakeHandler())
    events = listening(executor)
    graph = TaskGraph("g")
    graph.add(make("t"))
    with executor:
        run(graph, executor)
    copy = pickle.loads(pickle.dumps(events[0]))
    assert copy.run == the_run(graph)
    assert copy.run.ok
    assert copy.run.wait(1)


# Facts


def test_what_is_going_on_is_told_while_it_goes_on() -> None:
    gate = Gate()
    executor, _ = executor_with(gate, limits={"db": 1})
    graph = TaskGraph()
    first = graph.add(make("first", group="db"))
    second = graph.add(make("second", group="db"))
    later = graph.add(make("later"), after=[first, second])
    with executor:
        started = graph.start(executor, 2)
        gate.wait_reached()
        while started.facts().tasks[second.id].spans[-1].reason is not WaitReason.GROUP:
            pass
        facts = started.facts().tasks
        assert facts[first.id].spans[-1].end is None
        assert facts[first.id].spans[-1].reason is None
        assert facts[second.id].spans[-1].because == ("db",)
        assert facts[later.id].spans == (
            Span(0.0, None, WaitReason.DEPENDENCY, (first.id, second.id)),
        )
        assert started.why(second) == "'second' waits for a place in the group 'db'."
        assert started.why(later) == "'later' waits for 'first' and 'second'."
        assert "is running" in started.why(first)
        gate.open()
        assert started.wait(WAIT)


def test_a_task_that_had_succeeded_before_the_run_has_no_spans() -> None:
    executor, _ = executor_with(FakeHandler())
    shared = make("shared")
    graphs = [TaskGraph("one"), TaskGraph("two")]
    with executor:
        for graph in graphs:
            graph.add(shared)
            run(graph, executor)
    second = the_run(graphs[1])
    assert second.facts().tasks[shared.id].spans == ()
    assert "before the run began" in second.why(shared)


def test_a_duplicate_is_told_apart_from_running() -> None:
    clock = FakeClock()
    gate = Gate()

    def handler(context: TaskContext) -> None:
        if context.title == "shared":
            gate(context)
        else:
            clock.advance(1)

    executor, _ = executor_with(handler, clock=clock)
    shared = make("shared")
    one, two = TaskGraph("one"), TaskGraph("two")
    one.add(shared)
    lead = two.add(make("lead"))
    two.add(shared, after=lead)
    with executor:
        second_may_start = threading.Event()

        def start_first(event: TaskEvent) -> None:
            if event.task is lead and not second_may_start.is_set():
                second_may_start.set()
                started.append(one.start(executor))
                gate.wait_reached()

        started: list[Run] = []
        executor.events.subscribe(start_first, types=[TaskEventType.STARTED])
        second = two.start(executor)
        wait(second_may_start)
        while not two.statistics().waiting:
            pass
        assert second.facts().find("shared").spans[-1].reason is WaitReason.DUPLICATE
        assert second.why(shared) == "'shared' waits for another run, which executes it."
        clock.advance(5)
        gate.open()
        assert second.wait(WAIT)
        assert started[0].wait(WAIT)
    mine, theirs = second.facts().find("shared"), started[0].facts().find("shared")
    assert [span.reason for span in mine.spans] == [WaitReason.DEPENDENCY, WaitReason.DUPLICATE]
    assert mine.attempts == ()
    assert mine.ended == 6.0
    assert len(theirs.attempts) == 1


def test_tasks_of_a_graph_inside_are_told_under_their_path_and_in_its_time() -> None:
    clock = FakeClock()
    inner, outer = TaskGraph("inner"), TaskGraph("outer")
    within = inner.add(make("in"))
    before = outer.add(make("before"))
    around = outer.add(make("out"), after=before)

    def handler(context: TaskContext) -> None:
        clock.advance(2)
        if context.title == "out":
            inner.run(executor)
            executor.execute(alone)

    alone = make("alone")
    executor, _ = executor_with(handler, clock=clock)
    with executor:
        run(outer, executor, 1)
    facts = the_run(outer).facts()
    assert [task.title for task in facts.tasks.values()] == ["before", "out", "in", "alone"]
    assert facts.tasks[within.id].path == ("outer", "inner")
    assert facts.tasks[around.id].path == ("outer",)
    assert facts.tasks[alone.id].path == ("outer",)
    assert facts.tasks[within.id].spans == (
        Span(0.0, 4.0, WaitReason.DEPENDENCY, (around.id,)),
        Span(4.0, 6.0),
    )
    assert the_run(inner).facts().parent_id == the_run(outer).id
    assert the_run(inner).facts().tasks[within.id].spans == (Span(0.0, 2.0),)


def test_a_run_keeps_what_it_did_when_its_graph_runs_again() -> None:
    handler = FakeHandler({"a": BOOM})
    executor, _ = executor_with(handler)
    graph = TaskGraph("g")
    task = graph.add(make("a"))
    with executor:
        run(graph, executor)
        first = the_run(graph)
        handler.script["a"] = "fine"
        run(graph, executor)
    assert (first.outcome, the_run(graph).outcome) == ("failed", "ok")
    assert (first.number, the_run(graph).number) == (1, 2)
    assert first.facts().tasks[task.id].status.value == "failed"
    assert the_run(graph).facts().tasks[task.id].status.value == "succeeded"
    assert first != the_run(graph)


def test_a_task_that_failed_before_waits_like_any_other_when_it_is_run_again() -> None:
    gate = Gate()
    handler = FakeHandler({"a": BOOM})
    executor, _ = executor_with(handler)
    graph = TaskGraph("g")
    _, b = chain(graph, "a", "b")
    with executor:
        run(graph, executor)
        handler.script["a"] = gate
        second = graph.start(executor)
        gate.wait_reached()
        facts = second.facts().tasks[b.id]
        assert (facts.status.value, facts.error, facts.spans[-1].end) == ("pending", None, None)
        gate.open()
        assert second.wait(WAIT)


def test_facts_show_arguments_values_and_no_secrets() -> None:
    def greet(name: str, *, loud: bool = False) -> str:
        return f"hello {name} hunter2"

    with TaskExecutor(redact=["hunter2"]) as executor:
        graph = TaskGraph("hunter2 graph")
        task = graph.add(Task.python(greet, ("hunter2",), {"loud": True}, title="greet hunter2"))
        fail = graph.add(Task.bash("echo hunter2 >&2; exit 3"), after=task)
        run(graph, executor)
        facts = graph.facts()
    assert "hunter2" not in repr(facts)
    assert facts.title == "*** graph"
    greeted = facts.tasks[task.id]
    assert (greeted.function, greeted.arguments) == ("greet", "'***', loud=True")
    assert greeted.value == "'hello *** ***'"
    assert facts.tasks[fail.id].returncode == 3
    assert "hunter2" not in graph.why(fail)


def test_progress_is_told_while_the_attempt_runs() -> None:
    gate = Gate()

    def handler(context: TaskContext) -> None:
        context.emit_progress(40, "nearly")
        gate(context)

    executor, _ = executor_with(handler)
    graph = TaskGraph()
    task = graph.add(make("t"))
    with executor:
        started = graph.start(executor)
        gate.wait_reached()
        facts = started.facts().tasks[task.id]
        assert (facts.progress_percent, facts.progress_message) == (40, "nearly")
        gate.open()
        assert started.wait(WAIT)
    assert started.facts().tasks[task.id].progress_percent is None


# Single tasks


@pytest.mark.parametrize("way", ["execute", "submit"])
def test_a_task_alone_is_a_run_of_one(way: str) -> None:
    store = InMemoryStore()
    handler = FakeHandler({"t": [BOOM, 7]})
    clock = FakeClock()
    with TaskExecutor.empty(store, clock=clock) as executor:
        executor.register(CUSTOM, handler)
        events = listening(executor)
        task = make("t", retry=RetryPolicy(2, backoff=5))
        future = (
            executor.submit(task) if way == "submit" else background(lambda: executor.execute(task))
        )
        clock.advance_to_next()
        future.result(WAIT)
    kinds = [event.type.value for event in events]
    assert kinds == ["started", "failed", "started", "succeeded"]
    (single,) = {event.run for event in events}
    assert single is not None
    assert (single.graph_id, single.title, single.outcome) == (task.id, "t", "ok")
    assert single.wait(1)
    facts = single.facts()
    assert facts.duration == facts.tasks[task.id].ended == 5.0
    assert [item.status.value for item in facts.tasks[task.id].attempts] == ["failed", "succeeded"]
    assert [(span.start, span.end, span.reason) for span in facts.tasks[task.id].spans] == [
        (0.0, 5.0, WaitReason.RETRY)
    ]
    assert store.runs[single.id] is single
    assert list(store.runs) == [single.id]


def test_a_submitted_task_that_waits_can_be_asked_and_cancelled_through_its_run() -> None:
    gate = Gate()
    store = InMemoryStore()
    with TaskExecutor.empty(store, max_workers=1) as executor:
        executor.register(CUSTOM, gate)
        executor.submit(make("first"))
        gate.wait_reached()
        executor.submit(make("second"))
        waiting = store.runs.latest()
        assert waiting is not None
        assert waiting.why("second") == "'second' waits for a free worker (the run has 1)."
        waiting.cancel()
        assert waiting.outcome == "cancelled"
        gate.open()


# One owner of a key


def keyed(key: str = "nightly") -> TaskGraph:
    graph = TaskGraph("keyed", key=key)
    graph.add(make("t"))
    return graph


def test_two_graphs_of_a_key_do_not_run_at_once() -> None:
    gate = Gate()
    store = InMemoryStore()
    with TaskExecutor.empty(store) as executor:
        executor.register(CUSTOM, gate)
        first, second = keyed(), keyed()
        started = first.start(executor)
        gate.wait_reached()
        with pytest.raises(GraphError, match=r"'nightly' has been running since .* wait=True"):
            run(second, executor)
        assert second.latest_run is None
        assert len(store.runs) == 1
        assert keyed("other").key == "other"
        gate.open()
        assert started.wait(WAIT)
        run(second, executor)
    assert [item.number for item in store.runs.list(key="nightly")] == [2, 1]


def test_wait_lets_the_second_graph_of_a_key_run_after_the_first() -> None:
    gate = Gate()
    store = InMemoryStore()
    with TaskExecutor.empty(store) as executor:
        executor.register(CUSTOM, gate)
        started = keyed().start(executor)
        gate.wait_reached()
        second = keyed()
        waiting = second.start(executor, wait=True)
        assert waiting.outcome == "running"
        assert second.latest_run is None
        title = second.nodes()[0].task.title
        assert f"'{title}' waits for another run of the key 'nightly'" in waiting.why(title)
        assert f"in process {os.getpid()}" in waiting.why(title)
        gate.open()
        assert started.wait(WAIT)
        assert waiting.wait(WAIT)
    assert (waiting.ok, waiting.number) == (True, 2)
    assert waiting.facts().waiting_for is None


def test_arun_waits_for_the_key_too_and_can_be_cancelled_meanwhile() -> None:
    gate = Gate()

    async def both() -> None:
        with pytest.raises(GraphError, match="wait=True"):
            await keyed().arun(executor)
        cancelled = asyncio.create_task(keyed().arun(executor, wait=True))
        second = asyncio.create_task(keyed().arun(executor, wait=True))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        gate.open()
        assert (await second).ok

    with TaskExecutor.empty(InMemoryStore()) as executor:
        executor.register(CUSTOM, gate)
        first = keyed().start(executor)
        gate.wait_reached()
        bounded(lambda: asyncio.run(both()))
        assert first.wait(WAIT)


def test_a_run_that_waits_for_its_key_can_be_cancelled() -> None:
    gate = Gate()
    with TaskExecutor.empty(InMemoryStore()) as executor:
        executor.register(CUSTOM, gate)
        started = keyed().start(executor)
        gate.wait_reached()
        second = keyed()
        waiting = second.start(executor, wait=True)
        waiting.cancel()
        assert waiting.wait(WAIT)
        assert waiting.outcome == "cancelled"
        assert "waited for another run of the key 'nightly'" in (waiting.error or "")
        assert all(task.is_pending for task in second)
        gate.open()
        assert started.wait(WAIT)


def test_a_graph_inside_of_one_with_its_key_is_refused_even_if_it_would_wait() -> None:
    inner = keyed()

    def handler(context: TaskContext) -> None:
        if context.title == "out":
            inner.run(executor, wait=True)

    with TaskExecutor.empty(InMemoryStore()) as executor:
        executor.register(CUSTOM, handler)
        outer = TaskGraph("outer", key="nightly")
        task = outer.add(make("out"))
        bounded(lambda: outer.run(executor))
    assert "give it another key" in (task.error or "")


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_of_runs_that_wait_for_each_others_keys_one_is_told(count: int, shared: bool) -> None:
    """Also if each has an executor of its own."""
    barrier, store = threading.Barrier(count, timeout=WAIT), InMemoryStore()
    executors: list[TaskExecutor] = []

    def handler(context: TaskContext) -> None:
        if context.payload is None:
            return
        barrier.wait()
        at = int(context.payload)
        inner = TaskGraph("inner", key=f"k{(at + 1) % count}")
        inner.add(make("inner"))
        inner.run(executors[at], wait=True)

    for _ in range(1 if shared else count):
        executors.append(TaskExecutor.empty(store))
        executors[-1].register(CUSTOM, handler)
    executors *= count if shared else 1
    graphs = [TaskGraph("outer", key=f"k{at}") for at in range(count)]
    tasks = [graph.add(make("waits", at)) for at, graph in enumerate(graphs)]
    runs = [graph.start(executor) for graph, executor in zip(graphs, executors, strict=True)]
    assert all(run.wait(WAIT) for run in runs)
    for executor in executors:
        executor.shutdown()
    (refused,) = [task.error or "" for task in tasks if not task.is_succeeded]
    assert "would wait for ever" in refused
    assert [run.outcome for run in runs].count("ok") == count - 1


class Refusing(MemoryRuns):
    """Tells that a run was refused its key, so that it waits from now on."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = threading.Event()

    def begin(self, *args: Any) -> int | Holder:
        found = super().begin(*args)
        if isinstance(found, Holder):
            self.refused.set()
        return found


def waits_inside(
    way: Callable[[TaskExecutor, TaskGraph, Task], object], **options: Any
) -> tuple[TaskGraph, Task]:
    """Stop a handler that waits for a key which somebody else has, in some way."""
    gate, clock, runs = Gate(), FakeClock(), Refusing()

    class Store(InMemoryStore):
        @property
        def runs(self) -> MemoryRuns:
            return runs

    graph = TaskGraph("outer")
    task = graph.add(make("waits", **options.pop("task", {})))

    def handler(context: TaskContext) -> object:
        if context.title != "waits":
            return gate(context)
        return keyed().run(executor, wait=True)

    with TaskExecutor.empty(Store(), clock=clock) as executor:
        executor.register(CUSTOM, handler)
        started = keyed().start(executor)
        gate.wait_reached()
        running = background(lambda: graph.run(executor, **options))
        wait(runs.refused)
        way(executor, graph, task)
        if "timeout" in options or task.timeout is not None:
            clock.advance(5)
        assert running.result(WAIT) is graph
        if not started.done:
            gate.open()
        assert started.wait(WAIT)
    return graph, task


@pytest.mark.parametrize(
    "way",
    [
        lambda executor, graph, task: executor.cancel(task),
        lambda executor, graph, task: graph.cancel(),
    ],
)
def test_a_handler_that_waits_for_a_key_can_be_cancelled(way: Any) -> None:
    _, task = waits_inside(way)
    assert task.is_cancelled


def test_a_handler_that_waits_for_a_key_ends_when_its_time_is_up() -> None:
    graph, task = waits_inside(lambda *_: None, task={"timeout": 5})
    assert task.is_failed
    assert task.result is not None
    assert task.result.termination_reason == "timeout"
    graph, task = waits_inside(lambda *_: None, timeout=5)
    assert task.is_cancelled
    assert the_run(graph).outcome == "timeout"


def test_cancel_all_ends_the_wait_for_a_key() -> None:
    gate = Gate()
    with TaskExecutor.empty(InMemoryStore()) as executor:
        executor.register(CUSTOM, gate)
        keyed().start(executor)
        gate.wait_reached()
        waiting = keyed().start(executor, wait=True)
        executor.cancel_all()
        gate.open()
        assert waiting.wait(WAIT)
    assert waiting.outcome == "cancelled"


def test_a_run_that_could_not_begin_leaves_the_key_free() -> None:
    store = InMemoryStore()
    with TaskExecutor.empty(store) as executor:
        executor.register(CUSTOM, FakeHandler())
        broken = keyed()
        broken.add(make("twice", key="k"))
        broken.add(make("thrice", key="k"))
        with pytest.raises(GraphError, match="same key"):
            run(broken, executor)
        assert len(store.runs) == 0
        run(keyed(), executor)
    assert [item.number for item in store.runs.values()] != []


def test_started_at_is_the_wall_clock_of_the_beginning() -> None:
    executor, _ = executor_with(FakeHandler())
    graph = TaskGraph()
    before = datetime.now(UTC)
    with executor:
        run(graph, executor)
    facts = the_run(graph).facts()
    assert facts.ended_at is not None
    assert before <= facts.started_at <= facts.ended_at <= datetime.now(UTC)


@pytest.mark.parametrize("seed", range(5))
def test_of_threads_that_begin_at_once_one_runs_a_key_at_a_time(tmp_path: Path, seed: int) -> None:
    barrier = Barrier(4)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    def go(executor: TaskExecutor) -> None:
        graph = TaskGraph("g", key="k")
        graph.add(Task.python(work))
        barrier.wait(20)
        with suppress(GraphError):  # another one is running
            graph.run(executor)

    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(go, [executor] * 4))
        assert {run.outcome for run in store.runs.list()} == {"ok"}
        assert len(most) == len(store.runs)
    assert set(most) == {1}


def test_a_strict_run_that_cannot_be_saved_ends_and_frees_its_key(tmp_path: Path) -> None:
    with (
        SQLiteStore(tmp_path / "ledger") as store,
        TaskExecutor(store, strict_persistence=True) as executor,
    ):
        save = store.graphs.save

        def fail(graph: TaskGraph) -> None:
            raise StoreError("the disk is full")

        graph = TaskGraph("g", key="k")
        graph.add(Task.python(abs, (-1,)))
        store.graphs.save = fail  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="the disk is full"):
            graph.run(executor)
        assert the_run(graph).outcome == "failed"
        store.graphs.save = save  # type: ignore[method-assign]
        again = TaskGraph("g", key="k")
        again.add(Task.python(abs, (-1,)))
        again.run(executor)
        assert again.ok
        assert [run.outcome for run in store.runs.list()] == ["ok", "failed"]
