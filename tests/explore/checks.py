"""Checks: what must hold after every run, whatever its interleaving was."""

from __future__ import annotations

from explore.evidence import (
    actions_of,
    events_of,
    moved_by_hand,
    reactions_of,
    run_seen,
    runs_of,
    started_alone,
    target_of,
)
from explore.log import ENDS, RUN_ENDS
from explore.order import task_problems
from explore.world import World
from property.oracle import final_statuses
from ttasks import Task, TaskStatus, TTasksError
from ttasks.model.task import is_service


def check(world: World) -> list[str]:
    """What is wrong with a run that has ended; nothing if all is well."""
    problems: list[str] = []
    for task in world.tasks:
        problems += task_problems(world, task)
    problems += _future_problems(world)
    problems += _dependency_problems(world)
    problems += _call_problems(world)
    problems += _run_problems(world)
    problems += _cancel_problems(world)
    problems += _shutdown_problems(world)
    problems += _inner_problems(world)
    problems += _service_problems(world)
    if "calm" in world.plan.tags:
        problems += _calm_problems(world)
    return problems


# Between tasks


def _future_problems(world: World) -> list[str]:
    problems = []
    for task, future in world.futures:
        if not future.done():
            problems.append(f"the future of {task.title} is not done")
        elif not future.cancelled() and future.exception() is None:
            ends = [event.kind for event in events_of(world, task.title)]
            if "succeeded" not in ends or future.result().status is not TaskStatus.SUCCEEDED:
                problems.append(f"the future of {task.title} has a result: {ends}")
    return problems


def _dependency_problems(world: World) -> list[str]:
    """No task starts, or is blocked, before what it depends on has ended for good."""
    problems = []
    ended: dict[str, set[str]] = {}
    alone = started_alone(world.plan)
    by_hand = moved_by_hand(world)
    for entry in world.log:
        if entry.what != "event":
            continue
        if entry.kind == "ready" or (entry.kind in ENDS and entry.retry_in is None):
            ended.setdefault(entry.name, set()).add(entry.kind)
        if entry.kind == "blocked" and entry.blocked_by is not None:
            blocker = next(task for task in world.tasks if task.id == entry.blocked_by).title
            failed = ended.get(blocker, set()) & {"failed", "cancelled", "blocked"}
            elsewhere = len(world.graphs) > 1 and is_service(_task(world, blocker))
            if not failed and blocker not in by_hand and not elsewhere:
                problems.append(f"{entry.name} is blocked by {blocker}, which did not fail")
        begins = entry.kind == "started" and entry.attempt == 1 and entry.name not in alone
        if begins and not _may_start(world, entry.name, by_hand.union(ended)):
            problems.append(f"{entry.name} started before what it depends on had ended")
    return problems


def _task(world: World, title: str) -> Task:
    return next(task for task in world.tasks if task.title == title)


def _may_start(world: World, title: str, ended: set[str]) -> bool:
    """True if one of its graphs lets a task start once these have ended."""
    graphs = [graph for graph in world.graphs if any(task.title == title for task in graph)]
    for graph in graphs:
        task = next(task for task in graph if task.title == title)
        if all(
            up.title in ended
            or (up.result is not None and up.result.reused)
            or (len(world.graphs) > 1 and is_service(up))  # the other graph may run it
            for up in graph.dependencies(task)
        ):
            return True
    return not graphs


def _call_problems(world: World) -> list[str]:
    """Two attempts of one task never overlap, and no group has more than its limit.

    A handler counts from its call to its return, or to the end of its attempt if that comes first:
    then it has been left behind. One that is called although it was cancelled never counts.
    """
    limits = dict(world.plan.limits)
    groups = {f"t{number}": task.group for number, task in enumerate(world.plan.tasks)}
    live: dict[int, str] = {}  # title by call
    problems = []
    for entry in world.log:
        if entry.what == "call" and not entry.kind:
            live[entry.call] = entry.name
            if list(live.values()).count(entry.name) > 1:
                problems.append(f"two attempts of {entry.name} run at once")
            group = groups.get(entry.name)
            used = sum(groups.get(title) == group for title in live.values())
            if group in limits and used > limits[group]:
                problems.append(f"{used} of group {group} run at once")
        elif entry.what == "return":
            live.pop(entry.call, None)
        elif entry.what == "event" and entry.kind == "ready":
            groups.pop(entry.name, None)  # it gives its place back, and is not tried again
        elif entry.what == "event" and entry.kind in RUN_ENDS:
            live = {call: title for call, title in live.items() if title != entry.name}
    return problems


