"""CircuitBreaker: when to stop calling what keeps failing, as a pure state machine.

The pattern is Michael Nygard's (Release It!, 2007): closed lets calls through and watches them,
open refuses them for a while, half-open lets one through to see.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from ttasks.model.checks import check_int, check_number, wrong_value


class CircuitState(Enum):
    """States of a breaker. Values are the lower-case names."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """When the circuit of a group opens, and for how long.

    It opens when, of the last ``window`` calls, at least ``min_calls`` have ended and the share
    of failures among them is at least ``failure_rate``. After ``reset_after`` seconds it lets one
    trial call through: if that succeeds it closes and forgets, otherwise it opens again. Only
    SUCCEEDED and FAILED attempts count; what a breaker or a guard refused, and what was
    cancelled, does not.

    Args:
        window: number of latest calls to look at, at least 1.
        failure_rate: share of failures that opens it, above 0, at most 1.
        min_calls: calls that must have ended before it can open, 1 to ``window``; None means
            ``window``.
        reset_after: seconds that it stays open, above 0.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    window: int = 10
    failure_rate: float = 0.5
    min_calls: int | None = None
    reset_after: float = 30.0

    def __post_init__(self) -> None:
        check_int("window", self.window, least=1)
        check_number("failure_rate", self.failure_rate, above=0, most=1)
        check_number("reset_after", self.reset_after, above=0)
        if self.min_calls is not None:
            check_int("min_calls", self.min_calls, least=1)
            if self.min_calls > self.window:
                raise wrong_value("min_calls", self.min_calls, f"<= window ({self.window})")


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """A look at the circuit of a group.

    Attributes:
        state: closed, open or half-open (a trial call may start or is under way).
        failures: failures among the calls it looks at.
        calls: calls it looks at, at most the window.
        retry_after: seconds until the next trial call; 0.0 unless it is open.
    """

    state: CircuitState
    failures: int
    calls: int
    retry_after: float


class Circuit:
    """The circuit of one group. Not thread-safe: its owner serialises the calls.

    Every method takes the time as ``now``, in seconds of any monotonic clock.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._least = breaker.window if breaker.min_calls is None else breaker.min_calls
        self._calls: deque[bool] = deque()  # the latest ones; True: it failed
        self._failures = 0  # among them
        self._opened_at: float | None = None
        self._trial = False  # a trial call is under way
        self._epoch = 0  # grows with each change; what began in an earlier one tells nothing

    def allow(self, now: float) -> int | None:
        """Ask to make a call.

        Returns:
            A ticket to hand to ``record`` or ``forget`` when the call has ended, None for no.
        """
        if self._opened_at is not None:
            if self._trial or now < self._opened_at + self._breaker.reset_after:
                return None
            self._trial = True
            self._epoch += 1
        return self._epoch

    def record(self, ticket: int, failed: bool, now: float) -> CircuitState | None:
        """Note how a call ended; returns OPEN or CLOSED if that changed the state."""
        if ticket != self._epoch:
            return None
        if self._trial:
            self._trial = False
            if not failed:
                return self._change(None)
            return self._change(now)
        self._calls.append(failed)
        self._failures += failed
        if len(self._calls) > self._breaker.window:
            self._failures -= self._calls.popleft()
        count = len(self._calls)
        # Divided, not multiplied: 7 of 100 are 0.07, but 0.07 * 100 is more than 7.
        if count >= self._least and self._failures / count >= self._breaker.failure_rate:
            return self._change(now)
        return None

    def forget(self, ticket: int) -> None:
        """A call ended without telling anything: it was cancelled."""
        if ticket == self._epoch:
            self._trial = False

    def _change(self, opened_at: float | None) -> CircuitState:
        self._epoch += 1
        self._opened_at = opened_at
        if opened_at is not None:
            return CircuitState.OPEN
        self._calls.clear()
        self._failures = 0
        return CircuitState.CLOSED

    def status(self, now: float) -> BreakerStatus:
        """A look at it."""
        state, left = CircuitState.CLOSED, 0.0
        if self._opened_at is not None:
            left = max(0.0, self._opened_at + self._breaker.reset_after - now)
            state = CircuitState.OPEN if left else CircuitState.HALF_OPEN
        return BreakerStatus(state, self._failures, len(self._calls), left)
