"""From what a handler returned or raised to a TaskResult."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from sys import modules
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks.errors import (
    CircuitOpenError,
    ServiceError,
    TaskArgumentError,
    TaskCancelled,
    TaskExecutionError,
    TaskRejectedError,
    TaskTimeoutError,
    full_type_name,
    text_of,
    type_name,
)
from ttasks.model.frames import captured_locals, described_call, formatted, location_of, short_repr
from ttasks.model.prompt import PromptReply
from ttasks.model.redact import redacted
from ttasks.model.remote import RemoteTraceback
from ttasks.model.result import Failure, TaskResult, make_result
from ttasks.model.status import CANCELLED, FAILED, SUCCEEDED

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from ttasks.model.frames import Frames
    from ttasks.model.redact import Redactor


class Timing(NamedTuple):
    """When an attempt ran: aware UTC, aware UTC, seconds by a monotonic clock."""

    started_at: datetime
    finished_at: datetime
    duration: float


def success(
    task_id: str,
    started_at: datetime,
    finished_at: datetime,
    duration: float,
    attempt: int,
    raw: Any,
    emitted: dict[str, str] | None = None,
    redactor: Redactor | None = None,
) -> TaskResult:
    """The result of a handler that returned ``raw``; ``emitted`` is its text by stream."""
    output, error = "", None
    if raw is not None:
        # Not `isinstance`, which asks the object for its ``__class__``: that may run any code.
        kind = type(raw)
        if issubclass(kind, PromptReply) or ("subprocess" in modules and _is_command(kind)):
            if issubclass(kind, PromptReply):
                fields = _of_prompt(raw, emitted or {}, redactor)
            else:
                fields = _of_command(raw)
            timing = (started_at, finished_at, duration)
            return make_result(task_id, SUCCEEDED, *timing, attempts=attempt, **fields)
        if issubclass(kind, str):
            output = raw if redactor is None else redactor.text(raw)
    if emitted is not None:
        output = emitted.get("stdout") or output
        error = emitted.get("stderr")
    return make_result(
        task_id,
        SUCCEEDED,
        started_at,
        finished_at,
        duration,
        output,
        error,
        None,
        raw,
        raw,
        attempt,
        shown_value=None if redactor is None else _shown(raw, redactor),
    )


def _shown(value: Any, redactor: Redactor) -> str | None:
    """The repr of a value without secrets; None if there are none in it."""
    text = short_repr(value, redactor)
    return None if text == short_repr(value) else text


def failure(
    task_id: str,
    raised: BaseException,
    timing: Timing,
    *,
    attempt: int,
    raw: Any = None,
    reason: str | None = None,
    emitted: dict[str, str] | None = None,
    redactor: Redactor | None = None,
    capture_locals: Frames = False,
    spent: str = "",
    payload: Any = None,
) -> TaskResult:
    """The result of an attempt that ended in ``raised``: FAILED, or CANCELLED for TaskCancelled.

    Args:
        task_id: id of the task.
        raised: what the handler raised.
        timing: when it ran.
        attempt: its number; 0 if it never started.
        raw: what the handler returned, if it did.
        reason: termination reason; None derives it from the class of ``raised``.
        emitted: text that the handler emitted, by stream.
        redactor: hides secrets in all text.
        capture_locals: whether to keep the variables of a frame, and of which.
        spent: why there is no other attempt, if a budget forbids it; becomes part of the message.
        payload: of the task; a call is described.
    """
    details = describe_failure(raised, redactor, capture_locals, payload)
    if spent:
        details = replace(details, message=f"{details.message} ({spent})")
    completed = _completed(raised)
    if issubclass(type(raw), PromptReply):
        raw = raw.raw
    fields: dict[str, Any] = {"raw": raw, "output": (emitted or {}).get("stdout", "")}
    if completed is not None:
        fields = _of_command(completed)
        fields["value"] = None
    printed = fields.get("error") or (emitted or {}).get("stderr")
    fields["error"] = printed or details.message
    if printed and issubclass(type(raised), TaskTimeoutError):
        fields["error"] = f"{details.message}\n{printed}"
    return make_result(
        task_id,
        CANCELLED if issubclass(type(raised), TaskCancelled) else FAILED,
        *timing,
        attempts=attempt - _was_not_called(raised, task_id),
        termination_reason=reason or reason_of(raised),
        failure=details,
        **fields,
    )


def _was_not_called(raised: BaseException, task_id: str) -> bool:
    """True if the handler of the task could not be called, so that there was no attempt."""
    return issubclass(type(raised), TaskArgumentError) and vars(raised).get("task_id") == task_id


def reason_of(raised: BaseException) -> str:
    """The termination reason that an exception stands for."""
    if issubclass(type(raised), TaskCancelled):
        return "cancelled"
    if issubclass(type(raised), TaskTimeoutError):
        return "timeout"
    if isinstance(raised, ServiceError):
        return raised.reason
    completed = _completed(raised) if issubclass(type(raised), TaskExecutionError) else None
    if completed is not None and completed.returncode:
        return "exit_code"
    if issubclass(type(raised), CircuitOpenError):
        return "circuit_open"
    if issubclass(type(raised), TaskRejectedError):
        return "rejected"
    return "handler"


def describe_failure(
    raised: BaseException, redactor: Redactor | None, capture_locals: Frames, payload: Any
) -> Failure:
    """Turn an exception into plain data."""
    message = text_of(raised)
    trace, variables, location = "", {}, ""
    try:
        if raised.__traceback__ is not None:
            trace = formatted(raised, raised.__traceback__)
        remote = raised.__cause__
        if isinstance(remote, RemoteTraceback):
            variables, location = dict(remote.locals), remote.location
        else:
            variables = captured_locals(raised.__traceback__, redactor, capture_locals)
            location = location_of(raised.__traceback__)
    except BaseException as error:  # the code of an exception class may raise anything
        trace = f"(no traceback: looking at the exception raised {type_name(error)})"
    if redactor is not None:
        message, trace = redactor.text(message), redactor.text(trace)
        location = redactor.text(location)
    return Failure(
        full_type_name(raised), message, trace, variables, (), location, *_call(payload, redactor)
    )


def _call(payload: Any, redactor: Redactor | None) -> tuple[str, tuple[str, ...], dict[str, str]]:
    try:
        return described_call(payload, redactor)
    except BaseException:  # the code of a container among the arguments may raise anything
        return "", (), {}


def _is_command(kind: type) -> bool:
    """True for ``subprocess.CompletedProcess``; that module is imported only where it is used."""
    subprocess = modules.get("subprocess")
    return subprocess is not None and issubclass(kind, subprocess.CompletedProcess)


def _completed(raised: BaseException) -> CompletedProcess[str] | None:
    """The completed command of an exception; None if it has none."""
    try:
        completed = getattr(raised, "completed", None)
    except BaseException:  # a property may raise anything
        return None
    return completed if _is_command(type(completed)) else None


def _of_command(completed: CompletedProcess[str]) -> dict[str, Any]:
    output = completed.stdout or ""
    return {
        "output": output,
        "error": completed.stderr or None,
        "returncode": completed.returncode,
        "raw": completed,
        "value": output,
        "output_truncated": getattr(completed, "truncated", False),
        "output_files": getattr(completed, "spill", None) or None,
    }


def _of_prompt(
    reply: PromptReply, emitted: dict[str, str], redactor: Redactor | None
) -> dict[str, Any]:
    text, raw = reply.text, reply.raw
    answer = text if reply.answer is None else reply.answer
    if redactor is not None:
        text, answer, raw = redactor.text(text), redactor.text(answer), redacted(raw, redactor)
    return {
        "output": emitted.get("stdout") or text,
        "error": emitted.get("stderr"),
        "raw": raw,
        "value": answer,
        "usage": reply.usage,
    }
