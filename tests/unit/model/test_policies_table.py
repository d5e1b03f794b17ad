"""What each dependency policy does for each outcome of its upstreams, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product

import pytest

from ttasks import DependencyPolicy, Task, TaskStatus, TaskType
from ttasks.model.plan import Decision, Plan, State
from ttasks.model.topology import topology

# One row per outcome of the upstreams, in whatever order they end; one column per policy. "run":
# the task starts, "blocked" and "skipped": it does not, and becomes that. With "!" this is decided
# at the first upstream that settles it, while the others may still be running; without, once all
# upstreams are finished.
TABLE = """
upstreams               BLOCK     SKIP      CONTINUE_IF_ANY  RUN_ANYWAY  ON_FAILURE  finally
none                    run       run       run              run         skipped     run

succeeded               run       run       run              run         skipped     run
failed                  blocked!  skipped!  blocked          run         run         run
cancelled               blocked!  skipped!  blocked          run         skipped     run
blocked                 blocked!  skipped!  blocked          run         run         run
skipped                 skipped   skipped!  skipped          run         skipped     run

succeeded succeeded     run       run       run              run         skipped     run
succeeded failed        blocked!  skipped!  run              run         run         run
succeeded cancelled     blocked!  skipped!  run              run         skipped     run
succeeded blocked       blocked!  skipped!  run              run         run         run
succeeded skipped       skipped   skipped!  run              run         skipped     run
failed failed           blocked!  skipped!  blocked          run         run         run
failed cancelled        blocked!  skipped!  blocked          run         run         run
failed blocked          blocked!  skipped!  blocked          run         run         run
failed skipped          blocked!  skipped!  blocked          run         run         run
cancelled cancelled     blocked!  skipped!  blocked          run         skipped     run
cancelled blocked       blocked!  skipped!  blocked          run         run         run
cancelled skipped       blocked!  skipped!  blocked          run         skipped     run
blocked blocked         blocked!  skipped!  blocked          run         run         run
blocked skipped         blocked!  skipped!  blocked          run         run         run
skipped skipped         skipped   skipped!  skipped          run         skipped     run
"""

HEAD, *ROWS = [line.split() for line in TABLE.strip().splitlines() if line]
COLUMNS = HEAD[1:]
OUTCOMES = ["succeeded", "failed", "cancelled", "blocked", "skipped"]
BROKEN = ("failed", "cancelled", "blocked")


def cells() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Each column, order of outcomes, and verdict."""
    for row in ROWS:
        outcomes = [name for name in row[: -len(COLUMNS)] if name != "none"]
        for order in sorted(set(permutations(outcomes))):
            for column, verdict in zip(COLUMNS, row[-len(COLUMNS) :], strict=True):
                yield column, order, verdict


CELLS = [pytest.param(*cell, id="-".join([cell[0], *cell[1]])) for cell in cells()]


def test_the_table_is_complete() -> None:
    columns = [policy.name for policy in DependencyPolicy] + ["finally"]
    orders = [(), *product(OUTCOMES), *product(OUTCOMES, OUTCOMES)]
    assert sorted(cell[:2] for cell in cells()) == sorted(product(columns, orders))


@pytest.mark.parametrize(("column", "outcomes", "verdict"), CELLS)
def test_the_plan_does_what_the_table_says(
    column: str, outcomes: tuple[str, ...], verdict: str
) -> None:
    plan, node = plan_of(column, len(outcomes))
    settled = plan.begin()
    for number, outcome in enumerate(outcomes):
        assert plan.take() == number
        settled += plan.finish(number, TaskStatus(outcome))
        if number < len(outcomes) - 1:
            early = verdict.endswith("!") and decides(column, outcome)
            assert bool(settled) is early
            assert plan.state(node) is (State.DECIDED if early else State.WAITING)
    if verdict == "run":
        assert settled == []
        assert plan.take() == node
    else:
        status = TaskStatus(verdict.rstrip("!"))
        first_broken = next((n for n, outcome in enumerate(outcomes) if outcome in BROKEN), None)
        first_bad = next((n for n, outcome in enumerate(outcomes) if outcome != "succeeded"), None)
        because = first_broken if status is TaskStatus.BLOCKED else first_bad
        if column == "ON_FAILURE":
            because = None  # a fallback is skipped because of what did not fail
        assert settled == [Decision(node, status, because)]
        assert plan.take() is None


@pytest.mark.parametrize(("column", "outcomes", "verdict"), CELLS)
def test_what_ended_before_the_run_counts_the_same(
    column: str, outcomes: tuple[str, ...], verdict: str
) -> None:
    finished = {number: TaskStatus(outcome) for number, outcome in enumerate(outcomes)}
    plan, node = plan_of(column, len(outcomes), finished)
    decisions = plan.begin()
    assert [item.status.value for item in decisions] == (
        [] if verdict == "run" else [verdict.rstrip("!")]
    )
    assert plan.take() == (node if verdict == "run" else None)


def decides(column: str, outcome: str) -> bool:
    """True if this outcome of one upstream settles what a task of this policy does."""
    return outcome in BROKEN or (column == "SKIP" and outcome == "skipped")


def plan_of(
    column: str, upstreams: int, finished: dict[int, TaskStatus] | None = None
) -> tuple[Plan, int]:
    """A plan whose last node has this policy and depends on all others, which run in any case."""
    tasks = [Task(f"node {number}", None, TaskType("node")) for number in range(upstreams + 1)]
    after: list[tuple[Task, ...]] = [()] * upstreams + [tuple(tasks[:-1])]
    policy = DependencyPolicy.BLOCK if column == "finally" else DependencyPolicy[column]
    policies = [DependencyPolicy.RUN_ANYWAY] * upstreams + [policy]
    finals = frozenset({upstreams}) if column == "finally" else frozenset()
    return Plan(topology(tasks, after), policies, finals, finished=finished), upstreams
