"""What it costs to know what a run did, and how long it takes to tell.

In memory the plan notes when a task was ready, taken and finished, which it does in any case, so
there is nothing to switch off; the share of functions that nothing but facts needs is taken from
a profile. With a ledger, and for tasks without a graph, the same work is measured with and without,
by the clock and by the time of the processor, which other work on the machine changes less.

    python benchmarks/facts.py
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import figures
from graphs import LIFECYCLE, NOOP, WORKERS, build, layered, noop

from ttasks import InMemoryStore, SQLiteStore, Store, Task, TaskExecutor
from ttasks.engine.recorder import Recorder
from ttasks.engine.single import SingleTasks

FILES = ("history.py", "timeline.py", "gather.py", "model/run.py", "memory_runs.py", "run_log.py")
"""Where the functions are that nothing but facts needs."""

Work = Callable[[TaskExecutor], int]
"""Returns the number of its tasks."""


def graph(count: int, executor: TaskExecutor) -> int:
    """A layered graph of no-op tasks."""
    build(layered(count)).run(executor, max_workers=WORKERS)
    return count


def execute(count: int, executor: TaskExecutor) -> int:
    """Tasks one by one."""
    for at in range(count):
        executor.execute(Task(str(at), None, NOOP))
    return count


def submit(count: int, executor: TaskExecutor) -> int:
    """Tasks submitted, all at once."""
    futures = [executor.submit(Task(str(at), None, NOOP)) for at in range(count)]
    for future in futures:
        future.result()
    return count


@contextmanager
def without_facts() -> Iterator[None]:
    """Keep no notes in ledgers, and give single tasks no run."""
    init, note = Recorder.__init__, SingleTasks.note

    def forgetful(self: Recorder, *args: object, **options: object) -> None:
        init(self, *args, **options)  # type: ignore[arg-type]
        self.keeps_notes = False

    Recorder.__init__, SingleTasks.note = forgetful, lambda *_: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Recorder.__init__, SingleTasks.note = init, note  # type: ignore[method-assign]


def measure(work: Work, *, ledger: bool, facts: bool, clock: Callable[[], float]) -> float:
    """Microseconds per task."""
    with tempfile.TemporaryDirectory() as folder:
        store: Store = SQLiteStore(Path(folder) / "ledger") if ledger else InMemoryStore()
        try:
            if facts:
                return _measured(work, store, clock)
            with without_facts():
                return _measured(work, store, clock)
        finally:
            store.close()


def _measured(work: Work, store: Store, clock: Callable[[], float]) -> float:
    with TaskExecutor.empty(store, max_workers=WORKERS) as executor:
        executor.register(NOOP, noop)
        executor.events.subscribe(noop, types=LIFECYCLE)
        gc.collect()
        begin = clock()
        count = work(executor)
        return (clock() - begin) / count * 1e6


def share(count: int) -> float:
    """Percent of a run in memory that is spent in functions of facts."""
    with TaskExecutor.empty(InMemoryStore()) as executor:
        executor.register(NOOP, noop)
        executor.events.subscribe(noop, types=LIFECYCLE)
        described = build(layered(count))
        profile = cProfile.Profile()
        with profile:
            described.run(executor, max_workers=1)
    entries = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    mine = sum(entry[2] for where, entry in entries.items() if where[0].endswith(FILES))
    return float(100 * mine / sum(entry[2] for entry in entries.values()))


def told(count: int, folder: Path) -> dict[str, float]:
    """Microseconds per task to make facts from memory and from a ledger."""
    with SQLiteStore(folder / "ledger") as store, TaskExecutor.empty(store) as executor:
        executor.register(NOOP, noop)
        described = build(layered(count))
        described.run(executor, max_workers=WORKERS)
        run = described.latest_run
        assert run is not None
        took = {}
        for name, source in (("memory", run), ("a ledger", store.runs[run.id])):
            begin = time.perf_counter()
            facts = source.facts()
            took[name] = (time.perf_counter() - begin) / count * 1e6
            assert len(facts.tasks) == count
    return took


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=5).parse_args()
    count = 1000 if options.quick else 5000
    table = figures.Table(options)
    table.row("share of facts in a run in memory", "%", [share(count)], at_most=5)
    kinds: list[tuple[str, Work, bool]] = [
        ("graph, ledger", partial(graph, count), True),
        ("execute", partial(execute, count // 5), False),
        ("submit", partial(submit, count), False),
        ("execute, ledger", partial(execute, count // 10), True),
    ]
    for name, work, ledger in kinds:
        for unit, clock in (("clock", time.perf_counter), ("processor", time.process_time)):
            side = partial(measure, work, ledger=ledger, clock=clock)
            values = table.in_turns(
                {"with": partial(side, facts=True)}, {"without": partial(side, facts=False)}
            )
            limit = 1.05 if unit == "clock" else None
            table.row(
                f"{name}, {unit}: with / without facts",
                "us/task",
                values["with"],
                values.get("without"),
                at_most=limit,
            )
    with tempfile.TemporaryDirectory() as folder:
        for name, microseconds in told(count, Path(folder)).items():
            table.row(f"facts of {count} tasks from {name}", "us/task", [microseconds])
    table.close()


if __name__ == "__main__":
    main()
