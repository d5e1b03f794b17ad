"""Checksums for the rows of a ledger that has none yet, and for its schema; see `checksums`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from ttasks.errors import StoreError
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.transitions import of_event, of_result, of_state, with_task

# Each gives the number of a row first, then what the checksum is made of; page by page, since all
# rows at once may be more than there is memory.
_RESULTS = """
SELECT results.task AS number, tasks.id, value_kind, result, output, value, result_error
FROM results JOIN tasks ON tasks.seq=results.task
"""
_STATES = """
SELECT tasks.seq AS number, id, status, updated_at, blocked_by, error, results.checksum, owner,
    listed
FROM tasks LEFT JOIN results ON results.task=tasks.seq AND status!='running'
"""
_WORKS = """
SELECT works.task AS number, payload, details, id, created_at, type, title, payload_kind, key,
    fingerprint
FROM works JOIN tasks ON tasks.seq=works.task
"""
_GRAPHS = """
SELECT seq AS number, id, title, key, created_at, updated_at, shape, run_error, saved FROM graphs
"""
_EVENTS = """
SELECT events.seq AS number, events.task, coalesce(tasks.id, deleted.id), events.type, at, previous,
    events.status, attempt, events.error, events.details, chunk
FROM events LEFT JOIN tasks ON tasks.seq=events.task LEFT JOIN deleted ON deleted.task=events.task
"""
_OWNERS = "SELECT seq AS number, host, boot, pid, started, opened_at FROM owners"
_NODES = """
SELECT position, member, finally, required, policy, after, tasks.id
FROM nodes JOIN tasks ON tasks.seq=nodes.task WHERE graph=? ORDER BY position
"""
_PAGE = 500


def seal(connection: sqlite3.Connection) -> None:
    """Give every row the checksum of what it holds now."""
    run = connection.execute
    for seq, *columns in _rows(connection, _RESULTS):
        checksum = of_result(*columns)
        run("UPDATE results SET checksum=? WHERE task=?", (checksum, seq))
    for seq, *columns, owner, listed in _rows(connection, _STATES):
        checksum = checksums.with_owner(of_state(*columns), owner, bool(listed))
        run("UPDATE tasks SET checksum=? WHERE seq=?", (checksum, seq))
    for seq, payload, details, *columns in _rows(connection, _WORKS):
        body = checksums.of_body(payload, details)
        sums = (body, checksums.of_work(*[*columns, body]), seq)
        run("UPDATE works SET body=?, checksum=? WHERE task=?", sums)
    for seq, *_ in _rows(connection, _GRAPHS):
        shape = checksums.of_nodes(run(_NODES, (seq,)))
        run("UPDATE graphs SET shape=? WHERE seq=?", (shape, seq))
    for seq, *columns in _rows(connection, _GRAPHS):
        run("UPDATE graphs SET checksum=? WHERE seq=?", (checksums.of_columns(seq, *columns), seq))
    for seq, task, *columns in _rows(connection, _EVENTS):
        checksum = with_task(of_event(*columns), task) + seq
        run("UPDATE events SET checksum=? WHERE seq=?", (checksum, seq))
    for seq, *columns in _rows(connection, _OWNERS):
        checksum = checksums.of_columns(seq, *columns)
        run("UPDATE owners SET checksum=? WHERE seq=?", (checksum, seq))


def seal_schema(connection: sqlite3.Connection) -> None:
    """Note what the definition of each table, index and trigger must add up to."""
    found = connection.execute(
        "SELECT name, type, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"
    ).fetchall()
    connection.execute("DELETE FROM definitions")
    for row in found:
        checksum = checksums.of_columns(*row)
        connection.execute("INSERT INTO definitions VALUES (?, ?)", (row[0], checksum))


def check_schema(connection: sqlite3.Connection, path: str) -> None:
    """Check the definitions of the tables, by which all else is read. There may be more of them.

    Raises:
        StoreError: one is damaged.
    """
    found = connection.execute(
        """
        SELECT definitions.name, type, tbl_name, sql, checksum
        FROM definitions LEFT JOIN sqlite_master ON sqlite_master.name=definitions.name
        """
    ).fetchall()
    for *row, checksum in found:
        if checksum != checksums.of_columns(*row):
            raise StoreError(f"Ledger {path!r} is damaged: the definition of {row[0]!r}")
    if not found:
        raise StoreError(f"Ledger {path!r} is damaged: it has no definitions")


def _rows(connection: sqlite3.Connection, select: str) -> Iterator[tuple[Any, ...]]:
    last = -1
    while True:
        sql = f"SELECT * FROM ({select}) WHERE number>? ORDER BY number LIMIT {_PAGE}"
        page = connection.execute(sql, (last,)).fetchall()
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1][0]
