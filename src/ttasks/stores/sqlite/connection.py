"""Connections to a SQLite file: how one is opened, and what its errors become."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from ttasks.errors import StoreError

MEMORY = ":memory:"

# SQLite waits this long for a lock by itself, deaf to Ctrl-C; longer waits are repeated in Python.
_WAIT_SECONDS = 0.1

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_READ_ONLY = "it, or its folder, cannot be written"
_REASONS = {
    sqlite3.SQLITE_NOTADB: "it is no SQLite database, so no ledger",
    sqlite3.SQLITE_CORRUPT: "it is damaged (PRAGMA integrity_check says more)",
    sqlite3.SQLITE_FULL: "the disk is full; nothing was written",
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; is its folder there and writable?",
    sqlite3.SQLITE_IOERR: "the system reports an error of reading or writing",
    sqlite3.SQLITE_BUSY: "other processes keep it locked",
}


def connect(path: str, options: str = "mode=rwc") -> sqlite3.Connection:
    """Open a connection that any one thread at a time may use and that begins nothing by itself."""
    uri = MEMORY if path == MEMORY else f"file:{quote(os.fsencode(path))}?{options}"
    return sqlite3.connect(
        uri, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False, uri=True
    )


def error_code(error: sqlite3.Error) -> int:
    """The primary result code of SQLite, 0 if the error is one of its Python module."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """True if another connection was in the way, so that trying again may help."""
    return error_code(error) in _BUSY


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise StoreError, which names the file and the reason, for every error of SQLite."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(path, error) from error


def store_error(path: str, error: sqlite3.Error) -> StoreError:
    """The StoreError for an error of SQLite."""
    reason = _REASONS.get(error_code(error))
    if reason is None:
        # What the statements of this library cannot cause by themselves: "no such table", say.
        return StoreError(f"Ledger {path!r} is damaged or was changed by somebody else: {error}")
    return StoreError(f"Ledger {path!r}: {reason} ({error})")
