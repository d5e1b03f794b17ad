"""Drawing: parts of plans from a seed, for the families."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from explore.plans import Action, GraphPlan, Node, Step, Subscriber, TaskPlan
from ttasks import DependencyPolicy

POLICIES = tuple(DependencyPolicy)


def draw_step(random: Random, *, odd: float = 0.1) -> Step:
    kind = random.choice(["ok", "ok", "ok", "fail", "fail", "cancelled"])
    if random.random() < odd:
        kind = random.choice(["odd", "frozen", "exit"])
    return Step(
        kind,
        seconds=random.choice([0.0, 0.0, 0.0, 1.0, 2.0, 5.0]),
        stubborn=random.random() < 0.2,
        reports=random.choice([0, 0, 1, 2]),
    )


def draw_task(random: Random, **fixed: object) -> TaskPlan:
    attempts = random.choice([1, 1, 1, 2, 3])
    values: dict[str, object] = {
        "steps": tuple(draw_step(random) for _ in range(random.randint(1, attempts))),
        "is_async": random.random() < 0.3,
        "timeout": random.choice([None, None, None, 1.0, 1.5, 3.0]),
        "attempts": attempts,
        "backoff": random.choice([0.0, 0.0, 1.0]),
        "priority": random.choice([0.0, 0.0, 1.0]),
    }
    return TaskPlan(**{**values, **fixed})  # type: ignore[arg-type]


def draw_graph(
    random: Random, tasks: Sequence[int], *, key: str | None = None, policies: bool = True
) -> GraphPlan:
    nodes: list[Node] = []
    for at, task in enumerate(tasks):
        after = tuple(other for other in tasks[:at] if random.random() < 0.4)
        policy = random.choice(POLICIES) if policies and random.random() < 0.4 else POLICIES[0]
        assert POLICIES[0] is DependencyPolicy.BLOCK
        is_last = random.random() < 0.25
        nodes.append(Node(task, after, is_last, random.random() < 0.8, policy))
    return GraphPlan(tuple(nodes), key)


def draw_run(random: Random, graph: int, *, stops: float = 0.2, resume: bool = False) -> Action:
    options: list[tuple[str, object]] = [("max_workers", random.randint(1, 3))]
    if random.random() < stops:
        options.append(("fail_fast", True))
    if random.random() < stops:
        options.append(("timeout", random.choice([0.5, 1.0, 3.0])))
    if random.random() < stops:
        options.append(("finally_timeout", 1.0))
    if random.random() < 0.2:
        options.append(("retry_budget", random.choice([0, 1, 2])))
    if resume:
        options.append(("resume", True))
    return Action("run", graph, tuple(options))


def draw_shutdown(random: Random, *, cancels: float = 0.3) -> Action:
    options = (("wait", random.random() < 0.6), ("cancel", random.random() < cancels))
    return Action("shutdown", 0, options)


def draw_trouble(random: Random, tasks: int, graphs: int) -> Action:
    """Something that another thread does meanwhile."""
    verb = random.choice(
        ["cancel"] * 3 + ["cancel graph"] * 3 + ["cancel task", "look", "shutdown"]
    )
    if verb == "shutdown":
        return draw_shutdown(random)
    if verb == "cancel graph" or verb == "look":
        return Action(verb, random.randrange(graphs)) if graphs else Action("sleep", 1)
    return Action(verb, random.randrange(tasks))


KINDS = [None, "started", "progress", "output", "succeeded", "failed", "cancelled", "blocked"]


def draw_subscriber(random: Random, tasks: int, graphs: int) -> Subscriber:
    kind = random.choice(KINDS)
    drawn = random.random()
    if drawn < 0.3:
        action = Action("sleep", random.choice([1, 3]))
    elif drawn < 0.5:
        action = Action(random.choice(["raise", "raise frozen"]))
    elif drawn < 0.6:
        action = Action("submit", random.randrange(tasks))
    elif drawn < 0.7:
        kind, action = "failed", Action("execute", -1)  # the task of the event
    else:
        action = draw_trouble(random, tasks, graphs)
    return Subscriber(kind, action, random.choice([1, 1, 2]))


def draw_pause(random: Random) -> list[Action]:
    return [Action("sleep", random.choice([0, 1, 2, 3]))] if random.random() < 0.4 else []
