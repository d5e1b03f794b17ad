"""The outbox of a ledger: messages about runs that have not been sent yet, and who sends them.

A row is one message to one channel. It is written when the run has ended, still without content;
that follows once it is known what to say. Whoever sends it removes it afterwards, so that a process
that is killed at any moment leaves it to the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks.errors import StoreError
from ttasks.processes import Liveness, ProcessIdentity
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.plain import from_optional, from_text, to_optional, to_text

if TYPE_CHECKING:
    from ttasks.stores.sqlite.ledger import Ledger
    from ttasks.stores.sqlite.owners import Owners

_NAMES = "id, channel, run, owner, created_at, due_at, attempts, body"
# All rows are read and compared in Python, as a condition in SQL could skip a damaged one. There
# are few: those that could not be sent yet.
_SELECT = f"""
SELECT outbox.seq, {", ".join(f"outbox.{name}" for name in _NAMES.split(", "))}, outbox.checksum,
    owners.seq, host, boot, pid, owners.started, opened_at, owners.checksum
FROM outbox LEFT JOIN owners ON owners.seq = outbox.owner
"""
SELECT_ROWS = f"{_SELECT} WHERE outbox.seq>? ORDER BY outbox.seq"
_LEAST = -(2**63)
_LEASE_MICROS = 900 * 1_000_000


class OutboxRow(NamedTuple):
    """A message to a channel. Moments are microseconds since 1970 in UTC.

    Attributes:
        seq: number of the row.
        id: of the message.
        channel: name of the channel.
        run: id of the run.
        created_at: when the run had ended.
        due_at: when it is to be sent, or to be tried again.
        attempts: how often that was tried.
        content: the message as JSON; None if it is not known yet.
    """

    seq: int
    id: str
    channel: str
    run: str
    created_at: int
    due_at: int
    attempts: int
    content: str | None = None


class Claimed(NamedTuple):
    """What `Outbox.claim` has found.

    Attributes:
        rows: those that now belong to this process.
        problems: what is damaged, a line each.
    """

    rows: list[OutboxRow]
    problems: list[str]


class Outbox:
    """Messages of a ledger that wait to be sent. Thread-safe.

    Each belongs to the process that wrote or claimed it, until that lets it go or is gone. All
    methods raise StoreError if the ledger cannot be read or written.
    """

    def __init__(self, ledger: Ledger, owners: Owners) -> None:
        self._ledger = ledger
        self._owners = owners

    def __len__(self) -> int:
        with self._ledger.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])

    def rows(self) -> list[OutboxRow]:
        """Return all messages that wait, the oldest first.

        Raises:
            StoreError: one is damaged.
        """
        with self._ledger.reading() as connection:
            found = connection.execute(SELECT_ROWS, (_LEAST,)).fetchall()
            return [_with_content(connection, check_row(row)) for row in found]

    def add(self, run: str, message: str, channels: Iterable[str], now: int) -> list[OutboxRow]:
        """Note that a message about a run is to be sent to these channels, by this process.

        Args:
            run: its id.
            message: id of the message.
            channels: names.
            now: microseconds since 1970.
        """
        owner = self._owners.mine()
        names = list(channels)

        def work(connection: sqlite3.Connection) -> list[OutboxRow]:
            return [_insert(connection, owner, run, message, name, now) for name in names]

        rows: list[OutboxRow] = self._ledger.writer.write(work)
        return rows

    def save(self, *rows: OutboxRow) -> None:
        """Write the content, attempts and moments of rows of this process; others stay."""
        owner = self._owners.mine()

        def work(connection: sqlite3.Connection) -> None:
            for row in rows:
                _update(connection, row, owner, "AND owner=?", (owner,))

        self._ledger.writer.write(work)

    def remove(self, *rows: OutboxRow) -> None:
        """Remove what was sent, or is not to be sent."""
        seqs = [(row.seq,) for row in rows]
        self._ledger.writer.write(
            lambda connection: connection.executemany("DELETE FROM outbox WHERE seq=?", seqs)
        )

    def release(self, *rows: OutboxRow) -> None:
        """Let any process send these rows of this one."""
        mine = self._owners.mine()

        def work(connection: sqlite3.Connection) -> None:
            for row in rows:
                found = connection.execute(f"{_SELECT} WHERE outbox.seq=?", (row.seq,)).fetchone()
                if found is not None and found[4] == mine:
                    _update(connection, _with_content(connection, check_row(found)), None)

        self._ledger.writer.write(work)

    def claim(self, channels: Container[str], now: int, most: int) -> Claimed:
        """Take over what nobody sends: what was let go, or whose process is gone.

        Where it cannot be seen whether a process is gone, as in another container, its messages
        are taken over 15 minutes after they were due.

        Args:
            channels: names of those that this process can send to.
            now: microseconds since 1970.
            most: how many rows at most.
        """
        if not len(self):  # as mostly; so nothing is written
            return Claimed([], [])
        owner = self._owners.mine()

        def work(connection: sqlite3.Connection) -> Claimed:
            claimed = Claimed([], [])
            known: dict[ProcessIdentity, Liveness] = {}
            for found in connection.execute(SELECT_ROWS, (_LEAST,)).fetchall():
                if len(claimed.rows) == most:
                    break
                try:
                    row = check_row(found)
                    if row.channel in channels and _is_free(found, now, known):
                        row = _with_content(connection, row)
                        _update(connection, row, owner)
                        claimed.rows.append(row)
                except StoreError as error:
                    claimed.problems.append(str(error))
            return claimed

        found: Claimed = self._ledger.writer.write(work)
        return found


def check_row(found: Sequence[Any]) -> OutboxRow:
    """The row without its content, unless it or its owner is damaged."""
    seq, message, *_ = found
    what = f"message {message!r}"
    checksums.check(found[9], checksums.of_columns(*found[:9]), what)
    if found[4] is not None:
        process = checksums.of_columns(*found[10:16])
        checksums.check(found[16], process, f"the process of {what}")
    _, _, channel, run, _, created_at, due_at, attempts, _ = found[:9]
    return OutboxRow(seq, message, from_text(channel), run, created_at, due_at, attempts)


def check_content(connection: sqlite3.Connection, found: Sequence[Any]) -> None:
    """Raise StoreError unless a row of ``SELECT_ROWS`` and its content are sound."""
    _with_content(connection, check_row(found))


def prune_outbox(connection: sqlite3.Connection, before: int) -> None:
    """Delete the messages about runs that ended before ``before``."""
    connection.execute("DELETE FROM outbox WHERE created_at<?", (before,))


def _with_content(connection: sqlite3.Connection, row: OutboxRow) -> OutboxRow:
    content, body = connection.execute(
        "SELECT content, body FROM outbox WHERE seq=?", (row.seq,)
    ).fetchone()
    checksums.check(body, _body_of(content), f"message {row.id!r}")
    return row._replace(content=from_optional(content))


def _body_of(content: Any) -> int:
    return checksums.of_texts(f"{content is None} ", (content,))


def _is_free(found: Sequence[Any], now: int, known: dict[ProcessIdentity, Liveness]) -> bool:
    """True if nobody sends a row of ``SELECT_ROWS``."""
    if found[4] is None:
        return True
    _, host, boot, pid, started, _ = found[10:16]
    owner = ProcessIdentity(from_optional(host) or "", boot, pid, started)
    liveness = known[owner] = known.get(owner) or owner.liveness()
    if liveness is Liveness.UNKNOWN:
        return bool(found[6] + _LEASE_MICROS < now)
    return liveness is Liveness.GONE


def _insert(
    connection: sqlite3.Connection, owner: int, run: str, message: str, channel: str, now: int
) -> OutboxRow:
    name = to_text(channel)
    body = _body_of(None)
    values = (message, name, run, owner, now, now, 0, body)
    seq = connection.execute(
        f"INSERT INTO outbox ({_NAMES}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", values
    ).lastrowid
    assert seq is not None
    checksum = checksums.of_columns(seq, *values)
    connection.execute("UPDATE outbox SET checksum=? WHERE seq=?", (checksum, seq))
    return OutboxRow(seq, message, channel, run, now, now, 0)


def _update(
    connection: sqlite3.Connection,
    row: OutboxRow,
    owner: int | None,
    also: str = "",
    values: tuple[Any, ...] = (),
) -> None:
    content = to_optional(row.content)
    body = _body_of(content)
    name = to_text(row.channel)
    columns = (row.id, name, row.run, owner, row.created_at, row.due_at, row.attempts, body)
    checksum = checksums.of_columns(row.seq, *columns)
    connection.execute(
        f"""
        UPDATE outbox SET owner=?, due_at=?, attempts=?, body=?, content=?, checksum=?
        WHERE seq=? {also}
        """,
        (owner, row.due_at, row.attempts, body, content, checksum, row.seq, *values),
    )
