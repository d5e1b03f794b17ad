"""Connections to a SQLite file: opening one, and translating its errors."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote

from ttasks import sync
from ttasks.errors import StoreError

MEMORY = ":memory:"

LOCK_TIMEOUT_SECONDS = 30.0
"""How long to retry while other processes have the file locked."""

# SQLite itself waits this long for a lock, deaf to Ctrl-C. Longer waits are repeated in Python.
_WAIT_SECONDS = 0.1

_NUMBERS = 10_000  # that a connection remembers

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_READ_ONLY = "it, or its folder, cannot be written"
_TOO_BIG = "a payload, value or output is larger than SQLite takes; nothing was written"
_REASONS = {
    sqlite3.SQLITE_NOTADB: "it is no SQLite database, so no ledger",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_FULL: "the disk is full; nothing was written",
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; is its folder there and writable?",
    sqlite3.SQLITE_IOERR: "the system reports an error of reading or writing",
    sqlite3.SQLITE_BUSY: "other processes keep it locked",
    sqlite3.SQLITE_TOOBIG: _TOO_BIG,
}

# Text that is no UTF-8 must not raise before it is known whose it is: the checksum will tell.
_to_str = partial(str, encoding="utf-8", errors="surrogateescape")

Result = TypeVar("Result")


class Connection(sqlite3.Connection):
    """A connection that remembers the numbers of tasks.

    Five statements write a task twice, and each would look up the number of its id. A number is
    never given to another task (``tasks.seq``), unless the
    transaction that gave it is rolled back; `forget` them then.

    Attributes:
        numbers: those that it remembers, by id; `number_of` looks up others.
        run: ``execute`` on one cursor, for statements whose rows nobody reads. A new cursor for
            each would cost a third as much again.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.numbers: dict[str, int] = {}

    @cached_property
    def run(self) -> Callable[..., sqlite3.Cursor]:
        return self.cursor().execute

    def close(self) -> None:
        """Close it, its cursor first: while that has a statement, the file stays open."""
        vars(self).pop("run", None)
        super().close()

    def number_of(self, task_id: str) -> int | None:
        """The number of a task; None if the ledger has no such task."""
        number = self.numbers.get(task_id)
        if number is None:
            row = self.execute("SELECT seq FROM tasks WHERE id=?", (task_id,)).fetchone()
            if row is None:
                return None
            number = row[0]
            self.remember(task_id, row[0])
        return number

    def remember(self, task_id: str, number: int) -> None:
        """Note the number of a task that was just found or inserted."""
        if len(self.numbers) >= _NUMBERS:
            self.numbers.clear()
        self.numbers[task_id] = number

    def forget(self, task_id: str | None = None) -> None:
        """Look up the number of a task again, or those of all."""
        if task_id is None:
            self.numbers.clear()
        else:
            self.numbers.pop(task_id, None)


def connect(path: str, options: str = "mode=rwc") -> Connection:
    """Open a connection for one thread at a time, which begins no transactions by itself."""
    uri = MEMORY if path == MEMORY else f"file:{quote(os.fsencode(path))}?{options}"
    connection = sqlite3.connect(
        uri,
        timeout=_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
        factory=Connection,
    )
    connection.text_factory = _to_str
    return connection


def make_private(path: str) -> str:
    """Make an empty file for its owner only, beside ``path`` and under a name of its own.

    Nobody else can have opened it before, or have put it there.
    """
    name = f"{path}.{os.urandom(6).hex()}"
    os.close(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    return name


def create_private(path: str) -> None:
    """Make an empty file for its owner only, unless there is one.

    Not by opening ``path``: closing it again would drop the locks of a store that another thread
    has just opened there.
    """
    try:
        name = make_private(path)
    except OSError:
        return  # SQLite will say why
    try:
        os.link(name, path)
    except OSError:
        pass  # it is there, or the file system knows no links: `restrict` follows
    finally:
        os.unlink(name)


def restrict(path: str) -> None:
    """Let only its owner read a ledger and the files that SQLite puts beside it."""
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with suppress(FileNotFoundError, PermissionError):
            os.chmod(name, 0o600)


def identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a file, whatever its name; None if there is no file."""
    if path == MEMORY:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def patiently(path: str, action: Callable[[], Result]) -> Result:
    """Call ``action`` again while other connections block it, for at most 30 s.

    Raises:
        StoreError: they still block it.
    """
    give_up = monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return action()
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
            if monotonic() >= give_up:
                raise store_error(path, error) from error
        # SQLite itself has waited already. The random sleep keeps processes from retrying in step.
        sync.sleep(random.uniform(0.0, 0.005))


def error_code(error: sqlite3.Error) -> int:
    """The primary result code of SQLite; 0 if the error comes from the sqlite3 module."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """True if another connection was in the way, so that trying again may help."""
    return error_code(error) in _BUSY


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn every error of SQLite into a StoreError that names the file and the reason."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the text of an error may be damaged
        raise store_error(path, error) from error


def store_error(path: str, error: sqlite3.Error | OverflowError | UnicodeDecodeError) -> StoreError:
    """The StoreError for an error of SQLite, or of Python on the way to it."""
    if isinstance(error, OverflowError):  # a text of more than 2 GiB
        reason: str | None = _TOO_BIG
    elif isinstance(error, UnicodeDecodeError):
        reason = None
    else:
        reason = _REASONS.get(error_code(error))
    if reason is None:
        # The statements of this library cannot cause it by themselves: "no such table", say.
        return StoreError(f"Ledger {path!r} is damaged or was changed by somebody else: {error}")
    return StoreError(f"Ledger {path!r}: {reason} ({error})")
