"""SQLiteStore: the ledger, one SQLite file that survives ``kill -9``.

What is saved takes this path::

    SQLiteStore -> collections (tasks, graphs, journal) -> codec -> Writer -> Ledger -> file
"""

from ttasks.stores.sqlite.absent import NotStored
from ttasks.stores.sqlite.store import SQLiteStore

__all__ = ["NotStored", "SQLiteStore"]
