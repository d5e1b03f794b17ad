"""CancelToken: the one-way signal that asks running work to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from ttasks.model.clock import SYSTEM_CLOCK, Clock


class CancelToken:
    """A one-way flag with two levels: ``cancelled``, then ``killed``.

    ``reason`` says why the first level was raised: "cancelled", "timeout" or "interrupted".

    Thread-safe. The lock owns the callbacks and orders a callback's registration against the
    signal; it is never held while a callback runs. Callbacks are called once per level, on the
    thread that cancels, and must be quick and not raise: they wake up whoever is waiting.
    """

    __slots__ = ("_callbacks", "_lock", "cancelled", "killed", "reason")

    def __init__(self) -> None:
        self._lock = Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.cancelled = False
        self.killed = False
        self.reason: str | None = None

    def cancel(self, reason: str = "cancelled", *, kill: bool = False) -> bool:
        """Raise the signal; with ``kill`` also skip every grace period.

        Returns:
            True if this call changed something, False if the signal stood already.
        """
        with self._lock:
            if self.cancelled and (self.killed or not kill):
                return False
            if self.reason is None:
                self.reason = reason
            self.cancelled = True
            self.killed = self.killed or kill
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()
        return True

    def add_callback(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` at each signal, at once if one stands already; returns its removal."""
        with self._lock:
            self._callbacks.append(callback)
            stands = self.cancelled

        def remove() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        if stands:
            callback()
        return remove

    def wait(self, seconds: float, clock: Clock = SYSTEM_CLOCK) -> bool:
        """Wait up to ``seconds`` for the signal; True if it stands."""
        if not self.cancelled:
            moment = clock.now() + seconds
            rung = Lock()
            rung.acquire()

            def ring() -> None:
                with suppress(RuntimeError):  # it rings already
                    rung.release()

            remove = self.add_callback(ring)
            try:
                clock.wait_until(rung, moment)
            finally:
                remove()
        return self.cancelled
