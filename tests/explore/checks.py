"""Checks: what must hold after every run, whatever its interleaving was."""

from __future__ import annotations

from collections import Counter

from explore.plans import Plan
from explore.world import ENDS, Entry, World
from property.oracle import final_statuses
from ttasks import Task, TaskStatus, TTasksError

RUN_ENDS = frozenset({"succeeded", "failed", "cancelled"})
REPORTS = frozenset({"progress", "output"})
NO_RETRY = "a retry was announced and did not come"
STARTS = frozenset({"execute", "submit", "aexecute"})


def check(world: World) -> list[str]:
    """What is wrong with a run that has ended; nothing if all is well."""
    problems: list[str] = []
    for task in world.tasks:
        problems += _task_problems(world, task)
    problems += _future_problems(world)
    problems += _dependency_problems(world)
    problems += _call_problems(world)
    problems += _run_problems(world)
    problems += _cancel_problems(world)
    problems += _inner_problems(world)
    if "calm" in world.plan.tags:
        problems += _calm_problems(world)
    return problems


def events_of(world: World, title: str) -> list[Entry]:
    """The events of a task, without those about the store."""
    return [
        entry
        for entry in world.log
        if entry.what == "event"
        and entry.name == title
        and entry.kind in ENDS | REPORTS | {"started"}
    ]


# Each task by itself


def _task_problems(world: World, task: Task) -> list[str]:
    title, events = task.title, events_of(world, task.title)
    shown = ", ".join(f"{event.kind} {event.attempt}" for event in events)
    problems = []
    if task.is_running:
        problems.append(f"{title} is left RUNNING: {shown}")
    if world.executor.is_running(task.id):
        problems.append(f"{title} counts as running: {shown}")
    by_hand = _moved_by_hand(world)
    wrong = order_problem(events, once=_starts(world.plan)[title] <= 1)
    if wrong and not (title in by_hand and wrong == NO_RETRY):
        problems.append(f"events of {title}: {wrong}: {shown}")
    last = next((event for event in reversed(events) if event.kind in ENDS), None)
    if title not in by_hand:
        reused = task.result is not None and task.result.reused
        if task.is_terminal and not reused and (last is None or last.status is not task.status):
            problems.append(f"{title} is {task.status.value} without such an event: {shown}")
        if task.is_pending and last is not None:
            problems.append(f"{title} is pending after events: {shown}")
        saved = world.saved.get(task.id)
        if any(entry.name.startswith("save(") for entry in world.log):
            saved = None  # what another thread saved may be older
        if saved is not None and task.id not in world.unsaved and saved is not task.status:
            problems.append(f"{title} is {task.status.value}, the store says {saved.value}")
        problems += _result_problems(task, events)
    return problems


def order_problem(events: list[Entry], *, once: bool = True) -> str:
    """What breaks the promise about the order of the events of one task; "" if nothing does.

    Args:
        events: of the task, in their order.
        once: it is started by one call alone. Else each call counts its attempts from 1, and a
            call that waits for its next attempt may lose the task to another one.
    """
    running = False
    attempt = 0
    promised: Counter[int] = Counter()  # attempts that have been announced, and have to come
    excused: Counter[int] = Counter()  # the same, but another call has taken the task since
    for event in events:
        if event.kind == "started":
            if running:
                return "started twice"
            running, attempt = True, event.attempt
            if attempt == 1:
                if once and promised:
                    return "the first attempt instead of the next"
                excused += promised
                promised.clear()
            elif promised[attempt]:
                promised -= Counter([attempt])
            elif excused[attempt]:
                excused -= Counter([attempt])
            else:
                return f"attempt {attempt} was not announced"
        elif event.kind in REPORTS:
            if not running or event.attempt != attempt:
                return f"{event.kind} outside of its attempt"
        elif running:
            if event.kind not in RUN_ENDS or event.attempt != attempt:
                return f"{event.kind} while attempt {attempt} runs"
            running = False
            if event.retry_in is not None:
                promised[attempt + 1] += 1
            elif event.kind != "failed":
                promised.clear()
        else:
            if event.kind == "succeeded":
                return "succeeded without a start"
            if once and promised and event.kind != "cancelled":
                return f"{event.kind} instead of another attempt"
            if event.kind != "cancelled":  # by a graph that does not run it, for one that does
                excused += promised
            promised.clear()
    if running:
        return "an attempt has no end"
    return NO_RETRY if promised and once else ""


