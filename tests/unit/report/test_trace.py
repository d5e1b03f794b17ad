"""The report as a trace, loaded again."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from reportkit import hostile, layered, release, reported, simulate, work
from ttasks import TaskStatus
from ttasks.model.facts import AttemptFacts, RunFacts, Span

SLACK_US = 1e-6


def events(facts: RunFacts) -> list[dict[str, Any]]:
    document = json.loads(reported(facts).to_trace())
    assert document["displayTimeUnit"] == "ms"
    return document["traceEvents"]


def slices(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in found if event["ph"] == "X"]


@pytest.mark.parametrize("facts", [release(), hostile(), layered(500, workers=7)])
def test_slices_of_one_thread_never_overlap(facts: RunFacts) -> None:
    by_thread: dict[int, list[dict[str, Any]]] = {}
    for event in slices(events(facts)):
        by_thread.setdefault(event["tid"], []).append(event)
    assert by_thread
    for of_thread in by_thread.values():
        of_thread.sort(key=lambda event: event["ts"])
        for first, second in pairwise(of_thread):
            assert first["ts"] + first["dur"] <= second["ts"] + SLACK_US


def test_each_attempt_is_a_slice_on_the_thread_of_its_worker() -> None:
    facts = release()
    found = events(facts)
    names = {
        event["tid"]: event["args"]["name"] for event in found if event["name"] == "thread_name"
    }
    expected = sorted(
        (
            task.title,
            attempt.number,
            f"worker {attempt.slot}" if len(task.path) == 1 else "compile all: worker 1",
            round(attempt.started * 1e6, 3),
            round((attempt.ended - attempt.started) * 1e6, 3),
        )
        for task in facts.tasks.values()
        for attempt in task.attempts
    )
    assert expected == sorted(
        (e["name"], e["args"]["attempt"], names[e["tid"]], e["ts"], pytest.approx(e["dur"]))
        for e in slices(found)
    )


def test_a_slice_says_what_its_attempt_waited_for() -> None:
    found = slices(events(release()))
    second = next(e for e in found if e["name"] == "docs" and e["args"]["attempt"] == 2)
    assert second["args"]["waited for retry"] == pytest.approx(0.5)
    first = next(e for e in found if e["name"] == "compile")
    assert first["args"]["waited for dependency 'fetch'"] == pytest.approx(0.8)


def test_arrows_begin_and_end_inside_of_the_slices_that_they_join() -> None:
    found = events(release())
    starts = {event["id"]: event for event in found if event["ph"] == "s"}
    ends = {event["id"]: event for event in found if event["ph"] == "f"}
    assert len(starts) == 6
    assert set(starts) == set(ends)
    for key, start in starts.items():
        assert start["ts"] < ends[key]["ts"]
        for event in (start, ends[key]):
            assert any(
                s["tid"] == event["tid"] and s["ts"] <= event["ts"] <= s["ts"] + s["dur"]
                for s in slices(found)
            )


def test_the_counter_shows_how_many_ran() -> None:
    counters = [
        event for event in events(simulate([work("a", 1), work("b", 2)])) if event["ph"] == "C"
    ]
    assert [(event["ts"], event["args"]["tasks"]) for event in counters] == [
        (0.0, 2),
        (1e6, 1),
        (2e6, 0),
    ]


def test_what_overlaps_on_one_worker_gets_a_lane_of_its_own() -> None:
    facts = simulate([work(f"{number}") for number in range(3)], workers=1)
    tasks = {
        key: replace(
            task,
            attempts=(AttemptFacts(1, 0.0, 0.0, 1.0 + n, TaskStatus.SUCCEEDED, 1),),
            spans=(Span(0.0, 1.0 + n),),
        )
        for n, (key, task) in enumerate(facts.tasks.items())
    }
    found = events(replace(facts, tasks=tasks, duration=3.0, elapsed=3.0))
    names = [event["args"]["name"] for event in found if event["name"] == "thread_name"]
    assert names == ["worker 1", "worker 1 (2)", "worker 1 (3)"]


def test_an_attempt_that_goes_on_ends_with_the_facts() -> None:
    base = simulate([work("a")], outcome="running", ended_at=None, duration=None, elapsed=3.0)
    running = replace(
        base.tasks["id-a"],
        status=TaskStatus.RUNNING,
        attempts=(AttemptFacts(1, 0.0, 0.5, slot=1),),
        spans=(Span(0.0, None),),
    )
    (event,) = slices(events(replace(base, tasks={"id-a": running})))
    assert (event["ts"], event["dur"]) == (5e5, 2.5e6)
