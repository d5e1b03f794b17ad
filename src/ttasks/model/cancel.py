"""CancelToken: the one-way signal that asks running work to stop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ttasks import sync
from ttasks.errors import TaskCancelled
from ttasks.model.clock import SYSTEM_CLOCK, Clock


class CancelToken:
    """A one-way flag with two levels: ``cancelled``, then ``killed``.

    Thread-safe. Callbacks are called once per level, on the thread that cancels; they must be quick
    and must not raise; they wake up whoever is waiting.

    Attributes:
        cancelled: the work should stop.
        killed: it should stop without a grace period.
        reason: why: "cancelled", "timeout" or "interrupted", of a service also "stopped" (nothing
            needs it any more) or "not_ready"; None before.
        message: the same, for people; None stands for "Task was cancelled".
    """

    __slots__ = ("_callbacks", "_lock", "cancelled", "killed", "message", "reason")

    def __init__(self) -> None:
        # Owns the callbacks, and orders the registration of one against the signal. It is not held
        # while a callback runs.
        self._lock = sync.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.cancelled = False
        self.killed = False
        self.reason: str | None = None
        self.message: str | None = None

    def cancel(
        self, reason: str = "cancelled", *, kill: bool = False, message: str | None = None
    ) -> bool:
        """Raise the signal; with ``kill`` also skip every grace period.

        The first call decides on reason and message.

        Returns:
            True if this call changed something, False if the signal was set already.
        """
        with self._lock:
            if self.cancelled and (self.killed or not kill):
                return False
            if self.reason is None:
                self.reason, self.message = reason, message
            self.cancelled = True
            self.killed = self.killed or kill
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()
        return True

    def error(self) -> TaskCancelled:
        """The exception that stands for the signal."""
        return TaskCancelled() if self.message is None else TaskCancelled(self.message)

    def add_callback(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` at each signal, at once if it is set; return its removal."""
        with self._lock:
            self._callbacks.append(callback)
            is_set = self.cancelled

        def remove() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        if is_set:
            callback()
        return remove

    def follow(self, outer: CancelToken) -> Callable[[], None]:
        """Be cancelled whenever ``outer`` is; return a function to stop following it."""

        def pass_on() -> None:
            # A timeout of the outer task is no timeout of this one.
            reason = "interrupted" if outer.reason == "interrupted" else "cancelled"
            self.cancel(reason, kill=outer.killed)

        return outer.add_callback(pass_on)

    def wait(self, seconds: float, clock: Clock = SYSTEM_CLOCK) -> bool:
        """Wait up to ``seconds`` for the signal; True if it is set."""
        if not self.cancelled:
            moment = clock.now() + seconds
            rung = sync.Lock()
            rung.acquire()

            def ring() -> None:
                with suppress(RuntimeError):  # it has been rung already
                    rung.release()

            remove = self.add_callback(ring)
            try:
                clock.wait_until(rung, moment)
            finally:
                remove()
        return self.cancelled
