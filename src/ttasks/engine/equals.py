"""Equals: whether the result of an earlier task may stand for that of another one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttasks.model.result import TaskResult
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


def reusable(old: Task, task_id: str) -> TaskResult:
    """The result of an earlier task, for another one."""
    assert old.result is not None
    return replace(old.result, task_id=task_id, reused=True)
