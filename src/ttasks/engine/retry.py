"""Tries: the attempts of one execution of a task, and whether another may follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks import sync
from ttasks.errors import (
    CycleError,
    HandlerNotFoundError,
    StoreError,
    TaskArgumentError,
    TaskCancelled,
    TaskExecutionError,
    TaskRejectedError,
    describe,
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


class Verdict(NamedTuple):
    """What follows the end of an attempt.

    Attributes:
        error: what the attempt ended in; None if it succeeded.
        retry_in: seconds until the next attempt; None if there is none.
        spent: which budget forbids another attempt, for people; empty if none does.
    """

    error: BaseException | None
    retry_in: float | None = None
    spent: str = ""


class _HookFailed(Exception):
    """A function of the user's that belongs to a policy has raised the cause of this."""


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

    def decide(
        self,
        error: BaseException | None,
        result_of: Callable[[BaseException | None], TaskResult],
    ) -> Verdict:
        """Whether another attempt follows one that ended in ``error``, or succeeded (None).

        Args:
            error: what it ended in.
            result_of: makes the result for an error, for functions of the user's.
        """
        try:
            return self._decide(error, result_of)
        except _HookFailed as failed:
            problem = failed.__cause__
            assert problem is not None
            text = f"{failed} raised {type(problem).__name__}: {_text(problem)}"
            if error is not None:
                text += f"; the attempt had failed with: {_text(error)}"
            raised = TaskExecutionError(text)
            raised.__cause__ = problem
            return Verdict(raised)

    def _decide(
        self,
        error: BaseException | None,
        result_of: Callable[[BaseException | None], TaskResult],
    ) -> Verdict:
        policy = self._policy
        if error is not None and issubclass(type(error), NEVER_RETRIED):
            return Verdict(error)
        if policy.retry_if is not None:
            result = result_of(error)
            if not _asked("retry_if", policy.retry_if, result):
                return Verdict(error)
            if error is None:
                command = result.raw if result.returncode is not None else None
                error = TaskExecutionError("retry_if asked for another attempt", command)
        if error is None or not policy.allows(self._number, error):
            return Verdict(error)
        delay = policy.delay(self._number, self._random)
        elapsed = self._clock.now() - self._began
        if policy.max_elapsed is not None and elapsed + delay > policy.max_elapsed:
            why = f"not tried again: max_elapsed of {policy.max_elapsed:g} s is spent"
            return Verdict(error, None, why)
        if self._budget is not None and not self._budget.take():
            why = f"not tried again: the run's retry budget of {self._budget.limit} is spent"
            return Verdict(error, None, why)
        if policy.before_sleep is not None:
            try:
                _asked("before_sleep", policy.before_sleep, result_of(error), delay)
            except _HookFailed:
                self.take_back()
                raise
        return Verdict(error, delay)

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


def _asked(name: str, function: Callable[..., object], *args: Any) -> bool:
    """What a function of a policy answers.

    Raises:
        _HookFailed: from what it raised, whatever that is.
    """
    try:
        return bool(function(*args))
    except BaseException as problem:
        raise _HookFailed(name) from problem


def _text(error: BaseException) -> str:
    try:
        return describe(error)
    except BaseException:  # raised by its own code
        return type(error).__name__
