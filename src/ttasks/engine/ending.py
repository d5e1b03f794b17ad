"""Ending a task that does not run: blocked, skipped, cancelled, or without a handler."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ttasks.engine import outcome
from ttasks.model.event import EVENT_OF_STATUS
from ttasks.model.status import CANCELLED, TaskStatus
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.engine.recorder import Recorder
    from ttasks.model.lifecycle import Owner
    from ttasks.model.notes import Notes
    from ttasks.model.result import TaskResult
    from ttasks.model.run import Run
    from ttasks.model.task import Task


class Settlement:
    """Owns a task that ends without running, while its end is saved and announced."""

    __slots__ = ()

    def cancel(self) -> bool:
        """It is too late; see `ttasks.model.lifecycle.Owner`."""
        return False


def settle(
    recorder: Recorder,
    task: Task,
    status: TaskStatus,
    error: BaseException | None = None,
    *,
    reason: str | None = None,
    because: str | None = None,
    blocked_by: str | None = None,
    owner: Owner | None = None,
    previous: TaskStatus | None = None,
    by_hand: bool = False,
    run: Run | None = None,
    notes: Notes | None = None,
) -> bool:
    """End a task without running it: set its status, save it, announce it, release it.

    Args:
        recorder: where to save and announce it.
        task: the task.
        status: FAILED, CANCELLED, BLOCKED or SKIPPED.
        error: becomes the failure of the result; needed for the first two.
        reason: the termination reason; None derives it from ``error``.
        because: why, for people; becomes the task's error if there is no ``error``.
        blocked_by: id of the task that blocks it.
        owner: the owner of the task; None if it has none.
        previous: the status that was announced last; None means the current one.
        by_hand: user code has made it CANCELLED; announce that, unless it was announced.
        run: the run that it ends in; None if it is part of none.
        notes: see `Recorder.transition`.

    Returns:
        False if the task is final already or somebody else owns it; nothing has changed then.

    Raises:
        StoreError: the task could not be saved, and the executor is strict. The task has ended.
    """
    now = datetime.now(UTC)
    life = lifecycle_of(task)
    result, message = None, because
    if error is not None:
        timing = outcome.Timing(now, now, 0.0)
        result = outcome.failure(
            task.id, error, timing, attempt=0, reason=reason, redactor=recorder.redactor
        )
        assert result.failure is not None
        message = result.failure.message
        if status is CANCELLED:
            result = _with_attempts(result, task.result)
            message = task.error or message
    mine = owner or Settlement()
    before = life.settle(mine, status, message, result, blocked_by, by_hand=by_hand)
    if before is None:
        return False
    try:
        recorder.transition(
            EVENT_OF_STATUS[status],
            task,
            previous or before,
            status,
            now,
            message,
            run=run,
            notes=notes,
        )
    finally:
        for callback in life.release(mine):
            callback()
    return True


def _with_attempts(result: TaskResult, last: TaskResult | None) -> TaskResult:
    """The result of a cancellation, with the attempts that came before it."""
    if last is None:
        return result
    return replace(
        result,
        attempts=last.attempts,
        attempt_durations=last.attempt_durations,
        total_duration=last.total_duration,
    )
