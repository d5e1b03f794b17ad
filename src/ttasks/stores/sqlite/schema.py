"""The schema of a ledger: its tables, how to recognise a file, and migrations of older ones."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing

from ttasks.errors import StoreError, StoreVersionError
from ttasks.stores.sqlite import event_rows, sealing
from ttasks.stores.sqlite.connection import connect, translated

APPLICATION_ID = 0x74_74_6B_73
"""Marks a SQLite file as a ledger in its header ("ttks")."""

SMALL_BYTES = 4 * 1024 * 1024
"""A file up to this size is checked as a whole when it is opened."""

_HEADER_BYTES = 100

# Version 1. Times are microseconds since 1970 in UTC: exact, small, and sorted by when. Other
# tables refer to `seq`; its order is that of first saving.
_ONE_TABLE = """
CREATE TABLE owners (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started TEXT NOT NULL,
    opened_at INTEGER NOT NULL
);
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    listed INTEGER NOT NULL DEFAULT 1,
    status TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    owner INTEGER REFERENCES owners(seq),
    fingerprint TEXT,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    key TEXT,
    blocked_by TEXT,
    error TEXT,
    payload_kind TEXT NOT NULL,
    value_kind TEXT,
    details TEXT,
    result TEXT,
    payload TEXT,
    value TEXT,
    result_error TEXT,
    output TEXT
);
CREATE INDEX tasks_in_short ON tasks(seq, status, updated_at) WHERE listed;
CREATE INDEX tasks_by_fingerprint ON tasks(fingerprint) WHERE fingerprint IS NOT NULL;
CREATE TABLE graphs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    key TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    shape TEXT NOT NULL
);
CREATE INDEX graphs_by_key ON graphs(key) WHERE key IS NOT NULL;
CREATE TABLE nodes (
    graph INTEGER NOT NULL REFERENCES graphs(seq),
    position INTEGER NOT NULL,
    task INTEGER NOT NULL REFERENCES tasks(seq),
    member INTEGER NOT NULL,
    finally INTEGER NOT NULL,
    required INTEGER NOT NULL,
    policy TEXT NOT NULL,
    after TEXT NOT NULL,
    PRIMARY KEY (graph, position)
) WITHOUT ROWID;
CREATE INDEX nodes_by_task ON nodes(task);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks(seq),
    type TEXT NOT NULL,
    at INTEGER NOT NULL,
    previous TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    error TEXT,
    details TEXT,
    chunk TEXT
);
"""

# Version 2 divides the tasks by how often their columns are written. A commit costs a few
# microseconds for every page that it changes, and much more where a row grows and its page has to
# be divided. What a transition writes, `tasks`, is small and keeps its size; `works` says what
# there is to do and is written once, `results` at the end. So `tasks` needs no index to be scanned
# for a list (100,000 in about 25 ms), and what may be long is out of the way.
#
# A task that is deleted while a graph has it stays, not listed, until that graph is deleted. The
# events of a deleted task stay until the next `prune` or `vacuum`; nobody sees them, as numbers of
# tasks are never used again.
_THREE_TABLES = """
CREATE TABLE new_tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    listed INTEGER NOT NULL DEFAULT 1,
    status TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    owner INTEGER REFERENCES owners(seq),
    blocked_by TEXT,
    error TEXT
);
CREATE TABLE works (
    task INTEGER PRIMARY KEY REFERENCES tasks(seq),
    fingerprint TEXT,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    key TEXT,
    payload_kind TEXT NOT NULL,
    details TEXT,
    payload TEXT
);
CREATE TABLE results (
    task INTEGER PRIMARY KEY REFERENCES tasks(seq),
    value_kind TEXT NOT NULL,
    result TEXT NOT NULL,
    value TEXT,
    result_error TEXT,
    output TEXT
);
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'new_tasks', seq FROM sqlite_sequence WHERE name='tasks';
INSERT INTO new_tasks
    SELECT seq, id, listed, status, updated_at, created_at, owner, blocked_by, error FROM tasks;
INSERT INTO works
    SELECT seq, fingerprint, type, title, key, payload_kind, details, payload FROM tasks;
INSERT INTO results
    SELECT seq, coalesce(value_kind, 'none'), result, value, result_error, output FROM tasks
    WHERE result IS NOT NULL;
DROP TABLE tasks;
ALTER TABLE new_tasks RENAME TO tasks;
CREATE INDEX works_by_fingerprint ON works(fingerprint) WHERE fingerprint IS NOT NULL;
CREATE TRIGGER tasks_deleted AFTER DELETE ON tasks BEGIN
    DELETE FROM works WHERE task=old.seq; DELETE FROM results WHERE task=old.seq;
