"""TaskState: the half of a task that tells, and changes, what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ttasks.errors import InvalidTransitionError
from ttasks.model.attributes import ATTRIBUTES
from ttasks.model.checks import check_str, wrong_type
from ttasks.model.lifecycle import Lifecycle
from ttasks.model.result import TaskResult
from ttasks.model.status import TRANSITIONS, TaskStatus

_OUTCOME = ("error", "result", "blocked_by")
_write = object.__setattr__


class TaskState:
    """Status, result and error of a task; the base of `ttasks.model.task.Task`."""

    __slots__ = ()

    id: str
    title: str
    options: Mapping[str, Any]
    created_at: datetime
    fingerprint: str | None
    _lifecycle: Lifecycle

    @property
    def status(self) -> TaskStatus:
        """Where the task is in its life."""
        return self._lifecycle.status

    @property
    def result(self) -> TaskResult | None:
        """What the latest execution gave; None before, while running, and if it never ran."""
        return self._lifecycle.result

    @property
    def error(self) -> str | None:
        """Message of the failure or cancellation, else None."""
        return self._lifecycle.error

    @property
    def blocked_by(self) -> str | None:
        """Id of the first upstream that made this task BLOCKED, else None."""
        return self._lifecycle.blocked_by

    @property
    def is_pending(self) -> bool:
        """True while PENDING."""
        return self._lifecycle.status is TaskStatus.PENDING

    @property
    def is_running(self) -> bool:
        """True while RUNNING."""
        return self._lifecycle.status is TaskStatus.RUNNING

    @property
    def is_succeeded(self) -> bool:
        """True once SUCCEEDED."""
        return self._lifecycle.status is TaskStatus.SUCCEEDED

    @property
    def is_done(self) -> bool:
        """The same as ``is_succeeded``."""
        return self._lifecycle.status is TaskStatus.SUCCEEDED

    @property
    def is_failed(self) -> bool:
        """True while FAILED."""
        return self._lifecycle.status is TaskStatus.FAILED

    @property
    def is_cancelled(self) -> bool:
        """True once CANCELLED."""
        return self._lifecycle.status is TaskStatus.CANCELLED

    @property
    def is_blocked(self) -> bool:
        """True while BLOCKED."""
        return self._lifecycle.status is TaskStatus.BLOCKED

    @property
    def is_skipped(self) -> bool:
        """True while SKIPPED."""
        return self._lifecycle.status is TaskStatus.SKIPPED

    @property
    def is_terminal(self) -> bool:
        """True unless PENDING or RUNNING."""
        return not self._lifecycle.status.is_active

    def can_transition_to(self, status: TaskStatus) -> bool:
        """True if the lifecycle allows the move now; another thread may make one in between."""
        return status in TRANSITIONS[self._lifecycle.status]

    def transition_to(self, status: TaskStatus, error: str | None = None) -> None:
        """Move to another status; executors do this for you.

        Entering RUNNING clears error, result and ``blocked_by``; entering SUCCEEDED clears the
        error. Atomic: of two racing moves one wins and the other raises. It tells no subscriber
        and no store.

        Args:
            status: where to.
            error: message to keep with FAILED and CANCELLED.

        Raises:
            InvalidTransitionError: (a ValueError) the move is not allowed; nothing changed.
            TypeError: an argument has the wrong type.
        """
        if not isinstance(status, TaskStatus):
            raise wrong_type("status", status, "a TaskStatus")
        if error is not None:
            check_str("error", error)
        life = self._lifecycle
        if life.move(status, error) is None:
            raise InvalidTransitionError(self.id, self.title, life.status.value, status.value)
        if status is TaskStatus.CANCELLED:
            self._end_attempt()

    def cancel(self) -> None:
        """Become CANCELLED at once, and ask the attempt that is running, if any, to stop.

        Idempotent; keeps an existing error; does nothing to a task that SUCCEEDED. Prefer
        ``executor.cancel(task)``, which also tells subscribers and the store.
        """
        self._lifecycle.move(TaskStatus.CANCELLED, None)
        self._end_attempt()

    def _end_attempt(self) -> None:
        owner = self._lifecycle.owner
        if owner is not None:
            owner.cancel()

    # Copies

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in ATTRIBUTES}
        life = self._lifecycle
        with life.lock:
            state |= {name: getattr(life, name) for name in ("status", *_OUTCOME)}
        extra = getattr(self, "__dict__", {})
        return state | {
            "id": self.id,
            "created_at": self.created_at,
            "fingerprint": self.fingerprint,
            "options": dict(self.options),
            "extra": dict(extra),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        life = Lifecycle()
        life.status = state["status"]
        life.edited = True
        for name in _OUTCOME:
            setattr(life, name, state[name])
        _write(self, "_lifecycle", life)
        for name in (*ATTRIBUTES, "id", "created_at", "fingerprint"):
            _write(self, name, state[name])
        _write(self, "options", MappingProxyType(state["options"]))
        for name, value in state["extra"].items():
            _write(self, name, value)
