"""A full disk, and a ledger that others keep locked: what was announced holds, and work goes on."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import fulldisk_host
import ttasks
from ttasks import SQLiteStore, StoreError, Task, TaskEventType, TaskExecutor, TaskGraph, TaskType
from ttasks.stores.sqlite import connection as sqlite_connection

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")

FULL = os.environ.get("TTASKS_CAMPAIGN") == "full"
WAYS = [(how, strict) for how in ("again", "new", "killed") for strict in ("strict", "lenient")]
TITLES = [*map(str, range(fulldisk_host.COUNT)), "last"]
KIND = TaskType("work")


def host(folder: Path, size: int, how: str, strict: str) -> tuple[int, list[str]]:
    source = Path(ttasks.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, fulldisk_host.__file__, str(folder), str(size), how, strict],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        timeout=120,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, done.stdout.splitlines()


def fill(folder: Path, size: int, how: str, strict: str) -> Counter[str]:
    """One round; what happened in it."""
    code, said = host(folder, size, how, strict)
    at = said.index("again") if "again" in said else len(said)
    first, second = said[:at], said[at:]
    if code:
        assert host(folder, 0, "finish", strict)[0] == 0
        second = host(folder, 0, "finish", strict)[1]  # nothing is left to be done
        assert not [line for line in second if line.startswith("ran")]
    assert not [line for line in said + second if line.startswith(("missed", "damaged"))], said
    assert second[-1] == "ok"
    announced = {line for line in first if line.startswith("done")}
    again = {line.replace("ran", "done") for line in second if line.startswith("ran")}
    if strict == "strict" or how != "killed":
        assert not announced & again, "announced, and run again"
    stopped = first[-1:] == ["stopped"]
    if stopped and any(line.startswith("ran") for line in first):
        assert "ran last" in first, "the finally task did not run"
    with SQLiteStore(folder / "ledger") as store:
        graph = store.graphs[store.graphs.keyed(fulldisk_host.KEY)[0]]
        assert sorted(task.title for task in graph.succeeded) == sorted(TITLES)
    return Counter(rounds=1, stopped=stopped, rerun=len(again))


@pytest.mark.parametrize(("how", "strict"), WAYS)
def test_a_full_disk(tmp_path: Path, how: str, strict: str) -> None:
    counts = fill(tmp_path, 90_000, how, strict)
    assert counts["stopped"] == (strict == "strict")


@pytest.mark.campaign
@pytest.mark.parametrize(("how", "strict"), WAYS)
def test_full_disks(tmp_path: Path, how: str, strict: str) -> None:
    counts: Counter[str] = Counter()
    chosen = random.Random(f"{how} {strict}")
    for number in range(60 if FULL else 3):
        folder = tmp_path / str(number)
        folder.mkdir()
        counts += fill(folder, chosen.randint(70_000, 260_000), how, strict)
    print(f"full disks, {how}, {strict}: {dict(counts)}, announced and lost or run again: 0")


@pytest.mark.parametrize("strict", [False, True])
def test_a_ledger_that_others_keep_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    monkeypatch.setattr(sqlite_connection, "LOCK_TIMEOUT_SECONDS", 0.05)
    path = tmp_path / "ledger"
    ran, told = [], []
    with (
        SQLiteStore(path) as store,
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        TaskExecutor(store, strict_persistence=strict) as executor,
    ):

        def work(context: ttasks.TaskContext) -> str:
            ran.append(context.title)
            if context.title == "a":
                other.execute("BEGIN IMMEDIATE")
            return context.title

        executor.register(KIND, work)
        executor.events.subscribe(
            lambda event: told.append(event.task.title), types=[TaskEventType.SUCCEEDED]
        )
        graph = TaskGraph("locked", key="locked")
        first = graph.add(Task("a", None, KIND))
        second = graph.add(Task("b", None, KIND), after=first)
        graph.add(Task("last", None, KIND), after=second, finally_=True)
        graph.run(executor, 1)
        other.execute("ROLLBACK")
        assert graph.ok is not strict
        assert ran == (["a", "last"] if strict else ["a", "b", "last"])
        assert told == ([] if strict else ran)
        assert isinstance(graph.run_error, StoreError) is strict
        error = str(executor.persistence_errors[first.id])
        assert "other processes keep it locked" in error
        again = TaskGraph("locked", key="locked")
        again.add(Task("a", None, KIND))
        again.run(executor, resume=True)
        assert again.succeeded
        assert ran.count("a") == 1
        assert sorted(told) == sorted(set(ran) - {"b"} if strict else ran)
