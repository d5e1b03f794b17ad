"""Schedules on a clock that the script moves: a week of a nightly graph and a heartbeat."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.schedule import Scheduler
from ttasks.testing import FakeClock


def nightly() -> TaskGraph:
    """Called anew for each night. With a key, a night that was interrupted is resumed."""
    graph = TaskGraph("nightly", key="nightly")
    load = graph.add(Task.bash("echo load", title="load"))
    graph.add(Task.bash("echo publish", title="publish"), after=load)
    return graph


def main() -> None:
    clock = FakeClock(datetime(2026, 3, 27, tzinfo=UTC))  # a real program leaves this out
    with (
        tempfile.TemporaryDirectory() as folder,
        SQLiteStore(Path(folder) / "ledger.sqlite") as store,
        TaskExecutor(store, clock=clock) as executor,
    ):
        scheduler = Scheduler(executor, on_error="raise")
        night = scheduler.cron("30 2 * * *", tz="Europe/Berlin").do(nightly)
        beat = scheduler.every(6 * 3600).do(Task.bash("echo still here", title="heartbeat"))
        print("next:", *[f"{slot:%a %H:%M}" for slot in night.next(3)])
        for _ in range(7 * 4):
            clock.advance(6 * 3600)
            for future in scheduler.tick():  # with a real clock, `with scheduler:` does this
                run = future.result()
                if future.schedule == night.name:
                    local = future.slot.astimezone(night.next()[0].tzinfo)
                    print(f"{local:%a %d %B %H:%M %Z}: {run.outcome}")
        print(f"{night.started} nights, {beat.started} heartbeats")
        assert (night.started, beat.started) == (7, 28)
        assert {slot.outcome for slot in store.slots.list()} == {"ok"}


if __name__ == "__main__":
    main()
