"""TaskResult and Failure: what became of a task, as frozen plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

from ttasks.model.frozen import fast_maker
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ttasks.model.snapshot import Snapshot

    # `TaskResult` and `Task` alone mean those of Any value.
    R_co = TypeVar("R_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    R_co = TypeVar("R_co", covariant=True)

MaybeNone: TypeAlias = Any
"""None, where a check for it would be noise: type checkers do not ask for one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task did not succeed, as plain data that pickles and becomes JSON.

    Attributes:
        type: qualified name of the exception's class, for example ``ttasks.errors.TaskCancelled``.
        message: text of the exception.
        traceback: formatted traceback; empty where none was raised.
        locals: name to repr of the variables of the innermost frame of the user's own code, or of
            the frame that the executor was asked for; empty unless it was made with
            ``capture_locals``.
        downstream: title and id of each task that was BLOCKED or SKIPPED because of this one, each
            after those that it depends on; filled when the graph run ends.
        location: where in the user's own code it was raised, as ``file:line in function``; the
            innermost line if none is in the user's code; empty if nothing was raised.
        function: name of the function of a Python task, with its module; else empty.
        args: reprs of its positional arguments, with values in place of tasks; secrets are hidden
            and long ones are cut.
        kwargs: name to repr of its keyword arguments.
    """

    type: str
    message: str
    traceback: str = ""
    locals: Mapping[str, str] = field(default_factory=dict)
    downstream: tuple[tuple[str, str], ...] = ()
    location: str = ""
    function: str = ""
    args: tuple[str, ...] = ()
    kwargs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskResult(Generic[R_co]):
    """What became of a task in its latest execution.

    To type checkers, ``TaskResult[int]`` is the result of a task whose value is an int.

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
        attempts: number of attempts; 0 if the task never started, or if the arguments of its
            function could not be made.
        termination_reason: None for success, else "exit_code", "timeout", "cancelled", "handler",
            "interrupted", "circuit_open" or "rejected"; of a service also "died" and "not_ready".
        failure: details of a failure or cancellation, None for success.
        reused: True if the result was taken over from an earlier task.
        output_truncated: True if ``output`` or ``error`` leaves out the middle.
        output_files: stream name ("stdout", "stderr") to the path of the file with all of it,
            for truncated streams.
        usage: token counts of a prompt, else None.
        attempt_durations: seconds of each attempt, of a task that may be retried; else empty.
        total_duration: seconds from the first attempt to the end of the last, waits included, of a
            task that may be retried; else None, for it is ``duration``.
        snapshot: digests of what the task declared and made; None if it declares nothing, or if an
            input changed while it ran.
        shown_value: the repr of ``value`` that people may see, where that of the value itself holds
            a secret of the executor's ``redact``; else None.
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
    value: R_co = None  # type: ignore[assignment]
    attempts: int = 1
    termination_reason: str | None = None
    failure: Failure | MaybeNone = None
    reused: bool = False
    output_truncated: bool = False
    output_files: Mapping[str, str] | MaybeNone = None
    usage: Mapping[str, int] | None = None
    attempt_durations: tuple[float, ...] = ()
    total_duration: float | None = None
    shown_value: str | None = None
    snapshot: Snapshot | MaybeNone = None

    @property
    def ok(self) -> bool:
        """True if the task SUCCEEDED."""
        return self.status is TaskStatus.SUCCEEDED

    @property
    def stdout(self) -> str | MaybeNone:
        """What a command wrote to stdout; None for other tasks, and for one that never ran.

        It has the output of a command that was ended early, too.
        """
        return None if self.returncode is None else self.output

    @property
    def stderr(self) -> str | MaybeNone:
        """What a command wrote to stderr; None if ``stdout`` is None."""
        if self.returncode is None:
            return None
        try:
            return self.raw.stderr or ""
        except AttributeError:  # out of a store that did not keep it
            return self.error or ""


make_result = fast_maker(TaskResult)
