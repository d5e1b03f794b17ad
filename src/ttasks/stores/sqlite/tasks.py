"""The tasks of a ledger."""

from __future__ import annotations

import sqlite3

from ttasks.model.task import Task
from ttasks.stores.sqlite.codec import COLUMNS, UPSERT, decode_task, encode_task
from ttasks.stores.sqlite.collection import LedgerCollection
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.writer import Writer

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE id=? AND listed"


class LedgerTasks(LedgerCollection[Task]):
    """Tasks by id; what comes out is a copy of what was saved last. Thread-safe.

    A state that a task cannot come to from what is stored (it SUCCEEDED or was CANCELLED, and the
    state is another) is older than that, and saving it changes nothing.

    A deleted task stays in graphs that were saved with it.
    """

    def __init__(self, ledger: Ledger, writer: Writer) -> None:
        super().__init__(ledger, writer, Task, "tasks", "listed")

    def save(self, item: Task) -> None:
        """Insert or replace a task; when this returns, it is committed."""
        self._check(item)
        row = encode_task(item)
        self._writer.write(lambda connection: connection.execute(UPSERT, row))

    def __getitem__(self, key: str) -> Task:
        row = self._fetch_one(_SELECT, key) if isinstance(key, str) else None
        if row is None:
            raise KeyError(key)
        return decode_task(row)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        if not self._writer.write(lambda connection: delete_task(connection, key)):
            raise KeyError(key)


def delete_task(connection: sqlite3.Connection, key: str) -> bool:
    """Delete a listed task, or hide it if a graph has it; False if there is none."""
    found = connection.execute("SELECT seq FROM tasks WHERE id=? AND listed", (key,)).fetchone()
    if found is None:
        return False
    if connection.execute("SELECT 1 FROM nodes WHERE task=?", found).fetchone():
        connection.execute("UPDATE tasks SET listed=0 WHERE seq=?", found)
    else:
        connection.execute("DELETE FROM events WHERE task=?", found)
        connection.execute("DELETE FROM tasks WHERE seq=?", found)
    return True
