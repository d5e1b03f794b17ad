"""Writer: group commit without a thread of its own.

Whoever wants to write puts a ticket in the queue. If nobody leads, the writer leads: it takes every
ticket that waits, runs all of them in one transaction, wakes their owners and hands the lead to the
first ticket that has come meanwhile. So under load a commit is shared by all who wait for one, a
single thread never waits for another, and ``write`` returns only once its own work is committed.

A leader that has just seen company lets the others run for a moment first, so that what they are
about to write comes along: they wait for the interpreter lock most of the time, not for the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from threading import Lock
from time import sleep
from typing import Any

from ttasks.errors import StoreError
from ttasks.stores.sqlite.connection import store_error
from ttasks.stores.sqlite.ledger import Ledger

Work = Callable[[sqlite3.Connection], Any]


class _Ticket:
    """One piece of work.

    ``wake`` is held until the work is settled or its owner has to lead; None if he led at once.
    """

    __slots__ = ("abandoned", "error", "leads", "result", "settled", "wake", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.wake: Lock | None = None
        self.leads = False
        self.settled = False
        self.abandoned = False
        self.result: Any = None
        self.error: Exception | None = None


class Writer:
    """Runs pieces of work on the ledger's writing connection, many to a transaction.

    Thread-safe. ``_lock`` owns the queue, the lead and the state of every ticket in the queue; it
    is never held while SQLite works.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reset()

    def _reset(self) -> None:
        self._generation = self._ledger.generation
        self._lock = Lock()
        self._queue: list[_Ticket] = []
        self._is_led = False
        self._company = 1  # how many the last transaction was shared by, or waited for it

    def write(self, work: Work) -> Any:
        """Run ``work`` in a transaction, shared with others or not, and return what it returned.

        When this returns, it is committed. What ``work`` raises is raised here, and then nothing
        of it is written; the work of others is not affected. ``work`` may run more than once, the
        last time counts, and must not keep the connection. Blocks until it is committed.

        Raises:
            StoreError: SQLite could not write.
        """
        if self._generation != self._ledger.generation:
            self._reset()  # what the parent's threads were writing at the fork is their business
        ticket = _Ticket(work)
        with self._lock:
            self._queue.append(ticket)
            if self._is_led:
                wake = ticket.wake = Lock()
                wake.acquire()
            else:
                self._is_led = ticket.leads = True
                wake = None
        try:
            if wake is not None:
                wake.acquire()
            if ticket.leads:
                self._lead()
        except BaseException:
            # A KeyboardInterrupt, say: nobody must wait for a leader that has left.
            self._leave(ticket)
            raise
        if ticket.error is not None:
            raise self._own(ticket.error)
        return ticket.result

    def _own(self, error: Exception) -> Exception:
        """An exception for one thread alone, of one that several may get."""
        if isinstance(error, sqlite3.Error):
            error, cause = store_error(self._ledger.path, error), error
            error.__cause__ = cause
        elif type(error) is StoreError:
            error = StoreError(*error.args)
        return error

    def _lead(self) -> None:
        if len(self._queue) < self._company:
            sleep(0)
        with self._lock:
            batch, self._queue = self._queue, []
        try:
            self._commit(batch)
        finally:
            self._hand_over(batch)
            for ticket in batch:
                if ticket.settled and ticket.wake is not None:
                    ticket.wake.release()

    def _hand_over(self, batch: Sequence[_Ticket] = ()) -> None:
        """Let the first in the queue lead, or nobody if it is empty.

        What is not settled of the batch comes first: its leader was interrupted, and nothing of it
        was committed.
        """
        with self._lock:
            for ticket in reversed(batch):
                if not (ticket.settled or ticket.abandoned):
                    self._queue.insert(0, ticket)
            self._is_led = bool(self._queue)
            self._company = max(len(batch), len(self._queue) + 1, self._company - 1)
            if self._queue:
                heir = self._queue[0]
                heir.leads = True
                if heir.wake is not None:
                    heir.wake.release()

    def _leave(self, ticket: _Ticket) -> None:
        with self._lock:
            ticket.abandoned = True
            if ticket not in self._queue:
                return
            self._queue.remove(ticket)
            if not ticket.leads:
                return
        self._hand_over()

    def _commit(self, batch: list[_Ticket]) -> None:
        """Settle every ticket, all in one transaction, or each in its own if that fails."""
        try:
            with self._ledger.write_lock:
                connection = self._ledger.writer()
                if not self._attempt(connection, batch):
                    for ticket in batch:
                        self._attempt(connection, [ticket])
        except Exception as error:  # closed, locked for too long, cannot be opened any more
            _fail(batch, error)

    def _attempt(self, connection: sqlite3.Connection, batch: list[_Ticket]) -> bool:
        """Run a batch in one transaction; False if several should be tried one by one."""
        transaction = self._ledger.transaction(connection)
        try:
            with transaction:
                for ticket in batch:
                    ticket.result = ticket.work(connection)
        except Exception as error:
            if len(batch) > 1 and transaction.begun:
                return False
            _fail(batch, error)
        finally:
            if transaction.committed:
                for ticket in batch:
                    ticket.settled = True
        return True


def _fail(batch: list[_Ticket], error: Exception) -> None:
    for ticket in batch:
        if not ticket.settled:
            ticket.error = error
            ticket.settled = True
