"""Requests: what a run is asked for, by signal handlers too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttasks import sync

if TYPE_CHECKING:
    from ttasks.model.clock import Clock


class Requests:
    """What a run was asked for, and the alarm that tells its supervisor.

    May exist before the run does. Every method is a few plain assignments and blocks on no lock, so
    that signal handlers may call it between any two lines.

    Attributes:
        cancel: the run is to be stopped.
        interrupts: how often somebody asked in person; at the second time everything is killed.
        reason: "cancelled" or "interrupted".
    """

    __slots__ = ("_clock", "_lock", "cancel", "interrupts", "reason")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = sync.Lock()
        self._lock.acquire()
        self.cancel = False
        self.interrupts = 0
        self.reason = "cancelled"

    def ask_cancel(self, reason: str = "cancelled") -> None:
        """Ask to stop the run; any number of times."""
        self.reason = reason
        self.cancel = True
        self.ring()

    def interrupt(self, reason: str = "interrupted") -> None:
        """Ask to stop the run; the second time, to kill what is left of it."""
        self.interrupts += 1
        self.ask_cancel(reason)

    def ring(self) -> None:
        """End the wait of the supervisor, or the next one."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it rings already

    def wait_until(self, moment: float | None) -> None:
        """Wait until it rings, or until that moment; None means without a limit."""
        self._clock.wait_until(self._lock, moment)
