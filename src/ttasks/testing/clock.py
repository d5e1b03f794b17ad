"""FakeClock: time that stands still until a test moves it."""

from __future__ import annotations

from threading import Condition, Lock

from ttasks.model.checks import check_number
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

    Its condition owns the time and the ends of the waits.

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

    def __init__(self) -> None:
        self._changed = Condition()
        self._now = 0.0
        self._waits: list[float] = []  # when each wait is over

    def now(self) -> float:
        """Seconds that the clock has been moved so far."""
        return self._now

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
        return [end for end in self._waits if end > self._now]

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
        with self._changed:
            self._waits.append(moment)
            self._changed.notify_all()
        try:
            # The lock is released by somebody who knows nothing of this clock, so look at both.
            while not lock.acquire(timeout=POLL_SECONDS):
                if self._now >= moment:
                    return lock.acquire(False)
            return True
        finally:
            with self._changed:
                self._waits.remove(moment)
