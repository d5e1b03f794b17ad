"""The report as JSON, and its schema."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reportkit import check_json, golden, hostile, release, reported, simulate, work
from ttasks import TaskStatus
from ttasks.model.facts import AttemptFacts, Span, WaitReason
from ttasks.report import SCHEMA


def test_json_is_that_of_the_golden_file() -> None:
    document = check_json(reported(release()))
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    assert text == golden("release.json", text)


def test_the_schema_asks_for_all_members_that_it_describes() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    for name, part in [("report", schema), *schema["$defs"].items()]:
        if "properties" in part:
            assert set(part["required"]) == set(part["properties"]), name


def test_all_statuses_outcomes_and_hostile_text_fit_the_schema() -> None:
    check_json(reported(hostile()))
    for outcome in ("running", "ok", "failed", "cancelled", "timeout", "interrupted"):
        check_json(reported(simulate([work("a")], outcome=outcome)))
    for status in TaskStatus:
        check_json(reported(simulate([work("a", outcome=status)])))


@given(title=st.text(), output=st.text(), error=st.text())
def test_any_text_fits_the_schema(title: str, output: str, error: str) -> None:
    failed = TaskStatus.FAILED
    facts = simulate([work(title, output=output, error=error, outcome=failed)], title=title)
    (found,) = check_json(reported(facts))["tasks"]
    assert found["status"] == "failed"


def test_a_wait_of_an_attempt_that_goes_on_counts_up_to_now() -> None:
    facts = simulate([work("a")])
    (task,) = facts.tasks.values()
    task = replace(
        task,
        status=TaskStatus.PENDING,
        attempts=(AttemptFacts(1, 1.5),),
        spans=(Span(0.5, None, WaitReason.WORKER),),
        duration=None,
    )
    facts = replace(facts, tasks={task.id: task}, outcome="running", duration=None, elapsed=4.0)
    (found,) = check_json(reported(facts))["tasks"]
    assert found["attempts"][0]["waited"] == found["waited"] == 3.5
