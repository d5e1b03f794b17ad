"""Results to and from their part of a task's row."""

from __future__ import annotations

import pickle
from base64 import b64decode, b64encode
from math import isfinite
from subprocess import CompletedProcess
from typing import Any, NamedTuple

from ttasks.model.result import Failure, TaskResult
from ttasks.model.status import TaskStatus
from ttasks.stores.sqlite.absent import NotStored, kind_of
from ttasks.stores.sqlite.plain import (
    Text,
    exact_json,
    from_json,
    from_micros,
    from_optional,
    from_text,
    to_json,
    to_micros,
    to_optional,
    to_text,
)

# How a row holds a payload or a value. Text is kept as it is, for whoever reads it with other
# tools; "output" means that the value is the text in the column of that name.
TEXT, JSON, ABSENT, NONE, OUTPUT = "text", "json", "absent", "none", "output"
# A value that is no JSON, in a ledger that was opened with ``pickle_values=True``; base64.
PICKLE = "pickle"


class ResultColumns(NamedTuple):
    """The columns of a result; all None in the row of a task that has none."""

    value_kind: str | None
    result: str | None
    output: Text | None
    value: Text | None
    result_error: Text | None


def encode_object(value: object) -> tuple[str, Text]:
    """How a row holds an object: its kind and its text."""
    if type(value) is str:
        return TEXT, to_text(value)
    text = exact_json(value)
    if text is not None:
        return JSON, text
    return ABSENT, value.kind if isinstance(value, NotStored) else kind_of(value)


def pickled(value: object) -> str | None:
    """The pickle of a value as text, None if it cannot be pickled."""
    try:
        return b64encode(pickle.dumps(value)).decode()
    except Exception:  # whatever a `__reduce__` raises
        return None


def _unpickled(what: str, text: str) -> Any:
    try:
        return pickle.loads(b64decode(text))
    except Exception as error:  # its class is gone, or whatever a `__setstate__` raises
        return NotStored(what, f"a pickle that raised {type(error).__name__}")


def decode_object(what: str, kind: str, text: Text | None, unpickle: bool = False) -> Any:
    """The object, or a `NotStored` in its place."""
    if kind == NONE or text is None:
        return None
    if kind == TEXT:
        return from_text(text)
    if kind == JSON:
        return from_json(text)
    if kind == PICKLE:
        if unpickle:
            return _unpickled(what, from_text(text))
        return NotStored(what, "a pickle; open the ledger with pickle_values=True")
    return NotStored(what, from_text(text))


def encode_result(task_id: str, result: TaskResult | None) -> ResultColumns | None:
    """The columns of a result; what is as usual is left out of the JSON."""
    if result is None:
        return None
    # An encoder takes longer than all of the rest, and mostly there is nothing else.
    seconds = result.duration
    duration = repr(seconds) if type(seconds) is float and isfinite(seconds) else to_json(seconds)
    text = (
        f'{{"status":"{result.status.value}","started":{to_micros(result.started_at)},'
        f'"finished":{to_micros(result.finished_at)},"duration":{duration}'
    )
    facts: dict[str, Any] = {}
    if result.task_id != task_id:
        facts["task_id"] = result.task_id
    if result.returncode is not None:
        facts["returncode"] = result.returncode
    if result.attempts != 1:
        facts["attempts"] = result.attempts
    if result.termination_reason is not None:
        facts["reason"] = result.termination_reason
    if result.failure is not None:
        facts["failure"] = _encode_failure(result.failure)
    if result.reused:
        facts["reused"] = True
    if result.output_truncated:
        facts["truncated"] = True
    if result.output_files is not None:
        facts["files"] = dict(result.output_files)
    if result.usage is not None:
        facts["usage"] = dict(result.usage)
    if result.attempt_durations:
        facts["attempt_durations"] = result.attempt_durations
    if result.total_duration is not None:
        facts["total_duration"] = result.total_duration
    if result.raw is not None:
        facts["raw"] = _encode_raw(result)
    text += f",{to_json(facts)[1:]}" if facts else "}"
    kind, value = _encode_value(result)
    return ResultColumns(kind, text, to_text(result.output), value, to_optional(result.error))


