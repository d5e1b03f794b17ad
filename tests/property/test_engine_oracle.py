"""Random graphs through the real engine, against the naive oracle of the scheduler."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random, SystemRandom

import pytest

from property.oracle import CANCELLED, FAILED, SUCCEEDED, Case, Oracle, final_statuses
from support import (
    TERMINAL,
    WAIT,
    EventRecorder,
    FakeHandler,
    executor_with,
    make,
    run,
)
from ttasks import (
    DependencyPolicy,
    InMemoryStore,
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
)

GRAPHS = 150
CAMPAIGN = {"full": 10_000}.get(os.environ.get("TTASKS_CAMPAIGN", ""), 1_000)
POLICIES = list(DependencyPolicy)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@dataclass
class World:
    """A case as a real graph, on a real executor, with what its handlers will do."""

    case: Case
    graph: TaskGraph
    tasks: list[Task]
    results: dict[int, TaskStatus]
    handler: FakeHandler
    executor: TaskExecutor
    recorder: EventRecorder
    retried: bool

    @property
    def statuses(self) -> dict[int, TaskStatus]:
        return {number: task.status for number, task in enumerate(self.tasks)}


def random_case(random: Random) -> Case:
    count = random.randint(1, 14)
    density = random.choice([0.1, 0.25, 0.5])
    depth = random.sample(range(count), count)
    upstreams = [
        tuple(
            other
            for other in random.sample(range(count), count)
            if depth[other] < depth[node] and random.random() < density
        )
        for node in range(count)
    ]
    limits = {f"g{number}": random.randint(1, 2) for number in range(random.choice([0, 1, 2]))}
    return Case(
        upstreams=upstreams,
        policies=[random.choice(POLICIES) for _ in range(count)],
        finally_=frozenset(node for node in range(count) if random.random() < 0.2),
        orders={
            node: (random.choice([0.0, 1.0]), random.choice([None, NOON, NOON + timedelta(1)]))
            for node in range(count)
            if random.random() < 0.4
        },
        groups={
            node: tuple(random.sample(list(limits), random.randint(1, len(limits))))
            for node in range(count)
            if limits and random.random() < 0.6
        },
        limits=limits,
        finished={
            node: random.choice([SUCCEEDED, CANCELLED])
            for node in range(count)
            if random.random() < 0.08
        },
    )


def build(random: Random) -> World:
    case = random_case(random)
    results = {
        node: random.choice([SUCCEEDED, SUCCEEDED, SUCCEEDED, FAILED, CANCELLED])
        for node in range(len(case.upstreams))
    }
    retried = random.random() < 0.3
    tasks = []
    for node in range(len(case.upstreams)):
        priority, deadline = case.orders.get(node, (0.0, None))
        groups = case.groups.get(node, ())
        tasks.append(
            make(
                str(node),
                payload=groups,
                priority=priority,
                deadline=deadline,
                group=groups,
                retry=RetryPolicy(3) if retried and random.random() < 0.5 else None,
                timeout=random.choice([None, None, None, 60]),
            )
        )
    graph = TaskGraph("random")
    for node, task in enumerate(tasks):
        graph.add(
            task,
            after=[tasks[other] for other in case.upstreams[node]],
            finally_=node in case.finally_,
            on_dep_failure=case.policies[node],
            required=random.random() < 0.7,
        )
    for node, status in case.finished.items():
        if status is SUCCEEDED:
            tasks[node].transition_to(TaskStatus.RUNNING)
        tasks[node].transition_to(status)
    handler = FakeHandler()
    for node, task in enumerate(tasks):
        handler.script[task.title] = step_for(results[node], task.retry is not None)
    executor, recorder = executor_with(handler, store=InMemoryStore())
    return World(case, graph, tasks, results, handler, executor, recorder, retried)


def step_for(result: TaskStatus, retried: bool) -> object:
    def step(context: TaskContext) -> str:
        context.emit_output("x")
        if retried and context.attempt < 3 and result is not CANCELLED:
            raise KeyError("once more")
        if result is FAILED:
            raise ValueError(context.title)
        if result is CANCELLED:
            raise TaskCancelled
        return context.title

    return step


def check_invariants(world: World) -> None:
    case, tasks = world.case, world.tasks
    world.recorder.check(world.graph)
    for group, limit in case.limits.items():
        assert world.handler.most_by_group.get(group, 0) <= limit
    for node, task in enumerate(tasks):
        assert task.is_terminal
        above = [tasks[other] for other in case.upstreams[node]]
        bad = {other.id for other in above if other.status.is_bad}
        assert (task.blocked_by in bad) if task.is_blocked else (task.blocked_by is None)
        ran = TaskEventType.STARTED in world.recorder.of(task)
        assert not (ran and task.status in (TaskStatus.BLOCKED, TaskStatus.SKIPPED))
        if node not in case.finished:
            assert world.executor.store.tasks[task.id].status is task.status
            wants_result = not (task.is_blocked or task.is_skipped)
            assert (task.result is not None) == wants_result
            if task.result is not None:
                assert task.result.status is task.status


def check_order_of_one_worker(world: World) -> None:
    """With one worker and no retries, every start is the one that the oracle says comes next."""
    oracle = Oracle(world.case)
    for event in world.recorder.events:
        node = int(event.task.title)
        if event.type is TaskEventType.STARTED:
            assert oracle.fates() == {}
            assert node == oracle.next()
            oracle.start(node)
        elif event.type in TERMINAL:
            oracle.end(node, event.status)


def check_run(random: Random) -> None:
    world = build(random)
    case = world.case
    workers = random.randint(1, 4)
    run(world.graph, world.executor, workers, limits=case.limits)
    expected = final_statuses(
        case.upstreams, case.policies, case.finally_, world.results, case.finished
    )
    assert world.statuses == expected
    check_invariants(world)
    required_good = all(task.is_succeeded or task.is_skipped for task in world.graph.required_tasks)
    assert world.graph.ok == required_good
    if workers == 1 and not world.retried:
        check_order_of_one_worker(world)
    # And once more, with other results for what did not succeed.
    finished = {node: status for node, status in world.statuses.items() if status.is_sink}
    results = {node: random.choice([SUCCEEDED, SUCCEEDED, FAILED]) for node in world.results}
    for node, task in enumerate(world.tasks):
        world.handler.script[task.title] = step_for(results[node], task.retry is not None)
    before = Counter(world.handler.calls)
    run(world.graph, world.executor, workers, limits=case.limits)
    assert world.statuses == final_statuses(
        case.upstreams, case.policies, case.finally_, results, finished
    )
    for node in finished:
        assert Counter(world.handler.calls)[str(node)] == before[str(node)]


def check_stopped(random: Random) -> None:
    """Stopped at a random event: all end, finally tasks run, and the order holds."""
    world = build(random)
    moment = random.randint(1, 12)
    seen: list[TaskEvent] = []

    def stop(event: TaskEvent) -> None:
        seen.append(event)
        if len(seen) == moment:
            world.graph.cancel()

    world.executor.events.subscribe(stop)
    fail_fast = random.random() < 0.3
    options = {"limits": world.case.limits, "fail_fast": fail_fast}
    run(world.graph, world.executor, random.randint(1, 4), **options)
    check_invariants(world)
    for node, status in world.statuses.items():
        if node in world.case.finally_ and node not in world.case.finished:
            assert status is world.results[node]
    if not fail_fast and len(seen) < moment:
        assert world.graph.run_error is None


@pytest.mark.parametrize("part", range(2))
def test_random_graphs_end_as_the_oracle_says(part: int) -> None:
    for number in range(GRAPHS):
        check_seeded(check_run, part * GRAPHS + number)


def test_random_graphs_that_are_stopped_run_their_finally_tasks() -> None:
    for number in range(GRAPHS):
        check_seeded(check_stopped, number)


CHECKS: dict[str, Callable[[Random], None]] = {
    "run": check_run,
    "stopped": check_stopped,
    "services": lambda random: check_services(random, stops=False),
    "stopped services": lambda random: check_services(random, stops=True),
}


@pytest.mark.campaign
@pytest.mark.parametrize("check", CHECKS)
def test_more_random_graphs(check: str) -> None:
    seeds = SystemRandom()
    for _ in range(CAMPAIGN):
        check_seeded(CHECKS[check], seeds.getrandbits(32))


# Services: they stay, others use them, and whatever happens they are stopped last


def serve(context: TaskContext) -> object:
    """A service that stays, or dies at once."""
    if context.payload == "dies":
        raise ValueError(context.title)
    assert context.wait_cancelled(WAIT)
    raise TaskCancelled


def check_services(random: Random, *, stops: bool) -> None:
    """Random graphs in which every third node is a service that stays, or dies unready."""
    case = random_case(random)
    served = {node for node in case.nodes if node not in case.finished and random.random() < 0.4}
    results = {node: random.choice([SUCCEEDED, SUCCEEDED, FAILED]) for node in case.nodes}
    tasks, handler = [], FakeHandler()
    for node in case.nodes:
        title, group = str(node), case.groups.get(node, ())
        if node in served:
            # One that dies has a probe that never says yes.
            dies = results[node] is FAILED
            ready = random.choice([None, lambda: True]) if not dies else (lambda: False)
            word = "dies" if dies else "stays"
            tasks.append(Task.service(word, title=title, group=group, ready=ready))
        else:
            tasks.append(make(title, payload=group, group=group))
            handler.script[title] = step_for(results[node], retried=False)
    graph = TaskGraph("with services")
    for node, task in enumerate(tasks):
        graph.add(
            task,
            after=[tasks[other] for other in case.upstreams[node]],
            finally_=node in case.finally_,
            on_dep_failure=case.policies[node],
        )
    for node, status in case.finished.items():
        if status is SUCCEEDED:
            tasks[node].transition_to(TaskStatus.RUNNING)
        tasks[node].transition_to(status)
    executor, recorder = executor_with(handler, store=InMemoryStore())
    executor.register(TaskType.SERVICE, serve)
    if stops:
        events: list[TaskEvent] = []
        moment = random.randint(1, 12)
        executor.events.subscribe(
            lambda event: (events.append(event), len(events) == moment and graph.cancel())
        )
    run(graph, executor, random.randint(1, 4), limits=case.limits)
    recorder.check(graph)
    check_service_ends(case, served, recorder, tasks)
    if not stops:
        check_service_statuses(case, served, results, tasks)


def check_service_ends(
    case: Case, served: set[int], recorder: EventRecorder, tasks: list[Task]
) -> None:
    """A service ends after all that comes after it, unless it died, or was cancelled unready."""
    last = {event.task_id: at for at, event in enumerate(recorder.events)}
    for node in served:
        kinds = recorder.of(tasks[node])
        later = {node}
        for _ in case.nodes:
            later |= {other for other in case.nodes if later & set(case.upstreams[other])}
        if tasks[node].is_succeeded or TaskEventType.READY in kinds:
            ended = last[tasks[node].id]
            assert all(last.get(tasks[other].id, -1) < ended for other in later - {node})
        if TaskEventType.READY not in kinds:
            assert not tasks[node].is_succeeded or all(
                TaskEventType.STARTED not in recorder.of(tasks[other])
                for other in case.nodes
                if node in case.upstreams[other] and other not in case.finally_
            )


def hidden(case: Case, served: set[int], node: int) -> set[int]:
    """Services that a node comes after only through what had SUCCEEDED before the run."""
    if case.policies[node] is DependencyPolicy.ON_FAILURE or node in case.finished:
        return set()
    found, left = set(), [node]
    while left:
        above = case.upstreams[left.pop()]
        done = {other for other in above if case.finished.get(other) is SUCCEEDED} - found
        found |= done
        left += done
    above = {other for at in found for other in case.upstreams[at]}
    return (above & served) - set(case.upstreams[node])


def check_service_statuses(
    case: Case, served: set[int], results: dict[int, TaskStatus], tasks: list[Task]
) -> None:
    """All ends as the oracle says, but for services that perhaps nothing needed in time."""
    found = {node: task.status for node, task in enumerate(tasks)}
    # What became of a service that was not needed in the end makes no difference to others.
    told = results | {
        node: found[node] for node in served if found[node] in (TaskStatus.SKIPPED, SUCCEEDED)
    }
    upstreams = [(*case.upstreams[node], *hidden(case, served, node)) for node in case.nodes]
    expected = final_statuses(upstreams, case.policies, case.finally_, told, case.finished)
    for node in case.nodes:
        if node in served and found[node] is not expected[node]:
            assert found[node] in (TaskStatus.SKIPPED, SUCCEEDED)
        elif node not in served:
            assert found[node] is expected[node], (node, found, expected)


def test_random_graphs_with_services_end_as_the_oracle_says() -> None:
    for number in range(GRAPHS):
        check_seeded(CHECKS["services"], number)


def test_random_graphs_with_services_that_are_stopped() -> None:
    for number in range(GRAPHS):
        check_seeded(CHECKS["stopped services"], number)


def check_seeded(check: object, seed: int) -> None:
    assert callable(check)
    try:
        check(Random(seed))
    except BaseException as error:
        error.add_note(f"with seed {seed}")
        raise
