"""Transitions: what is written when a task starts or ends, twice for every task of a run.

That is its row in ``tasks``, at an end the one in ``results``, and a row of ``events``. All that
encodes and writes them is here, with the checksums of these rows, whose formulas are also used to
check them (see `checksums`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from time import time_ns
from typing import Any
from zlib import crc32

from ttasks.errors import StoreError
from ttasks.model.checks import wrong_type
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.notes import Notes
from ttasks.model.result import TaskResult
from ttasks.model.status import RUNNING, TaskStatus
from ttasks.model.task import Task, lifecycle_of
from ttasks.stores.sqlite.checksums import MASK, OWNER_FACTOR, STATUS_CODES, TASK_MODULUS, of_texts
from ttasks.stores.sqlite.connection import Connection
from ttasks.stores.sqlite.details import USUAL_FACTS, encode_facts, get_facts
from ttasks.stores.sqlite.plain import (
    EPOCH,
    LONGEST,
    MICROSECOND,
    NONE,
    OUTPUT,
    NotStored,
    Text,
    encode_object,
    kind_of,
    shortened,
    to_json,
    to_text,
)

STATE_COLUMNS = (
    *("id", "status", "created_at", "blocked_by", "error"),
    *("updated_at", "owner", "listed", "checksum"),
)
RESULT_COLUMNS = ("checksum", "value_kind", "result", "output", "value", "result_error")

OR_NULL = "nullif(?, 0)"
"""In SQL a parameter for a column of text, where 0 stands for None.

