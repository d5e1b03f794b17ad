"""The numbers of a run, against slow and plain ways to find them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reportkit import Work, release, reported, simulate, work
from ttasks import TaskStatus
from ttasks.model.facts import AttemptFacts, RunFacts, Span, WaitReason
from ttasks.report.numbers import numbers_of


def test_numbers_of_a_small_run() -> None:
    numbers = reported(
        simulate([work("a", 1.0), work("b", 2.0, after="a"), work("c", 1.5), work("d", 1.5)])
    ).numbers
    # One worker runs a and d, the other c and b.
    assert numbers.counts == {TaskStatus.SUCCEEDED: 4}
    assert numbers.work == pytest.approx(6.0)
    assert numbers.wall == pytest.approx(3.5)
    assert numbers.utilisation == pytest.approx(6.0 / 7.0)
    assert numbers.critical_path == ("id-a", "id-b")
    assert numbers.bound == pytest.approx(3.0)
    assert numbers.critical_share == pytest.approx(3.0 / 3.5)
    assert numbers.waited == {
        WaitReason.DEPENDENCY: pytest.approx(1.0),
        WaitReason.WORKER: pytest.approx(1.0 + 0.5),
    }


def test_a_pause_before_a_retry_is_part_of_the_critical_path_but_no_work() -> None:
    numbers = reported(simulate([work("a", 1.0, 1.0, pause=5.0)])).numbers
    assert (numbers.bound, numbers.work) == (pytest.approx(7.0), pytest.approx(2.0))


def test_coroutines_that_overlap_on_their_worker_use_it_once() -> None:
    facts = simulate([work(f"{number}") for number in range(3)], workers=1)
    tasks = {
        key: replace(
            task,
            attempts=(AttemptFacts(1, 0.0, 0.0, 1.0, TaskStatus.SUCCEEDED, 1),),
            spans=(Span(0.0, 1.0),),
        )
        for key, task in facts.tasks.items()
    }
    numbers = numbers_of(replace(facts, tasks=tasks, duration=1.0, elapsed=1.0))
    assert (numbers.work, numbers.utilisation, numbers.bound) == (3.0, 1.0, 1.0)


def test_tasks_of_a_nested_graph_are_part_of_the_task_that_runs_it() -> None:
    facts = release()
    without = replace(
        facts, tasks={key: task for key, task in facts.tasks.items() if len(task.path) == 1}
    )
    inner, outer = numbers_of(facts), numbers_of(without)
    assert inner.work == outer.work
    assert inner.critical_path == outer.critical_path
    assert inner.counts[TaskStatus.SUCCEEDED] == outer.counts[TaskStatus.SUCCEEDED] + 1


def test_a_run_that_took_no_time_has_no_shares() -> None:
    numbers = reported(simulate([])).numbers
    assert (numbers.wall, numbers.utilisation, numbers.critical_share) == (0.0, 0.0, None)
    assert numbers.savings == numbers.critical_path == ()


def test_halving_a_task_beside_an_equal_one_saves_nothing_of_the_bound() -> None:
    numbers = reported(simulate([work("a", 4.0), work("b", 4.0)], workers=8)).numbers
    assert numbers.savings == ()


def test_halving_saves_up_to_the_next_longest_path() -> None:
    works = [work("a", 4.0), work("b", 3.5), work("c", 0.1)]
    (saving,) = reported(simulate(works, workers=8)).numbers.savings
    assert (saving.task_id, saving.seconds) == ("id-a", pytest.approx(0.5))


def test_where_workers_are_few_halving_saves_its_share_of_the_work() -> None:
    works = [work(f"{number}", 1.0) for number in range(9)] + [work("long", 2.0)]
    savings = reported(simulate(works, workers=2)).numbers.savings
    assert savings[0].task_id == "id-long"
    assert savings[0].seconds == pytest.approx(0.5)  # half of 2 s on 2 workers
    assert len(savings) == 5


# Against a plain way


def longest_path(facts: RunFacts, weights: dict[str, float]) -> float:
    known: dict[str, float] = {}

    def length(key: str) -> float:
        if key not in known:
            task = facts.tasks[key]
            known[key] = weights[key] + max((length(end) for end in task.after), default=0.0)
        return known[key]

    return max((length(key) for key in facts.tasks), default=0.0)


@st.composite
def graphs(draw: st.DrawFn) -> list[Work]:
    works: list[Work] = []
    for number in range(draw(st.integers(0, 12))):
        ends = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        length = draw(st.integers(0, 8))
        works.append(work(f"{number}", length / 4, after=[f"{end}" for end in sorted(ends)]))
    return works


@given(works=graphs(), workers=st.integers(1, 4))
def test_numbers_are_those_of_the_plain_way(works: list[Work], workers: int) -> None:
    facts = simulate(works, workers=workers)
    numbers = numbers_of(facts)
    weights = {key: task.duration or 0.0 for key, task in facts.tasks.items()}
    bound = longest_path(facts, weights)
    assert numbers.bound == pytest.approx(bound)
    assert sum(weights[key] for key in numbers.critical_path) == pytest.approx(bound)
    for before, after in pairwise(numbers.critical_path):
        assert reaches(facts, before, after)

    def estimate(halved: str | None) -> float:
        changed = {key: w / 2 if key == halved else w for key, w in weights.items()}
        return max(longest_path(facts, changed), sum(changed.values()) / workers)

    saved = {key: estimate(None) - estimate(key) for key in weights}
    expected = sorted((s for s in saved.values() if s > 1e-9), reverse=True)[:5]
    assert [item.seconds for item in numbers.savings] == pytest.approx(expected)
    for item in numbers.savings:
        assert item.seconds == pytest.approx(saved[item.task_id])
    assert bound <= numbers.wall + 1e-9
    assert 0 <= numbers.utilisation <= 1


def reaches(facts: RunFacts, before: str, after: str) -> bool:
    ends = facts.tasks[after].after
    return before in ends or any(reaches(facts, before, end) for end in ends)


# Earlier runs


def test_what_took_longer_than_its_median_is_named_the_greatest_ratio_first() -> None:
    earlier = [simulate([work("a", s), work("b", s), work("c", s)]) for s in (1.0, 1.2, 9.0)]
    report = reported(simulate([work("a", 2.4), work("b", 1.3), work("c", 6.0)]), earlier)
    assert [(i.task_id, i.seconds, i.median) for i in report.numbers.slower] == [
        ("id-c", 6.0, 1.2),
        ("id-a", 2.4, 1.2),
    ]
    assert "'c' took 6.00s; its median is 1.20s." in report.to_text(100, False)


def test_failed_and_reused_tasks_tell_nothing_of_what_is_usual() -> None:
    failed = simulate([work("a", 0.1, outcome=TaskStatus.FAILED)])
    reused = simulate([work("a", 0.1, reused=True)])
    assert reported(simulate([work("a", 9.0)]), [failed, reused]).numbers.slower == ()
    slow_failure = simulate([work("a", 9.0, outcome=TaskStatus.FAILED)])
    assert reported(slow_failure, [simulate([work("a", 0.1)])]).numbers.slower == ()
