"""Tasks to and from rows."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from time import time_ns
from typing import Any, NamedTuple
from warnings import warn

from ttasks.errors import StoreError
from ttasks.model.policy import RetryPolicy
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, lifecycle_of
from ttasks.model.task_type import TaskType
from ttasks.stores.sqlite.absent import NotStored
from ttasks.stores.sqlite.insert import Insert, marks
from ttasks.stores.sqlite.plain import (
    from_json,
    from_micros,
    from_optional,
    from_text,
    to_json,
    to_micros,
    to_optional,
    to_text,
)
from ttasks.stores.sqlite.results import (
    ABSENT,
    PICKLE,
    ResultColumns,
    decode_object,
    decode_result,
    encode_object,
    encode_result,
    pickled,
)

# Of each table the columns that are mostly NULL come last, see `Insert`.
_STATE = ("id", "status", "updated_at", "created_at", "owner", "blocked_by", "error")
_WORK = ("type", "title", "payload_kind", "payload", "fingerprint", "key", "details")
_RESULT = ResultColumns._fields
COLUMNS = (*_STATE, *_WORK, *_RESULT)
"""The columns that `decode_task` wants, in this order."""
SELECTED = ", ".join(f"tasks.{name}" if name in _STATE else name for name in COLUMNS)
"""The same for a SELECT from ``tasks`` joined with `PARTS`."""
# A task that runs again has no result any more.
PARTS = """
LEFT JOIN works ON works.task=tasks.seq
LEFT JOIN results ON results.task=tasks.seq AND tasks.status!='running'
"""

# A task never leaves SUCCEEDED or CANCELLED, so a state that would is older than the one in the
# ledger: a snapshot from before, or one that was taken while another thread saved. It is ignored.
_SINKS = "('succeeded','cancelled')"

_insert_state = Insert("INTO tasks", _STATE, 3, "ON CONFLICT (id) DO NOTHING")
_insert_work = Insert("INTO works", _WORK, 3, "ON CONFLICT (task) DO NOTHING", of_task=True)
_replace_result = Insert("OR REPLACE INTO results", _RESULT, 2, of_task=True)
_DELETE_RESULT = "DELETE FROM results WHERE task=(SELECT seq FROM tasks WHERE id=?)"
# Who saves a task that is running may not be who runs it; then its owner stays.
_UPDATE = """
UPDATE tasks SET listed=1, status=?, updated_at=?, blocked_by={0}, error={0},
    owner=CASE ? WHEN 'running' THEN coalesce(nullif(?, 0), owner) END
WHERE id=? AND (status NOT IN {1} OR status=? OR NOT listed)
"""
_UPDATE_STATE = _UPDATE.format("?", _SINKS)
_UPDATE_STATE_IN_SHORT = _UPDATE.format("NULL", _SINKS)
# A fingerprint stays: what a task does is settled before it begins. Where nothing has changed no
# page is written.
_EDITABLE = [name for name in _WORK if name != "fingerprint"]
_UPDATE_WORK = f"""
UPDATE works SET ({", ".join(_EDITABLE)})=({marks(_EDITABLE)})
WHERE task=(SELECT seq FROM tasks WHERE id=?)
    AND ({", ".join(_EDITABLE)}) IS NOT ({marks(_EDITABLE)})
"""
_UPDATE_FINGERPRINT = """
UPDATE works SET fingerprint=?
WHERE task=(SELECT seq FROM tasks WHERE id=?) AND fingerprint IS NOT ?
"""

_DETAILS = (
    "description",
    "timeout",
    "retry",
    "priority",
    "deadline",
    "group",
    "version",
    "reuse",
    "options",
)
_get_details = attrgetter(*_DETAILS)
_RUNNING = TaskStatus.RUNNING.value


class Row(NamedTuple):
    """What the three tables hold of a task."""

    id: str
    state: tuple[Any, ...]
    work: tuple[Any, ...]
    result: ResultColumns | None
    edited: bool


# What reading a row can raise if somebody else has written it.
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def encode_task(task: Task, owner: int | None = None) -> Row:
    """The row of a task as it is now; ``owner`` is kept while it is RUNNING."""
    life = lifecycle_of(task)
    with life.lock:
        status, error, result, blocked_by = life.status, life.error, life.result, life.blocked_by
    task_id = task.id
    payload_kind, payload = encode_object(task.payload)
    return Row(
        task_id,
        (
            task_id,
            status.value,
            time_ns() // 1000,
            to_micros(task.created_at),
            owner if status is TaskStatus.RUNNING else None,
            blocked_by,
            to_optional(error),
        ),
        (
            to_text(task.type.value),
            to_text(task.title),
            payload_kind,
            payload,
            task.fingerprint,
            to_optional(task.key),
            _encode_details(task),
        ),
        encode_result(task_id, result),
        life.edited,
    )


def save_state(connection: sqlite3.Connection, row: Row, *, whole: bool = False) -> bool:
    """Write a row of `encode_task`, unless what is there is newer; True if it was there.

    Of a task that was there the work is written only if an attribute of it was assigned to, or if
    all is to be written (``whole``), and the fingerprint never.
    """
    execute = connection.execute
    task_id, state, work, result, is_edited = row
    _, status, updated_at, _, owner, blocked_by, error = state
    if blocked_by is None and error is None:
        update = _UPDATE_STATE_IN_SHORT
        values: tuple[Any, ...] = (status, updated_at, status, owner or 0, task_id, status)
    else:
        update = _UPDATE_STATE
        values = (status, updated_at, blocked_by, error, status, owner or 0, task_id, status)
    if execute(update, values).rowcount > 0:
        if is_edited or whole:
            edited = (*work[:4], *work[5:])
            execute(_UPDATE_WORK, (*edited, task_id, *edited))
        if result is not None:
            _replace_result.one(connection, result, task_id)
        elif status != _RUNNING:
            execute(_DELETE_RESULT, (task_id,))
        return True
    if _insert_state.one(connection, state) > 0:
        _insert_work.one(connection, work, task_id)
        if result is not None:
            _replace_result.one(connection, result, task_id)
    return False


def save_task(connection: sqlite3.Connection, row: Row) -> None:
    """``save_state`` of the whole, and the fingerprint."""
    if save_state(connection, row, whole=True):
        _insert_work.one(connection, row.work, row.id)  # if it is missing, in a damaged file
        fingerprint = row.work[4]
        connection.execute(_UPDATE_FINGERPRINT, (fingerprint, row.id, fingerprint))


def save_tasks(connection: sqlite3.Connection, rows: Sequence[Row], *, new: bool) -> None:
    """``save_task`` for many rows; faster if ``new`` says rightly whether they are."""
    if new:
        inserted = _insert_state.many(connection, [row.state for row in rows])
        ids = [row.id for row in rows]
        _insert_work.many(connection, [row.work for row in rows], ids)
        if inserted == len(rows):
            ended = [row for row in rows if row.result is not None]
            results = [row.result for row in ended if row.result is not None]
            _replace_result.many(connection, results, [row.id for row in ended])
            return
    for row in rows:
        save_task(connection, row)


def with_pickle(row: Row, task: Task) -> Row:
    """The row with the task's value as a pickle, if it is no JSON and can be pickled."""
    columns, result = row.result, task.result
    if columns is None or columns.value_kind != ABSENT or result is None:
        return row
    text = None if isinstance(result.value, NotStored) else pickled(result.value)
    if text is None:
        return row
    return row._replace(result=columns._replace(value_kind=PICKLE, value=text))


