"""A ledger that was damaged gives what was written, or a StoreError, and never anything else."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import damagekit
import ttasks
from damagekit import VARIANTS, WAYS, Expected, cells, change, look, others, remove
from ttasks import SQLiteStore, StoreError
from ttasks.stores.sqlite import schema
from ttasks.stores.sqlite.check import Check

FULL = os.environ.get("TTASKS_CAMPAIGN") == "full"
PARTS = 20  # for several processes
ROUNDS = 250 if FULL else 5


def make_sound(folder: Path, variant: str) -> tuple[Path, Expected]:
    """A ledger whose process was killed, its log moved into the file, and what it holds."""
    path = folder / "ledger"
    source = Path(ttasks.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, damagekit.__file__, str(path), variant],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    expected = Expected(path, folder / "copy", variant)
    assert not Path(f"{path}-wal").exists()
    return path, expected


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Expected]:
    return make_sound(tmp_path_factory.mktemp("sound"), "pruned")


def damaged(sound: tuple[Path, Expected], folder: Path, seeds: range) -> Counter[str]:
    """Damage copies of the ledger and read them; what became of them."""
    path, expected = sound
    counts: Counter[str] = Counter()
    for seed in seeds:
        chosen = random.Random(seed)
        copy = folder / "copy"
        shutil.copy(path, copy)
        what = WAYS[seed % len(WAYS)](copy, chosen)
        refused, wrong = look(copy, expected)
        counts["rounds"] += 1
        counts["refused" if refused else "unharmed"] += 1
        assert not wrong, f"seed {seed}: {what}: {wrong}"
        for name in os.listdir(folder):
            (folder / name).unlink()
    return counts


def test_damage_is_refused(sound: tuple[Path, Expected], tmp_path: Path) -> None:
    counts = damaged(sound, tmp_path, range(2 * len(WAYS)))
    assert counts["refused"] > len(WAYS)


# What is found by a name alone: where the index agrees with the damage, the row is not found.
UNDER_ANOTHER_NAME = {
    ("works", "fingerprint"): ["succeeded is another"],
    ("runs", "key"): ["runs by key is another"],
}


def changed(sound: tuple[Path, Expected], folder: Path, chosen: random.Random, most: int) -> int:
    """Write other values into the columns of all tables, as SQL does; how many."""
    path, expected = sound
    count = 0
    copy = folder / "copy"
    for cell in cells(path, chosen, most):
        values = others(cell.value)
        for value in values if most > 1 else chosen.sample(values, 1):
            shutil.copy(path, copy)
            if not change(copy, cell, value):
                continue
            count += 1
            refused, wrong = look(copy, expected, resumes=False)
            allowed = UNDER_ANOTHER_NAME.get((cell.table, cell.column), [])
            assert not wrong or (refused and wrong == allowed), f"{cell} to {value!r}: {wrong}"
            for name in os.listdir(folder):
                (folder / name).unlink()
    return count


def test_no_column_is_read_as_something_else(sound: tuple[Path, Expected], tmp_path: Path) -> None:
    assert changed(sound, tmp_path, random.Random(1), 0) > 70


@pytest.mark.campaign
def test_columns(
    sound: tuple[Path, Expected], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    count = changed(sound, tmp_path, random.Random(2), 4 if FULL else 1)
    record_property("counts", f"columns changed: {count}, read wrong: 0")


@pytest.mark.parametrize("table", ["events", "nodes", "owners", "results", "works"])
def test_a_missing_row_is_noticed(sound: tuple[Path, Expected], tmp_path: Path, table: str) -> None:
    path, expected = sound
    found = {
        str(cell.key): cell for cell in cells(path, random.Random(3), 3) if cell.table == table
    }
    if table == "events":  # without the last it is as if that had never been saved
        last = max(found.values(), key=lambda cell: int(cell.key["seq"]))
        del found[str(last.key)]
    assert found
    for cell in found.values():
        copy = tmp_path / "copy"
        shutil.copy(path, copy)
        remove(copy, cell)
        refused, wrong = look(copy, expected, resumes=False)
        assert refused, f"{cell} removed"
        allowed = UNDER_ANOTHER_NAME["works", "fingerprint"] if table == "works" else []
        assert not wrong or wrong == allowed, f"{cell} removed: {wrong}"


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_damage(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    part: int,
    record_property: Callable[[str, object], None],
) -> None:
    """Each part has a ledger of its own."""
    variant = VARIANTS[part % len(VARIANTS)]
    sound = make_sound(tmp_path_factory.mktemp("sound"), variant)
    first = 1000 + part * ROUNDS
    counts = damaged(sound, tmp_path, range(first, first + ROUNDS))
    told = [f"{name}: {counts[name]}" for name in ("rounds", "refused", "unharmed")]
    record_property("counts", f"damage of {variant!r}: {', '.join(told)}, read wrong: 0")
    assert counts["rounds"] == ROUNDS


def test_a_task_that_the_index_of_a_large_file_has_lost_is_noticed(
    sound: tuple[Path, Expected], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file is not searched for missing rows when it is opened."""
    path, expected = sound
    first = expected.parts["ids"][0][5]
    monkeypatch.setattr(schema, "SMALL_BYTES", 0)
    copy = tmp_path / "copy"
    shutil.copy(path, copy)
    lose_from_index(copy, first)
    with SQLiteStore(copy) as store:
        for read in (store.tasks.__getitem__, lambda key: store.events.read(task=key)):
            with pytest.raises(StoreError, match="index of the ids"):
                read(first)
        assert store.check() != []
    with SQLiteStore(path) as store, pytest.raises(KeyError):
        store.tasks["another"]


def lose_from_index(path: Path, task_id: str) -> None:
    """Change an id in the index of ``tasks``, where the number of its row follows it."""
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("SELECT seq FROM tasks WHERE id=?", (task_id,)).fetchone()
    assert 1 < number < 128
    data, entry = path.read_bytes(), task_id.encode() + bytes((number,))
    assert data.count(entry) == 1
    at = data.index(entry)
    path.write_bytes(data[:at] + b"!" + data[at + 1 :])


def test_rows_in_disorder_are_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged tree may give the same rows for every number that they are to be above."""

    def fetch(check: Check, sql: str, *values: object) -> list[Any]:
        return [(5, "a graph")] if "FROM graphs" in sql else []

    monkeypatch.setattr(Check, "_fetch", fetch)
    with SQLiteStore(":memory:") as store:
        problems = store.check()
    assert problems[-1] == "Ledger ':memory:' is damaged: rows in disorder"
