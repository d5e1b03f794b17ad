"""Channel: a way to tell people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

from ttasks.model.checks import check_str

if TYPE_CHECKING:
    from ttasks.notify.message import Message


class Channel(ABC):
    """A way to tell people. Subclasses send; everything else is done for them.

    ``send`` is called on a thread of the channel's own, for one message at a time. It may take
    long, and may raise anything: then it is called again later, with the same message.

    Args:
        name: what the outbox and the log call it; the same in every process that sends for it.

    Attributes:
        name: see above.
        attaches: True if it wants ``message.report``.
        secrets: texts that never occur in errors and logs.
    """

    attaches: bool = False

    def __init__(self, name: str, secrets: Iterable[str] = ()) -> None:
        self.name = check_str("name", name, empty=False)
        self.secrets = tuple(text for text in secrets if text)

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send a message; once this returns, it counts as sent.

        Raises:
            NotifyError: with ``retry_after``, or with ``is_final`` to say that another attempt
                cannot help. After any other exception there is another attempt.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def name_of(kind: str, host: str, secret: str) -> str:
    """The usual name of a channel: it tells two of one host apart, and not their secrets."""
    return f"{kind} {host} {blake2b(secret.encode(), digest_size=4).hexdigest()}"