END;
"""

# Version 3 keeps why the latest run of a graph ended before its time, as JSON (NULL if it did not),
# a number that says which graph was saved last, and checksums (see `checksums`). ``deleted`` and
# ``gaps`` tell why an event has no task, or why a number has no event (see `event_rows`).
_CHECKSUMS = """
ALTER TABLE graphs ADD COLUMN run_error TEXT;
ALTER TABLE graphs ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE graphs ADD COLUMN checksum INTEGER;
ALTER TABLE owners ADD COLUMN checksum INTEGER;
ALTER TABLE tasks ADD COLUMN checksum INTEGER;
ALTER TABLE works ADD COLUMN body INTEGER;
ALTER TABLE works ADD COLUMN checksum INTEGER;
ALTER TABLE events ADD COLUMN checksum INTEGER;
DROP INDEX graphs_by_key;
CREATE INDEX graphs_by_key ON graphs(key, saved) WHERE key IS NOT NULL;
DROP TRIGGER tasks_deleted;
CREATE TABLE new_results (
    task INTEGER PRIMARY KEY REFERENCES tasks(seq),
    checksum INTEGER,
    value_kind TEXT NOT NULL,
    result TEXT NOT NULL,
    value TEXT,
    result_error TEXT,
    output TEXT
);
CREATE TABLE definitions (name TEXT PRIMARY KEY, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE deleted (task INTEGER PRIMARY KEY, id TEXT NOT NULL);
CREATE TABLE gaps (first INTEGER PRIMARY KEY, last INTEGER NOT NULL);
INSERT INTO new_results
    SELECT task, NULL, value_kind, result, value, result_error, output FROM results;
DROP TABLE results;
ALTER TABLE new_results RENAME TO results;
CREATE TRIGGER tasks_deleted AFTER DELETE ON tasks BEGIN
    DELETE FROM works WHERE task=old.seq; DELETE FROM results WHERE task=old.seq;
    INSERT OR REPLACE INTO deleted VALUES (old.seq, old.id);
END;
"""

# It also keeps runs. ``outcome`` and ``ending`` are NULL while a run goes on; ``facts``, ``nodes``
# and ``ending`` are JSON, ``after`` is the last event before it. What is known of its tasks is in
# the details of their events.
_RUNS = """
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    number INTEGER NOT NULL,
    key TEXT,
    owner INTEGER REFERENCES owners(seq),
    parent INTEGER REFERENCES runs(seq),
    started_at INTEGER NOT NULL,
    outcome TEXT,
    facts TEXT NOT NULL,
    nodes TEXT,
    ending TEXT,
    checksum INTEGER NOT NULL,
    after INTEGER NOT NULL
);
CREATE INDEX runs_by_subject ON runs(subject, number);
CREATE INDEX runs_by_key ON runs(key, number) WHERE key IS NOT NULL;
CREATE INDEX runs_unfinished ON runs(key) WHERE key IS NOT NULL AND outcome IS NULL;
CREATE INDEX runs_by_parent ON runs(parent) WHERE parent IS NOT NULL;
"""

# And the moments of schedules: which process runs which one. ``graph`` is the id of the graph that
# runs for it, ``outcome`` is NULL until it has ended.
_SLOTS = """
CREATE TABLE slots (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule TEXT NOT NULL,
    slot INTEGER NOT NULL,
    owner INTEGER NOT NULL REFERENCES owners(seq),
    graph TEXT,
    outcome TEXT,
    claimed_at INTEGER NOT NULL,
    checksum INTEGER NOT NULL DEFAULT 0,
    UNIQUE (schedule, slot)
);
CREATE INDEX slots_open ON slots(schedule) WHERE (outcome IS NULL OR checksum & 1);
"""

# And messages about runs that wait to be sent (see `outbox`). ``content`` is JSON, NULL until it is
# known what to say; ``body`` is its checksum.
_OUTBOX = """
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    channel TEXT NOT NULL,
    run TEXT NOT NULL,
    owner INTEGER REFERENCES owners(seq),
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    body INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    content TEXT
);
"""


def _run_script(script: str) -> Callable[[sqlite3.Connection], None]:
    # Not `executescript`, which commits the transaction that the migration is part of.
    def migrate(connection: sqlite3.Connection) -> None:
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                connection.execute(statement)
                statement = ""

    return migrate


def _add_checksums_and_runs(connection: sqlite3.Connection) -> None:
    _run_script(_CHECKSUMS + _RUNS + _SLOTS + _OUTBOX)(connection)
    numbered = connection.execute("SELECT seq FROM graphs ORDER BY updated_at, seq").fetchall()
    for number, (seq,) in enumerate(numbered, 1):
        connection.execute("UPDATE graphs SET saved=? WHERE seq=?", (number, seq))
    event_rows.note_earlier(connection)
    sealing.seal(connection)


MIGRATIONS: Sequence[Callable[[sqlite3.Connection], None]] = (
    _run_script(_ONE_TABLE),
    _run_script(_THREE_TABLES),
    _add_checksums_and_runs,
)
"""Step n leads from version n to n + 1; a new file is at 0. Never edit one that was released."""


def check_file(path: str) -> None:
    """Check that a file can be a ledger, without changing it, its locks or the files beside it.

    SQLite reads it as immutable. It must not be opened by other means: closing it would drop the
    POSIX locks of every connection that this process has to it.

    Raises:
        StoreVersionError: it is a ledger of a newer version.
        StoreError: it is not a ledger, its folder does not exist, or it cannot be read.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            raise StoreError(
                f"Cannot make the ledger {path!r}: there is no folder {folder!r}"
            ) from None
        return
    except OSError as error:
        raise StoreError(f"Cannot read the ledger {path!r}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path!r} is no regular file, so it cannot be a ledger")
    if not found.st_size:
        return
    if found.st_size < _HEADER_BYTES:
        raise StoreError(f"{path!r} is no SQLite database, so no ledger; it was not touched")
    with translated(path), closing(connect(path, "mode=ro&immutable=1")) as connection:
        # Otherwise SQLite would call a file damaged that is too short because its process was
        # killed while it moved the log into it.
        connection.execute("PRAGMA writable_schema=ON")
        application = _pragma(connection, "application_id")
        version = _pragma(connection, "user_version")
    if application != APPLICATION_ID:
        raise StoreError(f"{path!r} is a database, but no ledger of ttasks; it was not touched")
    if version > len(MIGRATIONS):
        raise StoreVersionError(path, version, len(MIGRATIONS))


