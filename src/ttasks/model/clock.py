"""Clock: where the engine gets the time from, and how it waits."""

from __future__ import annotations

from threading import TIMEOUT_MAX, Lock
from time import monotonic
from typing import Protocol


class Clock(Protocol):
    """The time, for durations, timeouts, backoffs and breakers. Thread-safe.

    `ttasks.testing.FakeClock` is one that tests move by hand.
    """

    def now(self) -> float:
        """Seconds from some fixed moment; never goes back."""

    def wait(self, lock: Lock, seconds: float | None) -> bool:
        """Acquire ``lock``, waiting at most ``seconds`` (None: for ever); False if time was up."""


class SystemClock:
    """The monotonic clock of the system."""

    @staticmethod
    def now() -> float:
        """See `Clock`."""
        return monotonic()

    @staticmethod
    def wait(lock: Lock, seconds: float | None) -> bool:
        """See `Clock`."""
        if seconds is None:
            return lock.acquire()
        return lock.acquire(timeout=max(0.0, min(seconds, TIMEOUT_MAX)))


SYSTEM_CLOCK = SystemClock()
