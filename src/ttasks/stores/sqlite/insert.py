"""INSERT statements in two forms: with all columns, and without those that are mostly NULL."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any


def marks(columns: Sequence[str]) -> str:
    """A question mark for each column."""
    return ", ".join("?" * len(columns))


class Insert:
    """An INSERT into some columns of a table.

    To bind None takes Python's sqlite3 many times as long as to bind a str or an int, as it looks
    for an adapter first. So the last columns are left out of the statement where all are None.

    Args:
        into: what stands between INSERT and the columns.
        columns: their names.
        seldom: how many of them, counted from the last, are mostly None.
        rest: what comes last.
        of_task: whether there is a column more, ``task``: the number of the task with an id that
            is given with the values.
    """

    def __init__(
        self,
        into: str,
        columns: Sequence[str],
        seldom: int,
        rest: str = "",
        *,
        of_task: bool = False,
    ) -> None:
        self._usual = len(columns) - seldom
        self._nones = (None,) * seldom
        self._whole = _statement(into, columns, rest, of_task)
        self._short = _statement(into, columns[: self._usual], rest, of_task)

    def one(
        self, connection: sqlite3.Connection, values: tuple[Any, ...], task_id: str | None = None
    ) -> int:
        """Insert a row; returns how many were."""
        statement = self._whole
        if values[self._usual :] == self._nones:
            statement, values = self._short, values[: self._usual]
        if task_id is not None:
            values = (*values, task_id)
        return connection.execute(statement, values).rowcount

    def many(
        self,
        connection: sqlite3.Connection,
        rows: Sequence[tuple[Any, ...]],
        task_ids: Sequence[str] | None = None,
    ) -> int:
        """Insert rows; returns how many were."""
        statement, usual = self._whole, self._usual
        if all(values[usual:] == self._nones for values in rows):
            statement = self._short
            rows = [values[:usual] for values in rows]
        if task_ids is not None:
            rows = [(*values, task_id) for values, task_id in zip(rows, task_ids, strict=True)]
        return connection.executemany(statement, rows).rowcount


def _statement(into: str, columns: Sequence[str], rest: str, of_task: bool) -> str:
    names = ", ".join(columns)
    if of_task:
        return (
            f"INSERT {into} (task, {names}) "
            f"SELECT seq, {marks(columns)} FROM tasks WHERE id=? {rest}"
        )
    return f"INSERT {into} ({names}) VALUES ({marks(columns)}) {rest}"
