"""SQLiteStore: the ledger, one SQLite file that survives ``kill -9``.

What is saved takes this path::

    SQLiteStore -> codec (tasks, results, events to rows) -> Writer -> file
"""

from ttasks.processes import Liveness, ProcessIdentity
from ttasks.stores.sqlite.journal import Journal, JournalEntry
from ttasks.stores.sqlite.owners import RunningTask
from ttasks.stores.sqlite.plain import NotStored
from ttasks.stores.sqlite.store import SQLiteStore
from ttasks.stores.sqlite.tasks import TaskPage, TaskSummary

__all__ = [
    "Journal",
    "JournalEntry",
    "Liveness",
    "NotStored",
    "ProcessIdentity",
    "RunningTask",
    "SQLiteStore",
    "TaskPage",
    "TaskSummary",
]
