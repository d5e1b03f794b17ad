"""Ledger: the file, one connection that writes it and a few that read it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress

from ttasks import sync
from ttasks.errors import StoreError
from ttasks.stores.sqlite import schema, sealing
from ttasks.stores.sqlite.connection import (
    MEMORY,
    Connection,
    connect,
    create_private,
    identity,
    patiently,
    restrict,
    translated,
)
from ttasks.stores.sqlite.writer import NoWriter, Writer

_IDLE_READERS = 4
# Each commit writes the pages that it has changed. These are faster for tasks than SQLite's default
# of 4,096 bytes; smaller ones are slower for long values. It applies to new files only.
_PAGE_BYTES = 2048
# A checkpoint rewrites each changed page once, however often it changed; 16 MiB of log make that
# pay off. Afterwards the log is used again from its start, so it stays near this size.
_CHECKPOINT_PAGES = 16 * 1024 * 1024 // _PAGE_BYTES
# Of the writer, if it needs so much. A graph of 10,000 tasks is saved without writing pages twice.
_CACHE_KIB = 16 * 1024
_LOG_LIMIT_BYTES = 64 * 1024 * 1024

_PRAGMAS = {
    # What was committed is in the system's cache, which outlives the process. The log and the file
    # are synced at checkpoints only, in the order that keeps the file sound after a power failure.
    "process": ("PRAGMA synchronous=NORMAL",),
    # Every commit is on the disk when it returns; macOS needs to be told twice.
    "power": ("PRAGMA synchronous=FULL", "PRAGMA fullfsync=ON"),
}
DURABILITIES = tuple(_PRAGMAS)


class Ledger:
    """One file and its connections. Thread-safe.

    Readers see the latest commit and never wait for the writer: the file has a write-ahead log.
    In memory there is one connection for both, so there they wait.

    A process that is forked while the file is open cannot use it, not even by opening it again: the
    child inherits SQLite's table of the locks of its process, but not the locks, so its connections
    would work without any.

    Args:
        path: absolute path, or ":memory:".
        durability: "process" or "power".
        read_only: never write the file, and make none beside it.

    Attributes:
        writer: the only way to write.

    Raises:
        StoreError: it cannot be opened, or is no ledger.
    """

    def __init__(self, path: str, durability: str, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._closed = sync.Event()
        if path != MEMORY:
            _check_not_inherited(path)
            schema.check_file(path)
        self.writer = NoWriter(path) if read_only else Writer(path, _open_writer(path, durability))
        self._connections = _Connections(path, self.writer)
        self._finalizer = weakref.finalize(self, self._connections.close)
        if read_only:
            with self.reading() as connection:
                schema.check_readable(connection, path)
                sealing.check_schema(connection, path)

    def writing(self) -> AbstractContextManager[Connection]:
        """The writing connection, for one thread at a time."""
        return self.writer.exclusive()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading, for this thread alone inside the block.

        Errors of SQLite become StoreError.
        """
        if self.path == MEMORY:
            with self.writing() as connection, translated(self.path):
                yield connection
            return
        self.writer.check_process()
        if self.is_closed:
            raise StoreError(f"Ledger {self.path!r} is closed")
        if self._read_only:
            with _reading_only(self.path) as connection:
                yield connection
            return
        idle = self._connections.idle
        with translated(self.path):
            try:
                reader = idle.pop()
            except IndexError:
                reader = connect(self.path, "mode=rw")
            try:
                yield reader
            except BaseException:
                reader.close()
                raise
            if len(idle) < _IDLE_READERS:
                idle.append(reader)
            else:
                reader.close()
            if self.is_closed:
                self._connections.close()

    def close(self) -> None:
        """Close the idle connections; those in use are closed after their use.

        Does nothing in a process that was forked since.
        """
        if self._connections.are_inherited:
            return
        self._closed.set()
        self._connections.close()

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._closed.is_set()

    def wait_closed(self, seconds: float) -> None:
        """Wait until it is closed, at most that many seconds."""
        self._closed.wait(seconds)


