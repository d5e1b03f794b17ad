"""Writer: the one way into the file, with group commit and without a thread of its own.

Whoever writes puts a ticket into the queue and takes the lock. Who gets the lock runs all tickets
that are in the queue, in one transaction, and takes them out. The others then get the lock in turn
and find their tickets gone: what they wrote is committed. So under load threads share commits, and
a write that nobody else waits for is one transaction under one lock.

An interrupt (Ctrl-C, for example) may come between any two lines. What became of the batch that was
being written is therefore found out by `_settle`, which asks SQLite, may itself be interrupted, and
is called again by whoever takes the lock next.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from ttasks import sync
from ttasks.errors import StoreError
from ttasks.stores.sqlite.connection import (
    identity,
    is_busy,
    patiently,
    store_error,
    translated,
)

LOOK_SECONDS = 0.1
"""How often to look whether the file is still there."""

Work = Callable[[sqlite3.Connection], Any]


class _Ticket:
    """One piece of work, with what became of it once it has left the queue."""

    __slots__ = ("error", "result", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.result: Any = None
        self.error: Exception | None = None


class Writer:
    """Runs pieces of work on the connection that writes, many to a transaction. Thread-safe.

    Only in the process that opened the connection: SQLite forbids to take one through a fork.
    """

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._path = path
        self._pid = os.getpid()
        self._queue: list[_Ticket] = []
        # Protects the connection, which belongs to who holds it, the batch, and what leaves the
        # queue. It is held while SQLite works, but runs no code of users.
        self._lock = sync.Lock()
        self._connection: sqlite3.Connection | None = connection
        self._batch: list[_Ticket] = []  # what is being written
        self._is_committing = False  # True from just before COMMIT
        self._file = identity(path)
        self._look_at = 0.0

    def write(self, work: Work) -> Any:
        """Run ``work`` in a transaction, shared with others or not, and return what it returned.

        When this returns, it is committed. What ``work`` raises is raised here, and then nothing
        of it is written; the work of others is not affected. After an interrupt either all of it
        is written or nothing. ``work`` may run more than once, the last time counts, and must not
        keep the connection. Blocks until it is committed.

        Raises:
            StoreError: SQLite could not write.
        """
        if os.getpid() != self._pid:
            self.check_process()
        ticket = _Ticket(work)
        try:
            self._queue.append(ticket)
            with self._lock:
                if self._batch:  # of somebody who was interrupted
                    self._settle()
                if ticket in self._queue:
                    self._commit(self._queue[:])
        except BaseException:
            ticket.work = _nothing  # if it is still in the queue, nobody waits for it any more
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.result

    def _commit(self, batch: list[_Ticket]) -> None:
        """Run all of a batch in one transaction, or, if that fails, each in its own."""
        connection = self._connection
        if connection is None:
            raise StoreError(f"Ledger {self._path!r} is closed")
        failed: Exception | None = None
        self._batch, self._is_committing = batch, False
        try:
            try:
                if monotonic() >= self._look_at:
                    self._look_at = monotonic() + LOOK_SECONDS
                    self._check_file()
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.Error as error:
                    if not is_busy(error):
                        raise
                    patiently(self._path, lambda: connection.execute("BEGIN IMMEDIATE"))
                for ticket in batch:
                    ticket.error = None
                    ticket.result = ticket.work(connection)
                self._is_committing = True
                connection.execute("COMMIT")
            except Exception as error:
                self._is_committing = False
                failed = error
            self._settle()
        finally:
            if self._batch:  # an interrupt came first
                self._settle()
        if failed is None:
            return
        if len(batch) > 1:
            for ticket in batch:
                self._commit([ticket])
            return
        if isinstance(failed, (sqlite3.Error, OverflowError)):
            cause, failed = failed, store_error(self._path, failed)
            failed.__cause__ = cause
        batch[0].error = failed
        self._queue.remove(batch[0])

    def _settle(self) -> None:
        """Undo what was not committed; take what was out of the queue."""
        connection = self._connection
        if connection is None:
            return
        if connection.in_transaction:
            self._is_committing = False
            connection.execute("ROLLBACK")
        elif self._is_committing:
            for ticket in self._batch:
                if ticket in self._queue:
                    self._queue.remove(ticket)
        self._batch = []

    def _check_file(self) -> None:
        if identity(self._path) != self._file:
            raise StoreError(
                f"Ledger {self._path!r} was deleted or replaced while it was open; what is saved "
                f"now would be lost, so open a new store"
            )

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        """The connection itself, for one thread at a time; an open transaction is undone."""
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
        """Close the connection once nobody uses it; what is called afterwards raises."""
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


def _nothing(connection: sqlite3.Connection) -> None:
    """The work of a ticket that was given up."""
