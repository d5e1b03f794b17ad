"""Tasks to and from rows.

A task has a row in three tables: ``tasks`` for its state, ``works`` for what it does, ``results``
for what came of it (see `schema`). The first and the last are made in `transitions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ttasks.model.call import Call
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.calls import decode_call, encode_call
from ttasks.stores.sqlite.connection import Connection
from ttasks.stores.sqlite.details import (
    IsSecret,
    decode_details,
    decode_facts,
    encode_details,
)
from ttasks.stores.sqlite.plain import (
    CALL,
    OUTPUT,
    Text,
    decode_object,
    encode_object,
    from_json,
    from_micros,
    from_optional,
    from_text,
    to_micros,
    to_optional,
    to_text,
)
from ttasks.stores.sqlite.transitions import (
    ID,
    OR_NULL,
    REPLACE_RESULT,
    RESULT_COLUMNS,
    STATE_COLUMNS,
    WITH_OWNER,
    State,
    encode_state,
    of_result,
    of_state,
    update_state,
)

_WORK = (
    *("type", "title", "payload_kind", "payload", "key", "details", "fingerprint"),
    *("body", "checksum"),
)
COLUMNS = (
    *(f"tasks.{name}" for name in STATE_COLUMNS),
    *(f"works.{name}" for name in _WORK),
    *(f"results.{name}" for name in RESULT_COLUMNS),
)
"""The columns that `decode_task` expects, in this order."""
SELECTED = ", ".join(COLUMNS)
"""The same for a SELECT from ``tasks`` joined with `PARTS`."""
STATE = ", ".join(COLUMNS[: len(STATE_COLUMNS)])
"""The columns that `check_state` expects, for a SELECT."""
WORK_IN_SHORT = ", ".join(f"works.{name}" for name in _WORK if name not in ("payload", "details"))
"""The columns that `check_work` expects, for a SELECT: those that are never long."""
# A task that runs again has no result.
RESULTS = "LEFT JOIN results ON results.task=tasks.seq AND tasks.status!='running'"
PARTS = f"LEFT JOIN works ON works.task=tasks.seq {RESULTS}"

# Numbers are never used again, as events of a deleted task may still be there.
_NEXT_TASK = """
SELECT 1 + max(
    (SELECT coalesce(max(seq), 0) FROM tasks),
    coalesce((SELECT seq FROM sqlite_sequence WHERE name='tasks'), 0)
)
"""
_INSERT_STATE = f"""
INSERT INTO tasks (seq, id, created_at, status, updated_at, blocked_by, error, owner, checksum)
VALUES (?, ?, ?, ?, ?, {OR_NULL}, {OR_NULL}, nullif(?, 0), (? + coalesce(?, 0) {WITH_OWNER})
ON CONFLICT (id) DO NOTHING
"""
_INSERT_WORK = f"""
INSERT INTO works (task, {", ".join(_WORK)})
VALUES (?, ?, ?, ?, ?, {OR_NULL}, {OR_NULL}, {OR_NULL}, ?, ?)
"""
# If nothing has changed, no page is written.
_UPSERT_WORK = f"""
{_INSERT_WORK}
ON CONFLICT (task) DO UPDATE SET {", ".join(f"{name}=excluded.{name}" for name in _WORK)}
WHERE ({", ".join(f"works.{name}" for name in _WORK)})
    IS NOT ({", ".join(f"excluded.{name}" for name in _WORK)})
"""

DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What decoding a row can raise if another program has changed it."""


class Row(NamedTuple):
    """A task as the three tables hold it."""

    id: str
    created_at: int
    state: State
    work: tuple[Any, ...]


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
        (
            *(kind, title, payload_kind, payload),
            0 if key is None else key,
            0 if details is None else details,
            0 if fingerprint is None else fingerprint,
            *(body, checksum),
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


def save_task(connection: Connection, row: Row) -> int:
    """Write a whole task, unless the ledger has a newer state; return its number."""
    if not update_state(connection, row.state):
        numbers = insert_tasks(connection, [row])
        if numbers is not None:
            return numbers[0]
        return _number_of(connection, row)  # there is a newer state
    number = _number_of(connection, row)
    connection.execute(_UPSERT_WORK, (number, *row.work))
    return number


def save_tasks(connection: Connection, rows: Sequence[Row], *, new: bool) -> Sequence[int]:
    """Write whole tasks as `save_task` does; ``new`` expects all of them to be absent."""
    numbers = insert_tasks(connection, rows) if new else None
    # If some were there, these calls also complete those that were not.
    return [save_task(connection, row) for row in rows] if numbers is None else numbers


def insert_tasks(connection: Connection, rows: Sequence[Row]) -> Sequence[int] | None:
    """Write tasks that are absent; return their numbers, or None if some were there.

    In that case it has written no more than the states of the others.
    """
    (first,) = connection.execute(_NEXT_TASK).fetchone()
    numbers = range(first, first + len(rows))
    # Generators, which keep no rows: the garbage collector would look at all of them.
    states = (
        (number, task_id, created_at, *values[:ID])
        for number, (task_id, created_at, (values, _), _) in zip(numbers, rows, strict=True)
    )
    if connection.executemany(_INSERT_STATE, states).rowcount < len(rows):
        return None
    works = ((number, *row.work) for number, row in zip(numbers, rows, strict=True))
    connection.executemany(_INSERT_WORK, works)
    results = (
        (number, *result)
        for number, (_, _, (_, result), _) in zip(numbers, rows, strict=True)
        if result is not None
    )
    connection.executemany(REPLACE_RESULT, results)
    for number, row in zip(numbers, rows, strict=True):
        connection.remember(row.id, number)
    return numbers


def _number_of(connection: Connection, row: Row) -> int:
    number = connection.number_of(row.id)
    assert number is not None
    return number


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
    plain = of_state(task_id, status, updated_at, blocked_by, error, result)
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
    work, result = len(STATE_COLUMNS), len(STATE_COLUMNS) + len(_WORK)
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
    found = of_result(task_id, kind, text, stored_output, stored, stored_error)
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
