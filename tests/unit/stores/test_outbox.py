"""The outbox of a ledger: whose each message is, and what damage does."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ttasks import SQLiteStore, StoreError
from ttasks.processes import Liveness, ProcessIdentity

NOW = 1_800_000_000_000_000
MINUTE = 60 * 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "ledger.db") as made:
        yield made


def others_are(monkeypatch: pytest.MonkeyPatch, liveness: Liveness) -> None:
    monkeypatch.setattr(ProcessIdentity, "liveness", lambda _self: liveness)


def test_a_row_is_kept_until_it_is_removed(store: SQLiteStore, tmp_path: Path) -> None:
    mail, chat = store.outbox.add("run", "msg_1", ["mail", "chat \udcff ü"], NOW)
    assert (mail.id, mail.channel, mail.run, mail.created_at) == ("msg_1", "mail", "run", NOW)
    assert (mail.attempts, mail.content) == (0, None)
    assert store.outbox.rows() == [mail, chat]
    sent = mail._replace(content='{"ü": "\udcff"}', attempts=3, due_at=NOW + 5)
    store.outbox.save(sent)
    assert store.outbox.rows() == [sent, chat]
    with SQLiteStore(tmp_path / "ledger.db") as other:
        assert other.outbox.rows() == [sent, chat]
    store.outbox.remove(sent)
    assert store.outbox.rows() == [chat]
    assert len(store.outbox) == 1
    assert store.check() == []


def test_letting_go_keeps_what_was_saved(store: SQLiteStore) -> None:
    rows = store.outbox.add("run", "msg_1", ["mail"], NOW)
    saved = rows[0]._replace(content="text", attempts=2)
    store.outbox.save(saved)
    store.outbox.release(*rows)
    store.outbox.release(*rows)
    assert store.outbox.claim({"mail"}, NOW, 9).rows == [saved]


def test_nobody_claims_what_belongs_to_a_living_process(store: SQLiteStore, tmp_path: Path) -> None:
    rows = store.outbox.add("run", "msg_1", ["mail"], NOW)
    with SQLiteStore(tmp_path / "ledger.db") as other:
        assert other.outbox.claim({"mail"}, NOW + 999 * MINUTE, 9).rows == []
        assert store.outbox.claim({"mail"}, NOW + 999 * MINUTE, 9).rows == []
        store.outbox.release(*rows)
        assert other.outbox.claim({"mail"}, NOW, 9).rows == rows
        assert store.outbox.claim({"mail"}, NOW, 9).rows == []


def test_what_a_dead_process_left_is_claimed_once(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = store.outbox.add("run", "msg_1", ["mail", "chat", "other"], NOW)
    with SQLiteStore(tmp_path / "ledger.db") as other:
        others_are(monkeypatch, Liveness.GONE)
        claimed = other.outbox.claim({"mail", "chat"}, NOW, 1)
        assert claimed.rows == rows[:1]
        monkeypatch.undo()
        others_are(monkeypatch, Liveness.ALIVE)
        assert store.outbox.claim({"mail"}, NOW, 9).rows == []
        monkeypatch.undo()
        # Neither a change nor a release by the former owner counts any more.
        store.outbox.save(rows[0]._replace(attempts=9))
        store.outbox.release(rows[0])
        assert other.outbox.rows()[0].attempts == 0
        assert store.outbox.claim({"mail"}, NOW, 9).rows == []


def test_what_belongs_to_a_process_that_cannot_be_seen_is_claimed_after_15_minutes(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = store.outbox.add("run", "msg_1", ["mail"], NOW)
    store.outbox.save(row._replace(due_at=NOW + 10 * MINUTE))
    others_are(monkeypatch, Liveness.UNKNOWN)
    assert store.outbox.claim({"mail"}, NOW + 25 * MINUTE, 9).rows == []
    assert len(store.outbox.claim({"mail"}, NOW + 25 * MINUTE + 1, 9).rows) == 1


def test_prune_removes_old_messages(store: SQLiteStore) -> None:
    store.outbox.add("run", "msg_1", ["mail"], 1_000_000)
    store.outbox.add("run", "msg_2", ["mail"], NOW)
    store.prune(datetime(2020, 1, 1, tzinfo=UTC))
    assert [row.id for row in store.outbox.rows()] == ["msg_2"]


def test_a_backup_has_the_messages(store: SQLiteStore, tmp_path: Path) -> None:
    rows = store.outbox.add("run", "msg_1", ["mail"], NOW)
    store.backup(tmp_path / "copy.db")
    with SQLiteStore(tmp_path / "copy.db") as copy:
        assert copy.outbox.rows() == rows


@pytest.mark.parametrize(
    "column", ["id", "channel", "run", "owner", "created_at", "due_at", "attempts", "content"]
)
def test_a_damaged_row_is_found_and_not_sent_and_the_others_are(
    tmp_path: Path, column: str
) -> None:
    path = tmp_path / "ledger.db"
    with SQLiteStore(path) as store:
        rows = store.outbox.add("run", "msg_1", ["mail", "chat"], NOW)
        store.outbox.save(*[row._replace(content="text") for row in rows])
        store.outbox.release(*rows)
    with closing(sqlite3.connect(path)) as connection:
        value = {"id": "msg_2", "channel": "chat", "run": "x", "content": "texts"}.get(column, 1)
        connection.execute(f"UPDATE outbox SET {column}=? WHERE seq=1", (value,))
        connection.commit()
    with SQLiteStore(path) as store:
        with pytest.raises(StoreError, match="The ledger's row of message 'msg_[12]' is damaged"):
            store.outbox.rows()
        assert len(store.check()) == 1
        claimed = store.outbox.claim({"mail", "chat"}, NOW, 9)
        assert [row.channel for row in claimed.rows] == ["chat"]
        assert [row.seq for row in claimed.rows] == [2]
        assert len(claimed.problems) == 1
