"""The tasks of a ledger, and what its collections have in common."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from ttasks.errors import InvalidTransitionError, StoreError
from ttasks.model.checks import (
    check_bool,
    check_int,
    check_moment,
    check_str,
    wrong_type,
    wrong_value,
)
from ttasks.model.graph import TaskGraph
from ttasks.model.status import TaskStatus
from ttasks.model.store import graph_id
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.stores.sqlite.codec import PARTS, SELECTED, Row, save_task
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.plain import from_micros, from_optional, to_micros

_SELECT = f"SELECT {SELECTED} FROM tasks {PARTS} WHERE id=? AND listed"
_SUCCEEDED = f"""
SELECT {SELECTED} FROM tasks {PARTS}
WHERE fingerprint=? AND status='succeeded' AND listed AND value_kind IS NOT 'absent'
ORDER BY updated_at DESC, seq DESC LIMIT 1
"""
# {0} and {1} are the comparison and the order of the walk, {2} a question mark for each status.
# The inner order is not needed for the result: it lets the sorter, which keeps the best rows, see
# them early. The limit of -1, no limit, keeps SQLite from leaving it out.
_PAGE = """
SELECT updated_at, seq, id, status, type, title, key, created_at, error
FROM tasks LEFT JOIN works ON works.task=seq WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, updated_at FROM tasks
        WHERE listed AND updated_at>=? AND updated_at<? AND (updated_at, seq) {0} (?, ?)
            AND status IN ({2})
        ORDER BY seq {1} LIMIT -1
    ) ORDER BY updated_at {1}, seq {1} LIMIT ?
) ORDER BY updated_at {1}, seq {1}
"""
_FOREVER = 2**62  # fits into an integer of SQLite
_ITERATED = 1000  # rows that are read at once

Item = TypeVar("Item", Task, TaskGraph)


class LedgerCollection(MutableMapping[str, Item], Generic[Item]):
    """A mapping from id to detached copies of what was saved, in the order of first saving.

    Iteration reads page by page, each as of that moment.

    A subclass says what it holds, in which table, and which rows of it count.

    Args:
        encode, decode: convert tasks to and from rows.
    """

    _type: type[Item]
    _table: str
    _counts: str

    def __init__(
        self,
        ledger: Ledger,
        encode: Callable[[Task], Row],
        decode: Callable[[Sequence[Any]], Task],
    ) -> None:
        self._ledger = ledger
        self._encode = encode
        self._decode = decode
        table, condition = self._table, self._counts
        self._count = f"SELECT count(*) FROM {table} WHERE {condition}"
        self._find = f"SELECT 1 FROM {table} WHERE id=? AND {condition}"
        self._page = f"SELECT seq, id FROM {table} WHERE {condition} AND seq>? ORDER BY seq LIMIT ?"

    def _check(self, item: object) -> None:
        if not isinstance(item, self._type):
            raise wrong_type("item", item, f"a {self._type.__name__}")

    def save(self, item: Item) -> None:
        """Insert or replace ``item`` under its id; when this returns, it is committed."""
        raise NotImplementedError

    def __setitem__(self, key: str, item: Item) -> None:
        self._check(item)
        if key != item.id:
            raise wrong_value("key", key, f"the id of the object, {item.id!r}")
        self.save(item)

    def __contains__(self, item: object) -> bool:
        key = item.id if isinstance(item, self._type) else item
        if not isinstance(key, str):
            return False
        return self._fetch_one(self._find, key) is not None

    def __iter__(self) -> Iterator[str]:
        seq, size = -1, 8
        while True:
            with self._ledger.reading() as connection:
                rows = connection.execute(self._page, (seq, size)).fetchall()
            for _, key in rows:
                if "\0" in key:  # the end of the file was cut off
                    raise StoreError(f"Ledger {self._ledger.path!r} is damaged: an id is {key!r}")
                yield key
            if len(rows) < size:
                return
            seq, size = rows[-1][0], _ITERATED

    def __len__(self) -> int:
        with self._ledger.reading() as connection:
            return int(connection.execute(self._count).fetchone()[0])

    def _fetch_one(self, sql: str, key: str) -> Any:
        # Ids are ASCII; a str that SQLite cannot even compare is the id of nothing.
        try:
            with self._ledger.reading() as connection:
                return connection.execute(sql, (key,)).fetchone()
        except UnicodeEncodeError:
            return None


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task in a list.

    Attributes:
        id, title, type, status, key, created_at, error: see `Task`.
        updated_at: when this was saved, aware UTC.
    """

    id: str
    title: str
    type: TaskType
    status: TaskStatus
    key: str | None
    created_at: datetime
    updated_at: datetime
    error: str | None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """A page of a list of tasks.

    Attributes:
        tasks: the tasks on it, in order.
        after: pass this to `LedgerTasks.list` for the next page; None if there is none.
    """

    tasks: tuple[TaskSummary, ...]
    after: str | None


