"""A ledger that was damaged gives what was written, or a StoreError, and never anything else."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import damagekit
import ttasks
from damagekit import WAYS, Expected, look

FULL = os.environ.get("TTASKS_CAMPAIGN") == "full"
PARTS = 10  # for several processes
ROUNDS = 500 if FULL else 10


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Expected]:
    """A ledger whose process was killed, its log moved into the file, and what it holds."""
    folder = tmp_path_factory.mktemp("sound")
    path = folder / "ledger"
    source = Path(ttasks.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, damagekit.__file__, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    expected = Expected(path, folder / "copy")
    assert not Path(f"{path}-wal").exists()
    return path, expected


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


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_damage(sound: tuple[Path, Expected], tmp_path: Path, part: int) -> None:
    first = 1000 + part * ROUNDS
    counts = damaged(sound, tmp_path, range(first, first + ROUNDS))
    print(
        ", ".join(f"{name}: {counts[name]}" for name in ("rounds", "refused", "unharmed")), end=""
    )
    print(", read wrong: 0")
    assert counts["rounds"] == ROUNDS
