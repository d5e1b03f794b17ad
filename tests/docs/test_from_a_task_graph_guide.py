"""What a usage guide of a TaskGraph with actions, caps, tokens and breakers shows, translated."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ttasks import (
    CircuitBreaker,
    CircuitState,
    DependencyPolicy,
    InMemoryStore,
    RetryPolicy,
    Task,
    TaskContext,
    TaskExecutor,
    TaskGraph,
    TaskRejectedError,
    TaskType,
)
from ttasks.testing import EventRecorder, FakeClock, FakeHandler

FETCH, STORE = TaskType("fetch"), TaskType("store")


def executor_with(handler: Any = None, **options: Any) -> TaskExecutor:
    executor = TaskExecutor(**options)
    for kind in (FETCH, STORE):
        executor.register(kind, handler or FakeHandler())
    return executor


def order(graph: TaskGraph, executor: TaskExecutor, **options: Any) -> list[str]:
    """Titles in the order in which the tasks started, one at a time."""
    handler = FakeHandler()
    for kind in (FETCH, STORE):
        executor.register(kind, handler)
    graph.run(executor, max_workers=1, **options)
    return handler.titles


# Building and running


def test_a_graph_of_named_actions_runs_in_stages() -> None:
    graph = TaskGraph("etl", key="etl")
    for number in range(3):
        graph.add(Task(f"fetch {number}", {"page": number}, FETCH, key=f"f{number}"))
    graph.add(Task("store", None, STORE), after=["f0", "f1", "f2"])
    handler = FakeHandler()
    asyncio.run(graph.arun(executor_with(handler), max_workers=3))
    assert graph.ok
    assert handler.titles[-1] == "store"


def test_higher_priority_first_then_the_earlier_deadline_then_insertion() -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    graph = TaskGraph()
    graph.add(Task("plain", None, FETCH))
    graph.add(Task("later", None, FETCH, deadline=soon + timedelta(hours=1)))
    graph.add(Task("soon", None, FETCH, deadline=soon))
    graph.add(Task("first", None, FETCH, priority=1.5))
    assert order(graph, executor_with()) == ["first", "soon", "later", "plain"]


# Policies


@pytest.mark.parametrize(
    ("policy", "becomes"),
    [
        (DependencyPolicy.BLOCK, "blocked"),
        (DependencyPolicy.SKIP, "skipped"),
        (DependencyPolicy.CONTINUE_IF_ANY, "succeeded"),
    ],
)
def test_one_of_two_branches_fails(policy: DependencyPolicy, becomes: str) -> None:
    graph = TaskGraph()
    good, bad = (graph.add(Task(title, None, FETCH)) for title in ("good", "bad"))
    join = graph.add(Task("join", None, STORE), after=[good, bad], on_dep_failure=policy)
    graph.run(executor_with(FakeHandler({"bad": OSError("down")})))
    assert join.status.value == becomes


def test_a_fallback_runs_only_if_something_failed() -> None:
    graph = TaskGraph()
    bad = graph.add(Task("bad", None, FETCH))
    fallback = graph.add(
        Task("fallback", None, STORE), after=bad, on_dep_failure=DependencyPolicy.ON_FAILURE
    )
    cleanup = graph.add(Task("cleanup", None, STORE), after=fallback, finally_=True)
    graph.run(executor_with(FakeHandler({"bad": OSError("down")})))
    assert fallback.is_done
    assert cleanup.is_done


# Caps


def test_an_action_has_a_cap_beside_that_of_the_graph() -> None:
    running: dict[str, int] = {"fetch": 0, "store": 0}
    most = dict(running)

    async def handler(context: TaskContext) -> None:
        kind = context.type.value
        running[kind] += 1
        most[kind] = max(most[kind], running[kind])
        await asyncio.sleep(0)
        running[kind] -= 1

    graph = TaskGraph()
    for number in range(6):
        graph.add(Task(f"f{number}", None, FETCH))
        graph.add(Task(f"s{number}", None, STORE, group=("disk", "db")))
    graph.run(executor_with(handler, limits={FETCH: 2, "db": 1}), max_workers=4)
    assert graph.ok
    assert most["fetch"] <= 2
    assert most["store"] == 1


# Retries out of one purse


def test_a_graph_has_so_many_retries_and_no_more() -> None:
    graph = TaskGraph()
    for number in range(3):
        graph.add(Task(f"t{number}", None, FETCH))
    executor = executor_with(FakeHandler(default=OSError("down")), retry=RetryPolicy(3))
    graph.run(executor, retry_budget=4)
    statistics = graph.statistics()
    assert (statistics.retries, statistics.retry_budget) == (4, 4)


# Equal work is done once


def test_equal_work_is_done_once_also_while_it_is_under_way() -> None:
    handler = FakeHandler()
    executor = executor_with(handler, store=InMemoryStore())

    def page(number: int, **options: Any) -> Task:
        return Task(f"page {number}", {"page": number}, FETCH, reuse=True, **options)

    graph = TaskGraph()
    for _ in range(3):
        graph.add(page(1))
    graph.add(page(2))
    graph.run(executor)
    assert sorted(handler.titles) == ["page 1", "page 2"]
    assert executor.execute(page(1)).reused
    assert not executor.execute(page(1, version="2")).reused


# Breakers


def test_each_group_has_a_breaker_without_being_named() -> None:
    clock = FakeClock()
    breaker = CircuitBreaker(window=10, failure_rate=0.5, min_calls=2, reset_after=30)
    handler = FakeHandler({"bad": OSError("down")})
    executor = executor_with(handler, breakers={"*": breaker}, clock=clock)
    for _ in range(2):
        executor.attempt(Task("bad", None, FETCH, group="api"))
    executor.attempt(Task("good", None, FETCH, group="files"))
    states = {name: status.state for name, status in executor.breaker_states.items()}
    assert states == {"api": CircuitState.OPEN, "files": CircuitState.CLOSED}
    clock.advance(30)
    assert executor.attempt(Task("good", None, FETCH, group="api")).ok
    assert executor.breaker_states["api"].state is CircuitState.CLOSED


# A monitor that aborts


def test_a_guard_may_stop_all_the_rest() -> None:
    def monitor(context: TaskContext) -> None:
        if context.payload == "rm -rf /":
            raise TaskRejectedError("not this one")

    graph = TaskGraph()
    fine = graph.add(Task("fine", "ls", FETCH))
    wrong = graph.add(Task("wrong", "rm -rf /", FETCH), after=fine)
    rest = graph.add(Task("rest", "ls", FETCH), after=fine, required=False)
    graph.run(executor_with(guards=[monitor]), max_workers=1, fail_fast=True)
    assert wrong.result is not None
    assert wrong.result.termination_reason == "rejected"
    assert rest.is_cancelled
    statistics = graph.statistics()
    assert statistics.reasons == {"rejected": 1, "cancelled": 1}


# Statistics


def test_statistics_say_how_it_went_as_json_too() -> None:
    graph = TaskGraph("etl")
    graph.add(Task("good", None, FETCH))
    graph.add(Task("bad", None, FETCH))
    executor, events = executor_with(FakeHandler({"bad": OSError("down")})), EventRecorder()
    executor.events.subscribe(events)
    graph.run(executor)
    shown = json.loads(graph.statistics().to_json(indent=2))
    assert (shown["total"], shown["counts"]["succeeded"], shown["counts"]["failed"]) == (2, 1, 1)
    assert datetime.fromisoformat(shown["started_at"]) <= datetime.fromisoformat(shown["ended_at"])
    assert shown["reasons"] == {"handler": 1}
    events.check_order()
