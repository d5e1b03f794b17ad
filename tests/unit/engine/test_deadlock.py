"""Tasks that wait, in runs of their own, for each other's places in groups."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from support import CUSTOM, WAIT, Gate, bounded, executor_with, make, run, statuses, wait
from ttasks import (
    RetryPolicy,
    Task,
    TaskContext,
    TaskExecutor,
    TaskGraph,
    TaskRejectedError,
)
from ttasks.engine.deadlock import Deadlock, Parked, find_deadlock
from ttasks.model.cancel import CancelToken


def task(title: str, *inner: Any, **options: Any) -> Task:
    """A task that runs a graph of these groups' tasks, each called "TITLE in GROUP"."""
    return Task(title, inner, CUSTOM, **options)


class Nest:
    """An executor whose tasks run graphs; those of the outermost graph begin together."""

    def __init__(self, count: int, way: str = "run", **limits: int) -> None:
        self.barrier = threading.Barrier(count, timeout=WAIT)
        self.way = way
        self.executor, self.events = executor_with(self.handle, limits=limits)
        self.inner: list[Task] = []
        self.deadlocks: list[str] = []

    def handle(self, context: TaskContext) -> None:
        if " in " not in context.title:
            self.barrier.wait()
        tasks = []
        for item in context.payload or ():
            group, below = item if isinstance(item, tuple) else (item, ())
            tasks.append(task(f"{context.title} in {group}", *below, group=group))
        if not tasks:
            return
        self.inner += tasks
        if self.way == "execute":
            for one in tasks:
                self.executor.execute(one)
            return
        graph = TaskGraph()
        for one in tasks:
            graph.add(one)
        graph.run(self.executor)
        graph.raise_for_failure()

    def run(self, *tasks: Task) -> dict[str, str]:
        graph = TaskGraph()
        for one in tasks:
            graph.add(one)
        with self.executor:
            run(graph, self.executor)
        self.events.check(graph)
        self.deadlocks = [str(one.error) for one in self.inner if "wait for ever" in str(one.error)]
        return statuses(graph)


@pytest.mark.parametrize("way", ["run", "execute"])
def test_of_two_tasks_that_want_each_others_group_one_fails(way: str) -> None:
    nest = Nest(2, way, a=1, b=1)
    found = nest.run(task("A", "b", group="a"), task("B", "a", group="b"))
    assert sorted(found.values()) == ["failed", "succeeded"]
    loser = "A" if found["A"] == "failed" else "B"
    winner, wanted, owned = ("B", "b", "a") if loser == "A" else ("A", "a", "b")
    assert nest.deadlocks == [
        f"Task '{loser} in {wanted}' would wait for ever for a place in group '{wanted}'; "
        f"'{winner}' has one, and runs '{winner} in {owned}', which waits for a place in group "
        f"'{owned}'; '{loser}' has one, and runs '{loser} in {wanted}', which waits for a place in "
        f"group '{wanted}'. Tasks that run others must not need each other's groups"
    ]
    (refused,) = [one for one in nest.inner if one.is_failed]
    assert refused.result is not None
    assert refused.result.termination_reason == "rejected"
    assert refused.result.attempts == 0


def test_a_circle_of_three_is_broken_once() -> None:
    nest = Nest(3, a=1, b=1, c=1)
    found = nest.run(
        task("A", "b", group="a"), task("B", "c", group="b"), task("C", "a", group="c")
    )
    assert sorted(found.values()) == ["failed", "succeeded", "succeeded"]
    assert len(nest.deadlocks) == 1


def test_places_of_a_task_in_several_groups_count_each() -> None:
    nest = Nest(2, a=1, b=1, c=1)
    found = nest.run(task("AB", "c", group=["a", "b"]), task("C", "b", group="c"))
    assert sorted(found.values()) == ["failed", "succeeded"]
    assert len(nest.deadlocks) == 1


def test_groups_with_several_places_are_full_of_tasks_that_wait() -> None:
    nest = Nest(4, a=2, b=2)
    found = nest.run(
        *(task(f"A{number}", "b", group="a") for number in range(2)),
        *(task(f"B{number}", "a", group="b") for number in range(2)),
    )
    # The one that fails gives its place to another, which ends, and so on.
    assert sorted(found.values()) == ["failed", "succeeded", "succeeded", "succeeded"]


