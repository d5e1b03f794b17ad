"""Lifecycle: the state of one task, and the lock that owns it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from ttasks.model.status import TRANSITIONS, TaskStatus

if TYPE_CHECKING:
    from ttasks.model.cancel import CancelToken
    from ttasks.model.result import TaskResult


class Lifecycle:
    """Status, error, result and ``blocked_by`` of one task, and who is running it.

    ``lock`` owns every field; each method takes it, runs no foreign code and answers False (or
    None) where the move is not allowed, so that of two racing moves exactly one wins. Single
    fields may be read without it.

    ``owner`` is the token of the attempt that is executing the task now, None where nobody is.
    While it is set, only that attempt settles the task, once, by ``finish``.

    ``edited`` tells whether an attribute of the task may have been written since it was made. It
    is only ever set, before the attribute, and belongs to no lock.
    """

    __slots__ = ("blocked_by", "edited", "error", "lock", "owner", "result", "status")

    def __init__(self) -> None:
        self.lock = Lock()
        self.status = TaskStatus.PENDING
        self.error: str | None = None
        self.result: TaskResult | None = None
        self.blocked_by: str | None = None
        self.owner: CancelToken | None = None
        self.edited = False

    def move(
        self, target: TaskStatus, error: str | None, owner: CancelToken | None = None
    ) -> TaskStatus | None:
        """Make a move of the public table; returns the status before, or None if refused."""
        with self.lock:
            before = self.status
            if target not in TRANSITIONS[before] or (
                self.owner is not None and target is TaskStatus.RUNNING
            ):
                return None
            if target is TaskStatus.RUNNING:
                self.error = self.result = self.blocked_by = None
                self.owner = owner
            elif target is TaskStatus.SUCCEEDED:
                self.error = None
            elif error is not None or target is not TaskStatus.CANCELLED:
                self.error = error
            self.status = target
            return before

    def settle(
        self,
        target: TaskStatus,
        error: str | None,
        result: TaskResult | None,
        blocked_by: str | None = None,
    ) -> TaskStatus | None:
        """End a task that nobody runs without running it; returns the status before, or None.

        Wider than the public table in one way: what a rerun was going to try again (FAILED,
        BLOCKED, SKIPPED) may end as any of those, as if it had gone through PENDING.
        """
        with self.lock:
            before = self.status
            if before.is_sink or self.owner is not None:
                return None
            self.status = target
            self.error = error
            self.result = result
            self.blocked_by = blocked_by
            return before

    def take_over(self, result: TaskResult) -> bool:
        """End a PENDING task as SUCCEEDED with an earlier result; False if it is not PENDING."""
        with self.lock:
            if self.status is not TaskStatus.PENDING or self.owner is not None:
                return False
            self.status = TaskStatus.SUCCEEDED
            self.result = result
            return True

    @staticmethod
    def to_be_cancelled(owner: CancelToken) -> bool:
        """True if the attempt that ``owner`` stands for cannot but end as CANCELLED."""
        return owner.cancelled and owner.reason != "timeout"

    def finish(self, owner: CancelToken, result: TaskResult, error: str | None) -> bool:
        """End the attempt that ``owner`` stands for.

        Returns:
            False if the result does not fit any more: somebody else moved the task meanwhile, or
            asked for its cancellation. Look at ``status`` and ``owner`` and try again.
        """
        with self.lock:
            if self.owner is not owner:
                return False
            if self.status is TaskStatus.RUNNING:
                if (
                    owner.cancelled
                    and self.to_be_cancelled(owner)
                    and result.status is not TaskStatus.CANCELLED
                ):
                    return False
                self.error = error
            elif self.status is not result.status:
                return False
            elif self.error is None:
                self.error = error
            self.status = result.status
            self.result = result
            self.owner = None
            return True
