"""What to do when work fails: RetryPolicy for one task, DependencyPolicy for its dependents."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Any

from ttasks.model.checks import check_int, check_number, check_seconds, wrong_type, wrong_value
from ttasks.model.result import TaskResult


class DependencyPolicy(Enum):
    """What a task does when an upstream did not succeed. Values are the lower-case names.

    BLOCK and SKIP decide at the first upstream that settles the matter, the others once all
    upstreams are finished.
    """

    BLOCK = "block"
    SKIP = "skip"
    CONTINUE_IF_ANY = "continue_if_any"
    RUN_ANYWAY = "run_anyway"
    ON_FAILURE = "on_failure"

    __hash__ = object.__hash__


Exceptions = tuple[type[BaseException], ...] | type[BaseException]

_LONGEST_DELAY = sys.float_info.max / 2  # stays finite with jitter


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often to try a task, and how long to wait in between.

    The delay before retry ``n`` (the first retry is 1) is
    ``min(backoff * multiplier ** (n - 1) + increment * (n - 1), max_backoff)`` seconds, changed by
    a random share of at most ``jitter`` of itself in either direction.

    Cancellation, a missing handler and a rejection are never retried; an attempt that an open
    circuit refused is, if ``retry_on`` says so.

    ``retry_if`` and ``before_sleep`` are called on the thread that ends the attempt, before its end
    is announced. If one raises an exception, the task is FAILED.

    Example:
        >>> policy = RetryPolicy(5, 0.5, multiplier=2, max_backoff=3)
        >>> [policy.delay(retry) for retry in range(1, 5)]
        [0.5, 1.0, 2.0, 3.0]

    Args:
        max_attempts: attempts in all, the first included; at least 1.
        backoff: seconds before the first retry; at least 0.
        multiplier: factor from one delay to the next; at least 1. 1.0 keeps it constant.
        increment: seconds added to each delay after the first, once more each time; at least 0.
        max_backoff: cap of a delay in seconds, at least ``backoff``; None means no cap.
        jitter: share of a delay that is random, 0 to 1.
        retry_on: exception class, or tuple of them, that is retried.
        give_up_on: exception class, or tuple of them, that is not retried although ``retry_on``
            includes it.
        retry_if: called with the `TaskResult` of each attempt that could be retried, or that
            succeeded; another attempt follows only if it returns true and ``retry_on`` allows it.
            If it returns true for an attempt that succeeded, the attempt is FAILED with a
            TaskExecutionError, even if it is the last. None leaves the decision to ``retry_on``.
        before_sleep: called before each wait, with the `TaskResult` of the attempt and the seconds
            until the next one; None calls nothing.
        max_elapsed: no retry is due later than this many seconds after the first attempt began;
            above 0, None means no limit.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of range.
    """

    max_attempts: int = 1
    backoff: float = 0.0
    _: KW_ONLY
    multiplier: float = 1.0
    increment: float = 0.0
    max_backoff: float | None = None
    jitter: float = 0.0
    retry_on: Exceptions = (Exception,)
    give_up_on: Exceptions = ()
    retry_if: Callable[[TaskResult], object] | None = None
    max_elapsed: float | None = None
    before_sleep: Callable[[TaskResult, float], object] | None = None

    def __post_init__(self) -> None:
        check_int("max_attempts", self.max_attempts, least=1)
        check_number("backoff", self.backoff, least=0)
        check_number("multiplier", self.multiplier, least=1)
        check_number("increment", self.increment, least=0)
        check_number("jitter", self.jitter, least=0, most=1)
        check_seconds("max_elapsed", self.max_elapsed)
        if self.max_backoff is not None:
            check_number("max_backoff", self.max_backoff, least=0)
            if self.max_backoff < self.backoff:
                raise wrong_value("max_backoff", self.max_backoff, f">= backoff ({self.backoff:g})")
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _check_classes(name, getattr(self, name)))
        for name in ("retry_if", "before_sleep"):
            called = getattr(self, name)
            if called is not None and not callable(called):
                raise wrong_type(name, called, "a callable or None")

    def delay(self, retry: int, random: Callable[[], float] | None = None) -> float:
        """Seconds to wait before retry number ``retry``.

        Args:
            retry: 1 for the first retry.
            random: gives numbers from 0.0 up to 1.0, and is called only if there is jitter; None
                means ``random.random``.
        """
        check_int("retry", retry, least=1)
        cap = _LONGEST_DELAY if self.max_backoff is None else float(self.max_backoff)
        try:
            seconds = self.backoff * float(self.multiplier) ** (retry - 1)
        except OverflowError:
            seconds = _LONGEST_DELAY if self.backoff else 0.0
        seconds = min(seconds + float(self.increment) * (retry - 1), cap)
        if self.jitter:
            if random is None:
                from random import random as usual

                random = usual
            seconds *= 1 + self.jitter * (2 * random() - 1)
        return seconds

    def allows(self, attempt: int, error: BaseException) -> bool:
        """True if another attempt may follow attempt number ``attempt`` that ended in ``error``."""
        kind = type(error)
        return (
            attempt < self.max_attempts
            and issubclass(kind, self.retry_on)
            and not issubclass(kind, self.give_up_on)
        )


def _check_classes(name: str, value: Any) -> tuple[type[BaseException], ...]:
    """One or several exception classes, as a tuple."""
    classes = value if isinstance(value, tuple) else (value,)
    for item in classes:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise wrong_type(name, item, "an exception class or a tuple of them")
    return classes
