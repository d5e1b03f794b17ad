"""How late slots begin: over 10,000 intervals, and in a tick with 1,000 schedules.

Drift is how much later the last tenth of the slots begins than the first tenth (medians). The slots
of the second measurement are all due at once; their graphs have one task that does nothing.

    python benchmarks/schedules.py [--quick]
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import figures

from ttasks import SQLiteStore, Store, Task, TaskExecutor, TaskGraph
from ttasks.schedule import Scheduler
from ttasks.testing import FakeClock

INTERVAL_SECONDS = 0.005


def nothing() -> None:
    """Do nothing."""


def drift(intervals: int) -> tuple[list[float], int]:
    """How late the graph of each slot is made, in milliseconds; and how many slots were not run."""
    late: list[float] = []
    done = threading.Event()

    def make() -> TaskGraph:
        slot = first + len(late) * INTERVAL_SECONDS  # none is left out, see `missed`
        late.append((time.time() - slot) * 1e3)
        if len(late) >= intervals:
            done.set()
        return TaskGraph("empty")

    with TaskExecutor() as executor:
        scheduler = Scheduler(executor)
        schedule = scheduler.every(INTERVAL_SECONDS, overlap="queue", missed="all").do(make)
        first = schedule.next()[0].timestamp()
        with scheduler:
            done.wait()
        return late, schedule.missed + schedule.skipped


def tick(schedules: int, store: Store | None) -> tuple[float, float]:
    """Milliseconds of a tick in which all are due, and until all their runs have ended."""
    clock = FakeClock()
    with TaskExecutor(store, clock=clock, max_workers=2) as executor:
        scheduler = Scheduler(executor, max_runs=8)
        for number in range(schedules):
            scheduler.every(60, name=f"s{number}").do(Task.python(nothing))
        scheduler.tick()
        clock.advance(60)
        begin = time.perf_counter()
        futures = scheduler.tick()
        ticked = time.perf_counter()
        for future in futures:
            future.result()
        assert len(futures) == schedules
        return (ticked - begin) * 1e3, (time.perf_counter() - begin) * 1e3


def main() -> None:
    options = figures.parser(__doc__, repeat=3).parse_args()
    table = figures.Table(options)
    intervals, schedules = (1000, 200) if options.quick else (10_000, 1000)
    late, left_out = drift(intervals)
    tenth = intervals // 10
    table.row("delay of a slot, median", "ms", late)
    moved = median(late[-tenth:]) - median(late[:tenth])
    table.row(f"drift over {intervals:,} intervals of 5 ms", "ms", [moved])
    table.row("slots left out", "slots", [float(left_out)])
    for name in ("no store", "ledger"):
        found = []
        for _ in range(options.repeat):
            with tempfile.TemporaryDirectory() as folder:
                store = SQLiteStore(Path(folder) / "ledger") if name == "ledger" else None
                found.append(tick(schedules, store))
                if store is not None:
                    store.close()
        ticks, alls = zip(*found, strict=True)
        table.row(f"tick with {schedules:,} schedules, {name}", "ms", list(ticks))
        table.row(f"until their {schedules:,} runs end, {name}", "ms", list(alls))
    table.close()


if __name__ == "__main__":
    main()
