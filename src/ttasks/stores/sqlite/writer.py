"""Writer: the one way into the file, with group commit and without a thread of its own.

Whoever writes puts a ticket into the queue. The first in the queue takes the lock and runs all
tickets that are there, in one transaction; then it takes them out, wakes their owners, and wakes
the new first. So under load threads share commits, and a write that nobody else waits for is one
transaction under one lock.

An interrupt (such as Ctrl-C) may come between any two lines. So no thread relies on being woken:
one that has waited for a while takes the lock as if it were the first. And `_settle` asks SQLite
whether the batch was committed; it may itself be interrupted, and is called again by whoever takes
the lock next.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, NoReturn

from ttasks import sync
from ttasks.errors import StoreError
from ttasks.stores.sqlite.connection import (
    Connection,
    identity,
    is_busy,
    patiently,
    store_error,
    translated,
)

PATIENCE_SECONDS = 0.05
"""How long to wait for being woken by others."""
LOOK_SECONDS = 0.1
"""How often to look whether the file is still there."""

Work = Callable[..., Any]
"""Called with the connection, and then the arguments of `Writer.write`."""


class _Ticket:
    """One piece of work, with its result or error once it has left the queue.

    ``wake`` is released when the ticket has left the queue, or has become the first. Its thread
    makes it when it has to wait, and looks at the queue again before it does.
    """

    __slots__ = ("arguments", "error", "result", "wake", "work")

    def __init__(self, work: Work, arguments: tuple[Any, ...] = ()) -> None:
        self.work = work
        self.arguments = arguments
        self.wake: sync.Lock | None = None
        self.result: Any = None
        self.error: Exception | None = None


class Writer:
    """Runs pieces of work on the connection that writes, many to a transaction. Thread-safe.

    Only in the process that opened the connection: SQLite forbids using one across a fork.
    """

    def __init__(self, path: str, connection: Connection | None) -> None:
        self._path = path
        self._pid = os.getpid()
        self._queue: list[_Ticket] = []
        # Protects the connection, the batch, and removal from the queue. It is held while SQLite
        # works, but not while user code runs.
        self._lock = sync.Lock()
        self._connection = connection
        self._batch: list[_Ticket] = []  # what is being written
        self._is_committing = False  # True from just before COMMIT
        self._company = 1  # number of tickets in the latest transaction
        self._file = identity(path)
        self._look_at = 0.0

    def write(self, work: Work, *arguments: Any) -> Any:
        """Run ``work`` in a transaction, perhaps a shared one, and return its result.

        Blocks until it is committed. If ``work`` raises, that is raised here and nothing of it is
        written; the work of others is not affected. After an interrupt either all of it is written
        or nothing. ``work`` may run more than once, of which the last time counts, and must not
        keep the connection.

        Raises:
            StoreError: SQLite could not write.
        """
        if os.getpid() != self._pid:
            self.check_process()
        ticket = _Ticket(work, arguments)
        try:
            self._queue.append(ticket)
            while ticket in self._queue:
                if self._queue[:1] == [ticket] or self._has_waited(ticket):
                    with self._lock:
                        if self._batch:  # of somebody who was interrupted
                            self._settle()
                        # Threads that shared the latest transaction are likely to write again.
                        # With "power" and several threads this makes a save much faster.
                        if len(self._queue) < self._company:
                            sync.sleep(0)
                        if ticket in self._queue:
                            self._commit(self._queue[:])
        except BaseException:
            with suppress(ValueError):
                self._queue.remove(ticket)  # nobody waits for it any more
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    @staticmethod
    def _has_waited(ticket: _Ticket) -> bool:
        """Wait until others wake this thread; True if they have not in a long time."""
        if ticket.wake is None:
            wake = sync.Lock()
            wake.acquire()
            ticket.wake = wake
            return False  # look at the queue again: they may not have seen it
        return not ticket.wake.acquire(timeout=PATIENCE_SECONDS)

    def _commit(self, batch: list[_Ticket]) -> None:
        """Run a batch in one transaction or, if that fails, each ticket in its own."""
        connection = self._connection
        if connection is None:
            raise StoreError(f"Ledger {self._path!r} is closed")
        failed: Exception | None = None
        is_begun = False
        self._batch, self._is_committing = batch, False
        self._company = len(batch)
        try:
            try:
                if monotonic() >= self._look_at:
                    self._check_file()
                try:
                    connection.run("BEGIN IMMEDIATE")
                except sqlite3.Error as error:
                    if not is_busy(error):
                        raise
                    patiently(self._path, lambda: connection.execute("BEGIN IMMEDIATE"))
                is_begun = True
                for ticket in batch:
                    ticket.error = None
                    ticket.result = ticket.work(connection, *ticket.arguments)
                self._is_committing = True
                connection.run("COMMIT")
            except Exception as error:
                self._is_committing = False
                failed = error
            self._settle()
        finally:
            if self._batch:  # an interrupt came first
                self._settle()
        if failed is None:
            return
        if is_begun and len(batch) > 1:
            for ticket in batch:
                if ticket in self._queue:
                    self._commit([ticket])
            return
        for ticket in batch:
            ticket.error = self._own(failed)
        self._leave(batch)

    def _own(self, error: Exception) -> Exception:
        """A copy of an exception for one thread, as several may raise it."""
        if isinstance(error, (sqlite3.Error, OverflowError)):
            translation = store_error(self._path, error)
            translation.__cause__ = error
            return translation
        return StoreError(*error.args) if type(error) is StoreError else error

    def _settle(self) -> None:
        """Roll back an open transaction; remove a committed batch from the queue."""
        connection = self._connection
        if connection is None:
            return
        if connection.in_transaction:
            self._is_committing = False
            connection.forget()
            with translated(self._path):
                connection.execute("ROLLBACK")
        elif self._is_committing:
            self._leave(self._batch)
        self._batch = []

    def _leave(self, batch: list[_Ticket]) -> None:
        """Remove tickets from the queue; wake their owners and the owner of the new first."""
        for ticket in batch:
            try:
                self._queue.remove(ticket)
            except ValueError:
                pass  # its owner was interrupted
        for ticket in batch + self._queue[:1]:
            if ticket.wake is not None and ticket.wake.locked():
                ticket.wake.release()

    def _check_file(self) -> None:
        if identity(self._path) != self._file:
            raise StoreError(
                f"Ledger {self._path!r} was deleted or replaced while it was open; what is saved "
                f"now would be lost, so open a new store"
            )
        self._look_at = monotonic() + LOOK_SECONDS

    @contextmanager
    def exclusive(self) -> Iterator[Connection]:
        """The connection itself, for one thread at a time; an open transaction is rolled back."""
        self.check_process()
        with self._lock:
            self._settle()
            if self._connection is None:
                raise StoreError(f"Ledger {self._path!r} is closed")
            try:
                yield self._connection
            finally:
                self._settle()

    def close(self) -> None:
        """Close the connection when nobody uses it; later calls raise StoreError."""
        with self._lock, translated(self._path):
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def check_process(self) -> None:
        """Raise StoreError in a process that was forked after the file was opened."""
        if os.getpid() != self._pid:
            raise StoreError(
                f"Ledger {self._path!r} was opened before this process was forked, and SQLite "
                f"cannot be used on both sides of a fork: start processes by spawn or forkserver, "
                f"or open the store in the child only"
            )


class NoWriter(Writer):
    """Refuses to write, for a ledger that was opened to be read only."""

    def __init__(self, path: str) -> None:
        super().__init__(path, None)

    def write(self, work: Work) -> NoReturn:
        """Raise StoreError."""
        raise StoreError(f"Ledger {self._path!r} was opened to be read only, so nothing is written")

    def exclusive(self) -> NoReturn:
        """Raise StoreError."""
        self.write(lambda connection: None)