def decode_result(
    task_id: str, columns: ResultColumns, unpickle: bool = False
) -> TaskResult | None:
    """The result that the columns hold."""
    if columns.result is None:
        return None
    facts = from_json(columns.result)
    output = from_text(columns.output or "")
    error = from_optional(columns.result_error)
    kind = columns.value_kind or NONE
    value = output if kind == OUTPUT else decode_object("value", kind, columns.value, unpickle)
    failure = facts.get("failure")
    return TaskResult(
        task_id=facts.get("task_id", task_id),
        status=TaskStatus(facts["status"]),
        started_at=from_micros(facts["started"]),
        finished_at=from_micros(facts["finished"]),
        duration=facts["duration"],
        output=output,
        error=error,
        returncode=facts.get("returncode"),
        raw=_decode_raw(facts.get("raw"), value, output, error),
        value=value,
        attempts=facts.get("attempts", 1),
        termination_reason=facts.get("reason"),
        failure=None if failure is None else _decode_failure(failure),
        reused=facts.get("reused", False),
        output_truncated=facts.get("truncated", False),
        output_files=facts.get("files"),
        usage=facts.get("usage"),
        attempt_durations=tuple(facts.get("attempt_durations", ())),
        total_duration=facts.get("total_duration"),
    )


def _encode_value(result: TaskResult) -> tuple[str, Text | None]:
    value = result.value
    if value is None:
        return NONE, None
    if type(value) is str and value == result.output:
        return OUTPUT, None
    return encode_object(value)


def _encode_failure(failure: Failure) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": failure.type, "message": failure.message}
    if failure.traceback:
        facts["traceback"] = failure.traceback
    if failure.locals:
        facts["locals"] = dict(failure.locals)
    if failure.downstream:
        facts["downstream"] = failure.downstream
    return facts


def _decode_failure(facts: dict[str, Any]) -> Failure:
    return Failure(
        type=facts["type"],
        message=facts["message"],
        traceback=facts.get("traceback", ""),
        locals=facts.get("locals", {}),
        downstream=tuple((title, task_id) for title, task_id in facts.get("downstream", ())),
    )


# The raw result: {"is": "value"} where it is the value itself, {"process": …} for a command, whose
# streams mostly stand in the row already, {"json": …} or {"absent": kind}.


def _encode_raw(result: TaskResult) -> dict[str, Any]:
    raw = result.raw
    if raw is result.value or (type(raw) is str and raw == result.value):
        return {"is": "value"}
    if isinstance(raw, CompletedProcess):
        streams = [_encode_stream(text, result) for text in (raw.stdout, raw.stderr)]
        facts = [raw.args, raw.returncode, *streams]
        if None not in streams and exact_json(facts) is not None:
            return {"process": facts}
    elif exact_json(raw) is not None:
        return {"json": raw}
    return {"absent": raw.kind if isinstance(raw, NotStored) else kind_of(raw)}


def _decode_raw(facts: dict[str, Any] | None, value: Any, output: str, error: str | None) -> Any:
    if facts is None:
        return None
    if "is" in facts:
        return value
    if "process" in facts:
        args, returncode, stdout, stderr = facts["process"]
        places = {"none": None, "output": output, "error": error}
        return CompletedProcess(
            args,
            returncode,
            stdout[0] if isinstance(stdout, list) else places[stdout],
            stderr[0] if isinstance(stderr, list) else places[stderr],
        )
    if "json" in facts:
        return facts["json"]
    return NotStored("raw", facts["absent"])


def _encode_stream(text: object, result: TaskResult) -> str | list[str] | None:
    """Where else in the row a stream stands, or the stream in a list; None if it is no text."""
    if text is None:
        return "none"
    if type(text) is not str:
        return None
    if text and text == result.output:
        return "output"
    if text and text == result.error:
        return "error"
    return [text]
