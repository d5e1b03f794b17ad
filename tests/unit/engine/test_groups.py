"""Concurrency groups through the engine: over runs, submissions and nested runs."""

from __future__ import annotations

import random
import threading
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
)
from ttasks import (
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskContext,
    TaskEvent,
    TaskExecutor,
    TaskGraph,
    TaskType,
)


def grouped(title: str, group: str, **options: Any) -> Task:
    return make(title, payload=group, group=group, **options)


def members(graph: TaskGraph, group: str, count: int) -> None:
    for number in range(count):
        graph.add(grouped(f"{graph.title} {group} {number}", group))


@pytest.mark.parametrize("where", ["executor", "run", "both"])
@pytest.mark.parametrize("limit", [1, 2])
def test_a_group_never_exceeds_its_limit(where: str, limit: int) -> None:
    handler = FakeHandler()
    limits = {"db": limit}
    executor, recorder = executor_with(handler, limits=limits if where != "run" else None)
    graph = TaskGraph("g")
    members(graph, "db", 60)
    members(graph, "free", 20)
    run(graph, executor, 6, limits=limits if where != "executor" else None)
    assert graph.ok
    assert handler.most_by_group["db"] <= limit
    recorder.check(graph)


def test_a_group_uses_all_its_places() -> None:
    barrier = threading.Barrier(3)
    executor, recorder = executor_with(lambda context: barrier.wait(WAIT))
    graph = TaskGraph()
    members(graph, "db", 12)
    assert run(graph, executor, 8, limits={"db": 3}).ok
    recorder.check(graph)


def test_a_full_group_never_holds_back_other_work() -> None:
    gate = Gate()
    handler = FakeHandler({"first": gate})
    executor, recorder = executor_with(handler, limits={"db": 1})
    graph = TaskGraph()
    graph.add(grouped("first", "db", priority=9))
    held = [graph.add(grouped(f"held {n}", "db", priority=5)) for n in range(10)]
    others = [graph.add(make(f"other {n}")) for n in range(10)]
    last = graph.add(make("last"), after=others)
    future = background(lambda: graph.run(executor, 2))
    gate.wait_reached()
    while not last.is_succeeded:
        pass
    assert all(task.is_pending for task in held)
    gate.open()
    assert future.result(WAIT).ok
    assert handler.most_by_group["db"] == 1
    recorder.check(graph)


def test_members_of_a_group_start_in_the_order_of_priority() -> None:
    handler = FakeHandler()
    executor, _ = executor_with(handler, limits={"db": 1})
    graph = TaskGraph()
    for number in (3, 1, 4, 1, 5, 9, 2, 6):
        graph.add(grouped(str(number), "db", priority=number))
    run(graph, executor, 1)
    assert handler.calls == ["9", "6", "5", "4", "3", "2", "1", "1"]


def test_a_limit_of_the_executor_holds_over_runs_and_submissions() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler, limits={"db": 2, "web": 1}, max_workers=3)
    graphs = [TaskGraph(str(number)) for number in range(3)]
    for graph in graphs:
        members(graph, "db", 30)
        members(graph, "web", 10)
        members(graph, "free", 10)
    with executor:
        runs = [background(lambda graph=graph: graph.run(executor, 3)) for graph in graphs]
        jobs = [executor.submit(grouped(f"job {number}", "db")) for number in range(30)]
        for future in (*runs, *jobs):
            future.result(WAIT)
    assert all(graph.ok for graph in graphs)
    assert handler.most_by_group["db"] <= 2
    assert handler.most_by_group["web"] == 1
    recorder.check()


def test_a_run_waits_for_a_place_that_another_run_holds() -> None:
    gate = Gate()
    handler = FakeHandler({"holder": gate})
    executor, recorder = executor_with(handler, limits={"db": 1})
    first, second = TaskGraph("first"), TaskGraph("second")
    first.add(grouped("holder", "db"))
    waiter = second.add(grouped("waiter", "db"))
    free = second.add(make("free"))
    runs = [background(lambda: first.run(executor))]
    gate.wait_reached()
    runs.append(background(lambda: second.run(executor)))
    while not free.is_succeeded:
        pass
    assert waiter.is_pending
    gate.open()
    for future in runs:
        assert future.result(WAIT).ok
    recorder.check()


def test_limits_of_one_run_do_not_bind_another() -> None:
    barrier = threading.Barrier(2)
    executor, recorder = executor_with(lambda context: barrier.wait(WAIT))
    graphs = [TaskGraph("one"), TaskGraph("two")]
    for graph in graphs:
        members(graph, "db", 1)
    runs = [
        background(lambda graph=graph: graph.run(executor, limits={"db": 1})) for graph in graphs
    ]
    for future in runs:
        assert future.result(WAIT).ok
    recorder.check()


