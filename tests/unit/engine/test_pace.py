"""One worker goes on alone while every task is quick, and never holds up one that is not."""

from __future__ import annotations

import asyncio
import threading
from threading import Barrier

import pytest

from ttasks import (
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskType,
)
from ttasks.engine.pace import LOOK_SECONDS, QUICK_IN_ALL_SECONDS, QUICK_SECONDS, STREAK, Pace

KIND = TaskType("work")
QUICK = QUICK_SECONDS / 2


ONE, OTHER = 1, 2


def after_a_streak() -> Pace:
    it = Pace()
    it.is_watched = True
    for _ in range(STREAK):
        assert not it.begins(ONE)
        assert not it.holds(ONE)
        it.note(QUICK, QUICK)
    return it


def with_a_runner() -> Pace:
    it = after_a_streak()
    assert it.begins(ONE)
    return it


def test_after_a_streak_the_first_that_asks_goes_on_and_the_others_rest() -> None:
    it = after_a_streak()
    assert not it.holds(OTHER)
    assert it.begins(ONE)
    assert not it.begins(OTHER)
    assert it.holds(OTHER)
    assert not it.holds(ONE)
    assert it.runner == ONE


@pytest.mark.parametrize(
    "took", [(QUICK_SECONDS, 0.0), (1.0, 1.0), (float("inf"), 0.0), (0.0, QUICK_IN_ALL_SECONDS)]
)
def test_two_tasks_that_are_not_quick_end_it(took: tuple[float, float]) -> None:
    it = with_a_runner()
    it.note(*took)
    assert it.runner == ONE  # one alone may be an accident
    it.note(*took)
    assert it.runner is None
    assert not it.begins(OTHER)


def test_a_runner_that_has_nothing_to_do_is_none() -> None:
    it = with_a_runner()
    it.leave(OTHER)
    assert it.runner == ONE
    it.leave(ONE)
    assert it.runner is None


def test_a_runner_that_takes_nothing_is_stuck() -> None:
    it = with_a_runner()
    it.holds(ONE)
    assert not it.is_stuck(10.0)
    it.holds(ONE)
    assert not it.is_stuck(11.0)
    it.holds(OTHER)
    assert not it.is_stuck(11.0 + LOOK_SECONDS / 2)
    assert it.is_stuck(11.0 + LOOK_SECONDS)
    it.reset()
    assert not it.is_stuck(12.0)


def test_without_a_supervisor_that_looks_nobody_goes_on_alone() -> None:
    it = after_a_streak()
    it.is_watched = False
    assert not it.begins(ONE)
    assert not it.holds(OTHER)


@pytest.mark.parametrize("rounds", range(5))
def test_tasks_that_wait_for_each_other_run_at_once_after_many_quick_ones(rounds: int) -> None:
    barrier = Barrier(4)
    names = set()

    def work(context: TaskContext) -> None:
        if context.payload == "meet":
            names.add(threading.current_thread().name)
            barrier.wait(20)

    graph = TaskGraph()
    before = None
    for _ in range(rounds + 1):
        quick = [graph.add(Task("quick", None, KIND), after=before or ()) for _ in range(200)]
        before = [graph.add(Task("meet", "meet", KIND), after=quick[-1]) for _ in range(4)]
    with TaskExecutor() as executor:
        executor.register(KIND, work)
        graph.run(executor, max_workers=4)
    assert graph.ok
    assert len(names) == 4


@pytest.mark.parametrize("waits", ["guard", "subscriber"])
def test_what_waits_beside_the_handler_waits_at_once(waits: str) -> None:
    # Four of them have to be there at the same time, again and again, or the barrier breaks.
    barrier = Barrier(4)

    def meet(_: object) -> None:
        barrier.wait(20)

    graph = TaskGraph()
    for _ in range(4 * STREAK):
        graph.add(Task("quick", None, KIND))
    guards = [meet] if waits == "guard" else []
    with TaskExecutor(guards=guards) as executor:
        executor.register(KIND, lambda context: None)
        if waits == "subscriber":
            executor.events.subscribe(meet, types=TaskEventType.STARTED)
        graph.run(executor, max_workers=4)
        assert executor.events.errors == []
    assert graph.ok


def test_coroutines_that_end_do_not_hide_a_runner_that_is_stuck() -> None:
    over = threading.Event()
    waited = []

    async def tick(context: TaskContext) -> None:
        await asyncio.sleep(0.002)

    def work(context: TaskContext) -> None:
        if context.payload == "wait":
            waited.append(over.wait(20))
        elif context.payload == "end":
            over.set()

    ticking = TaskType("tick")
    graph = TaskGraph()
    ticks = graph.add(Task("tick", None, ticking))
    for _ in range(2000):  # longer than anybody waits, if nothing goes on
        ticks = graph.add(Task("tick", None, ticking), after=ticks)
    quick = [graph.add(Task("quick", None, KIND)) for _ in range(4 * STREAK)]
    graph.add(Task("wait", "wait", KIND), after=quick)
    end = graph.add(Task("end", "end", KIND), after=quick)
    with TaskExecutor() as executor:
        executor.register(KIND, work)
        executor.register(ticking, tick)

        def stop(event: TaskEvent) -> None:
            if event.task is end:
                graph.cancel()

        executor.events.subscribe(stop, types=TaskEventType.SUCCEEDED)
        graph.run(executor, max_workers=4)
    assert waited == [True]
    assert ticks.is_cancelled  # they went on all the time


def test_a_supervisor_that_is_busy_does_not_leave_a_runner_alone() -> None:
    over, begun = threading.Event(), threading.Event()
    waited = []

    async def hang(context: TaskContext) -> None:
        await asyncio.sleep(60)

    def work(context: TaskContext) -> None:
        if context.payload == "wait":
            begun.wait(20)
            waited.append(over.wait(20))
        elif context.payload == "end":
            over.set()

    def hold_up(event: TaskEvent) -> None:
        if event.task is stuck:
            begun.set()
            waited.append(over.wait(20))

    hanging = TaskType("hang")
    graph = TaskGraph()
    stuck = graph.add(Task("hang", None, hanging, timeout=0.05))
    quick = [graph.add(Task("quick", None, KIND)) for _ in range(4 * STREAK)]
    graph.add(Task("wait", "wait", KIND), after=quick)
    for _ in range(4 * STREAK):
        quick.append(graph.add(Task("quick", None, KIND), after=quick[-1]))
    graph.add(Task("end", "end", KIND), after=quick)
    with TaskExecutor() as executor:
        executor.register(KIND, work)
        executor.register(hanging, hang)
        executor.events.subscribe(hold_up, types=TaskEventType.FAILED)
        graph.run(executor, max_workers=4)
    assert waited == [True, True]
