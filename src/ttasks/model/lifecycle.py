"""Lifecycle: the state of one task, and who may change it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from ttasks import sync
from ttasks.model.cancel import CancelToken
from ttasks.model.result import TaskResult
from ttasks.model.status import (
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    TRANSITIONS,
    TaskStatus,
)


class Owner(Protocol):
    """What executes a task: an attempt, or whatever ends the task without running it."""

    def cancel(self) -> bool:
        """Ask it to stop, from any thread, without waiting; True if the task will be CANCELLED."""


class Phase(Enum):
    """How far the owner of a task has come."""

    ACTIVE = auto()  # its handler may run
    ENDING = auto()  # one thread is ending the attempt; no other can
    DECIDED = auto()  # the status is set, and is being saved and announced
    WAITING = auto()  # for the next attempt


ACTIVE, ENDING, DECIDED, WAITING = Phase


class Lifecycle:
    """Status, error, result and ``blocked_by`` of one task, and who executes it.

    ``lock`` owns every field. Each method takes it, runs no foreign code, and returns None or False
    if it refuses, so that exactly one of two racing callers wins. Single fields may be read without
    the lock.

    The methods on the path of every attempt call ``acquire`` and ``release``, which is faster than
    a ``with`` block. A KeyboardInterrupt could come in between, so the main
    thread calls them only where one is not raised (``ttasks.engine.signals``).

    The owner holds the task from the start of an attempt until its end has been announced, and on
    to the next attempt if there is one. Nobody else can start or end the task meanwhile, so its
    events come in order.

    Attributes:
        owner: what executes the task; None if nothing does.
        phase: how far the owner has come; None if there is none.
        ender: the thread that ends the task and announces it; None before and after.
        is_retrying: the last attempt failed and there will be another. The task is FAILED until
            that has been announced, and PENDING from then on.
        edited: whether an attribute of the task may have been assigned to since it was made. Set
            before the attribute and never cleared, without the lock.
    """

    __slots__ = (
        "_on_release",
        "blocked_by",
        "edited",
        "ender",
        "error",
        "is_retrying",
        "lock",
        "owner",
        "phase",
        "result",
        "status",
    )

    def __init__(self) -> None:
        self.lock = sync.Lock()
        self.status = PENDING
        self.error: str | None = None
        self.result: TaskResult | None = None
        self.blocked_by: str | None = None
        self.owner: Owner | None = None
        self.phase: Phase | None = None
        self.ender: int | None = None
        self.is_retrying = False
        self.edited = False
        self._on_release: list[Callable[[], object]] | None = None

    # Moves by hand

    def move(self, target: TaskStatus, error: str | None) -> TaskStatus | None:
        """Make a move of the public table; return the status before, or None if refused."""
        with self.lock:
            before = self.status
            if target not in TRANSITIONS[before] or (target is RUNNING and self.owner is not None):
                return None
            if target is RUNNING:
                self.error = self.result = self.blocked_by = None
            elif target is SUCCEEDED:
                self.error = None
            elif error is not None or target is not CANCELLED:
                self.error = error
            self.status = target
            self.is_retrying = False
            return before

    def take_over(self, result: TaskResult) -> bool:
        """End a PENDING task as SUCCEEDED with an earlier result; False if it is not PENDING."""
        with self.lock:
            if self.status is not PENDING or self.owner is not None:
                return False
            self.status = SUCCEEDED
            self.result = result
            return True

    def amend(self, change: Callable[[TaskResult], TaskResult | None]) -> bool:
        """Replace the result of a task without an owner, unless ``change`` returns None."""
        with self.lock:
            if self.owner is not None or self.result is None:
                return False
            changed = change(self.result)
            if changed is None:
                return False
            self.result = changed
            return True

    # What owners do, in this order

    def start(self, owner: Owner, prior: Owner | None = None) -> TaskStatus | None:
        """Become RUNNING and owned; return the status before, or None if refused.

        Args:
            owner: the attempt that begins.
            prior: the attempt before it, which still owns the task; None for the first.
        """
        lock = self.lock
        lock.acquire()
        try:
            before = self.status
            if self.owner is not prior or RUNNING not in TRANSITIONS[before]:
                return None
            if prior is not None and self.phase is not WAITING:
                return None
            self.error = self.result = self.blocked_by = None
            self.status = RUNNING
            self.is_retrying = False
            self.owner = owner
            self.phase = ACTIVE
            return before
        finally:
            lock.release()

    def begin_end(self, owner: Owner) -> bool:
        """Claim the end of an attempt; True for exactly one caller."""
        lock = self.lock
        lock.acquire()
        try:
            if self.owner is not owner or self.phase is not ACTIVE:
                return False
            self.phase = ENDING
            self.ender = sync.get_ident()
            return True
        finally:
            lock.release()

    def finish(
        self, token: CancelToken, result: TaskResult, error: str | None, retry: bool
    ) -> bool:
        """Set the outcome of an attempt; for the caller to whom `begin_end` returned True.

        Args:
            token: the attempt's signal to stop.
            result: its result.
            error: message of a failure or cancellation.
            retry: if it FAILED, another attempt will follow; see `wait`.

        Returns:
            False if the result no longer fits, because somebody has moved the task by hand or
            cancelled it. Look at ``status`` and try again.
        """
        lock = self.lock
        lock.acquire()
        try:
            if self.status is RUNNING:
                if token.cancelled and result.status is not CANCELLED and is_to_be_cancelled(token):
                    return False
                self.error = error
            elif self.status is not result.status:
                return False
            elif self.error is None:
                self.error = error
            self.is_retrying = retry and result.status is FAILED
            self.status = result.status
            self.result = result
            self.phase = DECIDED
            return True
        finally:
            lock.release()

    def wait(self, token: CancelToken) -> bool:
        """Let the owner keep the task, which is PENDING again, until the next attempt.

        Returns:
            False if there will be none, because the task was cancelled or moved by hand.
        """
        with self.lock:
            if is_to_be_cancelled(token) or self.status is not FAILED:
                self.phase = ENDING
                return False
            self.status = PENDING
            self.phase = WAITING
            self.ender = None
            return True

    def end_wait(self, owner: Owner) -> bool:
        """Claim the end of a task that waits for its next attempt; True for exactly one caller."""
        with self.lock:
            if self.owner is not owner or self.phase is not WAITING:
                return False
            self.phase = ENDING
            self.ender = sync.get_ident()
            return True

    def settle(
        self,
        owner: Owner,
        target: TaskStatus,
        error: str | None,
        result: TaskResult | None,
        blocked_by: str | None = None,
        *,
        by_hand: bool = False,
    ) -> TaskStatus | None:
        """End a task without running it; return the status before, or None if refused.

        ``owner`` owns it from now on. This allows more than the public table in one way: what a
        rerun was about to try again (FAILED, BLOCKED, SKIPPED) may end as any of those, as if it
        had gone through PENDING. With ``by_hand`` the task is one that somebody made CANCELLED by
        hand, and whose end nobody has announced.
        """
        with self.lock:
            before = self.status
            if by_hand:
                last = self.result
                if before is not CANCELLED or (last is not None and last.status is CANCELLED):
                    return None
            elif before.is_sink and not (target is CANCELLED is before and self.owner is owner):
                return None
            if self.owner is not None and self.owner is not owner:
                return None
            self.owner = owner
            self.phase = DECIDED
            self.ender = sync.get_ident()
            self.status = target
            self.error = error
            self.result = result
            self.blocked_by = blocked_by
            self.is_retrying = False
            return before

    def release(self, owner: Owner) -> list[Callable[[], object]]:
        """Release the task; return what to call now. Does nothing for anyone but the owner."""
        lock = self.lock
        lock.acquire()
        try:
            if self.owner is not owner:
                return []
            self.owner = self.phase = self.ender = None
            waiting, self._on_release = self._on_release, None
            return waiting or []
        finally:
            lock.release()

    # For everybody else

    def on_release(self, callback: Callable[[], object]) -> bool:
        """Have ``callback`` called when the owner releases the task; False if there is none."""
        with self.lock:
            if self.owner is None:
                return False
            if self._on_release is None:
                self._on_release = []
            self._on_release.append(callback)
            return True

    def will_be_cancelled(self, owner: Owner, token: CancelToken) -> bool:
        """True if ``token``, which has just been cancelled, will make the task CANCELLED."""
        with self.lock:
            if self.owner is not owner:
                return False
            if self.status is CANCELLED:
                return True
            return is_to_be_cancelled(token) and (self.status is RUNNING or self.is_retrying)


def is_to_be_cancelled(token: CancelToken) -> bool:
    """True if an attempt with this token can only end as CANCELLED."""
    return token.cancelled and token.reason not in _OTHER_ENDS


_OTHER_ENDS = ("timeout", "stopped", "not_ready")
"""Reasons to end an attempt after which its task is not CANCELLED."""
