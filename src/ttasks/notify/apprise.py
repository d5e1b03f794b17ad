"""Apprise: messages to the many services of the package of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ttasks.errors import MissingExtraError
from ttasks.model.checks import check_number
from ttasks.notify.channel import Channel, name_of
from ttasks.notify.errors import NotifyError
from ttasks.report.labels import one_line

if TYPE_CHECKING:
    from ttasks.notify.message import Message

TIMEOUT = 30.0


class Apprise(Channel):
    """Sends messages to one service of Apprise (extra ``apprise``).

    Args:
        url: as Apprise defines it for each service, such as "discord://...". One, so that
            another attempt never repeats what has reached another service.
        timeout: seconds for one attempt.
        name: None makes one of the service.

    Raises:
        MissingExtraError: the extra is not installed.
        TypeError, ValueError: an argument is wrong. The message shows no secret.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT, name: str | None = None) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, got {type(url).__name__}")
        try:
            import apprise
        except ImportError:
            raise MissingExtraError("apprise", "ttasks.notify.Apprise") from None
        self._apprise = apprise.Apprise()
        service = url.partition("://")[0] if "://" in url else ""
        if not self._apprise.add(url):
            raise ValueError(
                f"url is none that Apprise knows, or lacks something: "
                f"{service[:20] or 'it has no'}://..."
            )
        self._failure, self._success = apprise.NotifyType.FAILURE, apprise.NotifyType.SUCCESS
        self._text = apprise.NotifyFormat.TEXT
        self._timeout = check_number("timeout", timeout, above=0)
        super().__init__(name or name_of("apprise", service, url), _secrets(url))

    def send(self, message: Message) -> None:
        """See `Channel`."""
        result = self._apprise.notify(
            body=message.text.partition("\n")[2].strip(),
            title=message.subject,
            notify_type=self._success if message.is_good else self._failure,
            body_format=self._text,
            timeout=self._timeout,
        )
        if not result:
            said = [one_line(entry.message) for entry in result.logs()]
            raise NotifyError(f"Apprise says {'; '.join(said) or 'no more than that it failed'}")


def _secrets(url: str) -> list[str]:
    """The parts of a URL that Apprise might write to its log."""
    parts = urlsplit(url)
    found = [url, parts.netloc, parts.query, *parts.path.split("/")]
    try:
        found += [parts.password or "", parts.username or ""]
    except ValueError:
        pass
    return [text for part in found for text in {part, unquote(part)} if len(text) > 5]
