"""Whether and when a failed attempt is followed by another."""

from __future__ import annotations

from collections.abc import Callable
from random import random
from time import monotonic

from ttasks.engine.attempt import Retry
from ttasks.errors import HandlerNotFoundError, StoreError, TaskCancelled, TaskRejectedError
from ttasks.model.policy import RetryPolicy

NEVER_RETRIED = (TaskCancelled, HandlerNotFoundError, TaskRejectedError, StoreError)


def retry_of(
    policy: RetryPolicy,
    *,
    clock: Callable[[], float] = monotonic,
    random: Callable[[], float] = random,
) -> Retry:
    """The decision of a policy for one execution that begins now."""
    began = clock()

    def decide(error: BaseException, attempt: int) -> float | None:
        if isinstance(error, NEVER_RETRIED) or not policy.allows(attempt, error):
            return None
        delay = policy.delay(attempt, random)
        if policy.max_elapsed is not None and clock() - began + delay > policy.max_elapsed:
            return None
        return delay

    return decide
