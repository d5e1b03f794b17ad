"""Backlog: what could not be saved is saved in order, and its events follow in order."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from support import make
from ttasks import TaskEvent, TaskEventType, TaskStatus
from ttasks.engine.backlog import Backlog
from ttasks.model.event import make_event

TASK = make("a")


def event_of(status: TaskStatus) -> TaskEvent:
    kind = TaskEventType(status.value if status is not TaskStatus.RUNNING else "started")
    return make_event(kind, TASK.id, TASK, datetime.now(UTC), TaskStatus.PENDING, status)


STARTED, FAILED, CANCELLED = map(
    event_of, (TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.CANCELLED)
)


def test_calls_are_made_in_order_and_their_events_follow_them() -> None:
    done: list[object] = []
    backlog = Backlog(done.append)
    backlog.add(TASK.id, lambda: done.append("first"), STARTED)
    backlog.add(TASK.id, lambda: done.append("second"), FAILED)
    backlog.catch_up(TASK.id)
    assert done == ["first", "second", STARTED, FAILED]
    assert not backlog.calls
    assert not backlog.late


def test_an_event_that_comes_while_earlier_ones_are_published_comes_after_them() -> None:
    done: list[TaskEvent] = []

    def publish(event: TaskEvent) -> None:
        if event is STARTED:
            assert backlog.follow(CANCELLED)
        done.append(event)

    backlog = Backlog(publish)
    backlog.add(TASK.id, lambda: None, STARTED)
    backlog.add(TASK.id, lambda: None, FAILED)
    backlog.catch_up()
    assert done == [STARTED, FAILED, CANCELLED]
    assert not backlog.follow(CANCELLED)


def test_what_fails_again_stays_with_all_that_follows_it() -> None:
    done: list[object] = []
    broken = [True]

    def save() -> None:
        if broken:
            raise OSError("full")
        done.append("saved")

    backlog = Backlog(done.append)
    backlog.add(TASK.id, lambda: done.append("before"), STARTED)
    backlog.add(TASK.id, save, FAILED)
    with pytest.raises(OSError, match="full"):
        backlog.catch_up(TASK.id)
    assert done == ["before", STARTED]
    broken.clear()
    backlog.catch_up(at_once=True)
    assert done == ["before", STARTED, "saved", FAILED]


def test_an_interrupt_while_late_events_are_published_loses_none() -> None:
    done: list[TaskEvent] = []

    def publish(event: TaskEvent) -> None:
        done.append(event)
        if event is STARTED:
            raise KeyboardInterrupt

    backlog = Backlog(publish)
    backlog.add(TASK.id, lambda: None, STARTED)
    backlog.add(TASK.id, lambda: None, FAILED)
    with pytest.raises(KeyboardInterrupt):
        backlog.catch_up(TASK.id)
    assert done == [STARTED, FAILED]
    assert not backlog.late
