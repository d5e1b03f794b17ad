"""The table of policies in the documentation says what the plan, and a real run, do."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from ttasks import DependencyPolicy, Task, TaskExecutor, TaskGraph, TaskStatus, TaskType
from ttasks.model.plan import Plan
from ttasks.model.topology import topology

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "policies.md"
OUTCOMES = ("SUCCEEDED", "FAILED", "CANCELLED", "BLOCKED", "SKIPPED")
NONE = "none at all"
FINALLY = "finally"
RUNS = "runs"


def table() -> dict[tuple[str, ...], dict[str, str]]:
    """The first table of the page: outcomes of the upstreams, to policy, to what is written."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {}
    for first, *cells in rows:
        outcomes = () if first == NONE else tuple(first.split(", "))
        assert outcomes not in found, f"two rows for {first}"
        found[outcomes] = dict(zip(head[1:], cells, strict=True))
    return found


TABLE = table()
CELLS = [
    pytest.param(outcomes, column, cell, id=f"{'+'.join(outcomes) or 'none'}-{column}")
    for outcomes, cells in TABLE.items()
    for column, cell in cells.items()
]


def test_the_table_has_every_policy_and_every_outcome() -> None:
    for cells in TABLE.values():
        assert set(cells) == {policy.name for policy in DependencyPolicy} | {FINALLY}
        assert set(cells.values()) <= {RUNS, "BLOCKED", "SKIPPED"}
    assert {(), *((outcome,) for outcome in OUTCOMES)} <= set(TABLE)
    assert all(set(outcomes) <= set(OUTCOMES) for outcomes in TABLE)


def settings(column: str) -> tuple[DependencyPolicy, bool]:
    """Policy, and whether it is a finally task."""
    if column == FINALLY:
        return DependencyPolicy.BLOCK, True
    return DependencyPolicy[column], False


# --- the plan -----------------------------------------------------------------------------------


def planned(outcomes: tuple[str, ...], column: str) -> str:
    """What the plan does with a task after upstreams that end so, in this order, during the run."""
    tasks = [Task(str(number), None, TaskType("any")) for number in range(len(outcomes) + 1)]
    last = len(outcomes)
    policy, finally_ = settings(column)
    plan = Plan(
        topology(tasks, [()] * last + [tuple(tasks[:last])]),
        [DependencyPolicy.BLOCK] * last + [policy],
        frozenset({last} if finally_ else ()),
    )
    decisions = plan.begin()
    for number in range(last):
        assert plan.take() == number
    for number, outcome in enumerate(outcomes):
        decisions += plan.finish(number, TaskStatus[outcome])
    taken = plan.take()
    if not decisions:
        assert taken == last
        return RUNS
    (decision,) = decisions
    assert taken is None
    assert decision.node == last
    return decision.status.name


@pytest.mark.parametrize(("outcomes", "column", "cell"), CELLS)
def test_the_plan_does_what_the_table_says(
    outcomes: tuple[str, ...], column: str, cell: str
) -> None:
    # "Tasks of both kinds": also several of one, in any order.
    for multiplied in {outcomes, outcomes + outcomes[:1], outcomes + outcomes}:
        for order in set(permutations(multiplied)):
            assert planned(order, column) == cell


# --- a real run ---------------------------------------------------------------------------------

WORK = TaskType("work")


def work(context: object) -> None:
    if context.payload == "FAILED":
        raise ValueError("as planned")


def task_that_ends(outcome: str, graph: TaskGraph) -> Task:
    """Add a task that becomes this."""
    task = Task(outcome, outcome, WORK)
    if outcome == "BLOCKED":
        failed = graph.add(Task("before", "FAILED", WORK))
        return graph.add(task, after=failed)
    if outcome == "SKIPPED":
        fine = graph.add(Task("before", "SUCCEEDED", WORK))
        return graph.add(task, after=fine, on_dep_failure=DependencyPolicy.ON_FAILURE)
    if outcome == "CANCELLED":
        task.cancel()
    return graph.add(task)


@pytest.mark.parametrize("outcomes", TABLE, ids=lambda outcomes: "+".join(outcomes) or "none")
def test_a_run_does_what_the_table_says(outcomes: tuple[str, ...]) -> None:
    graph = TaskGraph()
    upstreams = [task_that_ends(outcome, graph) for outcome in outcomes]
    tasks = {}
    for column in TABLE[outcomes]:
        policy, finally_ = settings(column)
        task = Task(column, "SUCCEEDED", WORK)
        tasks[column] = graph.add(task, after=upstreams, finally_=finally_, on_dep_failure=policy)
    with TaskExecutor() as executor:
        executor.register(WORK, work)
        graph.run(executor)

    assert tuple(task.status.name for task in upstreams) == outcomes
    became = {column: task.status.name for column, task in tasks.items()}
    expected = {
        column: "SUCCEEDED" if cell == RUNS else cell for column, cell in TABLE[outcomes].items()
    }
    assert became == expected
