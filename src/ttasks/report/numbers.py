"""The numbers of a run: how much work it was, how well the workers were used, what to speed up.

The critical path is the chain of dependent tasks with the greatest sum of running times and pauses
before retries. With infinitely many workers a run takes exactly this long. With W workers it also
takes at least work / W, so the greater of the two is a bound. Halving a task saves as much as it
lowers this bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from statistics import median

from ttasks.model.facts import RunFacts, Span, TaskFacts, WaitReason
from ttasks.model.status import TaskStatus
from ttasks.model.topology import Topology, in_order

SAVINGS = 5
"""How many of the tasks that are most worth speeding up are named."""

SLOWER_RATIO = 1.25
SLOWER_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class TaskSaving:
    """What would be saved if a task took half its time.

    Attributes:
        task_id: of the task.
        seconds: by which the bound of the run's time would fall.
    """

    task_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SlowerTask:
    """A task that took longer than usual.

    Attributes:
        task_id: of the task.
        seconds: that it took.
        median: seconds that it took in earlier runs.
    """

    task_id: str
    seconds: float
    median: float


@dataclass(frozen=True, slots=True)
class RunNumbers:
    """The numbers of a run. Tasks of a nested graph count as part of the task that runs it.

    Attributes:
        counts: number of tasks by status, those of nested graphs too; no zeros.
        reused: number of tasks whose result was taken over.
        wall: seconds from the start of the run to its end, or so far.
        work: seconds that all attempts took together; those of a service until it was ready.
        utilisation: share of the workers' time in which they ran tasks, 0 to 1; coroutines
            that overlap on the worker that started them count once.
        waited: seconds that all tasks together waited, by reason; no zeros.
        critical_path: ids of its tasks, in order; only those that took any time.
        bound: seconds of the critical path: how long the run would take with infinitely many
            workers.
        critical_share: ``bound`` as a share of ``wall``; None if the run took no time.
        savings: the tasks that are most worth speeding up, greatest saving first.
        slower: tasks that took at least 25 % and 0.05 s longer than their median in earlier runs,
            the greatest ratio first; empty without earlier runs.
    """

    counts: Mapping[TaskStatus, int]
    reused: int
    wall: float
    work: float
    utilisation: float
    waited: Mapping[WaitReason, float]
    critical_path: tuple[str, ...]
    bound: float
    critical_share: float | None
    savings: tuple[TaskSaving, ...]
    slower: tuple[SlowerTask, ...]


def numbers_of(facts: RunFacts, history: Iterable[RunFacts] = ()) -> RunNumbers:
    """The numbers of a run; ``history`` is earlier runs of the same graph."""
    depth = depth_of(facts)
    outer = [task for task in facts.tasks.values() if len(task.path) == depth]
    wall = facts.elapsed
    counts: dict[TaskStatus, int] = {}
    waited: dict[WaitReason, float] = {}
    for task in facts.tasks.values():
        counts[task.status] = counts.get(task.status, 0) + 1
    running, weights = [], []
    for task in outer:
        run = pause = 0.0
        for span in task.spans if not task.is_service else _until_up(task):
            length = (wall if span.end is None else span.end) - span.start
            if span.reason is None:
                run += length
            elif length > 0:
                waited[span.reason] = waited.get(span.reason, 0.0) + length
                if span.reason is WaitReason.RETRY:
                    pause += length
        running.append(run)
        weights.append(run + pause)
    busy = _busy(outer, wall)
    path, bound, savings = _critical(outer, running, weights, busy, facts.workers)
    return RunNumbers(
        counts=counts,
        reused=sum([task.reused for task in facts.tasks.values()]),
        wall=wall,
        work=sum(running),
        utilisation=min(busy / (facts.workers * wall), 1.0) if wall > 0 else 0.0,
        waited=waited,
        critical_path=path,
        bound=bound,
        critical_share=bound / wall if wall > 0 else None,
        savings=savings,
        slower=_slower(facts, history),
    )


def _until_up(task: TaskFacts) -> Iterable[Span]:
    """The spans of a service, as if it had ended when it was ready: nobody waits for more."""
    for span in task.spans:
        if task.up is None or span.reason is not None:
            yield span
        elif span.start < task.up:
            yield Span(span.start, min(task.up, inf if span.end is None else span.end))


def _seconds(task: TaskFacts) -> float | None:
    """How long others had to wait for a task: until its end, or until a service was ready."""
    if task.is_service:
        last = task.attempts[-1].started if task.attempts else None
        return None if task.up is None or last is None else task.up - last
    return task.duration


def depth_of(facts: RunFacts) -> int:
    """How many titles are in the path of the tasks that are not in a nested graph."""
    return min((len(task.path) for task in facts.tasks.values()), default=0)


def name_of(key: str | None, path: tuple[str, ...], title: str) -> tuple[str, ...]:
    """What identifies a task in several runs of a graph: its key, or path and title."""
    return (key,) if key is not None else (*path, title, "")


def edges_of(after: Mapping[str, Iterable[str]]) -> Topology:
    """The edges between tasks, numbered in their order; those to other tasks are left out.

    Args:
        after: ids of the direct dependencies by id of the task.
    """
    number = {task_id: at for at, task_id in enumerate(after)}
    dependencies = [
        tuple([number[task_id] for task_id in upstreams if task_id in number])
        for upstreams in after.values()
    ]
    dependents: list[list[int]] = [[] for _ in number]
    for at, upstreams in enumerate(dependencies):
        for upstream in upstreams:
            dependents[upstream].append(at)
    return Topology(dependencies, dependents)


def longest(
    order: Iterable[int], ends: Sequence[Sequence[int]], weights: Sequence[float]
) -> list[float]:
    """The weight of the longest path that ends in each node, this included.

    Args:
        order: the nodes, each after those in ``ends`` of it.
        ends: what comes before each node.
        weights: of each node.
    """
    found = [0.0] * len(weights)
    for node in order:
        found[node] = weights[node] + max([found[end] for end in ends[node]], default=0.0)
    return found


def _busy(tasks: Iterable[TaskFacts], until: float) -> float:
    """Seconds in which workers had something to do; what overlaps on one of them counts once.

    That is what coroutines do, which a worker only starts.
    """
    by_slot: dict[int, list[tuple[float, float]]] = {}
    for task in tasks:
        for attempt in task.attempts:
            if attempt.slot and attempt.started is not None:
                end = until if attempt.ended is None else attempt.ended
                by_slot.setdefault(attempt.slot, []).append((attempt.started, end))
    busy = 0.0
    for pieces in by_slot.values():
        at = 0.0
        for start, end in sorted(pieces):
            busy += max(end - max(start, at), 0.0)
            at = max(at, end)
    return busy


# The critical path


def _critical(
    tasks: Sequence[TaskFacts],
    running: list[float],
    weights: list[float],
    busy: float,
    workers: int,
) -> tuple[tuple[str, ...], float, tuple[TaskSaving, ...]]:
    """The critical path, its length, and what halving tasks would save.

    Args:
        tasks: of the outermost graph.
        running: seconds in which each ran.
        weights: the same with pauses before retries.
        busy: seconds in which workers had something to do.
        workers: of the run.
    """
    edges = edges_of({task.id: task.after for task in tasks})
    after, order = edges.dependencies, list(in_order(edges))
    heads = longest(order, after, weights)
    tails = longest(order[::-1], edges.dependents, weights)
    bound = max(heads, default=0.0)
    path = _walk(heads, after, bound)
    avoiding = _avoiding(path, order, after, heads, tails)
    share = busy / workers
    estimate = max(bound, share)
    critical = dict(zip(path, avoiding, strict=True))
    found = []
    for index, seconds in enumerate(running):
        half = seconds / 2
        shorter = max(critical[index], bound - half) if index in critical else bound
        saved = estimate - max(shorter, share - half / workers)
        if saved > 1e-9:
            found.append((saved, -index))
    best = sorted(found, reverse=True)[:SAVINGS]
    return (
        tuple(tasks[index].id for index in path if weights[index] > 0),
        bound,
        tuple(TaskSaving(tasks[-index].id, saved) for saved, index in best),
    )


def _walk(heads: list[float], after: Sequence[Sequence[int]], bound: float) -> list[int]:
    """The nodes of the longest path, from its first to its last."""
    if not bound:
        return []
    node = heads.index(bound)
    path = [node]
    while after[node]:
        node = max(after[node], key=heads.__getitem__)
        path.append(node)
    return path[::-1]


def _avoiding(
    path: list[int],
    order: list[int],
    after: Sequence[Sequence[int]],
    heads: list[float],
    tails: list[float],
) -> list[float]:
    """For each node of the path the weight of the longest path without it.

    Let the nodes stand in their topological order. A path without a node either ends before it,
    begins behind it, or has an edge across it. One sweep keeps the edges across in a heap, so all
    nodes together cost O((V + E) log E).
    """
    place = {node: at for at, node in enumerate(order)}
    behind = [0.0] * (len(order) + 1)
    for at in range(len(order) - 1, -1, -1):
        behind[at] = max(behind[at + 1], tails[order[at]])
    edges = sorted(
        (place[upstream], place[node], heads[upstream] + tails[node])
        for node in order
        for upstream in after[node]
    )
    across: list[tuple[float, int]] = []
    found = []
    ended = 0.0
    seen = next_edge = 0
    for node in path:
        at = place[node]
        while seen < at:
            ended = max(ended, heads[order[seen]])
            seen += 1
        while next_edge < len(edges) and edges[next_edge][0] < at:
            _, end, weight = edges[next_edge]
            heappush(across, (-weight, end))
            next_edge += 1
        while across and across[0][1] <= at:
            heappop(across)
        crossing = -across[0][0] if across else 0.0
        found.append(max(ended, behind[at + 1], crossing))
    return found


# Earlier runs


def medians_of(history: Iterable[RunFacts]) -> dict[tuple[str, ...], float]:
    """The median duration of each task that SUCCEEDED in earlier runs, by `name_of`."""
    durations: dict[tuple[str, ...], list[float]] = {}
    for run in history:
        for task in run.tasks.values():
            seconds = _seconds(task)
            if _has_run_well(task) and seconds is not None:
                name = name_of(task.key, task.path, task.title)
                durations.setdefault(name, []).append(seconds)
    return {name: median(values) for name, values in durations.items()}


def _has_run_well(task: TaskFacts) -> bool:
    return task.status is TaskStatus.SUCCEEDED and not task.reused


def _slower(facts: RunFacts, history: Iterable[RunFacts]) -> tuple[SlowerTask, ...]:
    usual = medians_of(history)
    if not usual:
        return ()
    found = []
    for task in facts.tasks.values():
        before = usual.get(name_of(task.key, task.path, task.title))
        seconds = _seconds(task)
        if before is None or seconds is None or not _has_run_well(task):
            continue
        if is_slower(seconds, before):
            found.append(SlowerTask(task.id, seconds, before))
    return tuple(sorted(found, key=_ratio, reverse=True))


def _ratio(item: SlowerTask) -> float:
    return item.seconds / (item.median or 1e-9)


def is_slower(seconds: float, usual: float) -> bool:
    """True if a duration is noticeably greater than another."""
    return seconds >= SLOWER_RATIO * usual and seconds - usual >= SLOWER_SECONDS
