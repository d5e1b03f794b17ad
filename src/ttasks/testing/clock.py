"""FakeClock: time that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from threading import Condition, Lock

from ttasks.model.checks import check_moment, check_number, wrong_type
from ttasks.model.clock import SIGNAL_SECONDS

POLL_SECONDS = 0.001
PATIENCE_SECONDS = 10.0
"""Real seconds after which a wait for something that does not happen fails."""


class FakeClock:
    """A clock that stands still until it is told to move. Thread-safe.

    Give it to an executor (``TaskExecutor(clock=FakeClock())``): backoff, timeouts of plain and
    ``async def`` handlers, graph timeouts, durations, breakers and ``context.wait_cancelled`` then
    go by it. Commands keep to their timeouts, and coroutines sleep, in real time.

    Time may jump over what has not begun to wait yet. So wait for what one step brings about
    (`EventRecorder.wait_for`, ``advance_to_next``) before you take the next one.

    Schedules go by its wall clock, which moves along, and which `set_wall` sets.

    Args:
        wall: the time on the wall at first, aware; None means 2026-01-01 00:00 UTC.

    Example:
        >>> from ttasks import RetryPolicy, Task, TaskExecutor, TaskType
        >>> clock, fake = FakeClock(), TaskType("fake")
        >>> with TaskExecutor(clock=clock) as executor:
        ...     executor.register(fake, FakeHandler(default=[OSError("down"), "page"]))
        ...     future = executor.submit(Task("get", None, fake, retry=RetryPolicy(2, 3600)))
        ...     moment = clock.advance_to_next()
        ...     print(future.result().value, "after", moment)
        page after 3600.0
    """

    def __init__(self, wall: datetime | None = None) -> None:
        self._changed = Condition()  # owns the times and the ends of the waits
        self._now = 0.0
        self._waits: list[float] = []  # when each wait is over
        self._wall_waits: list[float] = []  # the same, by the wall clock
        start = check_moment("wall", wall) or datetime(2026, 1, 1, tzinfo=UTC)
        self._offset = start.timestamp()  # of the wall clock
        self._settings = 0  # how often that was set

    def now(self) -> float:
        """Seconds that the clock has been moved so far."""
        return self._now

    def wall(self) -> float:
        """Seconds since 1970 on the wall, exact to the microsecond."""
        return round(self._offset + self._now, 6)

    def set_wall(self, moment: datetime) -> None:
        """Set the clock on the wall, as an administrator does; ``now`` stays as it is.

        Args:
            moment: aware.
        """
        if check_moment("moment", moment) is None:
            raise wrong_type("moment", moment, "an aware datetime")
        with self._changed:
            self._offset = moment.timestamp() - self._now
            self._settings += 1
            self._changed.notify_all()

    def advance(self, seconds: float) -> None:
        """Move the clock; waits whose time has come end.

        Args:
            seconds: at least 0.
        """
        check_number("seconds", seconds, least=0)
        with self._changed:
            self._now += seconds
            self._changed.notify_all()

    def advance_to_next(self) -> float:
        """Wait until something waits for this clock, move to the end of the first such wait.

        Returns:
            The time then.

        Raises:
            TimeoutError: nothing waited for ten real seconds.
        """
        with self._changed:
            self._wait_for_waits(1)
            self._now = min(self._ahead())
            self._changed.notify_all()
            return self._now

    def wait_for_waits(self, number: int = 1) -> None:
        """Wait, in real time, until so many waits with an end ahead are under way.

        Raises:
            TimeoutError: that took longer than ten real seconds.
        """
        with self._changed:
            self._wait_for_waits(number)

    def _wait_for_waits(self, number: int) -> None:
        if not self._changed.wait_for(lambda: len(self._ahead()) >= number, PATIENCE_SECONDS):
            raise TimeoutError(f"fewer than {number} wait for the fake clock")

    def _ahead(self) -> list[float]:
        """Ends of the waits that are not over; some of the others have yet to notice it."""
        wall = self.wall()
        by_wall = [end - self._offset for end in self._wall_waits if end > wall]
        return [end for end in self._waits if end > self._now] + by_wall

    @property
    def waiting(self) -> int:
        """How many waits with an end ahead are under way."""
        with self._changed:
            return len(self._ahead())

    def wait_until(self, lock: Lock, moment: float | None) -> bool:
        """See `ttasks.model.clock.Clock`."""
        if moment is None:
            while not lock.acquire(timeout=SIGNAL_SECONDS):
                pass  # in slices, as the system's clock does
            return True
        return self._wait(lock, moment, self._waits, self.now)

    def wait_until_wall(self, lock: Lock, moment: float | None) -> bool:
        """See `ttasks.model.clock.Clock`."""
        if moment is None:
            return self.wait_until(lock, None)
        return self._wait(lock, round(moment, 6), self._wall_waits, self.wall)

    def _wait(
        self, lock: Lock, moment: float, waits: list[float], clock: Callable[[], float]
    ) -> bool:
        with self._changed:
            waits.append(moment)
            settings = self._settings
            self._changed.notify_all()
        try:
            # The lock is released by somebody who knows nothing of this clock, so look at both.
            while not lock.acquire(timeout=POLL_SECONDS):
                is_set = waits is self._wall_waits and settings != self._settings
                if is_set or clock() >= moment:
                    return lock.acquire(False)
            return True
        finally:
            with self._changed:
                waits.remove(moment)