class _Connections:
    """The connections of a ledger, separate so that they can be closed after it is collected.

    Lists are only changed by single, atomic operations.
    """

    def __init__(self, path: str, writer: Writer) -> None:
        self.writer = writer
        self.idle: list[Connection] = []
        self.pid = os.getpid()
        self.file = identity(path)
        _open.append(self)

    @property
    def are_inherited(self) -> bool:
        """True in a process that was forked since they were opened."""
        return os.getpid() != self.pid

    def close(self) -> None:
        if self.are_inherited:
            if self not in _open:
                return  # they had been closed
            # Closing them could undo what the parent is writing, in memory that both share. So
            # they get a reference that is never released, not even at exit.
            import ctypes  # by `_prepare_fork` already

            for connection in (*self.idle, self.writer):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
            return
        # The writer last: the last connection to a file removes its log.
        while self.idle:
            self.idle.pop().close()
        self.writer.close()
        with suppress(ValueError):
            _open.remove(self)


# What is open in this process, or was open in its parent at the fork: of all ledgers together,
# because SQLite keeps one table of locks per process.
_open: list[_Connections] = []


def _prepare_fork() -> None:
    """Import what `_Connections.close` needs in the new process.

    There the garbage collector may call it, in the middle of another import, and then an import can
    hang.
    """
    if _open:
        import ctypes  # noqa: F401


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_fork)


def _check_not_inherited(path: str) -> None:
    file = identity(path)
    for other in tuple(_open):
        if other.are_inherited and other.file == file is not None:
            other.writer.check_process()


@contextmanager
def _reading_only(path: str) -> Iterator[Connection]:
    """A connection that writes nothing, not even the files beside the ledger that SQLite wants.

    SQLite does without them if it is told that nobody writes. Somebody may all the same, so the
    file is compared afterwards. A ledger whose log holds something is read by way of the log.
    """
    log = f"{path}-wal"
    if os.path.exists(log) and os.path.getsize(log):
        if not os.path.exists(f"{path}-shm") and not os.access(os.path.dirname(path), os.W_OK):
            raise StoreError(
                f"Ledger {path!r} cannot be read where it cannot be written, because its process "
                f"left a log ({log!r}); copy both to a folder that can be written"
            )
        with translated(path), closing(connect(path, "mode=ro")) as connection:
            yield connection
        return
    before = _state(path)
    with translated(path), closing(connect(path, "mode=ro&immutable=1")) as connection:
        try:
            yield connection
        except Exception:
            _check_same(path, before)  # half of a change reads as damage
            raise
    _check_same(path, before)


def _state(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_same(path: str, before: tuple[int, ...]) -> None:
    if _state(path) != before:
        raise StoreError(f"Ledger {path!r} was written while it was read; read it again") from None


def _open_writer(path: str, durability: str) -> Connection:
    if path != MEMORY and not os.path.exists(path):
        create_private(path)
    with translated(path):
        connection = connect(path)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            if schema.is_small(path):
                patiently(path, lambda: schema.check_structure(connection, path))
            if not patiently(path, lambda: schema.is_current(connection, path)):
                patiently(path, lambda: connection.execute("BEGIN EXCLUSIVE"))
                if schema.upgrade(connection, path) and path != MEMORY:
                    restrict(path)
                connection.execute("COMMIT")
            patiently(path, lambda: sealing.check_schema(connection, path))
            # Only now, so that the header of a new file names its application at once.
            patiently(path, lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone())
            for pragma in _PRAGMAS[durability]:
                connection.execute(pragma)
            connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit={_LOG_LIMIT_BYTES}")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            # SQLite opens a read-only file without complaint, until something is written.
            patiently(path, lambda: connection.execute("DELETE FROM owners WHERE 0"))
        except BaseException:
            connection.close()  # which undoes what was not committed
            raise
    return connection