def test_it_is_seen_through_tasks_without_a_group_in_between() -> None:
    nest = Nest(2, a=1, b=1)
    nest.executor.events.subscribe(lambda event: None)

    def inner(context: TaskContext) -> None:
        graph = TaskGraph()
        middle = graph.add(task(f"{context.title} in middle", *context.payload))
        assert middle.group is None
        if " in " in context.title:
            nest.handle(context)
        else:
            nest.barrier.wait()
            graph.run(nest.executor)
            graph.raise_for_failure()

    nest.executor.register(CUSTOM, inner)
    found = nest.run(task("A", "b", group="a"), task("B", "a", group="b"))
    assert sorted(found.values()) == ["failed", "succeeded"]
    assert len(nest.deadlocks) == 1


def test_a_task_that_will_get_its_place_waits_for_it() -> None:
    """A waits for b, whose holder waits for nothing but the gate."""
    gate = Gate()

    def handle(context: TaskContext) -> None:
        if context.title == "B":
            gate(context)
        elif context.title == "A":
            gate.wait_reached()
            inner = TaskGraph()
            inner.add(make("inner", group="b"))
            inner.run(executor)
            inner.raise_for_failure()

    executor, events = executor_with(handle, limits={"a": 1, "b": 1})
    parked = threading.Event()
    scheduler = executor._scheduler
    look = scheduler.find_deadlock

    def looked(run: Any) -> Any:
        parked.set()
        return look(run)

    scheduler.find_deadlock = looked  # type: ignore[method-assign]
    graph = TaskGraph()
    graph.add(make("A", group="a"))
    graph.add(make("B", group="b"))
    with executor:
        running = graph_in_background(graph, executor)
        wait(parked)
        gate.open()
        running.join(WAIT)
    assert statuses(graph) == {"A": "succeeded", "B": "succeeded"}
    events.check(graph)


def graph_in_background(graph: TaskGraph, executor: TaskExecutor) -> threading.Thread:
    thread = threading.Thread(target=graph.run, args=(executor,), daemon=True)
    thread.start()
    return thread


class FakeAttempt:
    """What `find_deadlock` looks at of an attempt."""

    def __init__(self, title: str, group: str | None = None, *, cancelled: bool = False) -> None:
        self.task = make(title)
        self.group = group
        self.token = CancelToken()
        if cancelled:
            self.token.cancel()


class FakeRun:
    """What `find_deadlock` looks at of a run."""

    def __init__(self, outer: FakeAttempt | None, *alive: FakeAttempt, parked: str = "") -> None:
        self.outer: Any = outer
        self.attempts: list[Any] = list(alive)
        self.waits = [Parked(7, make("parked"), group, 2) for group in parked]

    def alive(self) -> list[Any]:
        return self.attempts

    def groups_held_by(self, attempt: Any) -> list[str]:
        return [] if attempt.group is None else [attempt.group]

    def parked(self, awaited: Any = ()) -> list[Parked]:
        return self.waits


def found(*, cancelled: bool = False, present: int = 2, other: str = "a") -> Deadlock | None:
    """Look at runs of which both places of each group are held by tasks that wait for the other."""
    firsts = [FakeAttempt(f"A{at}", "a", cancelled=cancelled and not at) for at in range(present)]
    seconds = [FakeAttempt(f"B{at}", "b") for at in range(2)]
    runs = [
        FakeRun(None, *firsts, *seconds),
        *(FakeRun(one, parked="b") for one in firsts),
        *(FakeRun(one, parked=other) for one in seconds),
    ]
    return find_deadlock(runs[1], runs, {})


def test_who_waits_for_whom() -> None:
    deadlock = found()
    assert deadlock is not None
    assert deadlock.parked.node == 7
    assert [(who.task.title, then.group) for who, _, then in deadlock.chain] == [
        ("B0", "a"),
        ("A0", "b"),
    ]


def test_a_cancelled_holder_ends_soon() -> None:
    assert found(cancelled=True) is None


def test_a_place_that_was_just_given_away_may_become_free() -> None:
    assert found(present=1) is None


def test_a_run_that_waits_for_a_third_group_may_get_it() -> None:
    assert found(other="c") is None