def check_structure(connection: sqlite3.Connection, path: str, table: str | None = None) -> None:
    """Check that SQLite finds every row of a table, or of all of them, and in its indexes too.

    A checksum cannot tell that a row is missing.

    Raises:
        StoreError: the file is damaged.
    """
    argument = "" if table is None else f"('{table}')"
    (problem,) = connection.execute(f"PRAGMA integrity_check{argument}").fetchone()
    if problem != "ok":
        raise StoreError(f"Ledger {path!r} is damaged: {problem}")


def is_small(path: str) -> bool:
    """True if the file is small enough to be checked as a whole when it is opened."""
    try:
        return os.stat(path).st_size <= SMALL_BYTES
    except OSError:
        return False


def is_current(connection: sqlite3.Connection, path: str) -> bool:
    """True if no tables need to be created or migrated.

    Raises:
        StoreVersionError: the version is newer, as only the write-ahead log says so far.
    """
    version = _pragma(connection, "user_version")
    if version > len(MIGRATIONS):
        raise StoreVersionError(path, version, len(MIGRATIONS))
    return version == len(MIGRATIONS) and _pragma(connection, "application_id") == APPLICATION_ID


def check_readable(connection: sqlite3.Connection, path: str) -> None:
    """Check that a ledger need not be upgraded, which reading alone cannot do.

    Raises:
        StoreVersionError: the version is newer.
        StoreError: it is older.
    """
    if not is_current(connection, path):
        raise StoreError(
            f"Ledger {path!r} was written by an older ttasks and has to be upgraded; open it "
            "where it can be written, or copy it to such a place"
        )


def upgrade(connection: sqlite3.Connection, path: str) -> bool:
    """Create or migrate the tables, in the caller's exclusive transaction; True if done.

    Another process may have done it while this one waited for that transaction.
    """
    if is_current(connection, path):
        return False
    version = _pragma(connection, "user_version")
    application = _pragma(connection, "application_id")
    is_new = not version and not application and not _pragma(connection, "schema_version")
    if application != APPLICATION_ID and not is_new:
        raise StoreError(f"{path!r} is a database, but no ledger of ttasks; it was not changed")
    for migrate in MIGRATIONS[version:]:
        migrate(connection)
    sealing.seal_schema(connection)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
    return True


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
