"""Reading a whole ledger to see whether it is sound."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ttasks.errors import StoreError
from ttasks.model.task import Task
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.codec import COLUMNS, PARTS, SELECTED
from ttasks.stores.sqlite.connection import store_error
from ttasks.stores.sqlite.graphs import LedgerGraphs
from ttasks.stores.sqlite.journal import Journal
from ttasks.stores.sqlite.ledger import Ledger

_PAGE = 500
_MOST_OF_STRUCTURE = 100
_TASKS = f"SELECT {SELECTED}, tasks.seq FROM tasks {PARTS} WHERE tasks.seq>? ORDER BY tasks.seq"
_GRAPHS = "SELECT id, seq FROM graphs WHERE seq>? ORDER BY seq"
_EVENTS = "SELECT seq, seq FROM events WHERE seq>? ORDER BY seq"
_OWNERS = """
SELECT seq, host, boot, pid, started, opened_at, checksum, seq FROM owners
WHERE seq>? ORDER BY seq
"""


def problems(
    ledger: Ledger,
    decode: Callable[[Sequence[Any]], Task],
    graphs: LedgerGraphs,
    events: Journal,
) -> Iterator[str]:
    """What is wrong with a ledger, from its structure to each of its rows."""
    with ledger.reading() as connection:
        for row in _fetch(connection, ledger.path, f"PRAGMA integrity_check({_MOST_OF_STRUCTURE})"):
            text = row if isinstance(row, str) else row[0]
            if text != "ok":
                yield f"Ledger {ledger.path!r} is damaged: {text}"
        for sql, read in (
            (_OWNERS, _read_owner),
            (_TASKS, lambda row: decode(row[: len(COLUMNS)])),
            (_GRAPHS, lambda row: graphs[row[0]]),
            (_EVENTS, lambda row: events.read(after=row[0] - 1, limit=1)),
        ):
            for row in _rows(connection, ledger.path, sql):
                if isinstance(row, str):
                    yield row
                    break
                try:
                    read(row)
                except StoreError as error:
                    yield str(error)
                except KeyError:
                    yield f"The row of graph {row[0]!r} is not found by its id"


def _read_owner(row: Sequence[Any]) -> None:
    checksums.check(row[6], checksums.of_columns(*row[:6]), f"process {row[0]}")


def _rows(connection: sqlite3.Connection, path: str, sql: str) -> Iterator[Any]:
    """The rows of a table, or what keeps them from being read."""
    last = -1
    while True:
        page = _fetch(connection, path, f"{sql} LIMIT {_PAGE}", last)
        yield from page
        if len(page) < _PAGE or isinstance(page[-1], str):
            return
        last = page[-1][-1]


def _fetch(connection: sqlite3.Connection, path: str, sql: str, *values: object) -> list[Any]:
    try:
        return connection.execute(sql, values).fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return [str(store_error(path, error))]
