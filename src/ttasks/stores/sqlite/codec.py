"""Tasks to and from rows, and events to rows.

A task has a row in three tables: ``tasks`` for its state, ``works`` for what it does, ``results``
for what came of it (see `schema`). A transition writes the first and, at an end, the third.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from math import isfinite
from operator import attrgetter
from time import time_ns
from typing import Any, NamedTuple

from ttasks.errors import StoreError
from ttasks.model.call import Call
from ttasks.model.checks import wrong_type
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, lifecycle_of
from ttasks.model.task_type import TaskType
from ttasks.stores.sqlite.calls import decode_call, encode_call
from ttasks.stores.sqlite.details import (
    USUAL_FACTS,
    decode_details,
    decode_facts,
    encode_details,
    encode_facts,
    get_facts,
)
from ttasks.stores.sqlite.plain import (
    CALL,
    EPOCH,
    MICROSECOND,
    NONE,
    OUTPUT,
    Text,
    decode_object,
    encode_object,
    from_json,
    from_micros,
    from_optional,
    from_text,
    to_json,
    to_micros,
    to_optional,
    to_text,
)

_STATE = ("id", "status", "created_at", "blocked_by", "error")
_WORK = ("type", "title", "payload_kind", "payload", "key", "details", "fingerprint")
_RESULT = ("value_kind", "result", "output", "value", "result_error")
COLUMNS = (*_STATE, *_WORK, *_RESULT)
"""The columns that `decode_task` expects, in this order."""
SELECTED = ", ".join(f"tasks.{name}" if name in _STATE else name for name in COLUMNS)
"""The same for a SELECT from ``tasks`` joined with `PARTS`."""
# A task that runs again has no result.
PARTS = """
LEFT JOIN works ON works.task=tasks.seq
LEFT JOIN results ON results.task=tasks.seq AND tasks.status!='running'
"""

# A task never leaves SUCCEEDED or CANCELLED. So a state that would make it leave is older than the
# one in the ledger (an earlier snapshot, or one taken while another thread saved) and is ignored.
# A process may save a running task without running it; the owner is NULL then, and stays.
_UPDATE_STATE = """
UPDATE tasks SET listed=1, status=?, updated_at=?, blocked_by=?, error=?,
    owner=nullif(coalesce(?, owner), 0)
WHERE id=? AND (status NOT IN ('succeeded', 'cancelled') OR status=? OR NOT listed)
"""
_INSERT_STATE = """
INSERT INTO tasks (id, created_at, status, updated_at, blocked_by, error, owner)
VALUES (?, ?, ?, ?, ?, ?, nullif(?, 0)) ON CONFLICT (id) DO NOTHING
"""
# If nothing has changed, no page is written.
_UPSERT_WORK = f"""
INSERT INTO works (task, {", ".join(_WORK)})
SELECT seq, {", ".join("?" * len(_WORK))} FROM tasks WHERE id=?
ON CONFLICT (task) DO UPDATE SET {", ".join(f"{name}=excluded.{name}" for name in _WORK)}
WHERE ({", ".join(f"works.{name}" for name in _WORK)})
    IS NOT ({", ".join(f"excluded.{name}" for name in _WORK)})
"""
_REPLACE_RESULT = f"""
INSERT OR REPLACE INTO results (task, {", ".join(_RESULT)})
SELECT seq, {", ".join("?" * len(_RESULT))} FROM tasks WHERE id=?
"""
_DELETE_RESULT = "DELETE FROM results WHERE task=(SELECT seq FROM tasks WHERE id=?)"

_INSERT_EVENT = """
INSERT INTO events (task, type, at, previous, status, attempt, error, details, chunk)
SELECT seq, ?, ?, ?, ?, ?, ?, ?, ? FROM tasks WHERE id=?
"""

# `status.value` is two calls of Python functions.
STATUS_NAMES = {status: status.value for status in TaskStatus}
_EVENT_DETAILS = ("retry_in", "percent", "message", "stream")
_get_event_details = attrgetter("retry_in", "progress_percent", "progress_message", "output_stream")
_NO_EVENT_DETAILS = (None,) * len(_EVENT_DETAILS)
_EVENT_NAMES = {kind: kind.value for kind in TaskEventType}
_RUNNING = TaskStatus.RUNNING.value
_RESULT_STARTS = {status: f'{{"status":"{status.value}","started":' for status in TaskStatus}

DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What decoding a row can raise if another program has changed it."""

