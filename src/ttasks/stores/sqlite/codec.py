"""Tasks to and from rows."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from time import time_ns
from typing import Any
from warnings import warn

from ttasks.errors import StoreError
from ttasks.model.policy import RetryPolicy
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.stores.sqlite.absent import NotStored
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

COLUMNS = (
    "id",
    "status",
    "updated_at",
    "created_at",
    "owner",
    "fingerprint",
    "type",
    "title",
    "key",
    "blocked_by",
    "error",
    "payload_kind",
    "details",
    "payload",
    *ResultColumns._fields,
)
"""The columns of a task's row, in the order of `encode_task` and `decode_task`."""

# A task never leaves SUCCEEDED or CANCELLED, so a state that would is older than the one in the
# ledger: a snapshot from before, or one that was taken while another thread saved. It is ignored.
_SINKS = "('succeeded','cancelled')"

_INSERT = f"""
INSERT INTO tasks ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (id) DO NOTHING
"""
# Who saves a task that is running may not be who runs it; then its owner stays.
# An index has the fingerprint, and assigning even the same value would write that too.
_ASSIGNMENTS = ", ".join(
    f"{name}=?" for name in COLUMNS if name not in ("id", "owner", "fingerprint")
)
_UPDATE = f"""
UPDATE tasks SET listed=1, {_ASSIGNMENTS},
    owner=CASE ? WHEN 'running' THEN coalesce(?, owner) END
WHERE id=? AND (status NOT IN {_SINKS} OR status=? OR NOT listed)
"""
_UPDATE_FINGERPRINT = "UPDATE tasks SET fingerprint=? WHERE id=? AND fingerprint IS NOT ?"

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

Row = tuple[Any, ...]

# What reading a row can raise if somebody else has written it.
_DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


def encode_task(task: Task, owner: int | None = None) -> Row:
    """The row of a task as it is now; ``owner`` is kept while it is RUNNING."""
    life = task._lifecycle
    with life.lock:
        status, error, result, blocked_by = life.status, life.error, life.result, life.blocked_by
    task_id = task.id
    payload_kind, payload = encode_object(task.payload)
    return (
        task_id,
        status.value,
        time_ns() // 1000,
        to_micros(task.created_at),
        owner if status is TaskStatus.RUNNING else None,
        task.fingerprint,
        to_text(task.type.value),
        to_text(task.title),
        to_optional(task.key),
        blocked_by,
        to_optional(error),
        payload_kind,
        _encode_details(task),
        payload,
        *encode_result(task_id, result),
    )


def save_state(connection: sqlite3.Connection, row: Row) -> bool:
    """Write a row of `encode_task`, unless what is there is newer; True if it was there.

    A fingerprint that was written before stays.
    """
    # Most saves are of tasks that are there, and an update changes fewer pages than an upsert.
    is_known = connection.execute(_UPDATE, _for_update(row)).rowcount > 0
    if not is_known:
        connection.execute(_INSERT, row)
    return is_known


def save_task(connection: sqlite3.Connection, row: Row) -> None:
    """``save_state``, and the fingerprint."""
    if save_state(connection, row):
        connection.execute(_UPDATE_FINGERPRINT, _for_fingerprint(row))


def save_tasks(connection: sqlite3.Connection, rows: Sequence[Row], *, new: bool) -> None:
    """``save_task`` for many rows; faster if ``new`` says rightly whether they are."""
    if new and connection.executemany(_INSERT, rows).rowcount == len(rows):
        return
    updated = connection.executemany(_UPDATE, map(_for_update, rows)).rowcount
    connection.executemany(_UPDATE_FINGERPRINT, map(_for_fingerprint, rows))
    if updated < len(rows):
        connection.executemany(_INSERT, rows)


def _for_update(row: Row) -> Row:
    """The values of ``_UPDATE``, from a row in the order of the columns."""
    task_id, status, updated_at, created_at, owner, _fingerprint, *rest = row
    return (status, updated_at, created_at, *rest, status, owner, task_id, status)


def _for_fingerprint(row: Row) -> Row:
    return row[5], row[0], row[5]


def with_pickle(row: Row, task: Task) -> Row:
    """The row with the task's value as a pickle, if it is no JSON and can be pickled."""
    fields = dict(zip(COLUMNS, row, strict=True))
    result = task.result
    if fields["value_kind"] != ABSENT or result is None or isinstance(result.value, NotStored):
        return row
    text = pickled(result.value)
    if text is None:
        return row
    return tuple((fields | {"value_kind": PICKLE, "value": text}).values())


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
                ResultColumns(*(fields[name] for name in ResultColumns._fields)),
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