def _result_problems(task: Task, events: list[Entry]) -> list[str]:
    """What the result says must agree with the events."""
    result = task.result
    ran = [event for event in events if event.kind == "started"]
    if result is None:
        if task.status in (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED):
            return [f"{task.title} is {task.status.value} without a result"]
        return []
    if result.status is not task.status:
        return [f"{task.title} is {task.status.value}, its result {result.status.value}"]
    if result.reused or not ran:
        return []
    problems = []
    attempts = ran[-1].attempt
    if task.is_succeeded and result.attempts != attempts:
        problems.append(f"{task.title} took {attempts} attempts, its result says {result.attempts}")
    counted = len(result.attempt_durations)
    if counted and counted != result.attempts:
        problems.append(f"{task.title}: {counted} durations of {result.attempts} attempts")
    return problems


def _moved_by_hand(world: World) -> set[str]:
    """Tasks that somebody cancelled without an executor, which announces nothing."""
    found = set()
    for entry in world.log:
        if entry.what == "begin" and entry.name.startswith("cancel task("):
            found.add(f"t{_target(entry)}")
        if entry.what == "begin" and entry.name.startswith("cancel graph("):
            number = _target(entry)
            if not _run_seen(world, number, world.log.index(entry)):
                found |= {task.title for task in world.graphs[number]}
    return found


def _target(entry: Entry) -> int:
    return int(entry.name.partition("(")[2].rstrip(")").partition(",")[0])


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
    alone = _started_alone(world.plan)
    by_hand = _moved_by_hand(world)
    for entry in world.log:
        if entry.what != "event":
            continue
        if entry.kind in ENDS and entry.retry_in is None:
            ended.setdefault(entry.name, set()).add(entry.kind)
        if entry.kind == "blocked" and entry.blocked_by is not None:
            blocker = next(task for task in world.tasks if task.id == entry.blocked_by).title
            failed = ended.get(blocker, set()) & {"failed", "cancelled", "blocked"}
            if not failed and blocker not in by_hand:
                problems.append(f"{entry.name} is blocked by {blocker}, which did not fail")
        begins = entry.kind == "started" and entry.attempt == 1 and entry.name not in alone
        if begins and not _may_start(world, entry.name, by_hand.union(ended)):
            problems.append(f"{entry.name} started before what it depends on had ended")
    return problems


def _may_start(world: World, title: str, ended: set[str]) -> bool:
    """True if one of its graphs lets a task start once these have ended."""
    graphs = [graph for graph in world.graphs if any(task.title == title for task in graph)]
    for graph in graphs:
        task = next(task for task in graph if task.title == title)
        if all(
            up.title in ended or (up.result is not None and up.result.reused)
            for up in graph.dependencies(task)
        ):
            return True
    return not graphs


def _starts(plan: Plan) -> Counter[str]:
    """How many calls start each task, alone or in a graph; two if a subscriber may do it."""
    starts: Counter[str] = Counter()
    for actor in plan.actors:
        for action in actor:
            if action.verb in ("run", "arun"):
                starts.update(f"t{node.task}" for node in plan.graphs[action.target].nodes)
            elif action.verb in STARTS:
                starts[f"t{action.target}"] += 1
    for subscriber in plan.subscribers:
        if subscriber.action.verb in STARTS:
            starts.update([f"t{number}" for number in range(len(plan.tasks))] * 2)
    return starts


