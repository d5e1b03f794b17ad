"""Ledger: the file, with the one connection that writes it and the few that read it."""

from __future__ import annotations

import random
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Event, Lock
from time import monotonic, sleep
from typing import TypeVar

from ttasks.errors import StoreError
from ttasks.stores.sqlite import fork, schema
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
    """What has to be closed, apart from the ledger so that it can be closed when that is gone."""

    def __init__(self) -> None:
        self.writer: sqlite3.Connection | None = None
        self.readers: list[sqlite3.Connection] = []

    def close(self) -> None:
        # The writer goes last: the last connection to a file takes its log away.
        connections = [*self.readers, *([self.writer] if self.writer is not None else [])]
        self.readers, self.writer = [], None
        for connection in connections:
            connection.close()


class Transaction:
    """A block whose writes are all committed at its end, or, if it raises, all undone.

    Attributes:
        begun, committed: how far it came, which also holds after an interrupt.
    """

    __slots__ = ("_begin", "_connection", "_ledger", "begun", "committed")

    def __init__(self, ledger: Ledger, connection: sqlite3.Connection, begin: str) -> None:
        self._ledger = ledger
        self._connection = connection
        self._begin = begin
        self.begun = self.committed = False

    def __enter__(self) -> None:
        try:
            self._connection.execute(self._begin)
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
            self._ledger.patiently(lambda: self._connection.execute(self._begin))
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
        self._closed = Event()
        self._connections = _Connections()
        self._finalizer = weakref.finalize(self, self._connections.close)
        self.generation = 0  # counts the forks between the first process and this one
        self._make_locks()
        if path != MEMORY:
            schema.check_file(path)
        with self.writing():
            pass
        fork.register(self)

    def _make_locks(self) -> None:
        # Always taken in this order. The first owns the writing connection while it is used, the
        # second the idle readers, the number of busy ones, and the closing.
        self.write_lock = Lock()
        self._lock = Condition(Lock())
        self._busy_readers = 0

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection for writing, for one thread at a time."""
        with self.write_lock:
            yield self.writer()

    def writer(self) -> sqlite3.Connection:
        """The connection for writing, for who holds ``write_lock``; opened on first use."""
        self._check_open()
        writer = self._connections.writer
        if writer is None:
            with translated(self.path):
                writer = self._connections.writer = self._open_writer()
        return writer

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading, of this thread alone inside the block.

        Errors of SQLite become StoreError.
        """
        if self.path == MEMORY:
            with self.writing() as connection, translated(self.path):
                yield connection
            return
        with self._lock:
            self._check_open()
            self._busy_readers += 1
            reader = self._connections.readers.pop() if self._connections.readers else None
        keep = False
        try:
            with translated(self.path):
                if reader is None:
                    reader = connect(self.path, "mode=rw")
                yield reader
                keep = True
        finally:
            with self._lock:
                self._busy_readers -= 1
                idle = self._connections.readers
                if keep and not self.is_closed and len(idle) < _IDLE_READERS:
                    idle.append(reader)  # type: ignore[arg-type]
                elif reader is not None:
                    reader.close()
                self._lock.notify_all()

    def close(self) -> None:
        """Close every connection that is idle; those in use are closed after their use."""
        with self.write_lock, self._lock, translated(self.path):
            self._closed.set()
            self._connections.close()

    @property
    def is_closed(self) -> bool:
        """True once it was closed."""
        return self._closed.is_set()

    def wait_closed(self, seconds: float) -> None:
        """Wait until it is closed, or for this long."""
        self._closed.wait(seconds)

    def before_fork(self) -> None:
        """Keep everybody out and close the file; see `fork`."""
        give_up = monotonic() + fork.WAIT_SECONDS
        # A thread that forks in a signal handler may be one of those it waits for.
        self._stopped = [
            lock
            for lock in (self.write_lock, self._lock)
            if lock.acquire(timeout=max(0.0, give_up - monotonic()))
        ]
        if len(self._stopped) == 2 and self._lock.wait_for(
            lambda: not self._busy_readers, max(0.0, give_up - monotonic())
        ):
            if self.path != MEMORY:  # which both go on with, each with its own
                self._connections.close()
            self._is_ready = True
        else:
            self._is_ready = False

    def after_fork(self, child: bool) -> None:
        """Let everybody in again; see `fork`."""
        if not child:
            for lock in reversed(self._stopped):
                lock.release()
            return
        self.generation += 1
        self._make_locks()
        was_closed = self.is_closed
        self._closed = Event()  # the lock in the old one may be held for ever
        if was_closed:
            self._closed.set()
        if not self._is_ready:
            self._lost, self._connections = self._connections, _Connections()
            self._finalizer.detach()  # closing them would take the parent's locks away
            self._closed.set()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StoreError(f"Ledger {self.path!r} is closed")

    def _open_writer(self) -> sqlite3.Connection:
        connection = connect(self.path)
        try:
            if not self.patiently(lambda: schema.is_current(connection, self.path)):
                with self.transaction(connection, "BEGIN EXCLUSIVE"):
                    schema.upgrade(connection, self.path)
            # Only now, so that the header of a new file says at once whose it is.
            self.patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())
            for pragma in _PRAGMAS[self._durability]:
                connection.execute(pragma)
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={_LOG_LIMIT_BYTES}")
            # SQLite opens a file that it may only read without a word, until something writes.
            with self.transaction(connection):
                connection.execute("DELETE FROM owners WHERE 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def transaction(
        self, connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE"
    ) -> Transaction:
        """A block that is all or nothing."""
        return Transaction(self, connection, begin)

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