def decode_task(row: Sequence[Any], unpickle: bool = False) -> Task:
    """A new task in the state of the row.

    Raises:
        StoreError: the row makes no sense.
    """
    try:
        fields = dict(zip(COLUMNS, row, strict=False))
        details = _decode_details(from_json(fields["details"]) or {})
        state = details | {
            "id": fields["id"],
            "status": TaskStatus(fields["status"]),
            "created_at": from_micros(fields["created_at"]),
            "type": TaskType(from_text(fields["type"])),
            "title": from_text(fields["title"]),
            "key": from_optional(fields["key"]),
            "fingerprint": fields["fingerprint"],
            "blocked_by": fields["blocked_by"],
            "error": from_optional(fields["error"]),
            "payload": decode_object("payload", fields["payload_kind"], fields["payload"]),
            "result": decode_result(
                fields["id"],
                ResultColumns(*(fields[name] for name in _RESULT)),
                unpickle,
            ),
            "extra": {},
        }
    except _DAMAGE as error:
        raise StoreError(f"The ledger's row of task {row[0]!r} is damaged: {error!r}") from error
    task = Task.__new__(Task)
    task.__setstate__(state)
    return task


def _encode_details(task: Task) -> str | None:
    """JSON of the attributes that are seldom used, without those that have their default."""
    values = _get_details(task)
    if not any(values):
        return None
    details = {name: value for name, value in zip(_DETAILS, values, strict=True) if value}
    if "options" in details:
        details["options"] = dict(details["options"])
    if "deadline" in details:
        details["deadline"] = details["deadline"].isoformat()
    if "retry" in details:
        details["retry"] = _encode_retry(details["retry"])
    return to_json(details)


def _decode_details(details: dict[str, Any]) -> dict[str, Any]:
    deadline = details.get("deadline")
    retry = details.get("retry")
    return {
        "description": details.get("description", ""),
        "timeout": details.get("timeout"),
        "priority": details.get("priority", 0.0),
        "group": details.get("group"),
        "version": details.get("version"),
        "reuse": details.get("reuse", False),
        "options": details.get("options", {}),
        "deadline": None if deadline is None else datetime.fromisoformat(deadline),
        "retry": None if retry is None else _decode_retry(retry),
    }


def _encode_retry(policy: RetryPolicy) -> dict[str, Any]:
    facts = {name: getattr(policy, name) for name in policy.__slots__ if name != "retry_on"}
    classes = policy.retry_on if isinstance(policy.retry_on, tuple) else (policy.retry_on,)
    return facts | {"retry_on": [f"{item.__module__}:{item.__qualname__}" for item in classes]}


def _decode_retry(facts: dict[str, Any]) -> RetryPolicy:
    return RetryPolicy(**{**facts, "retry_on": tuple(map(_exception, facts["retry_on"]))})


def _exception(name: str) -> type[BaseException]:
    """The class of this name, if its module is loaded: a ledger must not run code by being read.

    Otherwise it is Exception, with a warning, so that the task is tried again rather too often.
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        # `vars`, because `getattr` on a module may import another.
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    warn(
        f"retry_on of a stored task names {path!r} of module {module!r}, which is not loaded; "
        f"Exception takes its place (import the module before you read the ledger)",
        RuntimeWarning,
        stacklevel=2,
    )
    return Exception
