"""The tasks of a ledger, and what its collections have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from contextlib import suppress
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
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.codec import (
    COLUMNS,
    DAMAGE,
    PARTS,
    RESULTS,
    SELECTED,
    STATE,
    WORK_IN_SHORT,
    Row,
    check_state,
    check_task,
    check_work,
    save_task,
)
from ttasks.stores.sqlite.connection import MEMORY, Connection
from ttasks.stores.sqlite.graph_rows import statuses
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.plain import (
    ABSENT,
    from_micros,
    from_optional,
    from_text,
    to_micros,
    to_text,
)
from ttasks.stores.sqlite.schema import is_small

_FOREVER = 2**62  # fits into an integer of SQLite
_LEAST = -(2**63)  # damage may make any number of a row
_IN_SHORT = f"tasks.seq, {STATE}, results.checksum, {WORK_IN_SHORT}"
_SELECT = f"SELECT {SELECTED} FROM tasks {PARTS} WHERE id=?"
# Whatever has the fingerprint: a condition on the rest would pass over a damaged row.
_SAME = f"SELECT {SELECTED} FROM works LEFT JOIN tasks ON tasks.seq=works.task {RESULTS}"
_SAME += " WHERE works.fingerprint=? ORDER BY works.task DESC"
# All rows, those of tasks that are not listed, and those of each status, as far as their checksums
# say the same. GROUP BY would be slower.
_COUNTS = "SELECT count(*), count(*) FILTER (WHERE listed=0 AND checksum<0)"
for _name, _code in checksums.STATUS_CODES.items():
    _COUNTS += f"""
        , count(*) FILTER (
            WHERE status='{_name}' AND checksum & 7={_code} AND checksum>=0 AND listed=1
        )"""
_COUNTS += " FROM tasks"
# {0} and {1} are the comparison and the order of the walk, {2} the condition on the status.
# The inner order is not needed for the result: it lets the sorter, which keeps the best rows, see
# them early. The limit of -1, no limit, keeps SQLite from leaving it out.
_PAGE = f"""
SELECT {_IN_SHORT} FROM tasks {PARTS}
WHERE tasks.seq IN (
    SELECT seq FROM (
        SELECT seq, updated_at FROM tasks
        WHERE (listed OR checksum>=0) AND (
            (updated_at BETWEEN 0 AND {_FOREVER}) IS NOT TRUE
            OR (updated_at>=? AND updated_at<? AND (updated_at, seq) {{0}} (?, ?) {{2}})
        )
        ORDER BY seq {{1}} LIMIT -1
    ) ORDER BY updated_at {{1}}, seq {{1}} LIMIT ?
) ORDER BY updated_at {{1}}, tasks.seq {{1}}
"""
_VALUE_KIND = COLUMNS.index("results.value_kind")
_UPDATED_AT, _LISTED = 6, 8  # where they stand in a row that begins with its number
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
    _select: str  # a row's number, its id, and what `_is_there` needs
    _number: str

    def __init__(
        self,
        ledger: Ledger,
        encode: Callable[[Task], Row],
        decode: Callable[[Sequence[Any]], Task],
    ) -> None:
        self._ledger = ledger
        self._encode = encode
        self._decode = decode
        self._find = f"{self._select} WHERE id=?"
        self._page = f"{self._select} WHERE {self._number}>? ORDER BY {self._number} LIMIT ?"

    def _is_there(self, row: Sequence[Any]) -> bool:
        """Check a row, and tell whether its object is in the collection."""
        raise NotImplementedError

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
        row = self._fetch_one(self._find, key)
        return row is not None and self._is_there(row)

    def __iter__(self) -> Iterator[str]:
        seq, size = _LEAST, 8
        while True:
            with self._ledger.reading() as connection:
                rows = connection.execute(self._page, (seq, size)).fetchall()
            for row in rows:
                if self._is_there(row):
                    yield row[1]
            if len(rows) < size:
                return
            if rows[-1][0] <= seq:  # they would come again and again
                raise StoreError(f"Ledger {self._ledger.path!r} is damaged: rows in disorder")
            seq, size = rows[-1][0], _ITERATED

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

    _type, _number = Task, "tasks.seq"
    _select = f"SELECT {_IN_SHORT} FROM tasks {PARTS}"

    def _is_there(self, row: Sequence[Any]) -> bool:
        _check(row)
        return bool(row[_LISTED])

    def __len__(self) -> int:
        return sum(self.counts().values())

    def save(self, item: Task) -> None:
        """Insert or replace a task; when this returns, it is committed."""
        self._check(item)
        row = self._encode(item)
        self._ledger.writer.write(lambda connection: save_task(connection, row))

    def __getitem__(self, key: str) -> Task:
        row = self._fetch_one(_SELECT, key) if isinstance(key, str) else None
        if row is None:
            if isinstance(key, str):
                check_absent(self._ledger, key)
            raise KeyError(key)
        task = self._decode(row)
        if not row[_LISTED - 1]:
            raise KeyError(key)
        return task

    def __delitem__(self, key: str) -> None:
        if not isinstance(key, str) or not self._ledger.writer.write(
            lambda connection: delete_task(connection, key)
        ):
            raise KeyError(key)

    def succeeded(self, fingerprint: str) -> Task | None:
        """A copy of a task that SUCCEEDED with this fingerprint and whose value was stored.

        Of several, the one that was saved for the first time last; None if there is none. Tasks
        get a fingerprint when they are run with a store.
        """
        check_str("fingerprint", fingerprint)
        found = None
        with self._ledger.reading() as connection:
            for row in connection.execute(_SAME, (to_text(fingerprint),)):
                check_task(row)
                if row[_LISTED - 1] and row[1] == "succeeded":
                    if row[_VALUE_KIND] != ABSENT:
                        found = row
                        break
                    self._decode(row)  # to be sure that its value was not kept
        return None if found is None else self._decode(found)

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
        condition = ""
        if status is not None:  # by the checksum or by its name: none is passed over
            codes = ",".join(str(checksums.STATUS_CODES[item.value]) for item in wanted)
            names = ",".join("?" * len(wanted))
            condition = f"AND (status IN ({names}) OR checksum & 7 IN ({codes}))"
        sql = _PAGE.format(*(("<", "DESC") if newest_first else (">", "ASC")), condition)
        bounds = (
            0 if first is None else to_micros(first),
            _FOREVER if last is None else to_micros(last),
        )
        values = [item.value for item in wanted] if status is not None else []
        with self._ledger.reading() as connection:
            rows = connection.execute(sql, (*bounds, *cursor, *values, limit + 1)).fetchall()
        page = rows[:limit]
        following = f"{page[-1][_UPDATED_AT]}.{page[-1][0]}" if len(rows) > limit else None
        return TaskPage(tuple(map(_summary, page)), following)

    def cancel(self, key: str) -> None:
        """Make a stored task CANCELLED, unless it SUCCEEDED; it stays in the ledger.

        A resume does not run it. Programs that hold the task are not notified: to cancel a task
        that is about to run, call ``executor.cancel(task)`` or ``graph.cancel()`` in its process.

        Raises:
            KeyError: there is no such task.
            InvalidTransitionError: it is RUNNING according to the ledger; it is unchanged.
        """
        task = self[key]
        task.cancel()
        row = self._encode(task)

        def save(connection: Connection) -> bool:
            found = connection.execute(
                "SELECT status FROM tasks WHERE id=?", (to_text(key),)
            ).fetchone()
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
        with self._ledger.reading() as connection:
            if graph is not None:
                key = graph_id(graph)
                found = statuses(connection, key)
                if found is None:
                    raise KeyError(key)
                return {status: found.count(status.value) for status in TaskStatus}
            total, hidden, *numbers = connection.execute(_COUNTS).fetchone()
        if hidden + sum(numbers) != total:
            raise StoreError(
                f"Ledger {self._ledger.path!r} is damaged: the status of a row of tasks does not "
                "fit its checksum; SQLiteStore.check says which"
            )
        return dict(zip(TaskStatus, numbers, strict=True))


def check_absent(ledger: Ledger, key: str) -> None:
    """Look for a task that was not found by its id, without the index, which may be damaged.

    The index of a small file was checked when it was opened.

    Raises:
        StoreError: it is there.
    """
    if ledger.path == MEMORY or is_small(ledger.path):
        return
    with suppress(UnicodeEncodeError), ledger.reading() as connection:
        if connection.execute("SELECT 1 FROM tasks NOT INDEXED WHERE id=?", (key,)).fetchone():
            raise checksums.damaged(f"task {key!r}", "the index of the ids does not have it")


def delete_task(connection: Connection, key: str) -> bool:
    """Delete a listed task, or hide it if a graph has it; False if there is none."""
    found = connection.execute(
        "SELECT seq FROM tasks WHERE id=? AND listed", (to_text(key),)
    ).fetchone()
    if found is None:
        return False
    connection.forget(key)
    if connection.execute("SELECT 1 FROM nodes WHERE task=?", found).fetchone():
        connection.execute("UPDATE tasks SET listed=0, checksum=~checksum WHERE seq=?", found)
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


def _check(row: Any) -> None:
    """Check the columns of `_IN_SHORT`."""
    state, result, work = row[1:10], row[10], row[11:]
    check_state(state, result)
    check_work(state[0], state[2], work)


def _summary(row: Any) -> TaskSummary:
    _check(row)
    task_id, status, created_at, _, error, updated_at = row[1:7]
    kind, title, _, key = row[11:15]
    try:
        return TaskSummary(
            task_id,
            from_text(title),
            TaskType(from_text(kind)),
            TaskStatus(status),
            from_optional(key),
            from_micros(created_at),
            from_micros(updated_at),
            from_optional(error),
        )
    except DAMAGE as problem:
        raise checksums.damaged(f"task {task_id!r}", repr(problem)) from problem
