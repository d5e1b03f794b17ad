"""A slot is run once by any number of processes, also when they are killed on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import schedule_host
import ttasks
from schedulekit import at
from support import WAIT
from ttasks import SQLiteStore, TaskExecutor, TaskGraph
from ttasks.schedule import Scheduler
from ttasks.testing import FakeClock

FULL = os.environ.get("TTASKS_CAMPAIGN") == "full"


def host(*words: str) -> subprocess.Popen[str]:
    source = Path(ttasks.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, schedule_host.__file__, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{source}:{Path(__file__).parents[1]}"},
    )


def log(folder: Path) -> list[str]:
    file = folder / "log"
    return file.read_text().splitlines() if file.exists() else []


def killed_at(folder: Path, point: str, key: str = "") -> None:
    process = host("die", str(folder), point, key)
    _, err = process.communicate(timeout=WAIT * 3)
    assert process.returncode == -signal.SIGKILL, err


@contextmanager
def survivor(folder: Path, key: str = "", second: float = 11.0, **options: str) -> Iterator[tuple]:
    """A scheduler with the same schedule, one second after the slot; its ledger and its clock."""
    clock = FakeClock(at(second))
    with SQLiteStore(folder / "ledger") as store, TaskExecutor(store, clock=clock) as executor:
        scheduler = Scheduler(executor, on_error="log")

        def build() -> TaskGraph:
            return schedule_host.build(folder, key, schedule_host.second)

        scheduler.every(10, name="s", **options).do(build)
        try:
            yield scheduler, store, clock
        finally:
            scheduler.stop()
            assert store.check() == []


@pytest.mark.parametrize("key", ["", "k"])
@pytest.mark.parametrize("point", ["claimed", "begun"])
def test_what_had_not_begun_is_run(tmp_path: Path, point: str, key: str) -> None:
    killed_at(tmp_path, point, key)
    assert log(tmp_path) == []
    with survivor(tmp_path, key) as (scheduler, store, _):
        (future,) = scheduler.tick()
        assert future.slot == at(10)
        assert future.result(WAIT).ok
        assert [(one.slot, one.outcome) for one in store.slots.list()] == [(at(10), "ok")]
    assert log(tmp_path) == ["first", "third"]


def test_a_graph_with_a_key_is_resumed(tmp_path: Path) -> None:
    killed_at(tmp_path, "running", "k")
    assert log(tmp_path) == ["first"]
    with survivor(tmp_path, "k") as (scheduler, store, _):
        (future,) = scheduler.tick()
        run = future.result(WAIT)
        assert (run.ok, run.head().slot) == (True, at(10))
        assert run.facts().find("first").reused
        assert [item.outcome for item in store.runs.list()] == ["ok", "interrupted"]
        assert [one.outcome for one in store.slots.list()] == ["ok"]
    assert log(tmp_path) == ["first", "third"]


def test_a_graph_without_a_key_is_told_as_interrupted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed_at(tmp_path, "running")
    with survivor(tmp_path) as (scheduler, store, clock):
        (future,) = scheduler.tick()
        with pytest.raises(ttasks.ScheduleError, match="it has no key"):
            future.result(WAIT)
        scheduler.stop()
        assert "cannot be resumed" in caplog.text
        assert [one.outcome for one in store.slots.list()] == ["interrupted"]
        clock.advance(10)
        (future,) = scheduler.tick()
        assert future.result(WAIT).ok
    assert log(tmp_path) == ["first", "first", "third"]


@pytest.mark.parametrize("point", ["run", "ended"])
def test_what_had_ended_is_not_run_again(tmp_path: Path, point: str) -> None:
    killed_at(tmp_path, point, "k")
    with survivor(tmp_path, "k") as (scheduler, store, _):
        for future in scheduler.tick():
            assert future.result(WAIT).ok  # the run of then
        assert [one.outcome for one in store.slots.list()] == ["ok"]
        assert len(store.runs.list()) == 1
    assert log(tmp_path) == ["first", "third"]


@pytest.mark.parametrize(("point", "outcome"), [("claimed", "missed"), ("running", "interrupted")])
def test_what_is_too_late_is_told_and_not_run(
    tmp_path: Path, point: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    killed_at(tmp_path, point, "k")
    with survivor(tmp_path, "k", second=35) as (scheduler, store, _):
        (future,) = scheduler.tick()
        assert (future.slot, future.result(WAIT).ok) == (at(30), True)
        found = {one.slot: one.outcome for one in store.slots.list()}
        assert found == {at(10): outcome, at(30): "ok"}
        assert "it is too late" in caplog.text


def test_with_all_what_was_interrupted_is_resumed_before_the_others(tmp_path: Path) -> None:
    killed_at(tmp_path, "running", "k")
    with survivor(tmp_path, "k", second=25, missed="all", overlap="queue") as (scheduler, store, _):
        found = []
        while futures := scheduler.tick():
            found += [future.slot for future in futures if future.result(WAIT).ok]
        assert found == [at(10), at(20)]
        assert [one.outcome for one in store.slots.list()] == ["ok", "ok"]


def test_a_slot_of_a_process_that_lives_is_left_to_it(tmp_path: Path) -> None:
    with survivor(tmp_path, second=5) as (one, store, its_clock):
        its_clock.advance(5)
        (future,) = one.tick()
        with survivor(tmp_path, second=5) as (other, _, clock):
            clock.advance(5)
            assert other.tick() == []
            assert future.result(WAIT).ok
            clock.advance(10)
            (second,) = other.tick()
            assert second.result(WAIT).ok
            assert [slot.slot for slot in store.slots.list()] == [at(20), at(10)]


def test_a_killed_owner_is_noticed_while_another_process_lives(tmp_path: Path) -> None:
    with survivor(tmp_path, "k", second=5) as (scheduler, _, clock):
        assert scheduler.tick() == []
        killed_at(tmp_path, "running", "k")
        clock.advance(5)
        assert scheduler.tick() == []  # the slot is taken
        clock.advance(1.5)
        (future,) = scheduler.tick()
        assert future.result(WAIT).ok
    assert log(tmp_path) == ["first", "third"]


@pytest.mark.campaign
def test_four_processes_with_kills_run_each_slot_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    chosen = random.Random(1)
    hosts = [host("live", str(tmp_path)) for _ in range(4)]
    kills = 0
    end = time.monotonic() + (120 if FULL else 15)
    try:
        for process in hosts:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        while time.monotonic() < end:
            time.sleep(chosen.uniform(0.05, 0.5))
            at_place = chosen.randrange(4)
            hosts[at_place].kill()
            hosts[at_place].communicate()
            hosts[at_place] = host("live", str(tmp_path))
            assert hosts[at_place].stdout.readline() == "ready\n"  # type: ignore[union-attr]
            kills += 1
        time.sleep(2.0)  # so that the survivors see to what is left
        for process in hosts:
            out, err = process.communicate("stop\n", timeout=WAIT)
            assert (out, err.strip().count("Traceback")) == ("ended\n", 0)
    finally:
        for process in hosts:
            process.kill()
            process.communicate()
    ran = Counter(line.split()[1] for line in log(tmp_path))
    with SQLiteStore(tmp_path / "ledger") as store:
        assert store.check() == []
        slots = store.slots.list()
        outcomes = Counter(one.outcome for one in slots)
        assert None not in outcomes
        assert len({(one.schedule, one.slot) for one in slots}) == len(slots)
        heads = [run.head() for run in store.runs.list()]
        runs = Counter((head.schedule, head.slot) for head in heads if head.outcome == "ok")
    assert max(runs.values()) == 1
    ended = Counter(one.schedule for one in slots if one.outcome == "ok")
    broken = Counter(one.schedule for one in slots if one.outcome == "interrupted")
    for name in schedule_host.NAMES:
        # A task that had run when its process was killed may belong to a slot that did not end.
        assert ended[name] <= ran[name] <= ended[name] + broken[name]
    record_property("counts", f"kills: {kills}, slots: {len(slots)}, {dict(outcomes)}")
