"""The facts of random runs: every second of a task has one reason, in memory and in a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from support import CUSTOM, WAIT, background, make
from ttasks import (
    DependencyPolicy,
    RetryPolicy,
    SQLiteStore,
    TaskContext,
    TaskExecutor,
    TaskGraph,
)
from ttasks.model.facts import RunFacts, TaskFacts, WaitReason
from ttasks.testing import FakeClock

SEEDS = 40


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "ledger.db") as store:
        yield store


def random_graph(random: Random) -> TaskGraph:
    graph = TaskGraph(f"graph {random.random()}")
    for number in range(random.randint(1, 12)):
        before = list(graph)
        task = make(
            f"t{number}",
            retry=RetryPolicy(random.randint(1, 3), backoff=random.choice([0, 1, 5])),
            group=random.choice([None, None, "db", "net"]),
            priority=random.choice([0, 0, 1]),
        )
        graph.add(
            task,
            after=random.sample(before, min(len(before), random.randint(0, 2))),
            finally_=random.random() < 0.1,
            required=random.random() < 0.8,
            on_dep_failure=random.choice(list(DependencyPolicy)),
        )
    return graph


def play(seed: int, store: SQLiteStore) -> tuple[RunFacts, RunFacts]:
    """Run a random graph in a random way; its facts from memory and from the ledger."""
    random = Random(seed)
    clock = FakeClock()
    graph = random_graph(random)
    steps = {task.title: [random.random() for _ in range(3)] for task in graph}
    lengths = {task.title: random.choice([0, 1, 2, 3]) for task in graph}

    def handler(context: TaskContext) -> int:
        clock.advance(lengths[context.title])
        if steps[context.title][context.attempt - 1] < 0.35:
            raise ValueError(f"no {context.attempt}")
        return context.attempt

    limits = {"db": random.randint(1, 2), "net": 1}
    fail_fast, workers = random.random() < 0.2, random.randint(1, 4)
    with TaskExecutor.empty(store, clock=clock, limits=limits) as executor:
        executor.register(CUSTOM, handler)
        run = background(lambda: graph.run(executor, workers, fail_fast=fail_fast))
        give_up = monotonic() + WAIT
        while futures.wait([run], 0.001).not_done and monotonic() < give_up:
            if clock.waiting:  # for a retry
                clock.advance(1)
        run.result(WAIT)
    latest = graph.latest_run
    assert latest is not None
    return latest.facts(), store.runs[latest.id].facts()


def check_spans(task: TaskFacts) -> None:
    """Check that the spans of a task go from the start of the run to its end."""
    assert task.ended is not None
    last = 0.0
    for span in task.spans:
        assert span.start == last
        assert span.end is not None
        assert span.end > span.start
        last = span.end
    assert last == task.ended
    ran = [(span.start, span.end) for span in task.spans if span.reason is None]
    tried = [(item.started, item.ended) for item in task.attempts]
    assert ran == [(start, end) for start, end in tried if start != end]


@pytest.mark.parametrize("part", range(4))
def test_spans_add_up_and_a_ledger_says_the_same(part: int, store: SQLiteStore) -> None:
    seen: Counter[object] = Counter()
    for seed in range(part, SEEDS, 4):
        live, kept = play(seed, store)
        assert live.outcome != "running"
        assert kept == live, f"play({seed}) repeats it"
        for task in live.tasks.values():
            check_spans(task)
            seen.update(span.reason for span in task.spans)
            seen.update([task.status, len(task.attempts)])
            assert live.why(task).endswith(".")
    assert {WaitReason.DEPENDENCY, WaitReason.RETRY, None} <= seen.keys()


def test_facts_as_plain_data_can_be_changed_only_in_copies(store: SQLiteStore) -> None:
    live, _ = play(1, store)
    with pytest.raises(AttributeError):
        live.outcome = "ok"  # type: ignore[misc]
    assert replace(live, outcome="ok").ok
