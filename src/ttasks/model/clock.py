"""Clock: where the engine gets the time from, and how it waits."""

from __future__ import annotations

from time import monotonic, time
from typing import Protocol

from ttasks import sync


class Clock(Protocol):
    """The time, for durations, timeouts, backoffs and breakers. Thread-safe.

    Only schedules need ``wall`` and ``wait_until_wall``. `ttasks.testing.FakeClock` is a clock that
    tests move by hand.
    """

    def now(self) -> float:
        """Seconds from some fixed moment; never goes back."""

    def wait_until(self, lock: sync.Lock, moment: float | None) -> bool:
        """Acquire ``lock``, waiting until ``moment`` (None: for ever); False if time was up.

        A moment and not a number of seconds, so that nothing is lost if the clock moves before the
        wait begins.
        """

    def wall(self) -> float:
        """Seconds since 1970 in UTC, as the clock on the wall has it; it may be set at any time."""

    def wait_until_wall(self, lock: sync.Lock, moment: float | None) -> bool:
        """Like ``wait_until`` by ``wall``; a clock that is set ends the wait early."""


SIGNAL_SECONDS = 0.1
"""Seconds that a signal may go unnoticed by a wait of the main thread."""


SET_SECONDS = 2.0
"""Seconds by which the clock on the wall is set for a wait to end, and until it is noticed."""


class SystemClock:
    """The monotonic clock of the system, and the one on its wall."""

    now = staticmethod(monotonic)
    wall = staticmethod(time)

    @staticmethod
    def wait_until(lock: sync.Lock, moment: float | None) -> bool:
        """See `Clock`."""
        if sync.current_thread() is not sync.main_thread():
            return lock.acquire(timeout=-1 if moment is None else _bounded(moment - monotonic()))
        # In slices: a signal that arrives just before the wait begins does not end it, and its
        # handler would not be called before the end of the wait.
        while True:
            left = SIGNAL_SECONDS if moment is None else min(SIGNAL_SECONDS, moment - monotonic())
            if lock.acquire(timeout=_bounded(left)):
                return True
            if moment is not None and monotonic() >= moment:
                return False

    @staticmethod
    def wait_until_wall(lock: sync.Lock, moment: float | None) -> bool:
        """See `Clock`."""
        if moment is None:
            return SystemClock.wait_until(lock, None)
        before = time() - monotonic()
        while (left := moment - time()) > 0 and abs(time() - monotonic() - before) < SET_SECONDS:
            if SystemClock.wait_until(lock, monotonic() + min(left, SET_SECONDS)):
                return True
        return lock.acquire(False)


def _bounded(seconds: float) -> float:
    return max(0.0, min(seconds, sync.TIMEOUT_MAX))


SYSTEM_CLOCK = SystemClock()


class Bell:
    """Wakes one thread that waits by a clock. Thread-safe.

    ``ring`` waits for no lock, so a signal handler may call it between any two lines.
    """

    __slots__ = ("_clock", "_lock")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = sync.Lock()  # protects nothing: it is released to ring
        self._lock.acquire()

    def ring(self) -> None:
        """End the wait, or the next one."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it rings already

    def wait_until(self, moment: float | None) -> None:
        """Wait until it rings, or until that moment; None means no limit."""
        self._clock.wait_until(self._lock, moment)

    def wait_until_wall(self, moment: float | None) -> None:
        """Like `wait_until`, by the clock on the wall."""
        self._clock.wait_until_wall(self._lock, moment)