class LedgerTasks(LedgerCollection[Task]):
    """Tasks by id; reading one gives a copy of what was saved last. Thread-safe.

    A stored task that SUCCEEDED or was CANCELLED has reached its end: saving another state of it
    changes nothing. A deleted task stays in graphs that were saved with it.
    """

    _type, _table, _counts = Task, "tasks", "listed"

    def save(self, item: Task) -> None:
        """Insert or replace a task; when this returns, it is committed."""
        self._check(item)
        row = self._encode(item)
        self._ledger.writer.write(lambda connection: save_task(connection, row))

    def __getitem__(self, key: str) -> Task:
        row = self._fetch_one(_SELECT, key) if isinstance(key, str) else None
        if row is None:
            raise KeyError(key)
        return self._decode(row)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        if not self._ledger.writer.write(lambda connection: delete_task(connection, key)):
            raise KeyError(key)

    def succeeded(self, fingerprint: str) -> Task | None:
        """A copy of the task that SUCCEEDED last with this fingerprint and whose value was stored.

        None if there is none. Tasks get a fingerprint when they are run with a store.
        """
        check_str("fingerprint", fingerprint)
        row = self._fetch_one(_SUCCEEDED, fingerprint)
        return None if row is None else self._decode(row)

    def list(
        self,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = True,
        after: str | None = None,
        limit: int = 100,
    ) -> TaskPage:
        """A page of tasks in the order in which they were saved last.

        A task that is saved between two pages moves to the newest end of the list.

        Args:
            status: one or several; None means all.
            since, until: aware; only tasks that were saved last from then on, and before then.
            newest_first: or the oldest.
            after: of the page before; None starts.
            limit: tasks on the page at most, at least 1.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        wanted = _statuses(status)
        check_int("limit", limit, least=1)
        check_bool("newest_first", newest_first)
        first, last = check_moment("since", since), check_moment("until", until)
        cursor = _cursor(after) if after is not None else (_FOREVER if newest_first else -1, 0)
        if not wanted:
            return TaskPage((), None)
        limit = min(limit, _FOREVER)
        marks = ",".join("?" * len(wanted))
        sql = _PAGE.format(*(("<", "DESC") if newest_first else (">", "ASC")), marks)
        bounds = (
            0 if first is None else to_micros(first),
            _FOREVER if last is None else to_micros(last),
        )
        names = [item.value for item in wanted]
        with self._ledger.reading() as connection:
            rows = connection.execute(sql, (*bounds, *cursor, *names, limit + 1)).fetchall()
        page = rows[:limit]
        following = f"{page[-1][0]}.{page[-1][1]}" if len(rows) > limit else None
        return TaskPage(tuple(map(_summary, page)), following)

    def cancel(self, key: str) -> None:
        """Make a stored task CANCELLED, unless it SUCCEEDED; it stays in the ledger.

        A resume does not run it. Nobody who has the task in hand is told: cancel what is about to
        run with ``executor.cancel(task)`` or ``graph.cancel()``, in its own process.

        Raises:
            KeyError: there is no such task.
            InvalidTransitionError: by the ledger it is RUNNING; it is unchanged.
        """
        task = self[key]
        task.cancel()
        row = self._encode(task)

        def save(connection: sqlite3.Connection) -> bool:
            found = connection.execute("SELECT status FROM tasks WHERE id=?", (key,)).fetchone()
            if found is None or found[0] == TaskStatus.RUNNING.value:
                return False
            save_task(connection, row)
            return True

        if not self._ledger.writer.write(save):
            if key not in self:
                raise KeyError(key)
            raise InvalidTransitionError(
                key, task.title, TaskStatus.RUNNING.value, TaskStatus.CANCELLED.value
            )

    def counts(self, graph: TaskGraph | str | None = None) -> dict[TaskStatus, int]:
        """The number of tasks by status; a status without tasks counts 0.

        Args:
            graph: a graph or its id: count only its tasks; None counts all.

        Raises:
            KeyError: there is no such graph.
        """
        rows: Sequence[Any]
        with self._ledger.reading() as connection:
            if graph is None:
                rows = connection.execute(
                    "SELECT status, count(*) FROM tasks WHERE listed GROUP BY status"
                ).fetchall()
            else:
                rows = _count_graph(connection, graph_id(graph))
        return dict.fromkeys(TaskStatus, 0) | {TaskStatus(name): number for name, number in rows}


def _count_graph(connection: sqlite3.Connection, key: str) -> Sequence[Any]:
    """Status and number of the tasks of a graph; raises KeyError if there is none."""
    found = connection.execute("SELECT seq FROM graphs WHERE id=?", (key,)).fetchone()
    if found is None:
        raise KeyError(key)
    return connection.execute(
        "SELECT status, count(*) FROM nodes JOIN tasks ON tasks.seq=nodes.task"
        " WHERE nodes.graph=? GROUP BY status",
        found,
    ).fetchall()


def delete_task(connection: sqlite3.Connection, key: str) -> bool:
    """Delete a listed task, or hide it if a graph has it; False if there is none."""
    found = connection.execute("SELECT seq FROM tasks WHERE id=? AND listed", (key,)).fetchone()
    if found is None:
        return False
    if connection.execute("SELECT 1 FROM nodes WHERE task=?", found).fetchone():
        connection.execute("UPDATE tasks SET listed=0 WHERE seq=?", found)
    else:
        connection.execute("DELETE FROM tasks WHERE seq=?", found)
    return True


def _statuses(status: object) -> tuple[TaskStatus, ...]:
    if status is None:
        return tuple(TaskStatus)
    if isinstance(status, TaskStatus):
        return (status,)
    if isinstance(status, Iterable) and not isinstance(status, (str, bytes)):
        items = tuple(status)
        if all(isinstance(item, TaskStatus) for item in items):
            return tuple(dict.fromkeys(items))
    raise wrong_type("status", status, "a TaskStatus, an iterable of them or None")


def _cursor(after: object) -> tuple[int, int]:
    if not isinstance(after, str):
        raise wrong_type("after", after, "a str or None")
    micros, _, seq = after[:99].partition(".")
    if not (after.isascii() and micros.isdigit() and seq.isdigit()):
        raise wrong_value("after", after, "what the page before gave")
    return min(int(micros), _FOREVER), min(int(seq), _FOREVER)


def _summary(row: Any) -> TaskSummary:
    updated_at, _, task_id, status, kind, title, key, created_at, error = row
    return TaskSummary(
        task_id,
        from_optional(title) or "",  # None if the file is damaged
        TaskType(from_optional(kind) or "unknown"),
        TaskStatus(status),
        from_optional(key),
        from_micros(created_at),
        from_micros(updated_at),
        from_optional(error),
    )