State = tuple[tuple[Any, ...], tuple[Any, ...] | None]
"""Parameters of `_UPDATE_STATE` and, if the task has a result, of `_REPLACE_RESULT`."""


class Row(NamedTuple):
    """A task as the three tables hold it."""

    id: str
    created_at: int
    state: State
    work: tuple[Any, ...]


def encode_state(task: Task, owner: int | None, pickles: bool) -> State:
    """The state that a transition writes; None for the owner keeps the one in the ledger."""
    life = lifecycle_of(task)
    with life.lock:
        status, error, result, blocked_by = life.status, life.error, life.result, life.blocked_by
    task_id = task.id
    name = STATUS_NAMES[status]
    if error is not None:
        error = to_text(error)  # type: ignore[assignment]
    return (
        (
            name,
            time_ns() // 1000,
            blocked_by,
            error,
            owner if status is TaskStatus.RUNNING else 0,
            task_id,
            name,
        ),
        None if result is None else (*_encode_result(task_id, result, pickles), task_id),
    )


def _encode_result(task_id: str, result: TaskResult, pickles: bool) -> tuple[Any, ...]:
    """The columns of a result."""
    # Most results need no JSON encoder, which would take longer than all the rest.
    seconds = result.duration
    duration = repr(seconds) if type(seconds) is float and isfinite(seconds) else to_json(seconds)
    text = (
        f"{_RESULT_STARTS[result.status]}{(result.started_at - EPOCH) // MICROSECOND}"
        f',"finished":{(result.finished_at - EPOCH) // MICROSECOND},"duration":{duration}'
    )
    known = get_facts(result)
    if known != USUAL_FACTS or result.raw is not None or result.task_id != task_id:
        text += f",{to_json(encode_facts(task_id, result, known))[1:-1]}"
    value, output, error = result.value, result.output, result.error
    if value is None:
        kind, stored = NONE, None
    elif type(value) is str and value == output:
        kind, stored = OUTPUT, None
    else:
        kind, stored = encode_object(value, pickles)
    return (
        kind,
        text + "}",
        output if output.isascii() else to_text(output),
        stored,
        error if error is None else to_text(error),
    )


def encode_task(task: Task, owner: int | None, pickles: bool) -> Row:
    """Everything that the ledger keeps of a task, as it is now."""
    payload_kind, payload = _encode_payload(task.payload)
    return Row(
        task.id,
        to_micros(task.created_at),
        encode_state(task, owner, pickles),
        (
            to_text(task.type.value),
            to_text(task.title),
            payload_kind,
            payload,
            to_optional(task.key),
            encode_details(task),
            task.fingerprint,
        ),
    )


def _encode_payload(payload: object) -> tuple[str, Text]:
    if type(payload) is Call:
        text = encode_call(payload)
        if text is not None:
            return CALL, text
    return encode_object(payload)


def _decode_payload(kind: str, text: Text | None) -> Any:
    if kind == CALL and text is not None:
        return decode_call(from_text(text))
    return decode_object("payload", kind, text)


def update_state(
    connection: sqlite3.Connection, state: State, events: Sequence[tuple[Any, ...]] = ()
) -> bool:
    """Write the state of a task, and events of it.

    False, and nothing is written, if the ledger has no such task, or a newer state.
    """
    values, result = state
    if connection.execute(_UPDATE_STATE, values).rowcount == 0:
        return False
    if result is not None:
        connection.execute(_REPLACE_RESULT, result)
    elif values[0] != _RUNNING:
        connection.execute(_DELETE_RESULT, (values[5],))
    if events:
        insert_events(connection, events)
    return True


