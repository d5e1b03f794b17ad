"""NotifyError: why a message was not sent."""

from __future__ import annotations

from ttasks import sync
from ttasks.errors import TTasksError
from ttasks.model.checks import check_bool, check_number, check_str


class NotifyError(TTasksError, RuntimeError):
    """A channel could not send a message.

    Attributes:
        reason: what went wrong, for people.
        retry_after: seconds that the other side asks to wait before the next attempt, at least 0;
            None if it does not ask.
        is_final: another attempt cannot help, as with a wrong password.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self, reason: str, retry_after: float | None = None, is_final: bool = False
    ) -> None:
        check_str("reason", reason)
        if retry_after is not None:
            check_number("retry_after", retry_after, least=0, most=sync.TIMEOUT_MAX)
        check_bool("is_final", is_final)
        super().__init__(reason, retry_after, is_final)
        self.reason = reason
        self.retry_after = retry_after
        self.is_final = is_final

    def __str__(self) -> str:
        return self.reason
