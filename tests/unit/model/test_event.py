"""TaskEvent: one frozen fact about one task."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime

import pytest

from ttasks import Task, TaskEvent, TaskEventType, TaskStatus, TaskType
from ttasks.model.event import EVENT_OF_STATUS

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def event() -> TaskEvent:
    task = Task("title", None, TaskType("work"))
    return TaskEvent(
        TaskEventType.FAILED,
        task.id,
        task,
        NOW,
        TaskStatus.RUNNING,
        TaskStatus.FAILED,
        error="oops",
        attempt=2,
        retry_in=0.5,
    )


def test_event_types_have_lower_case_values_in_the_promised_order() -> None:
    names = "STARTED READY PROGRESS OUTPUT SUCCEEDED FAILED CANCELLED BLOCKED SKIPPED REUSED"
    names += " PERSISTENCE_FAILED RUN_STARTED RUN_STOPPING RUN_ENDED CIRCUIT_OPENED CIRCUIT_CLOSED"
    assert [kind.name for kind in TaskEventType] == names.split()
    assert all(kind.value == kind.name.lower() for kind in TaskEventType)


@pytest.mark.parametrize("kind", TaskEventType)
def test_an_event_type_stays_itself_as_a_key_and_through_pickle(kind: TaskEventType) -> None:
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert {kind: 1}[TaskEventType(kind.value)] == 1


def test_every_status_that_can_be_entered_has_its_event() -> None:
    entered = set(TaskStatus) - {TaskStatus.PENDING}
    assert set(EVENT_OF_STATUS) == entered
    assert EVENT_OF_STATUS[TaskStatus.RUNNING] is TaskEventType.STARTED
    for status in entered - {TaskStatus.RUNNING}:
        assert EVENT_OF_STATUS[status].value == status.value


def test_an_event_has_the_promised_fields() -> None:
    promised = (
        "type task_id task timestamp previous_status status error attempt retry_in "
        "progress_percent progress_message output_stream output_chunk run"
    )
    assert [field.name for field in fields(TaskEvent)] == promised.split()


@pytest.mark.parametrize("name", [field.name for field in fields(TaskEvent)])
def test_an_event_is_frozen(name: str) -> None:
    frozen = event()
    with pytest.raises(FrozenInstanceError, match=name):
        setattr(frozen, name, None)


def test_an_event_tells_the_status_of_its_moment_and_not_of_now() -> None:
    told = event()
    told.task.cancel()
    assert told.status is TaskStatus.FAILED


def test_an_event_survives_pickle() -> None:
    told = event()
    assert pickle.loads(pickle.dumps(told)) == told


def test_an_event_becomes_a_dict_that_json_can_hold() -> None:
    told = event()
    shown = told.to_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["type"] == told.type.value
    assert (shown["task_id"], shown["title"]) == (told.task_id, told.task.title)
    assert (shown["previous_status"], shown["status"]) == ("running", "failed")
    assert datetime.fromisoformat(shown["timestamp"]) == told.timestamp
    left_out, added = {"task", "run"}, {"title", "task_type", "run_id"}
    assert set(shown) == {field.name for field in fields(TaskEvent)} - left_out | added
