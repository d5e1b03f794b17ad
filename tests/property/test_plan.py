"""The plan against a naive oracle, on random graphs driven in random ways."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from random import Random, SystemRandom

import pytest

from property.oracle import (
    BLOCKED,
    CANCELLED,
    FAILED,
    SKIPPED,
    SUCCEEDED,
    Case,
    Fate,
    Oracle,
    final_statuses,
)
from ttasks import DependencyPolicy, Task, TaskStatus, TaskType
from ttasks.model.plan import Decision, Plan, State
from ttasks.model.topology import topology

GRAPHS = 3_000
PARTS = 4
CAMPAIGN = {"full": 100_000}.get(os.environ.get("TTASKS_CAMPAIGN", ""), 12_000)

POLICIES = list(DependencyPolicy)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
# The third is the earliest, in spite of its clock.
DEADLINES = [None, NOON, NOON.replace(hour=14, tzinfo=timezone(timedelta(hours=5)))]
NODES = [Task(f"node {number}", None, TaskType("node")) for number in range(16)]

FATE_OF_STATUS = {SKIPPED: "skip", CANCELLED: "cancel", BLOCKED: "block"}
STATUS_OF_FATE = {fate: status for status, fate in FATE_OF_STATUS.items()}


def random_case(random: Random) -> Case:
    """A graph of up to 12 nodes, whose edges may point to nodes added later."""
    count = random.randint(1, 12)
    density = random.choice([0.1, 0.25, 0.5])
    depth = random.sample(range(count), count)
    upstreams = []
    for node in range(count):
        others = [other for other in range(count) if depth[other] < depth[node]]
        chosen = [other for other in others if random.random() < density]
        random.shuffle(chosen)
        upstreams.append(tuple(chosen))
    favourites = random.sample(POLICIES, random.randint(1, len(POLICIES)))
    limits = {f"g{i}": random.randint(1, 2) for i in range(random.choice([0, 1, 2]))}
    ordered = random.random() < 0.5
    grouped, final = random.choice([0.6, 1.0]), random.choice([0.2, 0.2, 0.5])
    if random.random() < 0.2:  # all want the one place of a group
        upstreams = [ends[:1] if random.random() < 0.2 else () for ends in upstreams]
        limits, grouped, final = {"g0": 1}, 1.0, 0.5
    ended_before = [node for node in range(count) if random.random() < 0.1]
    random.shuffle(ended_before)
    return Case(
        upstreams=upstreams,
        policies=[random.choice(favourites) for _ in range(count)],
        finally_=frozenset(node for node in range(count) if random.random() < final),
        orders={
            node: (random.choice([-1.5, 0.0, 0.0, 2.0]), random.choice(DEADLINES))
            for node in range(count)
            if ordered and random.random() < 0.7
        },
        groups={
            node: random.choice(list(limits))
            for node in range(count)
            if limits and random.random() < grouped
        },
        limits=limits,
        finished={node: random.choice([SUCCEEDED, CANCELLED]) for node in ended_before},
    )


class Driver:
    """Drives a plan in a random way, and holds every step of it against the oracle."""

    def __init__(self, case: Case, random: Random, *, disturbed: bool) -> None:
        self.case = case
        self.random = random
        self.oracle = Oracle(case)
        self.seen: Counter[str] = Counter()
        self.workers = random.randint(1, 4)
        # An eager driver fills free capacity at once; another is slow to ask for work.
        self.eager = random.random() < 0.5
        self.disturbed = disturbed
        self.retries = random.choice([0, 4])
        self.results = {
            node: random.choice([SUCCEEDED, SUCCEEDED, FAILED, CANCELLED]) for node in case.nodes
        }
        self.places = dict.fromkeys(case.limits, 0)
        self.started: Counter[int] = Counter()
        tasks = NODES[: len(case.upstreams)]
        after = [tuple(tasks[other] for other in ends) for ends in case.upstreams]
        self.plan = Plan(
            topology(tasks, after),
            case.policies,
            case.finally_,
            case.orders,
            case.groups,
            case.finished,
        )
        expected = self.oracle.fates()
        self.note(expected)
        if disturbed and random.random() < 0.05:
            self.stop()  # a stop may come before the first step
        self.compare(self.plan.begin(), expected)
        assert self.plan.begin() == []

    def run(self) -> None:
        while True:
            self.check()
            while self.eager and len(self.oracle.running) < self.workers and self.take():
                self.check()
            if not self.plan.unfinished:
                break
            self.step()
        assert self.plan.take(self.acquire) is None
        assert set(self.oracle.ended) == set(self.case.nodes)

    # Steps

    def step(self) -> None:
        oracle, random = self.oracle, self.random
        actions = []
        if len(oracle.running) < self.workers and not self.eager:
            actions += [self.take] * 2
        if oracle.running:
            actions += [self.end_running] * 2
            if self.retries:
                actions.append(self.postpone)
        if oracle.decided:
            actions += [self.end_decided] * 2
        if oracle.delayed:
            actions.append(self.resume)
        if self.case.limits and random.random() < 0.3:
            actions.append(self.stranger)
        if self.disturbed and random.random() < 0.3:
            actions.append(self.stop)
        if actions:
            random.choice(actions)()
            return
        # All that can be waited for is a place that a stranger holds.
        assert any(oracle.strangers.values()), "nothing is left that could end the run"
        self.stranger()

    def take(self) -> bool:
        expected = self.oracle.next()
        if any(not self.oracle.has_place(node) for node in self.oracle.ready()):
            self.seen["group full"] += 1
            if expected is not None:
                self.seen["others pass a full group"] += 1
        node = self.plan.take(self.acquire)
        assert node == expected
        if node is None:
            return False
        assert node not in self.oracle.ended
        assert all(other in self.oracle.ended for other in self.case.upstreams[node])
        self.started[node] += 1
        self.seen[f"{self.case.policies[node].name} run"] += 1
        if node in self.case.finally_ and self.oracle.stopped:
            self.seen["finally after stop"] += 1
        self.oracle.start(node)
        return True

    def end_running(self) -> None:
        node = self.random.choice(sorted(self.oracle.running))
        self.give_back(node)
        self.finish(node, self.results[node])

    def end_decided(self) -> None:
        node = self.random.choice(sorted(self.oracle.decided))
        outcome = STATUS_OF_FATE[self.oracle.decided[node][0]]
        if self.disturbed and self.random.random() < 0.1:
            outcome = CANCELLED  # somebody else was faster
        self.finish(node, outcome)

    def finish(self, node: int, outcome: TaskStatus) -> None:
        self.oracle.end(node, outcome)
        expected = self.oracle.fates()
        self.note(expected)
        self.compare(self.plan.finish(node, outcome), expected)

    def postpone(self) -> None:
        node = self.random.choice(sorted(self.oracle.running))
        allowed = self.oracle.may_be_delayed(node)
        self.give_back(node)
        assert self.plan.postpone(node) is allowed
        if allowed:
            self.retries -= 1
            self.started[node] -= 1
            self.oracle.delay(node)
        else:
            self.seen["retry refused"] += 1
            self.finish(node, FAILED)

    def resume(self) -> None:
        node = self.random.choice(sorted(self.oracle.delayed))
        assert self.plan.resume(node)
        self.oracle.retry(node)
        self.seen["retry"] += 1

    def stop(self) -> None:
        also_finally = self.random.random() < 0.3
        for node in self.oracle.delayed:
            if also_finally or node not in self.case.finally_:
                self.seen["cancelled while delayed"] += 1
        self.oracle.stop(also_finally)
        expected = self.oracle.fates()
        self.note(expected)
        self.compare(self.plan.stop(also_finally=also_finally), expected)
        self.seen["stop all" if also_finally else "stop"] += 1

    def stranger(self) -> None:
        """Another run of the same executor takes places of a group, and gives them back."""
        group = self.random.choice(sorted(self.case.limits))
        held = self.oracle.strangers[group]
        if held and self.random.random() < 0.7:
            self.oracle.strangers[group] -= 1
            self.release(group)
        elif self.acquire(group):
            self.oracle.strangers[group] += 1
            self.seen["stranger"] += 1

    # Groups

    def acquire(self, group: str) -> bool:
        if self.places[group] >= self.case.limits[group]:
            return False
        self.places[group] += 1
        return True

    def release(self, group: str) -> None:
        self.places[group] -= 1
        self.plan.unpark(group)

    def give_back(self, node: int) -> None:
        group = self.plan.group_of(node)
        assert group == self.case.groups.get(node)
        if group is not None:
            self.release(group)

    # Comparison

    def note(self, fates: dict[int, Fate]) -> None:
        for node, fate in fates.items():
            self.oracle.decide(node, fate)
            self.seen[f"{self.case.policies[node].name} {fate[0]}"] += 1

    def first_that_did_not_succeed(self, node: int) -> int | None:
        """The upstream that a skipped node is skipped for; None for a fallback."""
        if self.case.policies[node] is DependencyPolicy.ON_FAILURE:
            return None
        ends = self.case.upstreams[node]
        ended = self.oracle.ended.items()
        return next(end for end, status in ended if end in ends and status is not SUCCEEDED)

    def compare(self, decisions: Iterable[Decision], expected: dict[int, Fate]) -> None:
        given = []
        for item in decisions:
            blamed = item.because
            if item.status is SKIPPED:
                assert blamed == self.first_that_did_not_succeed(item.node)
                blamed = None
            given.append((item.node, (FATE_OF_STATUS[item.status], blamed)))
        assert len(given) == len(dict(given)), "a node was decided twice"
        assert dict(given) == expected

    def check(self) -> None:
        plan, oracle, case = self.plan, self.oracle, self.case
        for group, limit in case.limits.items():
            assert self.places[group] == oracle.used(group) <= limit
        assert plan.unfinished == len(case.upstreams) - len(oracle.ended)
        assert plan.active == len(oracle.running) + len(oracle.decided)
        assert plan.delayed == len(oracle.delayed)
        ready = set(oracle.ready())
        for node in case.nodes:
            if node in oracle.ended:
                expected = State.FINISHED
                if node in case.finished:
                    assert self.started[node] == 0, "a node ran that had ended before"
            elif node in oracle.decided:
                expected = State.DECIDED
                assert not plan.resume(node)
            elif node in oracle.running:
                expected = State.RUNNING
            elif node in oracle.delayed:
                expected = State.DELAYED
            else:
                expected = State.READY if node in ready else State.WAITING
            assert plan.state(node) is expected
            assert self.started[node] <= 1
        # A driver with free capacity relies on this to look for work.
        assert plan.queue or oracle.next() is None


def play(seed: int) -> Counter[str]:
    """Run one random graph to its end in one random way; returns what was seen."""
    random = Random(seed)
    try:
        case = random_case(random)
        driver = Driver(case, random, disturbed=random.random() < 0.5)
        driver.run()
        if not driver.disturbed:
            final = final_statuses(
                case.upstreams, case.policies, case.finally_, driver.results, case.finished
            )
            assert driver.oracle.ended == final
            driver.seen["final statuses"] += 1
    except Exception as error:
        error.add_note(f"play({seed}) repeats it")
        raise
    return driver.seen


@pytest.mark.parametrize("part", range(PARTS))
def test_the_plan_does_at_every_step_what_the_oracle_says(part: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(part, GRAPHS, PARTS):
        seen += play(seed)
    # Random graphs that never come into a situation prove nothing about it.
    situations = [
        *(f"BLOCK {fate}" for fate in ("run", "block", "skip", "cancel")),
        *(f"SKIP {fate}" for fate in ("run", "skip", "cancel")),
        *(f"CONTINUE_IF_ANY {fate}" for fate in ("run", "block", "skip", "cancel")),
        *(f"RUN_ANYWAY {fate}" for fate in ("run", "cancel")),
        *(f"ON_FAILURE {fate}" for fate in ("run", "skip", "cancel")),
        *("stop", "stop all", "finally after stop", "final statuses"),
        *("retry", "retry refused", "cancelled while delayed"),
        *("stranger", "group full", "others pass a full group"),
    ]
    assert {situation: seen[situation] for situation in situations if seen[situation] < 5} == {}


@pytest.mark.campaign
def test_the_plan_agrees_with_the_oracle_on_graphs_never_seen_before() -> None:
    first = SystemRandom().randrange(10**9, 10**15)
    for seed in range(first, first + CAMPAIGN):
        play(seed)


def test_a_place_that_a_stop_leaves_unused_goes_to_a_finally_node() -> None:
    # Node 0 holds the only place; 1 and the finally node 2 wait for it. The place is offered to 1,
    # which a stop cancels before it has taken it.
    free = 1

    def acquire(group: str) -> bool:
        nonlocal free
        free -= 1
        return free >= 0

    edges = topology(NODES[:3], [(), (), ()])
    groups = dict.fromkeys(range(3), "db")
    plan = Plan(edges, [DependencyPolicy.BLOCK] * 3, frozenset({2}), groups=groups)
    assert plan.take(acquire) == 0
    assert plan.take(acquire) is None
    free = 1
    assert plan.unpark("db")
    assert plan.finish(0, SUCCEEDED) == []
    assert plan.stop() == [Decision(1, CANCELLED)]
    assert plan.queue
    assert plan.take(acquire) == 2


def test_a_finally_node_is_not_tried_again_once_everything_is_stopped() -> None:
    plan = Plan(topology(NODES[:1], [()]), [DependencyPolicy.BLOCK], frozenset({0}))
    assert plan.take() == 0
    assert plan.stop() == []
    assert plan.postpone(0)
    assert plan.resume(0)
    assert plan.take() == 0
    assert plan.stop(also_finally=True) == []
    assert not plan.postpone(0)
    assert plan.state(0) is State.RUNNING
