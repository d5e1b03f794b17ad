"""The plan against a naive oracle, on random graphs driven in random ways."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from math import inf
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
from ttasks.model.facts import WaitReason
from ttasks.model.notes import Notes
from ttasks.model.plan import Decision, Plan, State
from ttasks.model.timeline import Piece, Try, pieces, tries
from ttasks.model.topology import topology

GRAPHS = 3_000
PARTS = 4
CAMPAIGN = {"full": 100_000}.get(os.environ.get("TTASKS_CAMPAIGN", ""), 3_000)

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
    limits = {f"g{i}": random.randint(1, 2) for i in range(random.choice([0, 1, 2, 3]))}
    ordered = random.random() < 0.5
    grouped, final = random.choice([0.6, 1.0]), random.choice([0.2, 0.2, 0.5])
    if random.random() < 0.2:  # all want the one place of a group
        upstreams = [ends[:1] if random.random() < 0.2 else () for ends in upstreams]
        limits, grouped, final = {"g0": 1}, 1.0, 0.5
    served = random.choice([0.0, 0.3, 0.6])
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
            node: some(list(limits), random)
            for node in range(count)
            if limits and random.random() < grouped
        },
        limits=limits,
        finished={node: random.choice([SUCCEEDED, CANCELLED]) for node in ended_before},
        services=frozenset(node for node in range(count) if random.random() < served),
    )


def some(names: list[str], random: Random) -> tuple[str, ...]:
    """One of the names mostly, or several of them in any order."""
    return tuple(random.sample(names, min(random.choice([1, 1, 2, 3]), len(names))))


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
        # Moments go on by none or one. What the plan is to know of them, by node:
        self.now = 10.0
        self.could_run: dict[int, tuple[float, int | None]] = {}  # and which upstream let it
        self.taken: dict[int, list[tuple[float, int]]] = {}  # and the slot
        self.runs: dict[int, list[tuple[float, int]]] = {}  # the same without duplicates
        self.put_aside: dict[int, list[tuple[float, str]]] = {}  # and why
        self.notes: dict[int, Notes] = {}  # what was checked last, and its attempts
        self.tries: dict[int, list[Try]] = {}
        self.was_decided: set[int] = set()  # and then waited for somebody else who runs them
        self.ended: dict[int, float] = {}
        self.slots: dict[int, int] = {}  # of what is running
        tasks = NODES[: len(case.upstreams)]
        after = [tuple(tasks[other] for other in ends) for ends in case.upstreams]
        self.plan = Plan(
            topology(tasks, after),
            case.policies,
            case.finally_,
            case.orders,
            case.groups,
            case.finished,
            self.now,
            case.services,
        )
        self.unneeded = {node for node in case.services if not self.oracle.is_needed(node)}
        expected = self.oracle.fates()
        self.note(expected)
        if disturbed and random.random() < 0.05:
            self.stop()  # a stop may come before the first step
        self.compare(self.plan.begin(), expected)
        assert self.plan.begin() == []

    def run(self) -> None:
        while True:
            self.check()
            while self.eager and self.busy < self.workers and self.take():
                self.check()
            if not self.plan.unfinished:
                break
            self.step()
        assert self.plan.take(self.acquire, self.now) is None
        assert set(self.oracle.ended) == set(self.case.nodes)

    @property
    def busy(self) -> int:
        """How many workers are busy; services hold none."""
        return len(self.oracle.running - self.case.services)

    # Steps

    def step(self) -> None:
        oracle, random = self.oracle, self.random
        self.now += random.choice([0.0, 1.0])
        actions: list[Callable[[], object]] = []
        if self.busy < self.workers and not self.eager:
            actions += [self.take] * 2
        if self.may_end():
            actions += [self.end_running] * 2
        if oracle.running - oracle.up and self.retries:
            actions.append(self.postpone)
        if self.starting():
            actions += [self.unlock] * 2
        if oracle.up and random.random() < 0.2:
            actions.append(self.lose_service)
        if oracle.decided:
            actions += [self.end_decided] * 2
            if self.disturbed and self.retries:
                actions.append(self.postpone_decided)
        if oracle.delayed:
            actions.append(self.resume)
            if self.disturbed and random.random() < 0.3:
                actions.append(self.retract)
        if self.case.limits and random.random() < 0.3:
            actions.append(self.stranger)
        if not oracle.stopped and len(self.case.nodes) < 16 and random.random() < 0.05:
            actions.append(self.add)
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
        slot = next(slot for slot in range(1, 20) if slot not in self.slots.values())
        node = self.plan.take(self.acquire, self.now, slot)
        assert node == expected
        if node is None:
            return False
        assert node not in self.oracle.ended
        if node not in self.was_decided:
            assert all(other in self.oracle.told for other in self.case.upstreams[node])
        self.started[node] += 1
        self.slots[node] = slot
        self.taken.setdefault(node, []).append((self.now, slot))
        self.runs.setdefault(node, []).append((self.now, slot))
        self.seen[f"{self.case.policies[node].name} run"] += 1
        if node in self.case.finally_ and self.oracle.stopped:
            self.seen["finally after stop"] += 1
        self.oracle.start(node)
        return True

    def may_end(self) -> list[int]:
        """What runs, but for services that are ready and needed."""
        oracle = self.oracle
        return sorted(
            node for node in oracle.running if node not in oracle.up or not oracle.is_needed(node)
        )

    def end_running(self) -> None:
        node = self.random.choice(self.may_end())
        outcome = self.results[node]
        if node in self.case.services:
            was_stopped = not self.oracle.is_needed(node)
            outcome = SUCCEEDED if was_stopped else self.random.choice([FAILED, CANCELLED])
            self.seen["service stopped" if was_stopped else "service not ready"] += 1
        if node not in self.oracle.up:
            self.give_back(node)
        self.finish(node, outcome)

    def lose_service(self) -> None:
        """A service ends by itself, although it was ready."""
        node = self.random.choice(sorted(self.oracle.up))
        self.seen["service died"] += 1
        self.finish(node, self.random.choice([FAILED, CANCELLED]))
        self.seen["lost over several steps"] += len(self.oracle.lost)

    def end_decided(self) -> None:
        node = self.random.choice(sorted(self.oracle.decided))
        outcome = STATUS_OF_FATE[self.oracle.decided[node][0]]
        if self.disturbed and self.random.random() < 0.1:
            outcome = CANCELLED  # somebody else was faster
        self.finish(node, outcome)

    def finish(self, node: int, outcome: TaskStatus) -> None:
        self.oracle.end(node, outcome)
        self.slots.pop(node, None)
        self.ended[node] = self.now
        expected = self.oracle.fates()
        self.note(expected)
        self.compare(self.plan.finish(node, outcome, self.now), expected)

    def postpone(self) -> None:
        node = self.random.choice(sorted(self.oracle.running - self.oracle.up))
        why = self.random.choice(["retry", "duplicate"])
        allowed = self.oracle.may_be_delayed(node, why)
        self.give_back(node)
        assert self.plan.postpone(node, why, self.now) is allowed
        if allowed:
            self.retries -= 1
            self.started[node] -= 1
            self.oracle.delay(node)
            del self.slots[node]
            self.put_aside.setdefault(node, []).append((self.now, why))
            if why == "duplicate":
                self.runs[node].pop()
        else:
            self.seen["retry refused"] += 1
            self.finish(node, FAILED)

    def postpone_decided(self) -> None:
        """Somebody else runs a node that is not to run here."""
        node = self.random.choice(sorted(self.oracle.decided))
        allowed = self.oracle.may_be_delayed(node, "duplicate")
        assert self.plan.postpone(node, "duplicate", self.now) is allowed
        if allowed:
            self.retries -= 1
            self.oracle.delay(node)
            self.was_decided.add(node)
            self.put_aside.setdefault(node, []).append((self.now, "duplicate"))
            self.seen["waits although decided"] += 1

    def resume(self) -> None:
        node = self.random.choice(sorted(self.oracle.delayed))
        assert self.plan.resume(node, self.now)
        self.oracle.retry(node)
        self.seen["retry"] += 1

    def retract(self) -> None:
        """A node that was to be tried again ends instead."""
        node = self.random.choice(sorted(self.oracle.delayed))
        assert self.plan.retract(node)
        assert self.plan.state(node) is State.RUNNING
        assert not self.plan.retract(node)
        self.oracle.delayed.remove(node)
        self.finish(node, CANCELLED)
        self.seen["retry cancelled"] += 1

    def starting(self) -> list[int]:
        """The services that run and are not ready."""
        return sorted((self.oracle.running & self.case.services) - self.oracle.up)

    def unlock(self) -> None:
        """A service is ready: what depends on it goes on while it runs."""
        node = self.random.choice(self.starting())
        self.give_back(node)
        waiting = node not in self.oracle.told and any(
            node in self.case.upstreams[other] for other in self.oracle.undecided()
        )
        self.oracle.unlock(node)
        self.seen["unlock"] += waiting
        expected = self.oracle.fates()
        self.note(expected)
        self.compare(self.plan.unlock(node, self.now), expected)
        assert self.plan.state(node) is State.RUNNING
        assert self.plan.unlock(node, self.now) == []

    def add(self) -> None:
        """A task that nobody knew of before comes in."""
        case = self.case
        order = (self.random.choice([-1.5, 0.0, 2.0]), self.random.choice(DEADLINES))
        groups = some(list(case.limits), self.random) if self.random.random() < 0.7 else ()
        node = self.plan.add(order, groups, self.now)
        assert node == len(case.upstreams)
        case.upstreams.append(())
        case.policies.append(DependencyPolicy.BLOCK)
        case.orders[node] = order
        if groups:
            case.groups[node] = groups
        self.results[node] = SUCCEEDED
        self.seen["added"] += 1

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
        elif not self.acquire((group,)):
            self.oracle.strangers[group] += 1
            self.seen["stranger"] += 1

    # Groups

    def acquire(self, groups: tuple[str, ...]) -> tuple[str, ...]:
        """Places in all groups, or what is in the way: a full one, then those that are not."""
        full = [group for group in groups if self.places[group] >= self.case.limits[group]]
        if full:
            self.seen["several groups, one full"] += len(groups) > 1
            return (self.random.choice(full), *(group for group in groups if group not in full))
        for group in groups:
            self.places[group] += 1
        return ()

    def release(self, group: str) -> None:
        self.places[group] -= 1
        self.plan.unpark(group, self.now)

    def give_back(self, node: int) -> None:
        groups = self.plan.groups_of(node)
        assert groups == self.case.groups.get(node, ())
        for group in groups:
            self.release(group)

    # Comparison

    def check_needs(self) -> None:
        """Check which services the plan says are needed, and which it wants to be ended now."""
        plan, oracle = self.plan, self.oracle
        for node in self.case.services:
            if node not in oracle.ended:
                assert plan.is_needed(node) is oracle.is_needed(node)
                assert plan.is_in_use(node) is (node in oracle.up and oracle.is_needed(node))
        unneeded = {node for node in self.case.services if not oracle.is_needed(node)}
        has_begun = oracle.running | oracle.delayed | oracle.retried
        asked = plan.take_unneeded()
        assert sorted(asked) == sorted((unneeded - self.unneeded) & has_begun)
        self.unneeded = unneeded

    def note(self, fates: dict[int, Fate]) -> None:
        for node, fate in fates.items():
            self.oracle.decide(node, fate)
            self.seen[f"{self.case.policies[node].name} {fate[0]}"] += 1

    def first_that_did_not_succeed(self, node: int) -> int | None:
        """The upstream that a skipped node is skipped for; None for a fallback."""
        if not self.oracle.is_needed(node) and self.oracle.fate_by_upstreams(node) == ("run", None):
            self.seen["service not needed"] += 1
            return None
        if node in self.oracle.lost and self.case.policies[node] is DependencyPolicy.SKIP:
            return self.oracle.lost[node]
        if self.case.policies[node] is DependencyPolicy.ON_FAILURE:
            return None
        ends = self.case.upstreams[node]
        told = self.oracle.told.items()
        return next(end for end, status in told if end in ends and status is not SUCCEEDED)

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
        self.check_needs()
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
        for node in ready - self.could_run.keys() - self.was_decided:
            ends = [other for other in oracle.told if other in case.upstreams[node]]
            self.could_run[node] = self.now, ends[-1] if ends else None
        for node in case.nodes:
            self.check_facts(node)

    def check_facts(self, node: int) -> None:
        """Check what the plan knows of when and why."""
        plan, taken = self.plan, self.taken.get(node, [])
        ready, started, ended = plan.ready[node], plan.started[node], plan.ended[node]
        assert started == (taken[0][0] if taken else None)
        assert ended == self.ended.get(node)
        if node in self.could_run:
            because = plan.unlocked_by[node]
            told = self.oracle.decided.keys() | self.oracle.ended.keys() | self.was_decided
            if started is None and node in told:
                because = self.could_run[node][1]  # now it says who decided that it does not run
            assert (ready, because) == self.could_run[node]
            moments = [moment for moment in (ready, started, ended) if moment is not None]
            assert moments == sorted(moments)
        elif node not in self.was_decided:
            assert started is None
        waits = plan.waits.get(node, [])
        if taken:
            assert plan.slots[node] == taken[0][1]
        notes = plan.notes(node)
        assert [item[0] for item in notes.waits] == [at - plan.began for at, _, _ in waits]
        began, runs = plan.began, self.runs.get(node, [])
        if notes != self.notes.get(node):  # what follows from them is the same at each step
            self.notes[node] = notes
            self.tries[node] = tries(notes)
            self.check_pieces(notes, self.tries[node])
        assert [(item.started + began, item.slot) for item in self.tries[node]] == runs
        put_aside = [(at, what) for at, what, _ in waits if what in ("retry", "duplicate")]
        assert put_aside == self.put_aside.get(node, [])
        self.check_waits(node, waits)

    def check_pieces(self, notes: Notes, tried: list[Try]) -> None:
        """Check that the pieces add up, and that it runs in those of its attempts."""
        found = pieces(notes)
        if notes.ended is None and notes.ready is None and not notes.waits:
            assert found == [Piece(0.0, None, WaitReason.DEPENDENCY)]
        last = 0.0
        for piece in found:
            assert piece.start == last
            assert piece.end is None or piece.end > piece.start
            last = self.now - self.plan.began if piece.end is None else piece.end
        if notes.ended is not None:
            assert last == notes.ended
        ran = [(item.start, item.end) for item in found if item.reason is None]
        assert ran == [(item.started, item.ended) for item in tried if item.started != item.ended]

    def check_waits(self, node: int, waits: list[tuple[float, str, str | int | None]]) -> None:
        """Check that the pieces of what a node waited for follow from each other, in order."""
        ready = self.plan.ready[node]
        before, last = "worker", -inf if ready is None else ready
        for at, what, detail in waits:
            assert last <= at <= self.now
            last = at
            match what:
                case "group":
                    # A stop lets all ask again who wait for a place, so twice is no mistake.
                    assert before in ("worker", "group")
                    assert detail in self.case.groups[node]
                case "worker":
                    # What was decided may be in the queue twice.
                    assert before in ("group", "retry", "duplicate") or node in self.was_decided
                case "running":
                    assert before in ("worker", "group")
                case "refused":
                    assert before == "running" or waits[0][1] == "refused"
                case "retry" | "duplicate":
                    # That it was taken for the first time is no piece of its own; nor is what
                    # was decided taken at all.
                    is_first = (at, what) == self.put_aside[node][0]
                    before_it = "running" if what == "retry" else "refused"
                    assert before == before_it or is_first or node in self.was_decided
                case _:
                    raise AssertionError(what)
            before = what
        if self.plan.state(node) is State.DELAYED:
            assert before in ("retry", "duplicate")
        elif self.plan.state(node) is State.READY:
            assert before in ("worker", "group")


def play(seed: int) -> Counter[str]:
    """Run one random graph to its end in one random way; returns what was seen."""
    random = Random(seed)
    try:
        case = random_case(random)
        driver = Driver(case, random, disturbed=random.random() < 0.5)
        driver.run()
        if not driver.disturbed:
            told = driver.results | {
                node: status for node, status in driver.oracle.told.items() if node in driver.taken
            }
            # What becomes of a service depends on when its dependents end.
            if case.services:
                return driver.seen
            final = final_statuses(
                case.upstreams, case.policies, case.finally_, told, case.finished
            )
            ran = {node: driver.results[node] for node in driver.taken}
            assert driver.oracle.ended == final | ran
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
        *("stranger", "group full", "others pass a full group", "several groups, one full"),
        *("unlock", "added", "retry cancelled", "waits although decided"),
        *("service stopped", "service not ready", "service died", "service not needed"),
        "lost over several steps",
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

    def acquire(groups: tuple[str, ...]) -> tuple[str, ...]:
        nonlocal free
        free -= 1
        return () if free >= 0 else groups

    edges = topology(NODES[:3], [(), (), ()])
    groups = dict.fromkeys(range(3), ("db",))
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


# What is ready before it is over


def test_dependents_of_a_service_go_on_before_it_ends_and_never_twice() -> None:
    plan = Plan(topology(NODES[:3], [(), (NODES[0],), (NODES[1],)]), [DependencyPolicy.BLOCK] * 3)
    assert plan.take(now=1.0, slot=1) == 0
    assert plan.unlock(0, 2.0) == []
    assert plan.unlock(0, 3.0) == []
    assert plan.take(now=4.0, slot=2) == 1
    assert plan.finish(0, FAILED, 5.0) == []  # nobody waits for how it ends
    assert plan.finish(1, SUCCEEDED, 6.0) == []
    assert plan.take(now=7.0, slot=1) == 2
    assert (plan.ready, plan.unlocked_by) == ([0.0, 2.0, 6.0], [None, 0, 1])
    assert (plan.started, plan.ended) == ([1.0, 4.0, 7.0], [5.0, 6.0, None])
    assert plan.slots == [1, 2, 1]


@pytest.mark.parametrize("state", ["waiting", "ready", "delayed", "decided", "finished"])
def test_what_does_not_run_unlocks_nothing(state: str) -> None:
    edges = topology(NODES[:3], [(), (NODES[0],), (NODES[1],)])
    plan = Plan(edges, [DependencyPolicy.BLOCK] * 3)
    node = {"waiting": 1, "decided": 1}.get(state, 0)
    if state in ("delayed", "finished", "decided"):
        assert plan.take() == 0
        if state == "delayed":
            assert plan.postpone(0)
        else:
            plan.finish(0, FAILED)
    before = plan.state(node), plan.state(2)
    assert plan.unlock(node) == []
    assert (plan.state(node), plan.state(2)) == before


def test_a_service_that_is_tried_again_unlocks_its_dependents_once() -> None:
    plan = Plan(topology(NODES[:2], [(), (NODES[0],)]), [DependencyPolicy.BLOCK] * 2)
    assert plan.take() == 0
    assert plan.unlock(0) == []
    assert plan.take() == 1
    assert plan.finish(1, SUCCEEDED) == []
    assert plan.postpone(0)
    assert plan.resume(0)
    assert plan.take() == 0
    assert plan.unlock(0) == []
    assert plan.finish(0, FAILED) == []
    assert plan.unfinished == plan.active == 0


def test_a_node_that_could_never_have_run_was_never_ready() -> None:
    after = [(), (NODES[0],), (NODES[0],)]
    policies = [DependencyPolicy.BLOCK, DependencyPolicy.BLOCK, DependencyPolicy.ON_FAILURE]
    plan = Plan(topology(NODES[:3], after), policies)
    assert plan.take(now=1.0) == 0
    decisions = plan.finish(0, SKIPPED, 2.0)
    assert [(item.node, item.status) for item in decisions] == [(1, SKIPPED), (2, SKIPPED)]
    assert plan.ready == [0.0, None, None]


# What waits for its next attempt


@pytest.mark.parametrize("state", ["waiting", "ready", "running", "finished"])
def test_only_what_is_put_aside_is_retracted(state: str) -> None:
    plan = Plan(topology(NODES[:2], [(), (NODES[0],)]), [DependencyPolicy.BLOCK] * 2)
    if state in ("running", "finished"):
        assert plan.take() == 0
        if state == "finished":
            plan.finish(0, SUCCEEDED)
    assert not plan.retract(1 if state == "waiting" else 0)


def test_what_is_retracted_is_not_resumed() -> None:
    plan = Plan(topology(NODES[:1], [()]), [DependencyPolicy.BLOCK])
    assert plan.take() == 0
    assert plan.postpone(0)
    assert plan.retract(0)
    assert not plan.resume(0)
    assert (plan.active, plan.delayed, plan.unfinished) == (1, 0, 1)
    assert plan.finish(0, CANCELLED) == []
    assert (plan.active, plan.delayed, plan.unfinished) == (0, 0, 0)


# What comes in later


def test_an_open_plan_takes_what_is_added_by_order_and_then_as_it_came() -> None:
    for seed in range(200):
        random = Random(seed)
        plan = Plan(topology([], []), [])
        waiting: list[tuple[float, bool, float, int, int]] = []  # as they are to be taken
        running: list[int] = []
        most = 0
        for now in range(1, 150):
            action = random.choice(["add", "take", "finish"])
            if action == "add":
                priority, deadline = random.choice([0.0, 0.0, 1.0]), random.choice(DEADLINES)
                node = plan.add((priority, deadline), (), now)
                assert node not in running
                assert all(node != entry[-1] for entry in waiting)
                assert (plan.ready[node], plan.started[node], plan.ended[node]) == (now, None, None)
                assert plan.waits.get(node) is None
                when = 0.0 if deadline is None else deadline.timestamp()
                waiting.append((-priority, deadline is None, when, now, node))
                most = max(most, len(waiting) + len(running))
            elif action == "take":
                waiting.sort()
                expected = waiting.pop(0)[-1] if waiting else None
                taken = plan.take(None, now)
                assert taken == expected
                if taken is not None:
                    running.append(taken)
            elif running:
                node = running.pop(random.randrange(len(running)))
                assert plan.finish(node, random.choice([SUCCEEDED, FAILED]), now) == []
                assert plan.ended[node] == now
                plan.forget(node)
            assert plan.unfinished == len(waiting) + len(running)
            assert plan.active == len(running)
        # Numbers are used again: the plan is as large as the most there ever were at once.
        assert len(plan.ready) == most


def test_a_number_that_is_used_again_remembers_nothing_of_the_task_before() -> None:
    plan = Plan(topology([], []), [])
    node = plan.add((0.0, None), ("db",), 1.0)
    assert plan.take(lambda groups: groups, 2.0) is None
    assert plan.unpark("db", 3.0)
    assert plan.take(lambda groups: (), 4.0, 2) == node
    assert plan.postpone(node, "retry", 5.0)
    assert plan.resume(node, 6.0)
    assert plan.take(lambda groups: (), 7.0, 3) == node
    assert plan.waits[node] == [
        (2.0, "group", "db"),
        (3.0, "worker", None),
        (4.0, "running", 2),
        (5.0, "retry", None),
        (6.0, "worker", None),
        (7.0, "running", 3),
    ]
    plan.unlock(node, 8.0)
    plan.finish(node, SUCCEEDED, 9.0)
    plan.forget(node)
    assert not plan.grouped
    assert plan.add((0.0, None), (), 10.0) == node
    assert plan.groups_of(node) == ()
    assert (plan.ready[node], plan.started[node], plan.ended[node]) == (10.0, None, None)
    assert plan.waits.get(node) is None
    assert plan.take(lambda groups: groups, 11.0, 1) == node
    assert plan.started[node] == 11.0
    assert plan.waits.get(node) is None
