"""TaskResult and Failure: what became of a task, as frozen plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ttasks.model.frozen import fast_maker
from ttasks.model.status import TaskStatus


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task did not succeed, as plain data that pickles and becomes JSON.

    Attributes:
        type: qualified name of the exception's class, for example ``ttasks.errors.TaskCancelled``.
        message: text of the exception.
        traceback: formatted traceback; empty where none was raised.
        locals: name to repr of the variables of the innermost user frame; empty unless the
            executor was made with ``capture_locals=True``.
        downstream: title and id of each task that was BLOCKED or SKIPPED because of this one, each
            after those that it depends on; filled when the graph run ends.
    """

    type: str
    message: str
    traceback: str = ""
    locals: Mapping[str, str] = field(default_factory=dict)
    downstream: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What became of a task in its latest execution.

    Attributes:
        task_id: id of the task.
        status: SUCCEEDED, FAILED or CANCELLED.
        started_at, finished_at: aware UTC; of the last attempt.
        duration: seconds of the last attempt, by a monotonic clock.
        output: stdout of a command, the text that a handler emitted, or the text it returned.
        error: stderr of a success (None if empty); of a failure its stderr, or else the message.
        returncode: exit code of a command (negative: the signal that ended it), else None.
        raw: what the handler returned; for commands a ``subprocess.CompletedProcess``, for prompts
            the provider's final message as JSON.
        value: the Python value: the output of a command, the final answer of a prompt or agent,
            else the same as ``raw``.
        attempts: how often the handler was tried; 0 if the task never started, or if the arguments
            of its function could not be made.
        termination_reason: None for success, else "exit_code", "timeout", "cancelled", "handler",
            "interrupted", "circuit_open" or "rejected".
        failure: details of a failure or cancellation, None for success.
        reused: True if the result was taken over from an earlier task.
        output_truncated: True if ``output`` or ``error`` leaves out the middle.
        output_files: stream name ("stdout", "stderr") to the path of the file with all of it,
            for truncated streams.
        usage: token counts of a prompt, else None.
        attempt_durations: seconds of each attempt, of a task that may be retried; else empty.
        total_duration: seconds from the first attempt to the end of the last, waits included, of a
            task that may be retried; else None, for it is ``duration``.
    """

    task_id: str
    status: TaskStatus
    started_at: datetime
    finished_at: datetime
    duration: float
    output: str = ""
    error: str | None = None
    returncode: int | None = None
    raw: Any = None
    value: Any = None
    attempts: int = 1
    termination_reason: str | None = None
    failure: Failure | None = None
    reused: bool = False
    output_truncated: bool = False
    output_files: Mapping[str, str] | None = None
    usage: Mapping[str, int] | None = None
    attempt_durations: tuple[float, ...] = ()
    total_duration: float | None = None


make_result = fast_maker(TaskResult)
