"""Equals: whether a task may take over the result of an earlier one.

Separate from `resume`, which is imported only with a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ttasks.model.event import TaskEventType, make_event
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.engine.recorder import Recorder
    from ttasks.model.run import Run
    from ttasks.model.task import Task


def is_same(task: Task, old: Task) -> bool:
    """True if an earlier task SUCCEEDED at the same work and its value was kept."""
    return (
        task.fingerprint is not None
        and old.fingerprint == task.fingerprint
        and has_kept_result(old)
    )


def has_kept_result(task: Task) -> bool:
    """True if a task SUCCEEDED and its store could keep the value."""
    result = task.result
    return task.is_succeeded and result is not None and is_kept(result.value)


def is_kept(value: Any) -> bool:
    """False for the placeholder of a value that a store could not keep."""
    return not getattr(type(value), "is_absent", False)


def take_over(task: Task, old: Task) -> bool:
    """Let a PENDING task take over the result of an earlier one that is the same; or False."""
    return is_same(task, old) and copy_result(task, old)


def copy_result(task: Task, old: Task) -> bool:
    """Let a PENDING task take over the result of another one, whatever that did; or False."""
    return old.result is not None and lifecycle_of(task).take_over(
        replace(old.result, task_id=task.id, reused=True)
    )


def announce_reused(tasks: Sequence[Task], run: Run | None, recorder: Recorder) -> None:
    """Announce that tasks took over a result; they have been saved."""
    if tasks and recorder.wants(TaskEventType.REUSED):
        now, status = datetime.now(UTC), TaskStatus.SUCCEEDED
        pending = TaskStatus.PENDING
        kind = TaskEventType.REUSED
        shown = map(recorder.shown, tasks)
        recorder.report_all(
            [make_event(kind, task.id, task, now, pending, status, run=run) for task in shown]
        )