# Runs of graphs


def _run_problems(world: World) -> list[str]:
    problems = []
    for number, graph in enumerate(world.graphs):
        error = getattr(graph, "run_error", None)
        if error is not None and not isinstance(error, TTasksError):
            problems.append(f"the run of g{number} ended in {error!r}")
        runs = runs_of(world, number)
        if not runs:
            continue
        if any(how == "returned" for _begin, _end, how, _thread in runs):
            for task in graph:
                if not task.is_terminal:
                    problems.append(f"g{number} has run, {task.title} is {task.status.value}")
        for _begin, _end, how, _thread in runs:
            if how == "without end":
                problems.append(f"the run of g{number} did not return")
        if len(runs) == 1 and len(world.graphs) == 1 and not started_alone(world.plan):
            problems += _retry_problems(world, number) + _finally_problems(world, number)
    return problems


def _finally_problems(world: World, number: int) -> list[str]:
    """Once anything of a graph has started its finally tasks run, however the run is stopped."""
    plan, graph = world.plan, world.plan.graphs[number]
    actions = actions_of(plan)
    limited = any(name == "finally_timeout" for action in actions for name, _ in action.options)
    singled_out = any(action.verb == "cancel" for action in actions)
    if limited or singled_out or world.explorer.interrupted > 1:
        return []
    started = {e.name for e in world.log if e.what == "event" and e.kind == "started"}
    titles = {f"t{node.task}" for node in graph.nodes}
    if not started & titles:
        return []
    return [
        f"t{node.task}, a finally task, did not run"
        for node in graph.nodes
        if node.finally_
        and f"t{node.task}" not in started | moved_by_hand(world)
        and plan.tasks[node.task].asks is None  # perhaps nothing needs it
        and not world.tasks[node.task].is_succeeded  # taken over
    ]


def _retry_problems(world: World, number: int) -> list[str]:
    """Every retry is counted once."""
    graph = world.graphs[number]
    titles = {task.title for task in graph}
    announced = sum(
        entry.what == "event" and entry.retry_in is not None and entry.name in titles
        for entry in world.log
    )
    counted = graph.statistics().retries
    if announced != counted:
        return [f"g{number} counts {counted} retries, {announced} were announced"]
    return []


def _cancel_problems(world: World) -> list[str]:
    """What had not started when ``graph.cancel()`` returned does not start any more."""
    problems = []
    for at, entry in enumerate(world.log):
        if entry.what != "begin" or not entry.name.startswith("cancel graph("):
            continue
        number = target_of(entry)
        run = run_seen(world, number, at)
        if run is None or run[3] == entry.actor or len(world.graphs) > 1:
            continue
        done = next(
            (here for here, e in enumerate(world.log) if e.what == "end" and e.call == entry.call),
            len(world.log),
        )
        finals = {f"t{node.task}" for node in world.plan.graphs[number].nodes if node.finally_}
        finals |= started_alone(world.plan)
        titles = {task.title for task in world.graphs[number]} - finals
        for later in world.log[done : run[1]]:
            if later.what == "call" and not later.kind and later.name in titles:
                problems.append(f"{later.name} was called after g{number} was cancelled")
    return problems