@pytest.mark.parametrize("ending", ["fails", "is cancelled", "times out", "is retried", "stopped"])
def test_a_place_is_given_back_however_a_task_ends(ending: str) -> None:
    steps: dict[str, Any] = {
        "fails": ValueError("boom"),
        "is cancelled": lambda context: context.cancel_token.cancel(),
        "times out": lambda context: context.wait_cancelled(WAIT),
        "is retried": [ValueError("boom"), "done"],
        "stopped": Obedient(),
    }
    executor, recorder = executor_with(FakeHandler({"first": steps[ending]}), limits={"db": 1})
    graph = TaskGraph()
    graph.add(
        grouped(
            "first",
            "db",
            priority=1,
            timeout=0.05 if ending == "times out" else None,
            retry=RetryPolicy(2, backoff=0.01) if ending == "is retried" else None,
        )
    )
    if ending == "stopped":
        future = background(lambda: graph.run(executor))
        steps[ending].wait_reached()
        graph.cancel()
        future.result(WAIT)
    else:
        graph.add(grouped("second", "db"))
        run(graph, executor)
        assert statuses(graph)["second"] == "succeeded"
    again = TaskGraph()
    members(again, "db", 2)
    assert run(again, executor).ok
    recorder.check()


def test_a_task_that_waits_for_a_place_can_be_cancelled() -> None:
    gate = Gate()
    executor, recorder = executor_with(FakeHandler({"first": gate}), limits={"db": 1})
    graph = TaskGraph()
    graph.add(grouped("first", "db", priority=1))
    held = graph.add(grouped("held", "db"))
    future = background(lambda: graph.run(executor))
    gate.wait_reached()
    assert executor.cancel(held)
    assert held.is_cancelled
    gate.open()
    future.result(WAIT)
    assert statuses(graph) == {"first": "succeeded", "held": "cancelled"}
    recorder.check(graph)


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("way", ["run", "execute", "deep"])
def test_a_nested_run_in_the_same_group_shares_the_place_and_does_not_wait_for_itself(
    workers: int, way: str
) -> None:
    most: list[int] = []
    inside = threading.Semaphore(0)
    lock = threading.Lock()
    now = 0

    def inner_work() -> None:
        nonlocal now
        with lock:
            now += 1
            most.append(now)
        with lock:
            now -= 1
        inside.release()

    def nested(context: TaskContext, depth: int) -> None:
        graph = TaskGraph(f"below {context.title}")
        for number in range(3):
            graph.add(grouped(f"{context.title}/{number}", "db", options={"depth": depth - 1}))
        graph.run(executor, workers)
        graph.raise_for_failure()

    def handler(context: TaskContext) -> None:
        depth = context.options["depth"]
        if depth == 0:
            inner_work()
        elif way == "execute" and context.title.startswith("outer"):
            executor.execute(make(f"between {context.title}", options={"depth": depth}))
        else:
            nested(context, depth)

    executor, recorder = executor_with(handler, limits={"db": 1})
    graph = TaskGraph()
    depth = 2 if way == "deep" else 1
    for number in range(3):
        graph.add(grouped(f"outer {number}", "db", options={"depth": depth}))
    assert run(graph, executor, workers).ok
    assert max(most) == 1
    assert len(most) == 3 ** (depth + 1)
    recorder.check()


def test_random_runs_never_exceed_any_limit() -> None:
    chance = random.Random(7)
    handler = FakeHandler()
    limits = {"a": 1, "b": 2, "c": 3}
    executor, recorder = executor_with(handler, limits=limits)
    graphs = []
    for name in range(3):
        graph = TaskGraph(str(name))
        tasks: list[Task] = []
        for number in range(80):
            group = chance.choice(["a", "b", "c", "free"])
            task = grouped(f"{name} {number}", group, priority=chance.randrange(3))
            tasks.append(graph.add(task, after=chance.sample(tasks, min(len(tasks), 2))))
        graphs.append(graph)
    runs = [background(lambda graph=graph: graph.run(executor, 4)) for graph in graphs]
    for future in runs:
        assert future.result(WAIT).ok
    for graph in graphs:
        recorder.check(graph)
    for group, limit in limits.items():
        assert handler.most_by_group[group] <= limit


# Several groups


