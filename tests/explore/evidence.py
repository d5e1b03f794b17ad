"""Evidence: what can be read from a plan, and from the log of its run."""

from __future__ import annotations

from collections import Counter

from explore.log import ENDS, REPORTS, Entry
from explore.plans import Action, Plan
from explore.world import World

STARTS = frozenset({"execute", "submit", "aexecute"})


def events_of(world: World, title: str) -> list[Entry]:
    """The events of a task, without those about the store."""
    return [
        entry
        for entry in world.log
        if entry.what == "event"
        and entry.name == title
        and entry.kind in ENDS | REPORTS | {"started"}
    ]


def moved_by_hand(world: World) -> set[str]:
    """Tasks that somebody cancelled without an executor, which announces nothing."""
    found = set()
    for entry in world.log:
        if entry.what == "begin" and entry.name.startswith("cancel task("):
            found.add(f"t{target_of(entry)}")
        if entry.what == "begin" and entry.name.startswith("cancel graph("):
            number = target_of(entry)
            if not run_seen(world, number, world.log.index(entry)):
                found |= {task.title for task in world.graphs[number]}
    return found


def target_of(entry: Entry) -> int:
    return int(entry.name.partition("(")[2].rstrip(")").partition(",")[0])


def starts_of(plan: Plan) -> Counter[str]:
    """How many calls start each task, alone or in a graph; two if a subscriber may do it."""
    starts: Counter[str] = Counter()
    for actor in plan.actors:
        for action in actor:
            if action.verb in ("run", "arun"):
                starts.update(f"t{node.task}" for node in plan.graphs[action.target].nodes)
            elif action.verb in STARTS:
                starts[f"t{action.target}"] += 1
    for action in reactions_of(plan):
        if action.verb in STARTS:
            starts.update([f"t{number}" for number in range(len(plan.tasks))] * 2)
    return starts


def reactions_of(plan: Plan) -> list[Action]:
    """What subscribers, handlers and callbacks of futures do."""
    reactions = [subscriber.action for subscriber in plan.subscribers]
    reactions += [step.action for task in plan.tasks for step in task.steps if step.action]
    actions = [*reactions, *(action for actor in plan.actors for action in actor)]
    thens = (dict(action.options).get("then") for action in actions)
    return reactions + [then for then in thens if isinstance(then, Action)]


def actions_of(plan: Plan) -> list[Action]:
    """All that anybody does."""
    return [*(action for actor in plan.actors for action in actor), *reactions_of(plan)]


def started_alone(plan: Plan) -> set[str]:
    """Tasks that are also started without a graph."""
    starts = [action.target for action in actions_of(plan) if action.verb in STARTS]
    if any(target < 0 for target in starts):
        return {f"t{number}" for number in range(len(plan.tasks))}
    return {f"t{number}" for number in starts}


def runs_of(world: World, number: int) -> list[tuple[int, int, str, int]]:
    """Calls of ``run`` of a graph: where they begin and end in the log, how, on which thread."""
    found = []
    ends = {entry.call: (at, entry) for at, entry in enumerate(world.log) if entry.what == "end"}
    for at, entry in enumerate(world.log):
        if (
            entry.what == "begin"
            and entry.name.startswith(("run(", "arun("))
            and target_of(entry) == number
        ):
            end, closing = ends.get(entry.call, (len(world.log), None))
            how = "without end" if closing is None else closing.kind
            found.append((at, end, how, entry.actor))
    return found


def run_seen(world: World, number: int, at: int) -> tuple[int, int, str, int] | None:
    """The run of a graph that had certainly begun, and not ended, at a moment of the log.

    It has begun if it has asked the store on its own thread, or announced what it alone announces.
    """
    graph = world.graphs[number]
    titles = {task.title for task in graph} - started_alone(world.plan)
    for other in world.graphs:
        if other.id != graph.id:
            titles -= {task.title for task in other}
    under_way = [run for run in runs_of(world, number) if run[0] < at < run[1]]
    if len(under_way) != 1:
        return None
    begin, _end, _how, thread = under_way[0]
    for entry in world.log[begin:at]:
        if entry.what == "read" and entry.actor == thread:
            return under_way[0]
        is_event = entry.what == "event" and entry.name in titles
        if is_event and entry.kind != "cancelled":  # whoever cancels a task may announce that
            return under_way[0]
    return None
