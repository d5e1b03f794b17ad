"""Calls that can be left behind: plain handlers with a timeout."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from threading import Lock, Thread
from typing import Any

from ttasks.model.clock import SYSTEM_CLOCK, Clock


class AbandonedCount:
    """How many threads were left behind and are still running. Its lock owns the number."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._number = 0

    def add(self, change: int) -> None:
        """Count threads in (+1) or out (-1)."""
        with self._lock:
            self._number += change

    @property
    def number(self) -> int:
        """Threads that were left behind and are still running."""
        return self._number


class TimeIsUp(Exception):
    """The call did not return in time and was left behind."""


def call_bounded(
    call: Callable[[], Any],
    until: float,
    abandoned: AbandonedCount,
    clock: Clock = SYSTEM_CLOCK,
) -> Any:
    """Run ``call`` in a thread of its own and wait for it until that moment of the clock.

    The thread sees a copy of the caller's context variables. It is a daemon, so that one that is
    left behind never keeps the interpreter from exiting.

    Returns:
        What ``call`` returns; raises what it raises.

    Raises:
        TimeIsUp: it is still running; the thread is counted in ``abandoned`` until it ends.
    """
    outcome: list[Any] = []
    lock = Lock()  # owns `left`, and orders leaving against ending
    done = Lock()
    done.acquire()
    left = False

    def work() -> None:
        try:
            outcome[:] = (True, call())
        except BaseException as error:
            outcome[:] = (False, error)
        with lock:
            was_left = left
            done.release()
        if was_left:
            abandoned.add(-1)

    def leave() -> bool:
        nonlocal left
        with lock:
            if not done.locked():
                return False
            left = True
        abandoned.add(1)
        return True

    thread = Thread(target=copy_context().run, args=(work,), name="ttasks-bounded", daemon=True)
    thread.start()
    try:
        in_time = clock.wait_until(done, until)
    except BaseException:
        leave()
        raise
    if not in_time and leave():
        raise TimeIsUp
    thread.join()  # it is just ending; nothing of the call is to be left when this returns
    good, value = outcome
    if good:
        return value
    raise value
