"""Ledger: the file, with the one connection that writes it and the few that read it."""

from __future__ import annotations

import os
import random
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic, sleep
from typing import TypeVar

from ttasks.errors import StoreError
from ttasks.stores.sqlite import schema
from ttasks.stores.sqlite.connection import MEMORY, connect, is_busy, store_error, translated

LOCK_TIMEOUT_SECONDS = 30.0
"""How long to try while other processes have the file locked."""

_IDLE_READERS = 4
# A checkpoint rewrites each changed page once, however often it changed; 16 MiB of log make that
# pay off. Afterwards the log is used again from its start, so it stays near this size.
_CHECKPOINT_PAGES = 4096
_LOG_LIMIT_BYTES = 64 * 1024 * 1024

_PRAGMAS = {
    # What was committed is in the system's cache, which outlives the process. The log and the file
    # are synced at checkpoints only, in the order that keeps the file sound after a power failure.
    "process": ("PRAGMA synchronous=NORMAL",),
    # Every commit is on the disk when it returns; macOS needs to be told twice.
    "power": ("PRAGMA synchronous=FULL", "PRAGMA fullfsync=ON"),
}
DURABILITIES = tuple(_PRAGMAS)

Result = TypeVar("Result")


class _Connections:
    """What has to be closed, apart from the ledger so that it can be closed when that is gone.

    After a fork, the connections of the parent are dropped here unclosed: SQLite forbids the child
    to touch them.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.writer: sqlite3.Connection | None = None
        self.readers: list[sqlite3.Connection] = []
        self.inherited: list[object] = []

    def take(self) -> list[sqlite3.Connection]:
        """Hand all of them over to the caller, who closes them."""
        found = [*self.readers, *([self.writer] if self.writer is not None else [])]
        self.readers, self.writer = [], None
        if self.pid != os.getpid():
            self.inherited.extend(found)
            return []
        return found

    def close(self) -> None:
        # The writer goes last: the last connection to a file takes its log away.
        for connection in self.take():
            connection.close()


class Transaction:
    """A block whose writes are all committed at its end, or, if it raises, all undone.

    Attributes:
        begun, committed: how far it came, which also holds after an interrupt.
    """

    __slots__ = ("_connection", "_kind", "_ledger", "begun", "committed")

    def __init__(self, ledger: Ledger, connection: sqlite3.Connection, kind: str) -> None:
        self._ledger = ledger
        self._connection = connection
        self._kind = kind
        self.begun = self.committed = False

    def __enter__(self) -> None:
        begin = f"BEGIN {self._kind}"
        self._ledger.patiently(lambda: self._connection.execute(begin))
        self.begun = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._undo()
            return
        try:
            self._connection.execute("COMMIT")
            self.committed = True
        except sqlite3.Error:
            self._undo()
            raise
        except BaseException:  # Ctrl-C, before or after the commit: only SQLite knows
            self.committed = not self._connection.in_transaction
            self._undo()
            raise

    def _undo(self) -> None:
        # SQLite has done it by itself after some errors, a full disk for example.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


class Ledger:
    """One file and its connections. Thread-safe, and usable after a fork.

    Readers see the latest commit and never wait for the writer: the file has a write-ahead log.
    In memory there is one connection for both, so there they wait.

    Args:
        path: absolute path, or ":memory:".
        durability: "process" or "power".

    Raises:
        StoreError: it cannot be opened, or is no ledger.
    """

    def __init__(self, path: str, durability: str) -> None:
        self.path = path
        self._durability = durability
        self._connections = _Connections()
        self._reset()
        self._finalizer = weakref.finalize(self, self._connections.close)
        if path != MEMORY:
            schema.check_file(path)
        with self.writing():
            pass

    def _reset(self) -> None:
        self.pid = os.getpid()
        self.closed = False
        self._lock = Lock()  # owns the lists of connections and `closed`
        self._write_lock = Lock()  # owns the writing connection while it is used

    def check_process(self) -> bool:
        """Start anew if this is the child of a fork; True if it is."""
        if self.pid == os.getpid():
            return False
        closed = self.closed
        if self.path != MEMORY:  # memory was copied by the fork: it belongs to the child
            self._connections.take()
        self._connections.pid = os.getpid()
        self._reset()
        self.closed = closed
        return True

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection for writing, for one thread at a time; opened on first use."""
        self.check_process()
        with self._write_lock:
            self._check_open()
            writer = self._connections.writer
            if writer is None:
                with translated(self.path):
                    writer = self._connections.writer = self._open_writer()
            yield writer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading, of this thread alone inside the block.

        Errors of SQLite become StoreError.
        """
        self.check_process()
        if self.path == MEMORY:
            with self.writing() as connection, translated(self.path):
                yield connection
            return
        with self._lock:
            self._check_open()
            reader = self._connections.readers.pop() if self._connections.readers else None
        with translated(self.path):
            if reader is None:
                reader = connect(self.path, "mode=rw")
            kept = False
            try:
                yield reader
                with self._lock:
                    if not self.closed and len(self._connections.readers) < _IDLE_READERS:
                        self._connections.readers.append(reader)
                        kept = True
            finally:
                if not kept:
                    reader.close()

    def close(self) -> None:
        """Close every connection that is idle; those in use are closed after their use."""
        self.check_process()
        with self._write_lock, self._lock:
            self.closed = True
            connections = self._connections.take()
        with translated(self.path):
            for connection in connections:
                connection.close()

    def _check_open(self) -> None:
        if self.closed:
            raise StoreError(f"Ledger {self.path!r} is closed")

    def _open_writer(self) -> sqlite3.Connection:
        connection = connect(self.path)
        try:
            if not self.patiently(lambda: schema.is_current(connection, self.path)):
                with self.transaction(connection, "EXCLUSIVE"):
                    schema.upgrade(connection, self.path)
            # Only now, so that the header of a new file says at once whose it is.
            self.patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())
            for pragma in _PRAGMAS[self._durability]:
                connection.execute(pragma)
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={_LOG_LIMIT_BYTES}")
            # SQLite opens a file that it may only read without a word.
            with self.transaction(connection, "IMMEDIATE"):
                pass
        except BaseException:
            connection.close()
            raise
        return connection

    def transaction(self, connection: sqlite3.Connection, kind: str) -> Transaction:
        """A block that is all or nothing; ``kind`` is IMMEDIATE or EXCLUSIVE."""
        return Transaction(self, connection, kind)

    def patiently(self, action: Callable[[], Result]) -> Result:
        """Repeat what other connections may be in the way of, for 30 s at most.

        Raises:
            StoreError: they still are.
        """
        give_up = monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            try:
                return action()
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise
                if monotonic() >= give_up:
                    raise store_error(self.path, error) from error
            # SQLite has just waited; what is added keeps processes from going in step.
            sleep(random.uniform(0.0, 0.005))
