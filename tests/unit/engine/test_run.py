"""Running graphs: policies, finally tasks, reruns, sharing, nesting, and what may not run."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support import (
    CUSTOM,
    WAIT,
    FakeHandler,
    Gate,
    background,
    bounded,
    chain,
    executor_with,
    make,
    run,
    statuses,
    threads,
)
from ttasks import (
    CycleError,
    DependencyPolicy,
    GraphError,
    GraphFailedError,
    HandlerNotFoundError,
    InMemoryStore,
    InvalidTransitionError,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
    UnknownDependencyError,
)

BOOM = ValueError("boom")
BLOCK, SKIP, IF_ANY, ANYWAY, ON_FAILURE = DependencyPolicy
SUCCEEDED, FAILED = TaskStatus.SUCCEEDED, TaskStatus.FAILED


# Order


def test_a_graph_runs_in_dependency_order_whatever_the_order_of_insertion() -> None:
    executor, recorder = executor_with(FakeHandler())
    graph = TaskGraph()
    tasks = [make(str(number)) for number in range(20)]
    for number in reversed(range(20)):
        graph.add(tasks[number], after=tasks[max(0, number - 3) : number])
    assert run(graph, executor) is graph
    assert graph.ok
    recorder.check(graph)


def test_an_empty_graph_is_ok_and_starts_no_thread() -> None:
    executor, _ = executor_with(FakeHandler())
    graph = TaskGraph()
    assert run(graph, executor).ok
    assert graph.statistics().elapsed >= 0


def test_ready_tasks_start_by_priority_then_deadline_then_insertion() -> None:
    handler = FakeHandler()
    executor, _ = executor_with(handler)
    soon = datetime.now(UTC)
    graph = TaskGraph()
    graph.add(make("plain 1"))
    graph.add(make("later", deadline=soon + timedelta(hours=1)))
    graph.add(make("sooner", deadline=soon))
    graph.add(make("low", priority=-1, deadline=soon))
    graph.add(make("high", priority=2.5))
    graph.add(make("plain 2"))
    run(graph, executor, 1)
    assert handler.calls == ["high", "sooner", "later", "plain 1", "plain 2", "low"]


def test_independent_tasks_use_all_workers() -> None:
    barrier = threading.Barrier(4)
    executor, recorder = executor_with(lambda context: barrier.wait(WAIT))
    graph = TaskGraph()
    for number in range(12):
        graph.add(make(str(number)))
    assert run(graph, executor, 4).ok
    recorder.check(graph)


def test_no_more_run_at_once_than_there_are_workers() -> None:
    handler = FakeHandler()
    executor, _ = executor_with(handler)
    for workers in (1, 2, 3):
        handler.most = 0
        graph = TaskGraph()
        for number in range(100):
            graph.add(make(str(number)))
        run(graph, executor, workers)
        assert handler.most <= workers


def test_a_chain_needs_no_hand_off_between_threads() -> None:
    where: set[int] = set()
    executor, recorder = executor_with(lambda context: where.add(threading.get_ident()))
    graph = TaskGraph()
    chain(graph, *map(str, range(200)))
    assert run(graph, executor, 8).ok
    assert len(where) == 1
    recorder.check(graph)


def test_no_thread_of_a_run_is_left_when_it_returns() -> None:
    executor, _ = executor_with(FakeHandler())
    for number in range(100):
        graph = TaskGraph()
        for title in range(number % 7):
            graph.add(make(str(title), timeout=60 if title % 2 else None))
        graph.run(executor, 3)
        assert threads() == []


@pytest.mark.parametrize("shape", ["chain", "wide", "diamond"])
def test_large_graphs_run(shape: str) -> None:
    executor, _ = executor_with(FakeHandler())
    graph = TaskGraph()
    first = graph.add(make("first"))
    if shape == "chain":
        chain(graph, *map(str, range(5000)))
    else:
        middle = [graph.add(make(str(n)), after=first) for n in range(5000)]
        if shape == "diamond":
            graph.add(make("last"), after=middle)
    assert run(graph, executor).ok


@pytest.mark.campaign
@pytest.mark.parametrize("shape", ["chain", "wide"])
def test_a_hundred_thousand_tasks_run(shape: str) -> None:
    executor, _ = executor_with(lambda context: None)
    graph = TaskGraph()
    last: list[Task] = []
    for number in range(100_000):
        last = [graph.add(make(str(number)), after=last if shape == "chain" else ())]
    assert background(lambda: graph.run(executor)).result(120).ok


# Policies

# What a task does for its policy, when its upstreams end as these: success, failure, or as what
# follows from a failure (blocked) or from nothing to do (skipped) or from a cancellation.
POLICIES: dict[DependencyPolicy, dict[str, str]] = {
    BLOCK: {
        "": "succeeded",
        "S": "succeeded",
        "SS": "succeeded",
        "F": "blocked",
        "SF": "blocked",
        "B": "blocked",
        "C": "blocked",
        "K": "skipped",
        "SK": "skipped",
        "FK": "blocked",
    },
    SKIP: {
        "": "succeeded",
        "S": "succeeded",
        "F": "skipped",
        "SF": "skipped",
        "B": "skipped",
        "C": "skipped",
        "K": "skipped",
        "SK": "skipped",
    },
    IF_ANY: {
        "": "succeeded",
        "S": "succeeded",
        "F": "blocked",
        "SF": "succeeded",
        "SK": "succeeded",
        "SB": "succeeded",
        "SC": "succeeded",
        "FB": "blocked",
        "FK": "blocked",
        "K": "skipped",
        "KK": "skipped",
    },
    ANYWAY: {
        "": "succeeded",
        "S": "succeeded",
        "F": "succeeded",
        "B": "succeeded",
        "C": "succeeded",
        "K": "succeeded",
        "FKBCS": "succeeded",
    },
    ON_FAILURE: {
        "": "skipped",
        "S": "skipped",
        "F": "succeeded",
        "SF": "succeeded",
        "B": "succeeded",
        "K": "skipped",
        "SK": "skipped",
        "C": "skipped",
    },
}


def ends(graph: TaskGraph, kind: str, number: int) -> Task:
    """A task that will end as the letter says."""
    title = f"{kind}{number}"
    if kind == "B":
        return graph.add(make(title), after=graph.add(make(f"F for {title}")))
    if kind == "K":
        return graph.add(
            make(title), after=graph.add(make(f"S for {title}")), on_dep_failure=ON_FAILURE
        )
    task = graph.add(make(title))
    if kind == "C":
        task.cancel()
    return task


def fails_by_title(context: TaskContext) -> None:
    if context.title.startswith("F"):
        raise ValueError(context.title)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    ("policy", "upstreams", "expected"),
    [(policy, *case) for policy, cases in POLICIES.items() for case in cases.items()],
)
def test_what_a_task_does_when_upstreams_did_not_succeed(
    policy: DependencyPolicy, upstreams: str, expected: str, workers: int
) -> None:
    executor, recorder = executor_with(fails_by_title, store=InMemoryStore())
    graph = TaskGraph()
    above = [ends(graph, kind, number) for number, kind in enumerate(upstreams)]
    task = graph.add(make("task"), after=above, on_dep_failure=policy)
    last = graph.add(make("last"), after=task, finally_=True)
    run(graph, executor, workers)
    assert task.status.value == expected
    assert last.is_succeeded
    assert executor.store.tasks[task.id].status is task.status
    if expected in ("blocked", "skipped"):
        assert recorder.of(task) == [TaskEventType(expected)]
        assert task.result is None
    blockers = {t.id for t in above if t.is_failed or t.is_blocked or t.is_cancelled}
    assert (task.blocked_by in blockers) if expected == "blocked" else (task.blocked_by is None)
    recorder.check(graph)


def test_block_and_skip_decide_while_other_upstreams_run() -> None:
    gate = Gate()
    executor, recorder = executor_with(FakeHandler({"slow": gate, "bad": BOOM}))
    graph = TaskGraph()
    above = [graph.add(make("slow")), graph.add(make("bad"))]
    blocked = graph.add(make("blocked"), after=above)
    skipped = graph.add(make("skipped"), after=above, on_dep_failure=SKIP)
    fallback = graph.add(make("fallback"), after=above, on_dep_failure=ON_FAILURE)
    future = background(lambda: graph.run(executor, 2))
    gate.wait_reached()
    while not (blocked.is_blocked and skipped.is_skipped):
        pass
    assert fallback.is_pending
    gate.open()
    future.result(WAIT)
    assert fallback.is_succeeded
    assert blocked.blocked_by == above[1].id
    recorder.check(graph)


def test_ok_and_the_views_after_a_run() -> None:
    executor, recorder = executor_with(fails_by_title)
    graph = TaskGraph("views")
    good = graph.add(make("good"))
    optional = graph.add(make("F optional"), required=False)
    after = graph.add(make("after"), after=optional, required=False)
    skipped = graph.add(make("skipped"), after=good, on_dep_failure=ON_FAILURE)
    assert run(graph, executor).ok
    graph.raise_for_failure()
    assert (graph.succeeded, graph.failed, graph.blocked) == ([good], [optional], [after])
    assert (graph.skipped, graph.optional_failed, graph.required_failed) == (
        [skipped],
        [optional],
        [],
    )
    required = graph.add(make("F required"))
    graph.add(make("behind"), after=required)
    assert not run(graph, executor).ok
    assert graph.required_failed == [required]
    assert [task.title for task in graph.required_blocked] == ["behind"]
    with pytest.raises(GraphFailedError) as caught:
        graph.raise_for_failure()
    assert caught.value.failures == (
        ("F required", "F required"),
        ("behind", "blocked by 'F required'"),
    )
    recorder.check()


def test_a_missing_handler_fails_its_task_and_nothing_else() -> None:
    executor, recorder = executor_with(FakeHandler())
    graph = TaskGraph()
    bad = graph.add(Task("bad", None, TaskType("nobody knows")))
    graph.add(make("next"), after=bad)
    graph.add(make("other"))
    run(graph, executor)
    assert statuses(graph) == {"bad": "failed", "next": "blocked", "other": "succeeded"}
    assert isinstance(graph.errors[bad.id], HandlerNotFoundError)
    assert graph.run_error is None
    recorder.check(graph)


def test_a_failure_names_what_did_not_run_because_of_it() -> None:
    store = InMemoryStore()
    executor, _ = executor_with(fails_by_title, store=store)
    graph = TaskGraph()
    first = graph.add(make("F first"))
    second = graph.add(make("second"), after=first)
    third = graph.add(make("third"), after=[second])
    other = graph.add(make("F other"))
    graph.add(make("both"), after=[third, other], on_dep_failure=ANYWAY)
    run(graph, executor)
    assert first.result is not None
    assert first.result.failure is not None
    assert first.result.failure.downstream == (("second", second.id), ("third", third.id))
    assert other.result is not None
    assert other.result.failure is not None
    assert other.result.failure.downstream == ()


# Finally tasks


def test_a_finally_task_runs_whatever_became_of_its_upstreams() -> None:
    executor, recorder = executor_with(fails_by_title)
    graph = TaskGraph()
    bad = graph.add(make("F"))
    blocked = graph.add(make("blocked"), after=bad)
    gone = graph.add(make("gone"))
    gone.cancel()
    graph.add(make("last"), after=[bad, blocked, gone], finally_=True)
    run(graph, executor)
    assert statuses(graph)["last"] == "succeeded"
    assert not graph.ok
    recorder.check(graph)


def test_a_finally_task_waits_for_all_its_upstreams() -> None:
    gate = Gate()
    executor, recorder = executor_with(FakeHandler({"slow": gate, "bad": BOOM}))
    graph = TaskGraph()
    above = [graph.add(make("bad")), graph.add(make("slow"))]
    last = graph.add(make("last"), after=above, finally_=True)
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    while not above[0].is_failed:
        pass
    assert last.is_pending
    gate.open()
    future.result(WAIT)
    assert last.is_succeeded
    recorder.check(graph)


def test_what_depends_on_a_finally_task_and_chains_of_them() -> None:
    executor, recorder = executor_with(FakeHandler({"bad": BOOM, "tidy": BOOM}))
    graph = TaskGraph()
    bad = graph.add(make("bad"))
    tidy = graph.add(make("tidy"), after=bad, finally_=True)
    graph.add(make("tidier"), after=tidy, finally_=True)
    graph.add(make("plain"), after=tidy)
    run(graph, executor)
    assert statuses(graph) == {
        "bad": "failed",
        "tidy": "failed",
        "tidier": "succeeded",
        "plain": "blocked",
    }
    recorder.check(graph)


@pytest.mark.parametrize("required", [True, False])
def test_a_finally_task_that_fails_counts_if_it_is_required(required: bool) -> None:
    executor, _ = executor_with(FakeHandler({"last": BOOM}))
    graph = TaskGraph()
    graph.add(make("last"), after=graph.add(make("a")), finally_=True, required=required)
    assert run(graph, executor).ok is not required


# Reruns


def test_a_rerun_tries_again_what_did_not_succeed_and_keeps_what_did() -> None:
    handler = FakeHandler({"flaky": BOOM})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    first = graph.add(make("first"))
    flaky = graph.add(make("flaky"), after=first)
    graph.add(make("next"), after=flaky)
    graph.add(make("skipped"), after=flaky, on_dep_failure=SKIP)
    graph.add(make("last"), after=flaky, finally_=True)
    run(graph, executor)
    assert list(statuses(graph).values()) == [
        "succeeded",
        "failed",
        "blocked",
        "skipped",
        "succeeded",
    ]
    before = first.result
    handler.script.clear()
    handler.calls.clear()
    assert run(graph, executor).ok
    assert sorted(handler.calls) == ["flaky", "next", "skipped"]
    assert first.result is before
    assert graph.errors == {}
    assert all(task.blocked_by is None and task.error is None for task in graph)
    recorder.check()


def test_a_finally_task_waits_for_upstreams_that_are_tried_again() -> None:
    handler = FakeHandler({"flaky": BOOM, "last": BOOM})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("last"), after=graph.add(make("flaky")), finally_=True)
    run(graph, executor)
    handler.script.clear()
    handler.calls.clear()
    assert run(graph, executor).ok
    assert handler.calls == ["flaky", "last"]
    recorder.check()


def test_a_task_that_becomes_blocked_in_a_rerun_ends_blocked() -> None:
    handler = FakeHandler({"a": BOOM})
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    chain(graph, "a", "b", "c")
    for _ in range(3):
        run(graph, executor)
        assert list(statuses(graph).values()) == ["failed", "blocked", "blocked"]
    assert handler.calls == ["a"] * 3
    recorder.check()


def test_a_cancelled_task_is_never_tried_again() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    first, _ = chain(graph, "a", "b")
    first.cancel()
    for _ in range(2):
        run(graph, executor)
        assert statuses(graph) == {"a": "cancelled", "b": "blocked"}
    assert handler.calls == []
    recorder.check()


def test_a_graph_of_succeeded_tasks_runs_nothing() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    chain(graph, "a", "b")
    run(graph, executor)
    count = len(recorder.events)
    assert run(graph, executor).ok
    assert handler.calls == ["a", "b"]
    assert len(recorder.events) == count


def test_a_task_that_was_running_when_its_process_died_is_tried_again() -> None:
    told: list[Any] = []
    executor, recorder = executor_with(FakeHandler())
    graph = TaskGraph()
    task = graph.add(make("a"))
    task.transition_to(TaskStatus.RUNNING)

    def look(event: Any) -> None:
        result = event.task.result
        told.append((result.status, result.termination_reason, event.error))

    executor.events.subscribe(look, types=TaskEventType.FAILED)
    assert run(graph, executor).ok
    assert [(status, reason) for status, reason, _ in told] == [(FAILED, "interrupted")]
    assert recorder.of(task) == [
        TaskEventType.FAILED,
        TaskEventType.STARTED,
        TaskEventType.SUCCEEDED,
    ]


# Sharing and nesting


def test_graphs_one_after_the_other_share_tasks() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler)
    shared = make("shared")
    first, second = TaskGraph("first"), TaskGraph("second")
    first.add(make("a"), after=first.add(shared))
    second.add(make("b"), after=second.add(shared))
    assert run(first, executor).ok
    assert run(second, executor).ok
    assert handler.calls == ["shared", "a", "b"]
    recorder.check()


def test_a_graph_with_a_task_that_is_running_elsewhere_does_not_start() -> None:
    gate = Gate()
    store = InMemoryStore()
    executor, recorder = executor_with(FakeHandler({"shared": gate}), store=store)
    shared = make("shared")
    future = background(lambda: executor.execute(shared))
    gate.wait_reached()
    graph = TaskGraph()
    graph.add(make("a"))
    graph.add(shared)
    with pytest.raises(GraphError, match=r"'shared' .* is running elsewhere"):
        run(graph, executor)
    assert statuses(graph) == {"a": "pending", "shared": "running"}
    assert graph not in store.graphs
    assert len(store.tasks) == 1
    gate.open()
    future.result(WAIT)
    assert run(graph, executor).ok
    recorder.check()


def test_graphs_that_race_for_shared_tasks_run_each_once() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler)
    for round_ in range(40):
        shared = [make(f"{round_} {number}") for number in range(5)]
        graphs = [TaskGraph("one"), TaskGraph("two")]
        for graph in graphs:
            for task in shared:
                graph.add(task)
        barrier = threading.Barrier(2)

        def go(graph: TaskGraph, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(WAIT)
            with suppress(GraphError):  # one of them is running elsewhere
                graph.run(executor, 2)
            assert all(isinstance(e, InvalidTransitionError) for e in graph.errors.values())

        futures = [background(lambda graph=graph: go(graph)) for graph in graphs]
        for future in futures:
            future.result(WAIT)
        assert {task.status for task in shared} <= {SUCCEEDED, TaskStatus.PENDING}
    assert len(handler.calls) == len(set(handler.calls))
    recorder.check()


def test_several_graphs_run_at_once_on_one_executor() -> None:
    barrier = threading.Barrier(3)
    executor, recorder = executor_with(lambda context: barrier.wait(WAIT))
    graphs = [TaskGraph(str(number)) for number in range(3)]
    for graph in graphs:
        chain(graph, "a", "b")
    for future in [background(lambda graph=graph: graph.run(executor, 1)) for graph in graphs]:
        assert future.result(WAIT).ok
    for graph in graphs:
        recorder.check(graph)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_handler_may_run_a_graph_on_the_same_executor_at_any_depth(workers: int) -> None:
    ran: list[int] = []

    def handler(context: TaskContext) -> None:
        depth = context.options["depth"]
        ran.append(depth)
        if depth:
            graph = TaskGraph()
            for number in range(2):
                graph.add(make(str(number), options={"depth": depth - 1}))
            graph.run(executor, workers)
            graph.raise_for_failure()

    executor, recorder = executor_with(handler, max_workers=1)
    graph = TaskGraph()
    graph.add(make("top", options={"depth": 4}))
    assert run(graph, executor, workers).ok
    assert sorted(ran) == sorted(depth for depth in range(5) for _ in range(2 ** (4 - depth)))
    recorder.check()


def test_a_nested_run_of_a_graph_that_is_running_is_refused() -> None:
    executor, recorder = executor_with(FakeHandler({"a": lambda context: graph.run(executor, 1)}))
    graph = TaskGraph("self")
    task = graph.add(make("a"))
    run(graph, executor)
    assert isinstance(graph.errors[task.id], GraphError)
    recorder.check(graph)


def test_a_second_run_of_a_graph_at_the_same_time_is_refused() -> None:
    gate = Gate()
    executor, recorder = executor_with(FakeHandler({"a": gate}))
    graph = TaskGraph("busy")
    graph.add(make("b"), after=graph.add(make("a")))
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    with pytest.raises(GraphError):
        run(graph, executor)
    gate.open()
    assert future.result(WAIT).ok
    assert graph.ok
    recorder.check(graph)


# While it runs


@pytest.mark.parametrize(
    "change",
    [
        lambda graph, a, b: graph.add(make("new")),
        lambda graph, a, b: graph.add(a, after=b),
        lambda graph, a, b: graph.remove(b),
        lambda graph, a, b: graph.add_dependency(a, b.__class__("c", None, CUSTOM)),
        lambda graph, a, b: graph.__setitem__(b, ()),
        lambda graph, a, b: graph.__delitem__(b),
    ],
)
def test_a_graph_cannot_be_changed_while_it_runs(change: Callable[..., Any]) -> None:
    errors: list[BaseException] = []

    def handler(context: TaskContext) -> None:
        if context.title == "a":
            try:
                change(graph, *graph)
            except BaseException as error:
                errors.append(error)

    executor, recorder = executor_with(handler)
    graph = TaskGraph("busy")
    a, b = chain(graph, "a", "b")
    assert run(graph, executor).ok
    assert [type(error) for error in errors] in ([GraphError], [UnknownDependencyError])
    assert graph.items() == [(a, ()), (b, (a,))]
    graph.add(make("after the run"))
    recorder.check()


def test_statistics_can_be_read_during_a_run_and_after_it() -> None:
    gate = Gate()
    executor, _ = executor_with(FakeHandler({"slow": gate, "bad": BOOM}))
    graph = TaskGraph()
    before = graph.statistics()
    assert (before.elapsed, before.retries, before.running) == (0.0, 0, ())
    slow = graph.add(make("slow"))
    graph.add(make("next"), after=slow)
    bad = graph.add(make("bad"))
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    while not bad.is_failed:
        pass
    during = graph.statistics()
    assert during.running == ("slow",)
    assert during.counts[TaskStatus.RUNNING] == during.counts[TaskStatus.PENDING] == 1
    assert during.counts[TaskStatus.FAILED] == 1
    assert during.counts[TaskStatus.BLOCKED] == 0
    assert graph.statistics().elapsed >= during.elapsed > 0
    gate.open()
    future.result(WAIT)
    after = graph.statistics()
    assert after.counts[SUCCEEDED] == 2
    assert after.running == ()
    assert graph.statistics().elapsed == after.elapsed >= during.elapsed


def test_statistics_and_views_are_read_by_many_threads_while_it_runs() -> None:
    executor, recorder = executor_with(FakeHandler())
    graph = TaskGraph()
    for number in range(300):
        graph.add(make(str(number)))
    over = threading.Event()

    def read() -> int:
        rounds = 0
        while not over.is_set():
            assert sum(graph.statistics().counts.values()) == 300
            assert len(graph.succeeded) <= 300
            assert graph.errors == {}
            rounds += 1
        return rounds

    readers = [background(read) for _ in range(3)]
    run(graph, executor)
    over.set()
    for reader in readers:
        reader.result(WAIT)
    recorder.check(graph)


def test_a_task_that_a_handler_cancels_does_not_run() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    _first, second, _third = chain(graph, "a", "b", "c")
    handler.script["a"] = lambda context: executor.cancel(second)
    run(graph, executor)
    assert statuses(graph) == {"a": "succeeded", "b": "cancelled", "c": "blocked"}
    assert handler.calls == ["a"]
    recorder.check(graph)


def test_handlers_see_their_upstreams_and_their_results() -> None:
    def handler(context: TaskContext) -> str:
        return "+".join(
            [task.result.output for task in context.upstream.values() if task.result]
            + [context.title]
        )

    executor, _ = executor_with(handler)
    graph = TaskGraph()
    a, b = graph.add(make("a")), graph.add(make("b"))
    c = graph.add(make("c"), after=[b, a])
    d = graph.add(make("d"), after=c)
    run(graph, executor)
    assert c.result is not None
    assert d.result is not None
    assert (c.result.output, d.result.output) == ("b+a+c", "b+a+c+d")


# What may not run


def test_an_invalid_graph_leaves_no_trace() -> None:
    store = InMemoryStore()
    handler = FakeHandler()
    executor, recorder = executor_with(handler, store=store)
    a, b, c = make("a"), make("b"), make("c")
    missing, circle = TaskGraph(), TaskGraph()
    missing.add(a)
    missing.add(b, after=make("missing"))
    circle.add(a, after=b)
    circle.add(b, after=c)
    circle.add(c, after=a)
    with pytest.raises(UnknownDependencyError, match="'b' depends on 'missing'"):
        run(missing, executor)
    with pytest.raises(CycleError) as caught:
        run(circle, executor)
    assert {task.title for task in caught.value.path} == {"a", "b", "c"}
    assert len(store.tasks) == len(store.graphs) == 0
    assert recorder.events == handler.calls == []
    assert a.is_pending
    assert b.is_pending
    assert circle.run_error is None
    circle.add(a)
    assert run(circle, executor).ok


def test_a_run_may_be_started_from_a_subscriber() -> None:
    inner = TaskGraph("inner")
    inner.add(make("inner a"))
    executor, recorder = executor_with(FakeHandler())
    executor.events.subscribe(
        lambda event: inner.run(executor) if event.task.title == "a" else None,
        types=TaskEventType.SUCCEEDED,
    )
    graph = TaskGraph()
    chain(graph, "a", "b")
    assert run(graph, executor).ok
    assert inner.ok
    recorder.check()


def test_a_run_does_what_it_can_with_the_threads_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    allowed = [1]

    def scarce(thread: threading.Thread) -> None:
        if thread.name.startswith("ttasks"):
            if not allowed[0]:
                raise RuntimeError("can't start new thread")
            allowed[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    executor, recorder = executor_with(FakeHandler())
    graph = TaskGraph()
    for number in range(20):
        graph.add(make(str(number)))
    assert run(graph, executor).ok
    recorder.check(graph)
    none = TaskGraph()
    none.add(make("last"), after=none.add(make("a")), finally_=True)
    run(none, executor)
    assert set(statuses(none).values()) == {"cancelled"}
    assert isinstance(none.run_error, RuntimeError)
    assert not none.ok
    recorder.check()


def test_a_handler_that_raises_task_cancelled_blocks_what_depends_on_it() -> None:
    executor, recorder = executor_with(FakeHandler({"a": TaskCancelled("no")}))
    graph = TaskGraph()
    chain(graph, "a", "b")
    run(graph, executor)
    assert statuses(graph) == {"a": "cancelled", "b": "blocked"}
    recorder.check(graph)


def test_random_graphs_run_to_their_end_with_any_number_of_workers() -> None:
    chance = random.Random(11)
    executor, recorder = executor_with(fails_by_title)
    for _ in range(30):
        graph = TaskGraph()
        tasks: list[Task] = []
        for number in range(chance.randrange(1, 40)):
            title = f"{'F' if chance.random() < 0.2 else 'S'}{number}"
            tasks.append(
                graph.add(
                    make(title, priority=chance.randrange(3)),
                    after=chance.sample(tasks, min(len(tasks), chance.randrange(4))),
                    on_dep_failure=chance.choice(list(DependencyPolicy)),
                    finally_=chance.random() < 0.1,
                )
            )
        run(graph, executor, chance.randrange(1, 6))
        assert all(task.is_terminal for task in graph)
        recorder.check(graph)


def test_the_same_task_type_may_be_registered_anew_during_a_run() -> None:
    executor, recorder = executor_with(
        lambda context: executor.register(CUSTOM, lambda context: "new")
    )
    graph = TaskGraph()
    _, second = chain(graph, "a", "b")
    assert bounded(lambda: graph.run(executor)).ok
    assert second.result is not None
    assert second.result.output == "new"
    recorder.check(graph)


def test_two_executors_may_run_nested_graphs_of_each_other() -> None:
    first: TaskExecutor = executor_with(FakeHandler())[0]

    def handler(context: TaskContext) -> None:
        graph = TaskGraph()
        chain(graph, "x", "y")
        graph.run(first, 1)
        graph.raise_for_failure()

    second, recorder = executor_with(handler)
    graph = TaskGraph()
    graph.add(make("a"))
    assert run(graph, second).ok
    recorder.check(graph)