def _shutdown_problems(world: World) -> list[str]:
    """Nothing starts once ``shutdown()`` has returned; if it cancels, only finally tasks do."""
    plan = world.plan
    if plan.executors > 1 or any(action.verb == "shutdown" for action in reactions_of(plan)):
        return []  # from within it does not wait
    finals = {f"t{node.task}" for graph in plan.graphs for node in graph.nodes if node.finally_}
    problems = []
    waited = cancelled = False
    for entry in world.log:
        if entry.what == "end" and entry.name.startswith("shutdown("):
            waited = waited or "wait=True" in entry.name
            cancelled = cancelled or "cancel=True" in entry.name
        if entry.what == "call" and not entry.kind:
            may_go_on = entry.name in finals or entry.name.startswith("inner")
            if waited or (cancelled and not may_go_on):
                problems.append(f"{entry.name} was called after shutdown")
    return problems


def _inner_problems(world: World) -> list[str]:
    """A graph that a handler runs has ended when the outer one has, with its cleanup."""
    if reactions_of(world.plan):
        return []
    ends = [
        at for at, e in enumerate(world.log) if e.what == "end" and not e.name.startswith("look")
    ]
    late = world.log[max(ends, default=0) :]
    submits = any(action.verb == "submit" for action in actions_of(world.plan))
    return [
        f"{entry.name} {entry.kind} after the outer run had ended"
        for entry in late
        if entry.what == "event" and entry.name.startswith("inner") and not submits
    ]


def _service_problems(world: World) -> list[str]:
    """A service is ready once, is not tried again then, and outlives all that comes after it."""
    problems = []
    for number, plan in enumerate(world.plan.tasks):
        if plan.asks is None:
            continue
        title = f"t{number}"
        kinds = [event.kind for event in events_of(world, title)]
        if kinds.count("ready") > len(world.graphs):
            problems.append(f"{title} was ready more than once: {kinds}")
        is_again = "ready" in kinds and "started" in kinds[kinds.index("ready") :]
        if is_again and len(world.graphs) == 1:
            problems.append(f"{title} was tried again after it was ready: {kinds}")
        runs = len(runs_of(world, 0))
        if world.tasks[number].is_succeeded and runs == len(world.graphs) == 1:
            problems += _early_end(world, number)
    return problems


def _early_end(world: World, number: int) -> list[str]:
    """What ended, or began, after the service that it comes after was stopped."""
    later: set[str] = set()
    for node in world.plan.graphs[0].nodes:  # in the order of their edges
        names = {f"t{other}" for other in node.after}
        if names & (later | {f"t{number}"}):
            later.add(f"t{node.task}")
    events = [entry for entry in world.log if entry.what == "event"]
    stop = next(
        at for at, e in enumerate(events) if (e.name, e.kind) == (f"t{number}", "succeeded")
    )
    return [
        f"{entry.name} {entry.kind} after t{number} was stopped"
        for entry in events[stop:]
        if entry.name in later and entry.kind in ("started", "succeeded", "failed")
    ]


def _calm_problems(world: World) -> list[str]:
    """Nobody disturbed it: everything must end as the oracle says."""
    graph = world.plan.graphs[0]
    tasks = world.plan.tasks
    results = {}
    for number, node in enumerate(graph.nodes):
        plan = tasks[node.task]
        kinds = [plan.steps[min(a, len(plan.steps) - 1)].kind for a in range(plan.attempts)]
        ended = next((kind for kind in kinds if kind != "fail"), "fail")
        results[number] = {
            "ok": TaskStatus.SUCCEEDED,
            "fail": TaskStatus.FAILED,
            "cancelled": TaskStatus.CANCELLED,
        }[ended]
    places = {node.task: number for number, node in enumerate(graph.nodes)}
    expected = final_statuses(
        [tuple(places[other] for other in node.after) for node in graph.nodes],
        [node.policy for node in graph.nodes],
        frozenset(number for number, node in enumerate(graph.nodes) if node.finally_),
        results,
        {},
    )
    found = {number: world.tasks[node.task].status for number, node in enumerate(graph.nodes)}
    return [] if found == expected else [f"ended as {found}, the oracle says {expected}"]
