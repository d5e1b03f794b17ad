"""What tests of schedules share: an executor with a clock to move, and what ran for which slot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from support import CUSTOM, WAIT, Gate
from ttasks import Store, Task, TaskExecutor
from ttasks.schedule import Schedule, Scheduler, SlotFuture
from ttasks.testing import FakeClock

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment, so many seconds after the start of the clock."""
    return START + timedelta(seconds=seconds)


class Bench:
    """A scheduler with a fake clock; its tasks do what ``handler`` does."""

    def __init__(self, executor: TaskExecutor, clock: FakeClock, scheduler: Scheduler) -> None:
        self.executor = executor
        self.clock = clock
        self.scheduler = scheduler
        self.handler: Callable[[Any], Any] = lambda context: None
        executor.register(CUSTOM, lambda context: self.handler(context))

    def tick(self, seconds: float = 0.0) -> list[SlotFuture]:
        self.clock.advance(seconds)
        return self.scheduler.tick()

    def ran(self, seconds: float = 0.0) -> list[float]:
        """Tick, wait for all that began, and tell for which slots, in seconds since the start."""
        futures = self.tick(seconds)
        for future in futures:
            assert future.result(WAIT).ok
        return [(future.slot - START).total_seconds() for future in futures]

    def ran_at_last(self, seconds: float = 0.0) -> list[float]:
        """`ran`, again and again until nothing waits: a slot may begin in the tick of another."""
        found = self.ran(seconds)
        while more := self.ran():
            found += more
        return found

    def gate(self) -> Gate:
        """Let the next task stop at a gate, and those after it pass."""
        gate, lock = Gate(), threading.Lock()

        def handle(context: Any) -> Any:
            is_first = lock.acquire(False)
            if not is_first:
                return None
            gate.reached.set()
            for _ in range(int(WAIT * 100)):
                if gate.opened.wait(0.01) or context.cancelled:
                    context.raise_if_cancelled()
                    return None
            raise AssertionError("nobody opened the gate")

        self.handler = handle
        return gate


@contextmanager
def bench(store: Store | None = None, **options: Any) -> Iterator[Bench]:
    clock = FakeClock()
    with TaskExecutor(store, clock=clock) as executor:
        scheduler = Scheduler(executor, **options)
        try:
            yield Bench(executor, clock, scheduler)
        finally:
            scheduler.stop(cancel=True)


def work(title: str = "work", **options: Any) -> Task:
    return Task(title, None, CUSTOM, **options)


def numbers(schedule: Schedule) -> tuple[int, int, int]:
    return schedule.started, schedule.skipped, schedule.missed
