"""Equal tasks with reuse that are ready together: one runs, and the others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
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
    executor_with,
    make,
    run,
    statuses,
    wait,
)
from ttasks import (
    InMemoryStore,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield InMemoryStore()
        return
    with SQLiteStore(tmp_path / "ledger") as store:
        yield store


def equal(title: str, **options: Any) -> Task:
    """A task that is the same work as every other one that is made here."""
    return make(title, "work", reuse=True, **options)


class Counted(Gate):
    """Counts its calls, and waits at the gate in the first."""

    def __init__(self, *outcomes: Any) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.titles: list[str] = []

    def __call__(self, context: TaskContext) -> Any:
        self.titles.append(context.title)
        if len(self.titles) == 1:
            super().__call__(context)
        outcome = self.outcomes.pop(0) if self.outcomes else len(self.titles)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def waiting(graph: TaskGraph, number: int) -> None:
    """Wait until so many tasks wait for another one."""
    deadline = threading.Event()
    for _ in range(int(WAIT * 1000)):
        if graph.statistics().waiting == number:
            return
        deadline.wait(0.001)
    pytest.fail("they do not wait")


def test_of_equal_tasks_of_a_run_the_first_runs_and_the_others_take_over(store: Any) -> None:
    handler = Counted(7)
    executor, recorder = executor_with(handler, store=store)
    graph = TaskGraph()
    tasks = [graph.add(equal(f"t{number}")) for number in range(4)]
    running = background(lambda: graph.run(executor, max_workers=4))
    handler.wait_reached()
    waiting(graph, 3)
    handler.open()
    running.result(WAIT)
    assert len(handler.titles) == 1
    assert [task.value for task in tasks] == [7] * 4
    results = [task.result for task in tasks]
    assert sum(result.reused for result in results if result is not None) == 3
    for task in tasks:
        stored = store.tasks[task.id]
        assert (stored.is_succeeded, stored.value) == (True, 7)
    assert len(recorder.titles(TaskEventType.STARTED)) == 1
    assert graph.ok


def test_an_equal_task_that_becomes_ready_later_in_the_run_takes_over_too(store: Any) -> None:
    handler = FakeHandler()
    executor, _ = executor_with(handler, store=store)
    graph = TaskGraph()
    before = graph.add(make("before"))
    for number in range(3):
        graph.add(equal(f"t{number}"), after=before)
    last = graph.add(make("last"), after=list(graph)[1:])
    run(graph, executor, 1)
    assert handler.calls == ["before", "t0", "last"]
    assert last.is_succeeded


def test_if_the_first_fails_the_next_one_runs() -> None:
    handler = Counted(ValueError("oops"), 8)
    executor, _ = executor_with(handler, store=InMemoryStore())
    graph = TaskGraph()
    tasks = [graph.add(equal(f"t{number}")) for number in range(3)]
    running = background(lambda: graph.run(executor, max_workers=3))
    handler.wait_reached()
    waiting(graph, 2)
    handler.open()
    running.result(WAIT)
    assert len(handler.titles) == 2
    assert sorted(task.status.value for task in tasks) == ["failed", "succeeded", "succeeded"]


def test_the_others_wait_for_the_retries_of_the_first() -> None:
    handler = Counted(ValueError("oops"), 8)
    executor, _ = executor_with(handler, store=InMemoryStore())
    graph = TaskGraph()
    tasks = [graph.add(equal(f"t{number}", retry=RetryPolicy(2))) for number in range(3)]
    handler.open()
    run(graph, executor)
    assert len(handler.titles) == 2
    assert [task.value for task in tasks] == [8, 8, 8]


def test_tasks_that_are_not_equal_or_not_to_be_reused_all_run() -> None:
    handler = FakeHandler()
    executor, _ = executor_with(handler, store=InMemoryStore())
    graph = TaskGraph()
    for number in range(2):
        graph.add(make(f"plain {number}", "work"))
        graph.add(make(f"other {number}", number, reuse=True))
    run(graph, executor)
    assert len(handler.calls) == 4


def test_without_a_store_equal_tasks_all_run() -> None:
    handler = FakeHandler()
    executor, _ = executor_with(handler)
    graph = TaskGraph()
    for number in range(3):
        graph.add(equal(f"t{number}"))
    run(graph, executor)
    assert len(handler.calls) == 3


def test_submitted_tasks_and_graphs_wait_for_each_other(store: Any) -> None:
    handler = Counted(7)
    executor, _ = executor_with(handler, store=store)
    graph = TaskGraph()
    in_graph = graph.add(equal("in graph"))
    with executor:
        first = executor.submit(equal("first"))
        handler.wait_reached()
        second = executor.submit(equal("second"))
        running = background(lambda: graph.run(executor))
        third = background(lambda: executor.execute(equal("third")))
        waiting(graph, 1)
        handler.open()
        values = [future.result(WAIT).value for future in (first, second, third)]
        running.result(WAIT)
    assert values == [7, 7, 7]
    assert in_graph.value == 7
    assert handler.titles == ["first"]


def test_a_group_has_a_place_for_others_while_a_task_waits_for_its_twin() -> None:
    handler = Counted()
    script = FakeHandler({"t0": handler, "t1": handler})
    executor, _ = executor_with(script, store=InMemoryStore(), limits={"g": 2})
    graph = TaskGraph()
    for number in range(2):
        graph.add(equal(f"t{number}", group="g"))
    other = graph.add(make("other", group="g"))
    running = background(lambda: graph.run(executor, max_workers=3))
    handler.wait_reached()
    for _ in range(int(WAIT * 1000)):
        if other.is_succeeded:
            break
        threading.Event().wait(0.001)
    assert other.is_succeeded
    handler.open()
    running.result(WAIT)
    assert graph.ok


def test_a_task_that_waits_for_its_twin_can_be_cancelled(store: Any) -> None:
    handler = Counted(7)
    executor, recorder = executor_with(handler, store=store)
    graph = TaskGraph()
    first, second = graph.add(equal("first")), graph.add(equal("second"))
    running = background(lambda: graph.run(executor, max_workers=2))
    handler.wait_reached()
    waiting(graph, 1)
    waits, runs = (second, first) if second.is_pending else (first, second)
    expected = f"{waits.title!r} waits for {runs.title!r}, which does the same work."
    assert graph.why(waits) == expected
    assert executor.cancel(waits)
    assert waits.is_cancelled
    handler.open()
    running.result(WAIT)
    assert sorted(statuses(graph).values()) == ["cancelled", "succeeded"]
    recorder.check()


def test_a_run_that_is_stopped_cancels_those_that_wait() -> None:
    handler = Obedient()
    executor, recorder = executor_with(handler, store=InMemoryStore())
    graph = TaskGraph()
    for number in range(3):
        graph.add(equal(f"t{number}"))
    running = background(lambda: graph.run(executor, max_workers=3))
    handler.wait_reached()
    waiting(graph, 2)
    graph.cancel()
    running.result(WAIT)
    assert set(statuses(graph).values()) == {"cancelled"}
    recorder.check()


def test_if_the_first_is_cancelled_alone_the_next_one_runs() -> None:
    calls: list[str] = []
    reached = threading.Event()

    def handler(context: TaskContext) -> int:
        calls.append(context.title)
        if len(calls) == 1:
            reached.set()
            assert context.wait_cancelled(WAIT)
            context.raise_if_cancelled()
        return 7

    executor, _ = executor_with(handler, store=InMemoryStore())
    with executor:
        first, second = equal("first"), equal("second")
        one = executor.submit(first)
        wait(reached)
        two = executor.submit(second)
        executor.cancel(first)
        with pytest.raises(TaskCancelled):
            one.result(WAIT)
        assert two.result(WAIT).value == 7


def test_a_task_may_run_an_equal_one_without_waiting_for_itself() -> None:
    depth: list[int] = []

    def handler(context: TaskContext) -> int:
        depth.append(1)
        if len(depth) == 1:
            inner = TaskGraph()
            for number in range(2):
                inner.add(equal(f"inner {number}"))
            inner.run(executor)
            assert inner.ok
        return len(depth)

    executor, _ = executor_with(handler, store=InMemoryStore())
    assert bounded(lambda: executor.execute(equal("outer"))).value == 2
    assert len(depth) == 2


def test_one_task_in_two_graphs_runs_once() -> None:
    handler = Counted(7)
    executor, _ = executor_with(handler, store=InMemoryStore())
    task = equal("shared")
    graphs = [TaskGraph(), TaskGraph()]
    for graph in graphs:
        graph.add(task)
    first = background(lambda: graphs[0].run(executor))
    handler.open()
    first.result(WAIT)
    run(graphs[1], executor)
    assert handler.titles == ["shared"]
    assert all(graph.ok for graph in graphs)


def test_a_type_without_a_handler_fails_all_of_them() -> None:
    executor = TaskExecutor.empty(InMemoryStore())
    graph = TaskGraph()
    for number in range(2):
        graph.add(Task(f"t{number}", "work", CUSTOM, reuse=True))
    run(graph, executor)
    assert set(statuses(graph).values()) == {"failed"}
