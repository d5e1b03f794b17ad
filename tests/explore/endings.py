"""Endings: families whose runs are stopped from outside."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from explore.drawing import (
    KINDS,
    draw_graph,
    draw_pause,
    draw_run,
    draw_task,
    draw_trouble,
)
from explore.plans import Action, Plan, Step, Subscriber


def resumed(random: Random) -> Plan:
    """A run takes up an earlier one, and is cancelled meanwhile."""
    count = random.randint(1, 3)
    tasks = tuple(draw_task(random, is_async=False, timeout=None) for _ in range(count))
    trouble = Action("cancel graph", 0) if random.random() < 0.7 else draw_trouble(random, count, 1)
    return Plan(
        tasks,
        (draw_graph(random, range(count), key="k"),),
        ((draw_run(random, 0, resume=True),), (*draw_pause(random), trouble)),
        earlier_run=True,
        slow_reads=random.choice([0.0, 2.0]),
    )


def interrupted(random: Random) -> Plan:
    """Ctrl-C while the main thread runs a graph or a task."""
    count = random.randint(1, 3)
    tasks = tuple(draw_task(random) for _ in range(count))
    start = draw_run(random, 0) if random.random() < 0.6 else Action("execute", 0)
    by_line = random.random() < 0.5
    return Plan(
        tasks,
        (draw_graph(random, range(count)),),
        ((start, Action("look")),),
        interrupts=(
            ()
            if by_line
            else tuple(int(2 ** random.uniform(2, 8)) for _ in range(random.choice([1, 1, 2])))
        ),
        interrupt_line=int(2 ** random.uniform(2, 11)) if by_line else None,
    )


def awaited(random: Random) -> Plan:
    """Coroutines outside wait for runs and tasks, and give up."""
    count = random.randint(1, 3)
    tasks = tuple(draw_task(random) for _ in range(count))
    actors = []
    for _ in range(random.choice([1, 1, 2])):
        options: tuple[tuple[str, object], ...] = ()
        if random.random() < 0.5:
            options = (("patience", random.choice([0.0, 1.0, 2.0])),)
        arun = Action("arun", 0, (*draw_run(random, 0).options, *options))
        actors.append([arun if random.random() < 0.6 else Action("aexecute", 0, options)])
    if random.random() < 0.5:
        actors.append([*draw_pause(random), draw_trouble(random, count, 1)])
    return Plan(tasks, (draw_graph(random, range(count)),), tuple(map(tuple, actors)))


def ended(random: Random) -> Plan:
    """The executor is shut down by a thread, a subscriber, a handler, or who waits for a future."""
    count = random.randint(1, 4)
    groups = random.random() < 0.4
    end = Action(
        "shutdown", 0, (("wait", random.random() < 0.6), ("cancel", random.random() < 0.7))
    )
    where = random.choice(["thread", "subscriber", "handler", "future", "everywhere"])
    tasks = []
    for number in range(count):
        task = draw_task(random, group="g" if groups and random.random() < 0.6 else None)
        if where in ("handler", "everywhere") and number == 0:
            step = Step("ok", random.choice([0.0, 1.0]), random.random() < 0.3, 1, end)
            task = replace(task, steps=(step,))
        tasks.append(task)
    submit_options = (("then", end),) if where in ("future", "everywhere") else ()
    submits = [Action("submit", random.randrange(count), submit_options) for _ in range(2)]
    start = draw_run(random, 0) if random.random() < 0.7 else Action("execute", 0)
    actors = [[start], submits] if groups or random.random() < 0.7 else [[start]]
    if where in ("thread", "everywhere"):
        actors.append([*draw_pause(random), end])
    subscribers = ()
    if where in ("subscriber", "everywhere"):
        subscribers = (Subscriber(random.choice(KINDS), end, random.choice([1, 2])),)
    return Plan(
        tuple(tasks),
        (draw_graph(random, range(count)),),
        tuple(map(tuple, actors)),
        subscribers,
        limits=(("g", 1),) if groups else (),
        log_last=random.random() < 0.5,
    )