@pytest.mark.parametrize("way", ["graph", "submit"])
def test_a_task_of_several_groups_counts_in_each(way: str) -> None:
    handler = FakeHandler()
    limits = {"a": 1, "b": 2, "c": 3}
    executor, recorder = executor_with(handler, limits=limits, max_workers=6)
    picks = [("a", "b"), ("b", "c"), ("c", "a"), ("a", "b", "c"), ("b",), ("free", "c")]
    tasks = [make(f"t{n}", payload=picks[n % 6], group=picks[n % 6]) for n in range(120)]
    with executor:
        if way == "submit":
            futures = [executor.submit(task) for task in tasks]
            assert all(future.result(WAIT) for future in futures)
        else:
            graph = TaskGraph()
            for task in tasks:
                graph.add(task)
            assert run(graph, executor, 6).ok
    for group, limit in limits.items():
        assert handler.most_by_group[group] <= limit
    recorder.check()


def test_a_place_that_a_task_cannot_use_yet_goes_to_the_next_one() -> None:
    blocker, gate = Gate(), Gate()
    handler = FakeHandler({"holds b": blocker, "holds a": gate})
    executor, _ = executor_with(handler, limits={"a": 1, "b": 1})
    graph = TaskGraph()
    graph.add(grouped("holds b", "b", priority=9))
    graph.add(grouped("holds a", "a", priority=8))
    both = graph.add(make("needs both", group=["a", "b"], priority=7))
    only = graph.add(grouped("needs a", "a"))
    running = background(lambda: run(graph, executor, 4))
    blocker.wait_reached()
    gate.wait_reached()
    ended = threading.Event()

    def note(event: TaskEvent) -> None:
        if event.task is only and event.status.is_sink:
            ended.set()

    executor.events.subscribe(note)
    gate.open()  # the place in a is no use to the task that needs b as well
    assert ended.wait(WAIT)
    assert both.is_pending
    blocker.open()
    assert running.result(WAIT).ok


def test_retries_and_cancellations_give_back_all_places() -> None:
    handler = FakeHandler({"retried": [OSError(), "value"]})
    executor, recorder = executor_with(handler, limits={"a": 1, "b": 1})
    graph = TaskGraph()
    graph.add(make("retried", group=("a", "b"), retry=2))
    graph.add(make("next", group=("b", "a")))
    assert run(graph, executor, 4).ok
    recorder.check(graph)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("db", "db"),
        (["db"], "db"),
        (("db", "net"), ("db", "net")),
        (["net", "db", "net"], ("net", "db")),
        ({"net", "db"}, ("db", "net")),
        ((), None),
        (None, None),
        ((name for name in ("x", "y")), ("x", "y")),
    ],
    ids=["one", "list of one", "tuple", "twice", "set", "empty", "none", "generator"],
)
def test_groups_are_kept_as_none_a_str_or_a_tuple(given: Any, kept: Any) -> None:
    task = make("t", group=given)
    assert task.group == kept
    task.group = kept
    assert task.group == kept


@pytest.mark.parametrize("wrong", ["", " ", 5, b"db", ["db", ""], ["db", 5], [["db"]]])
def test_bad_groups_are_named(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="group"):
        make("t", group=wrong)


def test_a_ledger_keeps_several_groups(tmp_path: Any) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        for group in (None, "db", ("db", "net")):
            task = make("t", group=group)
            store.tasks.save(task)
            assert store.tasks[task.id].group == group


# By type


def test_a_type_may_have_a_limit_of_its_own_beside_those_of_groups() -> None:
    handler = FakeHandler({f"t{number}": lambda context: None for number in range(6)})
    executor, recorder = executor_with(handler, limits={CUSTOM: 1, "g": 2})
    graph = TaskGraph()
    for number in range(6):
        graph.add(make(f"t{number}", group="g" if number % 2 else None))
    run(graph, executor, 4)
    assert graph.ok
    assert handler.most == 1
    recorder.check()


def test_a_limit_by_type_leaves_other_types_alone() -> None:
    gate = Gate()
    executor, _ = executor_with(gate, limits={CUSTOM: 1})
    other = TaskType("other")
    executor.register(other, lambda context: gate.open())
    graph = TaskGraph()
    graph.add(make("a"))
    graph.add(make("b"))
    graph.add(Task("c", None, other))
    run(graph, executor, 3)
    assert graph.ok


def test_a_run_may_limit_a_type_too_and_submitted_tasks_keep_to_it() -> None:
    handler = FakeHandler()
    executor, _ = executor_with(handler, limits={CUSTOM: 1})
    graph = TaskGraph()
    for number in range(4):
        graph.add(make(f"t{number}"))
    run(graph, executor, 4, limits={CUSTOM: 2})
    with executor:
        futures = [executor.submit(make(f"s{number}")) for number in range(4)]
        for future in futures:
            future.result(WAIT)
    assert handler.most == 1


def test_the_name_of_a_group_must_not_stand_for_a_type() -> None:
    with pytest.raises(ValueError, match="'type python'"):
        Task.bash("true", group="type python")
    with pytest.raises(ValueError, match="'type python'"):
        TaskExecutor(limits={"type python": 1})
