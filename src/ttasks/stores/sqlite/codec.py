"""Tasks to and from rows, and events to rows.

A task has a row in three tables: ``tasks`` for its state, ``works`` for what it does, ``results``
for what came of it (see `schema`). A transition writes the first and, at an end, the third.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
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
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.calls import decode_call, encode_call
from ttasks.stores.sqlite.connection import Connection
from ttasks.stores.sqlite.details import (
    USUAL_FACTS,
    IsSecret,
    decode_details,
    decode_facts,
    encode_details,
    encode_facts,
    get_facts,
)
from ttasks.stores.sqlite.plain import (
    CALL,
    EPOCH,
    LONGEST,
    MICROSECOND,
    NONE,
    OUTPUT,
    NotStored,
    Text,
    decode_object,
    encode_object,
    from_json,
    from_micros,
    from_optional,
    from_text,
    kind_of,
    shortened,
    to_json,
    to_micros,
    to_optional,
    to_text,
)

_STATE = (
    *("id", "status", "created_at", "blocked_by", "error"),
    *("updated_at", "owner", "listed", "checksum"),
)
_WORK = (
    *("type", "title", "payload_kind", "payload", "key", "details", "fingerprint"),
    *("body", "checksum"),
)
_RESULT = ("checksum", "value_kind", "result", "output", "value", "result_error")
COLUMNS = (
    *(f"tasks.{name}" for name in _STATE),
    *(f"works.{name}" for name in _WORK),
    *(f"results.{name}" for name in _RESULT),
)
"""The columns that `decode_task` expects, in this order."""
SELECTED = ", ".join(COLUMNS)
"""The same for a SELECT from ``tasks`` joined with `PARTS`."""
STATE = ", ".join(COLUMNS[: len(_STATE)])
"""The columns that `check_state` expects, for a SELECT."""
WORK_IN_SHORT = ", ".join(f"works.{name}" for name in _WORK if name not in ("payload", "details"))
"""The columns that `check_work` expects, for a SELECT: those that are never long."""
# A task that runs again has no result.
RESULTS = "LEFT JOIN results ON results.task=tasks.seq AND tasks.status!='running'"
PARTS = f"LEFT JOIN works ON works.task=tasks.seq {RESULTS}"

# A task never leaves SUCCEEDED or CANCELLED. So a state that would make it leave is older than the
# one in the ledger (an earlier snapshot, or one taken while another thread saved) and is ignored.
# A process may save a running task without running it; the owner is NULL then, and stays.
_WITH_OWNER = f"* {checksums.OWNER_FACTOR}) & {checksums.MASK}"  # see `checksums.with_owner`
_UPDATE_STATE = f"""
UPDATE tasks SET listed=1, status=?, updated_at=?, blocked_by=?, error=?,
    owner=nullif(coalesce(?, owner), 0), checksum=(? + coalesce(?, owner, 0) {_WITH_OWNER}
WHERE seq=? AND id=? AND (status NOT IN ('succeeded', 'cancelled') OR status=? OR NOT listed)
"""
_INSERT_STATE = f"""
INSERT INTO tasks (id, created_at, status, updated_at, blocked_by, error, owner, checksum)
VALUES (?, ?, ?, ?, ?, ?, nullif(?, 0), (? + coalesce(?, 0) {_WITH_OWNER})
ON CONFLICT (id) DO NOTHING
"""
_ID = 7  # where the id stands among the values of `_UPDATE_STATE`
# If nothing has changed, no page is written.
_UPSERT_WORK = f"""
INSERT INTO works (task, {", ".join(_WORK)}) VALUES (?, {", ".join("?" * len(_WORK))})
ON CONFLICT (task) DO UPDATE SET {", ".join(f"{name}=excluded.{name}" for name in _WORK)}
WHERE ({", ".join(f"works.{name}" for name in _WORK)})
    IS NOT ({", ".join(f"excluded.{name}" for name in _WORK)})
"""
_REPLACE_RESULT = f"""
INSERT OR REPLACE INTO results (task, {", ".join(_RESULT)})
VALUES (?, {", ".join("?" * len(_RESULT))})
"""
_DELETE_RESULT = "DELETE FROM results WHERE task=?"

# The number of an event is part of its checksum. An INSERT from a SELECT of the same table would
# take 10 us longer.
_NEXT_EVENT = "(SELECT coalesce(max(seq), 0) + 1 FROM events)"
_INSERT_EVENT = f"""
INSERT INTO events
    (task, type, at, previous, status, attempt, error, details, chunk, checksum, seq)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ? + {_NEXT_EVENT}, {_NEXT_EVENT})
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
    task_id, name, now = task.id, STATUS_NAMES[status], time_ns() // 1000
    text = error if error is None else to_text(error)
    columns, checksum = None, None
    if result is not None:
        columns = _encode_result(task_id, result, pickles)
        if status is not TaskStatus.RUNNING:
            checksum = columns[0]
    if status is not TaskStatus.RUNNING:
        owner = 0
    checksum = checksums.of_state(task_id, name, now, blocked_by, text, checksum)
    return (name, now, blocked_by, text, owner, checksum, owner, task_id, name), columns


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
    checksum = checksums.of_result(task_id, kind, text, shown, stored, trouble)
    return checksum, kind, text, shown, stored, trouble


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


def encode_task(task: Task, owner: int | None, pickles: bool, is_secret: IsSecret) -> Row:
    """Everything that the ledger keeps of a task, as it is now."""
    payload_kind, payload = _encode_payload(task.payload)
    created_at, details = to_micros(task.created_at), encode_details(task, is_secret)
    kind, title, key = to_text(task.type.value), to_text(task.title), to_optional(task.key)
    fingerprint = task.fingerprint  # another thread may be giving it one
    body = checksums.of_body(payload, details)
    checksum = checksums.of_work(
        task.id, created_at, kind, title, payload_kind, key, fingerprint, body
    )
    return Row(
        task.id,
        created_at,
        encode_state(task, owner, pickles),
        (kind, title, payload_kind, payload, key, details, fingerprint, body, checksum),
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
    connection: Connection, state: State, events: Sequence[tuple[Any, ...]] = ()
) -> bool:
    """Write the state of a task, and events of it.

    False, and nothing is written, if the ledger has no such task, or a newer state.
    """
    values, result = state
    task_id = values[_ID]
    number = connection.number_of(task_id)
    if number is None:
        return False
    values = (*values[:_ID], number, *values[_ID:])
    if connection.execute(_UPDATE_STATE, values).rowcount == 0:
        connection.forget(task_id)  # others may have deleted it and saved it again
        return False
    if result is not None:
        connection.execute(_REPLACE_RESULT, (number, *result))
    elif values[0] != _RUNNING:
        connection.execute(_DELETE_RESULT, (number,))
    if events:
        insert_events(connection, events)
    return True


def save_task(connection: Connection, row: Row, *, new: bool = False) -> None:
    """Write a whole task, unless the ledger has a newer state; ``new`` expects it to be absent."""
    if not new and update_state(connection, row.state):
        connection.execute(_UPSERT_WORK, (connection.number_of(row.id), *row.work))
        return
    values, result = row.state
    inserted = connection.execute(_INSERT_STATE, (row.id, row.created_at, *values[:_ID]))
    if inserted.rowcount > 0:
        number = inserted.lastrowid
        assert number is not None
        connection.remember(row.id, number)
        connection.execute(_UPSERT_WORK, (number, *row.work))
        if result is not None:
            connection.execute(_REPLACE_RESULT, (number, *result))
    elif new:
        save_task(connection, row)


def encode_event(event: TaskEvent, run: str | None = None) -> tuple[Any, ...]:
    """The row of an event, with the id of its task last; ``run`` is of `run_rows.run_details`."""
    if not isinstance(event, TaskEvent):
        raise wrong_type("event", event, "a TaskEvent")
    facts = _get_event_details(event)
    details = None
    if facts != _NO_EVENT_DETAILS:
        named = zip(_EVENT_DETAILS, facts, strict=True)
        details = to_json({name: value for name, value in named if value is not None})
    if run is not None:
        details = f'{{"run":{run}}}' if details is None else f'{{"run":{run},{details[1:]}'
    error, chunk = event.error, event.output_chunk
    columns = (
        _EVENT_NAMES[event.type],
        (event.timestamp - EPOCH) // MICROSECOND,
        STATUS_NAMES[event.previous_status],
        STATUS_NAMES[event.status],
        event.attempt,
        error if error is None else to_text(error),
        details,
        chunk if chunk is None else to_text(chunk),
    )
    return (*columns, checksums.of_event(event.task_id, *columns), event.task_id)


def insert_events(connection: Connection, rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows of `encode_event`.

    Raises:
        StoreError: the task of one was never saved.
    """
    for row in rows:
        number = connection.number_of(row[-1])
        if number is None:
            raise StoreError(f"The ledger has no task {row[-1]!r} for an event; save it first")
        *columns, checksum, _ = row
        checksum = checksums.with_task(checksum, number)
        connection.execute(_INSERT_EVENT, (number, *columns, checksum))


def check_state(row: Sequence[Any], result: int | None) -> None:
    """Check a row of ``tasks``, whose columns are those of `STATE`.

    Args:
        row: its columns.
        result: the checksum of its result; None if it has none.

    Raises:
        StoreError: it is damaged.
    """
    task_id, status, _, blocked_by, error, updated_at, owner, listed, checksum = row
    what = f"task {task_id!r}"
    if listed not in (0, 1):
        raise checksums.damaged(what, f"listed is {listed!r}")
    if owner is not None and not isinstance(owner, int):
        raise checksums.damaged(what, f"its owner is {owner!r}")
    plain = checksums.of_state(task_id, status, updated_at, blocked_by, error, result)
    checksums.check(checksum, checksums.with_owner(plain, owner, bool(listed)), what)


def check_work(task_id: str, created_at: int, row: Sequence[Any]) -> None:
    """Check a row of ``works``, whose columns are those of `WORK_IN_SHORT`.

    Raises:
        StoreError: it is damaged.
    """
    kind, title, payload_kind, key, fingerprint, body, checksum = row
    found = checksums.of_work(
        task_id, created_at, kind, title, payload_kind, key, fingerprint, body
    )
    checksums.check(checksum, found, f"task {task_id!r}")


def _parts(row: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """The columns of a row by table."""
    work, result = len(_STATE), len(_STATE) + len(_WORK)
    return row[:work], row[work:result], row[result : len(COLUMNS)]


def check_task(row: Sequence[Any]) -> None:
    """Check a row of `COLUMNS` but for its long columns, `payload`, `details` and the result.

    Raises:
        StoreError: it is damaged.
    """
    state, work, result = _parts(row)
    kind, title, payload_kind, _, key, _, *rest = work
    check_state(state, result[0])
    check_work(state[0], state[2], (kind, title, payload_kind, key, *rest))


def decode_task(row: Sequence[Any], pickles: bool = False) -> Task:
    """A new task in the state of the row.

    Raises:
        StoreError: the row is damaged.
    """
    check_task(row)
    state_row, work_row, result_row = _parts(row)
    task_id, status, created_at, blocked_by, error, *_ = state_row
    kind, title, payload_kind, payload, key, details, fingerprint, body, _ = work_row
    try:
        checksums.check(body, checksums.of_body(payload, details), f"task {task_id!r}")
        state = decode_details(details) | {
            "id": task_id,
            "status": TaskStatus(status),
            "created_at": from_micros(created_at),
            "type": TaskType(from_text(kind)),
            "title": from_text(title),
            "key": from_optional(key),
            "fingerprint": fingerprint,
            "blocked_by": blocked_by,
            "error": from_optional(error),
            "payload": _decode_payload(payload_kind, payload),
            "result": _decode_result(task_id, result_row, pickles),
            "extra": {},
        }
    except DAMAGE as problem:
        raise checksums.damaged(f"task {row[0]!r}", repr(problem)) from problem
    task = Task.__new__(Task)
    task.__setstate__(state)
    return task


def _decode_result(task_id: str, columns: Sequence[Any], pickles: bool) -> TaskResult | None:
    """The result that the columns hold; None if they are of a task without one."""
    checksum, kind, text, stored_output, stored, stored_error = columns
    if checksum is None:
        return None
    found = checksums.of_result(task_id, kind, text, stored_output, stored, stored_error)
    checksums.check(checksum, found, f"the result of task {task_id!r}")
    facts = from_json(text)
    output, error = from_text(stored_output or ""), from_optional(stored_error)
    value = output if kind == OUTPUT else decode_object("value", kind, stored, pickles)
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