def test_the_run_that_looks_must_be_part_of_it() -> None:
    """Somebody else's deadlock is refused there."""
    firsts = [FakeAttempt(f"A{at}", "a") for at in range(2)]
    seconds = [FakeAttempt(f"B{at}", "b") for at in range(2)]
    me = FakeAttempt("me", "c")
    runs = [
        FakeRun(None, *firsts, *seconds, me),
        *(FakeRun(one, parked="b") for one in firsts),
        *(FakeRun(one, parked="a") for one in seconds),
        FakeRun(me, FakeAttempt("works")),
    ]
    assert find_deadlock(runs[-1], runs, {}) is None
    assert find_deadlock(runs[0], runs, {}) is None
    assert find_deadlock(runs[1], runs, {}) is not None


def test_a_refused_task_is_not_tried_again() -> None:
    nest = Nest(2, a=1, b=1)
    inner: list[Task] = []

    def handle(context: TaskContext) -> None:
        if context.payload:
            nest.barrier.wait()
            graph = TaskGraph()
            inner.append(
                graph.add(make(context.title + " inner", group=context.payload, retry=TWICE))
            )
            graph.run(nest.executor)

    nest.executor.register(CUSTOM, handle)
    nest.run(Task("A", "b", CUSTOM, group="a"), Task("B", "a", CUSTOM, group="b"))
    assert sorted(one.status.value for one in inner) == ["failed", "succeeded"]
    (refused,) = [one for one in inner if one.is_failed]
    assert refused.result is not None
    assert refused.result.attempts == 0


TWICE = RetryPolicy(2)


@pytest.mark.parametrize("way", ["run", "execute", "arun", "aexecute"])
def test_a_task_and_what_it_runs_share_the_only_place_of_their_group(way: str) -> None:
    async def wait_for(context: TaskContext) -> None:
        if way == "aexecute":
            await executor.aexecute(make("inner", group="a"))
        else:
            inner = TaskGraph()
            inner.add(make("inner", group="a"))
            await inner.arun(executor)

    def handle(context: TaskContext) -> Any:
        ran.append(context.title)
        if context.title == "inner":
            return None
        if way.startswith("a"):
            return wait_for(context)
        inner = TaskGraph()
        one = inner.add(make("inner", group="a"))
        return inner.run(executor) and None if way == "run" else executor.execute(one) and None

    ran: list[str] = []
    executor, _ = executor_with(handle, limits={"a": 1})
    with executor:
        bounded(lambda: executor.execute(make("outer", group="a")))
    assert ran == ["outer", "inner"]


def test_aexecute_in_a_group_raises_what_the_task_raised() -> None:
    def fail(context: TaskContext) -> Any:
        async def outer() -> str:
            with pytest.raises(ZeroDivisionError):
                await executor.aexecute(make("inner", group="a"))
            return "caught"

        return 1 / 0 if context.title == "inner" else outer()

    executor, _ = executor_with(fail, limits={"a": 1})
    with executor:
        assert bounded(lambda: executor.execute(make("outer", group="a"))).value == "caught"


def test_aexecute_in_a_group_is_cancelled_with_its_caller() -> None:
    inner = make("inner", group="a")
    gate = threading.Event()

    def handle(context: TaskContext) -> Any:
        async def outer() -> None:
            waiting = asyncio.create_task(executor.aexecute(inner))
            await asyncio.to_thread(wait, gate)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        if context.title == "outer":
            return outer()
        gate.set()
        context.wait_cancelled(WAIT)
        return context.raise_if_cancelled()

    executor, _ = executor_with(handle, limits={"a": 1})
    with executor:
        bounded(lambda: executor.execute(make("outer", group="a")))
    assert inner.is_cancelled


def test_the_message_shows_no_secret() -> None:
    barrier = threading.Barrier(2, timeout=WAIT)
    raised: list[BaseException] = []

    def handle(context: TaskContext) -> None:
        if context.payload:
            barrier.wait()
            try:
                executor.execute(make("hunter2", group=context.payload))
            except TaskRejectedError as error:
                raised.append(error)

    executor, _ = executor_with(handle, limits={"a": 1, "b": 1}, redact=["hunter2"])
    graph = TaskGraph()
    graph.add(Task("A", "b", CUSTOM, group="a"))
    graph.add(Task("B", "a", CUSTOM, group="b"))
    with executor:
        run(graph, executor)
    assert len(raised) == 1
    assert "'***'" in str(raised[0])
    assert "hunter2" not in str(raised[0])
