"""TaskEvent: one thing that happened to one task, or to a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from ttasks.model.frozen import fast_maker
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from ttasks.model.run import Run
    from ttasks.model.task import Task


class TaskEventType(Enum):
    """Kinds of events. Values are the lower-case names."""

    STARTED = "started"
    READY = "ready"
    PROGRESS = "progress"
    OUTPUT = "output"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    BLOCKED = "blocked"
    SKIPPED = "skipped"
    REUSED = "reused"
    PERSISTENCE_FAILED = "persistence_failed"
    RUN_STARTED = "run_started"
    RUN_STOPPING = "run_stopping"
    RUN_ENDED = "run_ended"
    CIRCUIT_OPENED = "circuit_opened"
    CIRCUIT_CLOSED = "circuit_closed"

    __hash__ = object.__hash__


STARTED = TaskEventType.STARTED  # see `ttasks.model.status`

RUN_EVENTS = frozenset(
    {TaskEventType.RUN_STARTED, TaskEventType.RUN_STOPPING, TaskEventType.RUN_ENDED}
)
"""The events of runs, which have no task."""

EVENT_OF_STATUS = {
    TaskStatus.RUNNING: TaskEventType.STARTED,
    TaskStatus.SUCCEEDED: TaskEventType.SUCCEEDED,
    TaskStatus.FAILED: TaskEventType.FAILED,
    TaskStatus.CANCELLED: TaskEventType.CANCELLED,
    TaskStatus.BLOCKED: TaskEventType.BLOCKED,
    TaskStatus.SKIPPED: TaskEventType.SKIPPED,
}


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One thing that happened to one task, or to a run of a graph.

    Per attempt: STARTED, then any PROGRESS and OUTPUT, then exactly one of SUCCEEDED, FAILED and
    CANCELLED. A service that becomes ready has one READY among its output. A task that is cancelled
    between two attempts has one more, CANCELLED. A task that never starts has one event only:
    FAILED (no handler), CANCELLED, BLOCKED, SKIPPED or REUSED (it took over the result of an equal
    task).
    The first event of the run of a graph is RUN_STARTED, the last is RUN_ENDED. RUN_STOPPING comes
    between them when it is cancelled, interrupted or out of time, or stops because of
    ``fail_fast``, and again if it is killed. They have no task: ``task`` is None and ``task_id`` is
    empty. Only subscribers that name these types receive them. A task that is executed or submitted
    alone has a run without such events.

    PERSISTENCE_FAILED comes just before the event whose row could not be written, CIRCUIT_OPENED
    and CIRCUIT_CLOSED just before the end of the attempt that changed the circuit breaker of its
    group.

    Attributes:
        type: what happened.
        task_id, task: the live task; ``status`` below is its status at the event. For a run, "" and
            None.
        timestamp: aware UTC.
        previous_status, status: before and after; equal if the event is not a transition. After a
            FAILED attempt the next event comes from FAILED, although the task is PENDING in
            between. A run goes from PENDING to RUNNING, and ends as SUCCEEDED, FAILED or CANCELLED.
        error: message of a stop, a failure, cancellation, failed write or change of a circuit, or
            why the task is BLOCKED or SKIPPED; else None.
        attempt: number of the attempt, from 1; 0 if the task never started.
        retry_in: on a FAILED that will be retried, seconds until then, else None.
        progress_percent: 0 to 100, or None.
        progress_message: text, or None.
        output_stream: "stdout" or "stderr" on OUTPUT, else None.
        output_chunk: text on OUTPUT, at most 64 KiB, else None.
        run: the run that the event is part of; None without one, for example when
            `TaskExecutor.cancel` cancels a waiting task.
    """

    type: TaskEventType
    task_id: str
    task: Task
    timestamp: datetime
    previous_status: TaskStatus
    status: TaskStatus
    error: str | None = None
    attempt: int = 0
    retry_in: float | None = None
    progress_percent: float | None = None
    progress_message: str | None = None
    output_stream: str | None = None
    output_chunk: str | None = None
    run: Run | None = None

    @property
    def run_id(self) -> str | None:
        """Id of the run that the event is part of, or None."""
        return None if self.run is None else self.run.id

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values, with the same keys for every kind of event.

        The task is given as ``task_id``, ``title`` and ``task_type``; the last two are None for a
        run.
        The time is in ISO 8601.

        Example:
            >>> from datetime import UTC, datetime
            >>> from ttasks import Task
            >>> task, moment = Task.bash("true"), datetime(2026, 1, 1, tzinfo=UTC)
            >>> status = TaskStatus.RUNNING
            >>> event = TaskEvent(TaskEventType.STARTED, task.id, task, moment, status, status)
            >>> event.to_dict()["type"], event.to_dict()["timestamp"]
            ('started', '2026-01-01T00:00:00+00:00')
        """
        task: Task | None = self.task
        return {
            "type": self.type.value,
            "task_id": self.task_id,
            "title": None if task is None else task.title,
            "task_type": None if task is None else task.type.value,
            "run_id": self.run_id,
            "timestamp": self.timestamp.isoformat(),
            "previous_status": self.previous_status.value,
            "status": self.status.value,
            "error": self.error,
            "attempt": self.attempt,
            "retry_in": self.retry_in,
            "progress_percent": self.progress_percent,
            "progress_message": self.progress_message,
            "output_stream": self.output_stream,
            "output_chunk": self.output_chunk,
        }


make_event = fast_maker(TaskEvent)
