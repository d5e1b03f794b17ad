"""The slots of a ledger: claimed once, kept, listed, taken over, pruned and checked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ttasks import SQLiteStore, StoreError
from ttasks.model.slots import Claim, Refusal, SlotRequest
from ttasks.processes import Liveness, ProcessIdentity
from ttasks.schedule.local_slots import LocalSlots

HOUR = 3600_000_000


def claim(store: SQLiteStore, name: str, slot: int) -> Claim:
    (found,) = store.slots.claim([SlotRequest(name, slot)])
    assert isinstance(found, Claim)
    return found


@pytest.fixture
def pair(tmp_path: Path) -> tuple[SQLiteStore, SQLiteStore]:
    return SQLiteStore(tmp_path / "ledger"), SQLiteStore(tmp_path / "ledger")


def test_a_slot_is_claimed_once(pair: tuple[SQLiteStore, SQLiteStore]) -> None:
    one, other = pair
    with one, other:
        first = claim(one, "s", HOUR)
        again = [SlotRequest("s", HOUR), SlotRequest("s", 2 * HOUR), SlotRequest("t", HOUR)]
        taken, later, elsewhere = other.slots.claim(again)
        assert taken is Refusal.TAKEN
        assert isinstance(later, Claim)
        assert isinstance(elsewhere, Claim)
        one.slots.end(first, "ok")
        assert other.slots.claim([SlotRequest("s", HOUR)]) == [Refusal.TAKEN]
        assert [one.slots.latest(name) for name in "stu"] == [2 * HOUR, HOUR, None]


def test_a_slot_that_is_to_be_alone_waits_or_is_skipped(
    pair: tuple[SQLiteStore, SQLiteStore],
) -> None:
    one, other = pair
    with one, other:
        first = claim(one, "s", HOUR)
        waits = SlotRequest("s", 2 * HOUR, is_alone=True, waits=True)
        skipped = SlotRequest("s", 3 * HOUR, is_alone=True)
        found = other.slots.claim([waits, skipped, waits._replace(schedule="t")])
        assert found[:2] == [Refusal.BUSY, Refusal.SKIPPED]
        assert isinstance(found[2], Claim)
        one.slots.end(first, "failed")
        assert isinstance(other.slots.claim([waits])[0], Claim)
        assert {facts.slot.hour: facts.outcome for facts in one.slots.list("s")} == {
            1: "failed",
            2: None,
            3: "skipped",
        }


def test_without_a_ledger_slots_are_alone_in_the_same_way() -> None:
    slots = LocalSlots()
    (first,) = slots.claim([SlotRequest("s", HOUR, is_alone=True)])
    assert isinstance(first, Claim)
    waits, skips = SlotRequest("s", 2, True, True), SlotRequest("s", 3, True)
    assert slots.claim([waits, skips]) == [Refusal.BUSY, Refusal.SKIPPED]
    slots.end(first, "ok")
    assert isinstance(slots.claim([waits])[0], Claim)


def test_what_a_ledger_knows_of_a_slot(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        first = claim(store, "ünï", HOUR)
        store.slots.begin(first, "graph-1")
        store.slots.end(first, "ok")
        claim(store, "b", 2 * HOUR)
        b, facts = store.slots.list()
        assert (b.schedule, b.outcome, b.graph_id) == ("b", None, None)
        assert (facts.schedule, facts.outcome, facts.graph_id) == ("ünï", "ok", "graph-1")
        assert facts.slot == datetime(1970, 1, 1, 1, tzinfo=UTC)
        assert facts.pid == ProcessIdentity.current().pid
        assert abs(datetime.now(UTC) - facts.claimed_at).total_seconds() < 60
        assert store.slots.list("ünï") == (facts,)
        assert store.slots.list(limit=1) == (b,)
        store.backup(tmp_path / "copy")
    with SQLiteStore(tmp_path / "copy") as copy:
        assert copy.slots.list() == (b, facts)
        assert copy.check() == []


def test_open_slots_of_others_are_taken_over_once_these_are_gone(
    pair: tuple[SQLiteStore, SQLiteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = pair
    with one, other:
        begun, done, mine = claim(one, "s", 1), claim(one, "s", 2), claim(other, "s", 3)
        foreign = claim(one, "t", 4)
        one.slots.begin(begun, "graph")
        one.slots.end(done, "ok")
        assert other.slots.take_over(["s"]) == []  # its owner lives
        assert [held.slot for held in other.slots.held_elsewhere(["s"])] == [1]
        monkeypatch.setattr(ProcessIdentity, "liveness", lambda self: Liveness.UNKNOWN)
        assert other.slots.take_over(["s"]) == []
        monkeypatch.setattr(ProcessIdentity, "liveness", lambda self: Liveness.GONE)
        assert other.slots.take_over(["s"]) == [begun._replace(graph="graph")]
        assert other.slots.take_over(["s"]) == []
        assert {held.slot for held in one.slots.held_elsewhere(["s", "t"])} == {1, 3}
        assert (mine.slot, foreign.slot) == (3, 4)
        assert other.check() == []


def test_pruning_keeps_open_slots_and_the_latest(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        for slot in range(5):
            found = claim(store, "s", slot)
            if slot != 1:
                store.slots.end(found, "ok")
        store.prune(datetime(2200, 1, 1, tzinfo=UTC))
        assert [facts.slot.microsecond for facts in store.slots.list()] == [4, 1]
        store.slots.end(found, "ok")  # of a row that may be gone


@pytest.mark.parametrize(
    ("column", "value"),
    [("schedule", "t"), ("slot", 7), ("owner", 2), ("outcome", "ok"), ("graph", "g")],
)
def test_a_damaged_slot_is_refused_and_found(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "ledger"
    with SQLiteStore(path) as store:
        claim(store, "s", HOUR)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"UPDATE slots SET {column}=?", (value,))
    with SQLiteStore(path) as store:
        with pytest.raises(StoreError, match="damaged"):
            store.slots.list()
        with pytest.raises(StoreError, match="damaged"):
            store.slots.held_elsewhere(["s", "t"])
        (problem,) = store.check()
        assert "slot" in problem


def test_the_search_for_open_slots_uses_their_index() -> None:
    from ttasks.stores.sqlite import slots

    with SQLiteStore(":memory:") as store, store._ledger.reading() as connection:
        sql = f"EXPLAIN QUERY PLAN {slots._SELECT} WHERE schedule=? AND {slots._OPEN}"
        plan = str(connection.execute(sql, ("s",)).fetchall())
    assert "slots_open" in plan
