"""Families: ways to draw a plan from a seed, each with its kind of trouble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from explore.drawing import (
    draw_graph,
    draw_pause,
    draw_run,
    draw_shutdown,
    draw_step,
    draw_subscriber,
    draw_task,
    draw_trouble,
)
from explore.endings import awaited, ended, interrupted, resumed
from explore.plans import Action, Plan, Step, Subscriber, TaskPlan


def anything(random: Random) -> Plan:
    """A bit of everything."""
    count = random.randint(1, 6)
    groups = random.random() < 0.3
    tasks = tuple(
        draw_task(random, group="g" if groups and random.random() < 0.6 else None)
        for _ in range(count)
    )
    graphs = [draw_graph(random, range(count), key="k")]
    if random.random() < 0.4:
        graphs.append(draw_graph(random, sorted(random.sample(range(count), (count + 1) // 2))))
    calls = []
    for number in range(len(graphs)):
        calls.append(draw_run(random, number, resume=random.random() < 0.2 and number == 0))
    for _ in range(random.choice([0, 1, 2])):
        verb = "submit" if groups else random.choice(["execute", "submit"])
        calls.append(Action(verb, random.randrange(count)))
    random.shuffle(calls)
    actors: list[list[Action]] = [[] for _ in range(random.randint(1, 3))]
    for call in calls:
        random.choice(actors).append(call)
    for _ in range(random.choice([0, 1, 1, 2])):
        trouble = draw_trouble(random, count, len(graphs))
        actors.append([*draw_pause(random), trouble])
    interrupts: tuple[int, ...] = ()
    if random.random() < 0.15:
        interrupts = tuple(int(2 ** random.uniform(2, 9)) for _ in range(random.choice([1, 1, 2])))
    broken: frozenset[int] = frozenset()
    if random.random() < 0.15:
        broken = frozenset(random.sample(range(30), random.randint(1, 4)))
    return Plan(
        tasks,
        tuple(graphs),
        tuple(tuple(actor) for actor in actors),
        tuple(
            draw_subscriber(random, count, len(graphs)) for _ in range(random.choice([0, 0, 1, 2]))
        ),
        limits=(("g", random.randint(1, 2)),) if groups else (),
        store=random.choice(["shelf"] * 6 + ["ledger", None, None]),
        broken_saves=broken,
        strict=bool(broken) and random.random() < 0.4,
        earlier_run=random.random() < 0.3,
        interrupts=interrupts,
        guards=random.random() < 0.1,
        log_last=random.random() < 0.5,
    )


def calm(random: Random) -> Plan:
    """One run that nobody disturbs: what comes of it does not depend on the interleaving."""
    count = random.randint(2, 6)
    groups = random.random() < 0.4
    tasks = []
    for _ in range(count):
        attempts = random.choice([1, 1, 2, 3])
        kinds = ["fail"] * (attempts - 1) + [random.choice(["ok", "ok", "fail", "cancelled"])]
        steps = tuple(
            Step(kind, random.choice([0.0, 0.0, 1.0]), reports=random.choice([0, 1]))
            for kind in kinds
        )
        tasks.append(
            TaskPlan(
                steps,
                is_async=random.random() < 0.3,
                timeout=random.choice([None, None, 60.0]),
                attempts=attempts,
                backoff=random.choice([0.0, 1.0]),
                group="g" if groups and random.random() < 0.6 else None,
            )
        )
    run = Action("run", 0, (("max_workers", random.randint(1, 3)),))
    return Plan(
        tuple(tasks),
        (draw_graph(random, range(count)),),
        ((run,), (Action("look"), Action("look"))),
        limits=(("g", random.randint(1, 2)),) if groups else (),
        tags=frozenset({"calm"}),
    )


def shared(random: Random) -> Plan:
    """Two graphs that share tasks run at once."""
    count = random.randint(2, 4)
    tasks = tuple(
        draw_task(random, timeout=None, is_async=random.random() < 0.2) for _ in range(count)
    )
    both = draw_graph(random, range(count), policies=random.random() < 0.3)
    other = draw_graph(random, range(count), policies=random.random() < 0.3)
    actors = [
        [draw_run(random, 0, stops=0.0)],
        [*draw_pause(random), draw_run(random, 1, stops=0.0)],
    ]
    if random.random() < 0.3:
        actors.append([*draw_pause(random), draw_trouble(random, count, 2)])
    return Plan(tasks, (both, other), tuple(tuple(actor) for actor in actors))


def again(random: Random) -> Plan:
    """Several threads start the same few tasks, over and over."""
    count = random.randint(1, 2)
    tasks = tuple(
        TaskPlan(
            (Step(random.choice(["fail", "ok"]), random.choice([0.0, 0.0, 1.0])), Step("fail")),
            attempts=random.choice([1, 1, 2]),
            is_async=random.random() < 0.2,
        )
        for _ in range(count)
    )
    graphs = (draw_graph(random, range(count), policies=False),)
    actors = tuple(
        tuple(
            draw_run(random, 0)
            if random.random() < 0.3
            else Action(random.choice(["execute", "submit"]), random.randrange(count))
            for _ in range(random.randint(1, 2))
        )
        for _ in range(random.randint(2, 3))
    )
    return Plan(tasks, graphs, actors, store=random.choice(["shelf", None]))


def slow(random: Random) -> Plan:
    """Subscribers take their time while tasks are cancelled and run out of time."""
    count = random.randint(1, 3)
    tasks = tuple(
        draw_task(
            random,
            steps=(Step("ok", random.choice([0.0, 1.0, 4.0]), random.random() < 0.5, 1),),
            timeout=random.choice([None, 1.0, 2.0]),
        )
        for _ in range(count)
    )
    subscribers = tuple(
        Subscriber(
            random.choice(["started", "output", "progress", "failed", "cancelled", None]),
            # Together they stay under what the end of an attempt waits for them, 10 s.
            Action("sleep", random.choice([1, 3, 4])),
            random.choice([1, 2]),
        )
        for _ in range(random.randint(1, 2))
    )
    starts = [
        draw_run(random, 0) if random.random() < 0.7 else Action("submit", random.randrange(count))
    ]
    trouble = [*draw_pause(random), draw_trouble(random, count, 1)]
    return Plan(
        tasks,
        (draw_graph(random, range(count)),),
        (tuple(starts), tuple(trouble)),
        subscribers,
        log_last=random.random() < 0.7,
        tags=frozenset({"punctual"}),
    )


def coroutines(random: Random) -> Plan:
    """Coroutines with odd ends, short times, retries without a pause; subscribers shut down."""
    count = random.randint(1, 3)
    tasks = tuple(
        draw_task(
            random,
            steps=tuple(draw_step(random, odd=0.3) for _ in range(2)),
            is_async=True,
            attempts=random.choice([1, 2, 3]),
            backoff=random.choice([0.0, 0.0, 1.0]),
            timeout=random.choice([None, 1.0, 2.0]),
        )
        for _ in range(count)
    )
    subscribers: tuple[Subscriber, ...] = ()
    if random.random() < 0.5:
        kind = random.choice(["succeeded", "failed", "cancelled", None])
        subscribers = (Subscriber(kind, draw_shutdown(random), title=random.randrange(count)),)
    actors = [[draw_run(random, 0)]]
    if random.random() < 0.4:
        actors.append([*draw_pause(random), draw_trouble(random, count, 1)])
    return Plan(
        tasks,
        (draw_graph(random, range(count)),),
        tuple(tuple(actor) for actor in actors),
        subscribers,
    )


def nested(random: Random) -> Plan:
    """Handlers run graphs of their own."""
    count = random.randint(1, 3)
    tasks = tuple(
        draw_task(
            random,
            steps=(
                Step(
                    random.choice(["nested", "nested", "ok"]),
                    random.choice([0.0, 1.0, 2.0]),
                    random.random() < 0.3,
                ),
            ),
            is_async=False,
        )
        for _ in range(count)
    )
    actors = [[draw_run(random, 0)], [*draw_pause(random), draw_trouble(random, count, 1)]]
    return Plan(tasks, (draw_graph(random, range(count)),), tuple(map(tuple, actors)))


def grouped(random: Random) -> Plan:
    """Groups with few places, retries and cancellations."""
    count = random.randint(2, 5)
    tasks = tuple(
        draw_task(random, group=random.choice(["g", "g", "h", None])) for _ in range(count)
    )
    actors = [[draw_run(random, 0)]]
    for _ in range(random.choice([0, 1, 2])):
        actors.append([Action("submit", random.randrange(count))])
    if random.random() < 0.4:
        actors.append([*draw_pause(random), draw_trouble(random, count, 1)])
    return Plan(
        tasks,
        (draw_graph(random, range(count)),),
        tuple(map(tuple, actors)),
        limits=(("g", 1), ("h", random.randint(1, 2))),
        breaks=random.random() < 0.3,
    )


def ledger(random: Random) -> Plan:
    """Threads write to a ledger at once, and Ctrl-C strikes one of them."""
    count = random.randint(2, 4)
    tasks = tuple(draw_task(random, is_async=False) for _ in range(count))
    actors = [
        [Action("save", random.randrange(count)) for _ in range(random.randint(1, 2))]
        for _ in range(random.randint(1, 3))
    ]
    if random.random() < 0.5:
        actors.insert(0, [draw_run(random, 0), Action("save", 0)])
    is_struck = random.random() < 0.6
    return Plan(
        tasks,
        (draw_graph(random, range(count)),),
        tuple(map(tuple, actors)),
        store="ledger",
        interrupt_line=int(2 ** random.uniform(3, 10)) if is_struck else None,
    )


def queued(random: Random) -> Plan:
    """Submitted tasks that are tried again, in full groups, and cancelled meanwhile."""
    count = random.randint(1, 3)
    tasks = tuple(
        draw_task(
            random,
            attempts=random.choice([2, 3]),
            group=random.choice(["g", "g", "h", None]),
        )
        for _ in range(count)
    )
    actors = [
        [Action("submit", random.randrange(count)) for _ in range(random.randint(1, 3))]
        for _ in range(random.randint(1, 2))
    ]
    if random.random() < 0.3:
        actors.append([draw_run(random, 0)])
    for _ in range(random.randint(1, 2)):
        verb = random.choice(["cancel", "cancel", "cancel task", "cancel futures", "shutdown"])
        trouble = Action(verb, random.randrange(count))
        if verb == "shutdown":
            trouble = draw_shutdown(random)
        actors.append([*draw_pause(random), trouble])
    subscribers = ()
    if random.random() < 0.3:
        subscribers = (draw_subscriber(random, count, 1),)
    return Plan(
        tasks,
        (draw_graph(random, range(count)),),
        tuple(map(tuple, actors)),
        subscribers,
        limits=(("g", 1), ("h", random.randint(1, 2))),
    )


def two_executors(random: Random) -> Plan:
    """Two executors run the same tasks, each with subscribers of its own."""
    count = random.randint(1, 3)
    tasks = tuple(draw_task(random, is_async=random.random() < 0.2) for _ in range(count))
    graphs = tuple(draw_graph(random, range(count), policies=False) for _ in range(2))
    actors = []
    for number in range(2):
        by = ("executor", number)
        start = draw_run(random, number, stops=0.1)
        if random.random() < 0.4:
            start = Action(random.choice(["execute", "submit"]), random.randrange(count))
        start = replace(start, options=(*start.options, by))
        actors.append([*draw_pause(random), start])
    if random.random() < 0.5:
        trouble = draw_trouble(random, count, 2)
        if trouble.verb in ("cancel", "shutdown"):
            trouble = replace(trouble, options=(*trouble.options, ("executor", 1)))
        actors.append([*draw_pause(random), trouble])
    return Plan(tasks, graphs, tuple(map(tuple, actors)), executors=2)


def draw_service(random: Random) -> TaskPlan:
    kind = random.choice(["stay", "stay", "stay", "fail", "ok"])
    seconds = random.choice([0.0, 1.0, 2.0])
    return TaskPlan(
        (Step(kind, seconds, random.random() < 0.1, reports=random.choice([0, 1])),),
        attempts=random.choice([1, 1, 2]),
        backoff=random.choice([0.0, 1.0]),
        priority=random.choice([0.0, 1.0]),
        timeout=random.choice([None, None, None, 2.0]),
        group=random.choice([None, None, "g"]),
        asks=random.choice([0, 1, 1, 3, -1]),
    )


def services(random: Random) -> Plan:
    """Services that others use, die, are never ready, and are stopped in the middle."""
    count = random.randint(2, 6)
    served = random.choice([0.3, 0.6])
    tasks = tuple(
        draw_service(random)
        if random.random() < served
        else draw_task(random, timeout=None, group=random.choice([None, None, "g"]))
        for _ in range(count)
    )
    graphs = [draw_graph(random, range(count))]
    actors = [[draw_run(random, 0)]]
    if random.random() < 0.2:
        graphs.append(draw_graph(random, range(count)))
        actors.append([*draw_pause(random), draw_run(random, 1)])
    if random.random() < 0.5:
        actors.append([*draw_pause(random), draw_trouble(random, count, 1)])
    interrupts: tuple[int, ...] = ()
    if random.random() < 0.2:
        interrupts = tuple(int(2 ** random.uniform(2, 9)) for _ in range(random.choice([1, 1, 2])))
    return Plan(
        tasks,
        tuple(graphs),
        tuple(map(tuple, actors)),
        limits=(("g", random.randint(1, 2)),),
        interrupts=interrupts,
        strict=random.random() < 0.2,
        broken_saves=frozenset(random.sample(range(20), 1))
        if random.random() < 0.1
        else frozenset(),
    )


FAMILIES: dict[str, Callable[[Random], Plan]] = {
    "anything": anything,
    "calm": calm,
    "shared": shared,
    "again": again,
    "slow": slow,
    "coroutines": coroutines,
    "resumed": resumed,
    "interrupted": interrupted,
    "nested": nested,
    "grouped": grouped,
    "awaited": awaited,
    "ledger": ledger,
    "ended": ended,
    "queued": queued,
    "two_executors": two_executors,
    "services": services,
}
"""By name. Seed n plays family n modulo their number, so that each has its share."""