def save_task(connection: sqlite3.Connection, row: Row, *, new: bool = False) -> None:
    """Write a whole task, unless the ledger has a newer state; ``new`` expects it to be absent."""
    if not new and update_state(connection, row.state):
        connection.execute(_UPSERT_WORK, (*row.work, row.id))
        return
    values, result = row.state
    inserted = connection.execute(_INSERT_STATE, (row.id, row.created_at, *values[:5]))
    if inserted.rowcount > 0:
        connection.execute(_UPSERT_WORK, (*row.work, row.id))
        if result is not None:
            connection.execute(_REPLACE_RESULT, result)
    elif new:
        save_task(connection, row)


def encode_event(event: TaskEvent) -> tuple[Any, ...]:
    """The row of an event, with the id of its task last."""
    if not isinstance(event, TaskEvent):
        raise wrong_type("event", event, "a TaskEvent")
    facts = _get_event_details(event)
    details = None
    if facts != _NO_EVENT_DETAILS:
        named = zip(_EVENT_DETAILS, facts, strict=True)
        details = to_json({name: value for name, value in named if value is not None})
    error, chunk = event.error, event.output_chunk
    return (
        _EVENT_NAMES[event.type],
        (event.timestamp - EPOCH) // MICROSECOND,
        STATUS_NAMES[event.previous_status],
        STATUS_NAMES[event.status],
        event.attempt,
        error if error is None else to_text(error),
        details,
        chunk if chunk is None else to_text(chunk),
        event.task_id,
    )


def insert_events(connection: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows of `encode_event`.

    Raises:
        StoreError: the task of one was never saved.
    """
    for row in rows:
        if connection.execute(_INSERT_EVENT, row).rowcount == 0:
            raise StoreError(f"The ledger has no task {row[-1]!r} for an event; save it first")


def decode_task(row: Sequence[Any], pickles: bool = False) -> Task:
    """A new task in the state of the row.

    Raises:
        StoreError: the row is damaged.
    """
    try:
        fields = dict(zip(COLUMNS, row, strict=False))
        state = decode_details(fields["details"]) | {
            "id": fields["id"],
            "status": TaskStatus(fields["status"]),
            "created_at": from_micros(fields["created_at"]),
            "type": TaskType(from_text(fields["type"])),
            "title": from_text(fields["title"]),
            "key": from_optional(fields["key"]),
            "fingerprint": fields["fingerprint"],
            "blocked_by": fields["blocked_by"],
            "error": from_optional(fields["error"]),
            "payload": _decode_payload(fields["payload_kind"], fields["payload"]),
            "result": _decode_result(fields["id"], [fields[name] for name in _RESULT], pickles),
            "extra": {},
        }
    except DAMAGE as error:
        raise StoreError(f"The ledger's row of task {row[0]!r} is damaged: {error!r}") from error
    task = Task.__new__(Task)
    task.__setstate__(state)
    return task


def _decode_result(task_id: str, columns: Sequence[Any], pickles: bool) -> TaskResult | None:
    """The result that the columns hold; None if they are of a task without one."""
    kind, text, stored_output, stored, stored_error = columns
    if text is None:
        return None
    facts = from_json(text)
    output, error = from_text(stored_output or ""), from_optional(stored_error)
    value = output if kind == OUTPUT else decode_object("value", kind or NONE, stored, pickles)
    return TaskResult(
        task_id=facts.get("task_id", task_id),
        status=TaskStatus(facts["status"]),
        started_at=from_micros(facts["started"]),
        finished_at=from_micros(facts["finished"]),
        duration=facts["duration"],
        output=output,
        error=error,
        value=value,
        **decode_facts(facts, value, output, error),
    )
