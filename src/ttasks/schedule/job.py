"""Job: the run of one slot, from its claim to its end."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ttasks.model.run import Run
from ttasks.schedule.rules import from_micros

if TYPE_CHECKING:
    from ttasks.model.graph import TaskGraph
    from ttasks.model.slots import Claim


class SlotFuture(Future[Run]):
    """The run of a slot: a `concurrent.futures.Future` that can be awaited. Thread-safe.

    Its result is the `Run` once that has ended, whatever its outcome. It raises `ScheduleError` if
    there was no run. ``cancel()`` prevents a run that has not begun; a coroutine that awaits the
    future and is cancelled stops the run.

    Attributes:
        schedule: name of the schedule.
        slot: the moment that the run is for, aware UTC.
    """

    def __init__(self, schedule: str, slot: datetime, stop: Callable[[], None]) -> None:
        super().__init__()
        self.schedule = schedule
        self.slot = slot
        self._stop = stop

    def __await__(self) -> Generator[Any, Any, Run]:
        from ttasks.engine.bridge import wait_submitted

        return wait_submitted(self, self._stop).__await__()


class Job:
    """The run of one slot.

    Attributes:
        claim: of the slot.
        make: makes the graph.
        waits: wait while somebody else runs a graph of the same key.
        context: the variables that it runs with.
        future: of the run.
    """

    def __init__(
        self, claim: Claim, make: Callable[[], TaskGraph], waits: bool, context: Context
    ) -> None:
        self.claim = claim
        self.make = make
        self.waits = waits
        self.context = context
        self.future = SlotFuture(claim.schedule, from_micros(claim.slot), self.cancel)
        # Set once by the thread that runs it; the other by any thread. `cancel` and `prepare` each
        # write their own field first and read the other's then, so one of them sees both.
        self._graph: TaskGraph | None = None
        self._cancels = 0

    def prepare(self) -> TaskGraph:
        """Make the graph; its tasks are cancelled if the job is."""
        graph = self.make()
        self._graph = graph
        if self._cancels:
            graph.cancel()
        return graph

    def cancel(self) -> None:
        """Stop the run; its finally tasks run. The second time, kill what is left."""
        self._cancels += 1
        self.future.cancel()
        graph = self._graph
        if graph is None:
            return
        if self._cancels == 1:
            graph.cancel()
        else:
            graph.request_cancel()
            graph.request_cancel()

    @property
    def is_cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._cancels > 0
