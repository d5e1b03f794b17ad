"""NotifyError: why a message was not sent."""

from __future__ import annotations

from ttasks.errors import TTasksError


class NotifyError(TTasksError, RuntimeError):
    """A channel could not send a message.

    Attributes:
        reason: what went wrong, for people.
        retry_after: seconds that the other side asks to wait before the next attempt, or None.
        is_final: another attempt cannot help, as with a wrong password.
    """

    def __init__(
        self, reason: str, retry_after: float | None = None, is_final: bool = False
    ) -> None:
        super().__init__(reason, retry_after, is_final)
        self.reason = reason
        self.retry_after = retry_after
        self.is_final = is_final

    def __str__(self) -> str:
        return self.reason
