"""Reading a whole ledger to see whether it is sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ttasks.errors import StoreError
from ttasks.model.task import Task
from ttasks.stores.sqlite import checksums, event_rows
from ttasks.stores.sqlite.codec import PARTS, SELECTED
from ttasks.stores.sqlite.graphs import LedgerGraphs
from ttasks.stores.sqlite.journal import SELECT_EVENTS, decode_event
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.outbox import SELECT_ROWS, check_content
from ttasks.stores.sqlite.runs import LedgerRuns
from ttasks.stores.sqlite.slots import SELECT_SLOTS, check_slot

_PAGE = 500
_LEAST = -(2**63)  # damage may make any number of a row
_STRUCTURE = "PRAGMA integrity_check(100)"
_TASKS = f"SELECT tasks.seq, {SELECTED} FROM tasks {PARTS} WHERE tasks.seq>? ORDER BY tasks.seq"
_GRAPHS = "SELECT seq, id FROM graphs WHERE seq>? ORDER BY seq"
_RUNS = "SELECT seq, id FROM runs WHERE seq>? ORDER BY seq"
_OWNERS = "SELECT seq, host, boot, pid, started, opened_at, checksum FROM owners WHERE seq>?"

Row = tuple[Any, ...]


class Check:
    """Reads a whole ledger.

    Attributes:
        problems: what is damaged, a line each.
    """

    def __init__(
        self,
        ledger: Ledger,
        decode: Callable[[Sequence[Any]], Task],
        graphs: LedgerGraphs,
        runs: LedgerRuns,
    ) -> None:
        self._ledger = ledger
        self._decode = decode
        self._graphs = graphs
        self._runs = runs
        self.problems: list[str] = []

    def run(self) -> None:
        """Read the structure of the file, and then every row."""
        for (text,) in self._fetch(_STRUCTURE):
            if text != "ok":
                self.problems.append(f"Ledger {self._ledger.path!r} is damaged: {text}")
        self._read_all(_OWNERS, _check_owner)
        self._read_all(_TASKS, lambda row: self._decode(row[1:]))
        self._read_all(_GRAPHS, self._read_graph)
        self._try(self._count_events)
        self._read_all(f"{SELECT_EVENTS} ORDER BY events.seq", lambda row: decode_event(row, {}))
        self._read_all(_RUNS, self._read_run)
        self._read_all(SELECT_SLOTS, check_slot)
        self._read_all(SELECT_ROWS, self._read_message)

    def _read_all(self, select: str, read: Callable[[Row], object]) -> None:
        """Read the rows of a table; one that cannot even be selected hides those after it."""
        for page in self._pages(select):
            for row in page:
                self._try(partial(read, row))

    def _count_events(self) -> None:
        path = self._ledger.path
        with self._ledger.reading() as connection:
            connection.execute("BEGIN")  # both statements see the same state
            last = event_rows.last_event(connection, path)
            event_rows.check_complete(connection, path, 0, last)
            connection.execute("COMMIT")

    def _pages(self, select: str) -> Iterator[list[Row]]:
        last = _LEAST
        while page := self._fetch(f"{select} LIMIT {_PAGE}", last):
            yield page
            if page[-1][0] <= last:  # they would come again and again
                self.problems.append(f"Ledger {self._ledger.path!r} is damaged: rows in disorder")
                return
            last = page[-1][0]

    def _try(self, read: Callable[[], object]) -> None:
        try:
            read()
        except StoreError as error:
            self.problems.append(str(error))

    def _read_run(self, row: Row) -> None:
        try:
            self._runs[row[1]].facts()
        except KeyError:
            raise checksums.damaged(f"run {row[1]!r}", "it is not found by its id") from None

    def _read_message(self, row: Row) -> None:
        with self._ledger.reading() as connection:
            check_content(connection, row)

    def _read_graph(self, row: Row) -> None:
        try:
            self._graphs[row[1]]
        except KeyError:
            raise checksums.damaged(f"graph {row[1]!r}", "it is not found by its id") from None

    def _fetch(self, sql: str, *values: object) -> list[Row]:
        try:
            with self._ledger.reading() as connection:
                return connection.execute(sql, values).fetchall()
        except StoreError as error:
            self.problems.append(str(error))
            return []


def _check_owner(row: Row) -> None:
    checksums.check(row[6], checksums.of_columns(*row[:6]), f"process {row[0]}")