The module sqlite3 asks each None whether it wants to be adapted, which takes longer than to encode
a short text.
"""

# A task never leaves SUCCEEDED or CANCELLED. So a state that would make it leave is older than the
# one in the ledger (an earlier snapshot, or one taken while another thread saved) and is ignored.
# A process may save a running task without running it; the owner is NULL then, and stays.
WITH_OWNER = f"* {OWNER_FACTOR}) & {MASK}"
"""In SQL the end of `checksums.with_owner`."""
_UPDATE_STATE = f"""
UPDATE tasks SET listed=1, status=?, updated_at=?, blocked_by={OR_NULL}, error={OR_NULL},
    owner=nullif(coalesce(?, owner), 0), checksum=(? + coalesce(?, owner, 0) {WITH_OWNER}
WHERE id=? AND (status NOT IN ('succeeded', 'cancelled') OR status=? OR NOT listed) AND seq=?
"""
ID = 7
"""Where the id stands among the parameters of `_UPDATE_STATE`."""
REPLACE_RESULT = f"""
INSERT OR REPLACE INTO results (task, {", ".join(RESULT_COLUMNS)})
VALUES (?, ?, ?, ?, ?, {OR_NULL}, {OR_NULL})
"""
_DELETE_RESULT = "DELETE FROM results WHERE task=?"

# The number of an event is part of its checksum. An INSERT from a SELECT of the same table would be
# slower.
_NEXT_EVENT = "(SELECT coalesce(max(seq), 0) + 1 FROM events)"
_INSERT_EVENT = f"""
INSERT INTO events
    (task, type, at, previous, status, attempt, error, details, chunk, checksum, seq)
VALUES (
    ?, ?, ?, ?, ?, ?, {OR_NULL}, {OR_NULL}, {OR_NULL}, ? + {_NEXT_EVENT}, {_NEXT_EVENT}
)
"""

# `status.value` is two calls of Python functions.
STATUS_NAMES = {status: status.value for status in TaskStatus}
_EVENT_NAMES = {kind: kind.value for kind in TaskEventType}
_RUNNING = RUNNING.value
_RESULT_STARTS = {status: f'{{"status":"{status.value}","started":' for status in TaskStatus}

State = tuple[tuple[Any, ...], tuple[Any, ...] | None]
"""Parameters of `_UPDATE_STATE` and, if the task has a result, of `REPLACE_RESULT`.

Both lack the number of the task.
"""

EventRow = tuple[Any, ...]
"""Parameters of `_INSERT_EVENT` but for the number of the task; its id comes last."""


# The state


def encode_state(task: Task, owner: int | None, pickles: bool) -> State:
    """The state that a transition writes; None for the owner keeps the one in the ledger."""
    life = lifecycle_of(task)
    with life.lock:
        status, error, result, blocked_by = life.status, life.error, life.result, life.blocked_by
    task_id, name, now = task.id, STATUS_NAMES[status], time_ns() // 1000
    text = error if error is None else to_text(error)
    columns, checksum = None, None
    if result is not None:
        columns = _encode_result(task_id, result, pickles)
        if status is not RUNNING:
            checksum = columns[0]
    if status is not RUNNING:
        owner = 0
    checksum = of_state(task_id, name, now, blocked_by, text, checksum)
    blocker = 0 if blocked_by is None else blocked_by
    shown = 0 if text is None else text
    return (name, now, blocker, shown, owner, checksum, owner, task_id, name), columns


def of_state(
    task_id: str,
    status: str,
    updated_at: int,
    blocked_by: str | None,
    error: Text | None,
    result: int | None,
) -> int:
    """The checksum of a row of ``tasks``, but for its owner; its last three bits say the status.

    Args:
        result: the checksum of the task's row in ``results``; None if it has none.
    """
    text = f"{task_id} {status} {updated_at} {blocked_by} {result} {error!r}"
    return crc32(text.encode("utf-8", "surrogatepass")) >> 4 << 3 | STATUS_CODES.get(status, 7)


def update_state(connection: Connection, state: State, events: Sequence[EventRow] = ()) -> bool:
    """Write the state of a task, and events of it.

    False, and nothing is written, if the ledger has no such task, or a newer state.
    """
    values, result = state
    task_id = values[ID]
    number = connection.numbers.get(task_id) or connection.number_of(task_id)
    if number is None:
        return False
    run = connection.run
    if run(_UPDATE_STATE, (*values, number)).rowcount == 0:
        connection.forget(task_id)  # others may have deleted it and saved it again
        return False
    if result is not None:
        run(REPLACE_RESULT, (number, *result))
    elif values[0] != _RUNNING:
        run(_DELETE_RESULT, (number,))
    if events:
        insert_events(connection, events)
    return True


# The result


def _encode_result(task_id: str, result: TaskResult, pickles: bool) -> tuple[Any, ...]:
    """The columns of a result."""
    if len(result.output) > LONGEST or len(result.error or "") > LONGEST:
        result = _shortened(result)
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
    text += "}"
    shown = output if output.isascii() else to_text(output)
    trouble = error if error is None else to_text(error)
    checksum = of_result(task_id, kind, text, shown, stored, trouble)
    return (
        *(checksum, kind, text, shown),
        0 if stored is None else stored,
        0 if trouble is None else trouble,
    )


def of_result(
    task_id: str,
    kind: str,
    facts: str,
    output: Text | None,
    value: Text | None,
    error: Text | None,
) -> int:
    """The checksum of a row of ``results``."""
    head = f"{task_id} {kind} {facts} {value is None} {error is None} "
    if not output and value is None and error is None:
        return crc32(head.encode("utf-8", "surrogatepass")) >> 1
    return of_texts(head, (output, value, error))


def _shortened(result: TaskResult) -> TaskResult:
    """The result without what is too long for a row."""
    value, raw, error = result.value, result.raw, result.error
    if type(value) is str and value == result.output:
        value = NotStored("value", kind_of(value))
    return replace(
        result,
        value=value,
        raw=None if raw is None else NotStored("raw", kind_of(raw)),
        output=shortened(result.output),
        error=None if error is None else shortened(error),
        output_truncated=True,
    )


# Events


def encode_event(
    event: TaskEvent, run: int | str | None = None, notes: Notes | None = None
) -> EventRow:
    """The row of an event.

    Args:
        event: the event.
        run: number in the ledger, or id, of its run, for ``notes``.
        notes: what the run has noted of the task; None keeps nothing of the run.
    """
    if not isinstance(event, TaskEvent):
        raise wrong_type("event", event, "a TaskEvent")
    details = None if notes is None else f'{{"run":{_run_details(run, notes)}}}'
    if (
        event.retry_in is not None
        or event.progress_percent is not None
        or event.progress_message is not None
        or event.output_stream is not None
    ):
        own = _own_details(event)
        details = own if details is None else f"{details[:-1]},{own[1:]}"
    task_id, kind = event.task_id, _EVENT_NAMES[event.type]
    at, attempt = (event.timestamp - EPOCH) // MICROSECOND, event.attempt
    previous, status = STATUS_NAMES[event.previous_status], STATUS_NAMES[event.status]
    error = None if event.error is None else to_text(event.error)
    chunk = None if event.output_chunk is None else to_text(event.output_chunk)
    checksum = of_event(task_id, kind, at, previous, status, attempt, error, details, chunk)
    return (
        *(kind, at, previous, status, attempt),
        0 if error is None else error,
        0 if details is None else details,
        0 if chunk is None else chunk,
        *(checksum, task_id),
    )


def _own_details(event: TaskEvent) -> str:
    """JSON of what only some events have."""
    facts = {
        "retry_in": event.retry_in,
        "percent": event.progress_percent,
        "message": event.progress_message,
        "stream": event.output_stream,
    }
    return to_json({name: value for name, value in facts.items() if value is not None})


def _run_details(name: int | str | None, notes: Notes) -> str:
    """JSON of an event's run and notes, as a list; see `run_rows.notes_of`.

    The run's number in the ledger or its id, the moment; then, unless the event ends a task that
    was started and never waited: when it was ready, its first start and slot, the number of the
    upstream that unlocked it, and what else happened to it.
    """
    shown = name if type(name) is int else f'"{name}"'
    ready, unlocked_by, started, slot, waits, ended = notes
    if ended is not None and started is not None and not waits:
        return f"[{shown},{ended!r}]"
    if ended is None and not waits and ready is not None and started is not None:
        # The start of most tasks; faster than the general case.
        by = "null" if unlocked_by is None else unlocked_by
        return f"[{shown},null,{ready!r},{started!r},{slot},{by},[]]"
    facts = [_or_null(value) for value in (ended, ready, started, slot, unlocked_by)]
    return f"[{shown},{','.join(facts)},{to_json(waits) if waits else '[]'}]"


def _or_null(value: float | None) -> str:
    return "null" if value is None else repr(value)


def of_event(
    task_id: str,
    kind: str,
    at: int,
    previous: str,
    status: str,
    attempt: int,
    error: Text | None,
    details: str | None,
    chunk: Text | None,
) -> int:
    """The checksum of a row of ``events``, to which `with_task` and its number are added."""
    text = f"{task_id} {kind} {at} {previous} {status} {attempt} {details} {error!r} {chunk!r}"
    return crc32(text.encode("utf-8", "surrogatepass")) >> 1


def with_task(checksum: int, number: int) -> int:
    """The checksum of an event, changed to tell the number of its task by its remainder."""
    return checksum + (number - checksum) % TASK_MODULUS


def insert_events(connection: Connection, rows: Iterable[EventRow]) -> None:
    """Insert rows of `encode_event`.

    Raises:
        StoreError: the task of one was never saved.
    """
    for *columns, checksum, task_id in rows:
        number = connection.numbers.get(task_id) or connection.number_of(task_id)
        if number is None:
            raise StoreError(f"The ledger has no task {task_id!r} for an event; save it first")
        connection.run(_INSERT_EVENT, (number, *columns, with_task(checksum, number)))
