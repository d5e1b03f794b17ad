"""Requests: how anyone, even a signal handler, asks a run to stop."""

from __future__ import annotations

from ttasks.model.clock import Bell, Clock


class Requests(Bell):
    """What was asked of a run, and the alarm that wakes its supervisor.

    It may exist before the run does. No method waits for a lock except ``wait_until``, so a signal
    handler may call them between any two lines.

    Attributes:
        cancel: the run is to be stopped.
        interrupts: how often somebody asked in person; the second time, everything is killed.
        reason: "cancelled" or "interrupted".
    """

    __slots__ = ("cancel", "interrupts", "reason")

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.cancel = False
        self.interrupts = 0
        self.reason = "cancelled"

    def ask_cancel(self, reason: str = "cancelled") -> None:
        """Ask to stop the run. Idempotent."""
        self.reason = reason
        self.cancel = True
        self.ring()

    def interrupt(self, reason: str = "interrupted") -> None:
        """Ask to stop the run; the second time, to kill what is left of it."""
        self.interrupts += 1
        self.ask_cancel(reason)
