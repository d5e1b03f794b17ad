"""SQLiteStore: a store that is one file."""

from __future__ import annotations

import os

from ttasks.model.checks import wrong_type, wrong_value
from ttasks.stores.sqlite.connection import MEMORY
from ttasks.stores.sqlite.graphs import LedgerGraphs
from ttasks.stores.sqlite.ledger import DURABILITIES, Ledger
from ttasks.stores.sqlite.tasks import LedgerTasks
from ttasks.stores.sqlite.writer import Writer


class SQLiteStore:
    """Remembers tasks and graphs in one SQLite file; what comes out is a copy of what went in.

    Thread-safe, and several processes may use the same file at once, on one machine; a child that
    was forked may go on using it. Beside the file there are two more while it is open (``-wal``
    and ``-shm``): keep them together.

    Values, payloads and raw results are kept if they are JSON and would come back exactly as they
    are (so no tuples, and no keys but str); otherwise a `NotStored` stands in their place. A
    subclass of Task comes back as a Task.

    Args:
        path: the file; one that is missing or empty becomes a new ledger. ":memory:" keeps all in
            memory, of this store alone.
        durability: what a save survives when it has returned: "process" the end of this process,
            also by ``kill -9``; "power" also that of the system or its power, which costs a sync
            of the disk per commit. Either way the file stays sound.

    Raises:
        TypeError, ValueError: an argument is wrong.
        StoreVersionError: the ledger was written by a newer ttasks; it was not touched.
        StoreError: the file is no ledger (it was not touched), or cannot be opened or written.

    Example:
        >>> with SQLiteStore(":memory:") as store:
        ...     task = Task.bash("true")
        ...     store.tasks.save(task)
        ...     store.tasks[task.id] == task
        True
    """

    def __init__(self, path: str | os.PathLike[str], *, durability: str = "process") -> None:
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(name, str):
            raise wrong_type("path", path, "a str or a PathLike of str")
        if not name or "\0" in name:
            raise wrong_value("path", path, "the path of a file")
        if not isinstance(durability, str):
            raise wrong_type("durability", durability, "a str")
        if durability not in DURABILITIES:
            raise wrong_value("durability", durability, " or ".join(map(repr, DURABILITIES)))
        self._path = name if name == MEMORY else os.path.abspath(name)
        self._durability = durability
        self._ledger = Ledger(self._path, durability)
        writer = Writer(self._ledger)
        self._tasks = LedgerTasks(self._ledger, writer)
        self._graphs = LedgerGraphs(self._ledger, writer)

    @property
    def path(self) -> str:
        """Absolute path of the file, or ":memory:"."""
        return self._path

    @property
    def durability(self) -> str:
        """What a save survives: "process" or "power"."""
        return self._durability

    @property
    def tasks(self) -> LedgerTasks:
        """Tasks by id."""
        return self._tasks

    @property
    def graphs(self) -> LedgerGraphs:
        """Graphs by id; saving one saves its tasks."""
        return self._graphs

    def close(self) -> None:
        """Close the file; idempotent. Nothing is lost by not calling it.

        Waits for the write that is going on. What is called afterwards raises StoreError.
        """
        self._ledger.close()

    def __enter__(self) -> SQLiteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path!r} {self._durability}>"
