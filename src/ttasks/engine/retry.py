"""Tries: the attempts of one execution of a task, and whether another may follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.errors import (
    CycleError,
    HandlerNotFoundError,
    StoreError,
    TaskArgumentError,
    TaskCancelled,
    TaskRejectedError,
)

if TYPE_CHECKING:
    from ttasks.model.clock import Clock
    from ttasks.model.policy import RetryPolicy
    from ttasks.model.result import TaskResult

NEVER_RETRIED = (
    CycleError,
    TaskArgumentError,
    TaskCancelled,
    HandlerNotFoundError,
    TaskRejectedError,
    StoreError,
)


class RetryBudget:
    """The number of retries that a run may still make. Thread-safe; its lock owns the count.

    Args:
        limit: at least 0; None means any number.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._lock = sync.Lock()
        self.limit = limit
        self.used = 0

    def take(self) -> bool:
        """Use up one retry; False if none is left."""
        with self._lock:
            if self.limit is not None and self.used >= self.limit:
                return False
            self.used += 1
            return True

    def give_back(self) -> None:
        """Undo one `take`."""
        with self._lock:
            self.used -= 1


class Tries:
    """Counts and times the attempts of one execution, and decides on the next one.

    Its attempts use it one after the other, so it is never used by two threads at once.
    """

    __slots__ = ("_began", "_budget", "_clock", "_durations", "_number", "_policy", "_random")

    def __init__(
        self,
        policy: RetryPolicy,
        clock: Clock,
        budget: RetryBudget | None = None,
        random: Callable[[], float] | None = None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._budget = budget
        self._random = random
        self._began = clock.now()
        self._number = 0
        self._durations: tuple[float, ...] = ()

    def next_number(self) -> int:
        """The number of the next attempt, from 1."""
        self._number += 1
        return self._number

    def note_end(self, duration: float) -> None:
        """Note how long an attempt took."""
        self._durations += (duration,)

    def decide(self, error: BaseException) -> tuple[float | None, str]:
        """Seconds until the next attempt, None for none; and which budget forbids it, if any."""
        policy = self._policy
        if issubclass(type(error), NEVER_RETRIED) or not policy.allows(self._number, error):
            return None, ""
        delay = policy.delay(self._number, self._random)
        elapsed = self._clock.now() - self._began
        if policy.max_elapsed is not None and elapsed + delay > policy.max_elapsed:
            return None, f"not tried again: max_elapsed of {policy.max_elapsed:g} s is spent"
        if self._budget is not None and not self._budget.take():
            return None, f"not tried again: the run's retry budget of {self._budget.limit} is spent"
        return delay, ""

    def take_back(self) -> None:
        """Undo the latest decision for another attempt."""
        if self._budget is not None:
            self._budget.give_back()

    def in_result(self, result: TaskResult) -> TaskResult:
        """The result, with the durations of all attempts."""
        return replace(
            result,
            attempt_durations=self._durations[: result.attempts],
            total_duration=self._clock.now() - self._began,
        )