def _started_alone(plan: Plan) -> set[str]:
    """Tasks that are also started without a graph."""
    actions = [action for actor in plan.actors for action in actor]
    actions += [subscriber.action for subscriber in plan.subscribers]
    starts = [action.target for action in actions if action.verb in STARTS]
    if any(target < 0 for target in starts):
        return {f"t{number}" for number in range(len(plan.tasks))}
    return {f"t{number}" for number in starts}


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
        runs = _runs(world, number)
        if not runs:
            continue
        if any(how == "returned" for _begin, _end, how, _thread in runs):
            for task in graph:
                if not task.is_terminal:
                    problems.append(f"g{number} has run, {task.title} is {task.status.value}")
        for _begin, _end, how, _thread in runs:
            if how == "without end":
                problems.append(f"the run of g{number} did not return")
        if len(runs) == 1 and len(world.graphs) == 1 and not _started_alone(world.plan):
            problems += _retry_problems(world, number) + _finally_problems(world, number)
    return problems


def _finally_problems(world: World, number: int) -> list[str]:
    """Once anything of a graph has started its finally tasks run, however the run is stopped."""
    plan, graph = world.plan, world.plan.graphs[number]
    actions = [action for actor in plan.actors for action in actor]
    actions += [subscriber.action for subscriber in plan.subscribers]
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
        and f"t{node.task}" not in started | _moved_by_hand(world)
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


def _runs(world: World, number: int) -> list[tuple[int, int, str, int]]:
    """Calls of ``run`` of a graph: where they begin and end in the log, how, on which thread."""
    found = []
    ends = {entry.call: (at, entry) for at, entry in enumerate(world.log) if entry.what == "end"}
    for at, entry in enumerate(world.log):
        if (
            entry.what == "begin"
            and entry.name.startswith(("run(", "arun("))
            and _target(entry) == number
        ):
            end, closing = ends.get(entry.call, (len(world.log), None))
            how = "without end" if closing is None else closing.kind
            found.append((at, end, how, entry.actor))
    return found


def _run_seen(world: World, number: int, at: int) -> tuple[int, int, str, int] | None:
    """The run of a graph that had certainly begun, and not ended, at a moment of the log.

    It has begun if it has asked the store, or announced anything, on its own thread.
    """
    graph = world.graphs[number]
    titles = {task.title for task in graph} - _started_alone(world.plan)
    for other in world.graphs:
        if other.id != graph.id:
            titles -= {task.title for task in other}
    under_way = [run for run in _runs(world, number) if run[0] < at < run[1]]
    if len(under_way) != 1:
        return None
    begin, _end, _how, thread = under_way[0]
    for entry in world.log[begin:at]:
        if entry.what == "read" and entry.actor == thread:
            return under_way[0]
        if entry.what == "event" and entry.name in titles:
            return under_way[0]
    return None


def _cancel_problems(world: World) -> list[str]:
    """What had not started when ``graph.cancel()`` returned does not start any more."""
    problems = []
    for at, entry in enumerate(world.log):
        if entry.what != "begin" or not entry.name.startswith("cancel graph("):
            continue
        number = _target(entry)
        run = _run_seen(world, number, at)
        if run is None or run[3] == entry.actor or len(world.graphs) > 1:
            continue
        done = next(
            (here for here, e in enumerate(world.log) if e.what == "end" and e.call == entry.call),
            len(world.log),
        )
        finals = {f"t{node.task}" for node in world.plan.graphs[number].nodes if node.finally_}
        finals |= _started_alone(world.plan)
        titles = {task.title for task in world.graphs[number]} - finals
        for later in world.log[done : run[1]]:
            if later.what == "call" and not later.kind and later.name in titles:
                problems.append(f"{later.name} was called after g{number} was cancelled")
    return problems


def _inner_problems(world: World) -> list[str]:
    """A graph that a handler runs has ended when the outer one has, with its cleanup."""
    if world.plan.subscribers:
        return []
    ends = [
        at for at, e in enumerate(world.log) if e.what == "end" and not e.name.startswith("look")
    ]
    late = world.log[max(ends, default=0) :]
    submits = any(action.verb == "submit" for actor in world.plan.actors for action in actor)
    return [
        f"{entry.name} {entry.kind} after the outer run had ended"
        for entry in late
        if entry.what == "event" and entry.name.startswith("inner") and not submits
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
