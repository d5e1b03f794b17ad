"""Apprise: messages to the many services of the package of that name."""

from __future__ import annotations

from logging import Handler, LogRecord, getLogger
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ttasks import sync
from ttasks.errors import MissingExtraError
from ttasks.notify.channel import Channel, name_of
from ttasks.notify.errors import NotifyError
from ttasks.report.labels import one_line

if TYPE_CHECKING:
    from ttasks.notify.message import Message


class Apprise(Channel):
    """Sends messages to one service of Apprise (extra ``apprise``).

    Time limits are those of Apprise: 4 seconds for the connection and for the answer, or what the
    URL says (``?cto=10&rto=30``). Redirects are not followed. The first one that a program makes
    takes a second or two, since Apprise loads all of its services.

    Args:
        url: as Apprise defines it for each service, such as "discord://...". One, so that
            another attempt never repeats what has reached another service.
        name: None makes one of the service.

    Raises:
        MissingExtraError: the extra is not installed.
        TypeError, ValueError: an argument is wrong. The message shows no secret.
    """

    def __init__(self, url: str, *, name: str | None = None) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, got {type(url).__name__}")
        try:
            import apprise
        except ImportError:
            raise MissingExtraError("apprise", "ttasks.notify.Apprise") from None
        service = url.partition("://")[0][:20] if "://" in url else "it has no"
        # Not `Apprise.notify`: its threads would keep the interpreter from its end.
        asset = apprise.AppriseAsset(http_redirects=False)
        found = apprise.Apprise.instantiate(url, asset=asset)
        if found is None:
            raise ValueError(f"url is none that Apprise knows, or lacks something: {service}://...")
        self._service = found
        self._kinds = {True: apprise.NotifyType.SUCCESS, False: apprise.NotifyType.FAILURE}
        self._format = apprise.NotifyFormat.TEXT
        super().__init__(name_of("apprise", service, url) if name is None else name, _secrets(url))

    def send(self, message: Message) -> None:
        """See `Channel`."""
        said = _Said()
        log = getLogger("apprise")
        log.addHandler(said)
        try:
            is_sent = self._service.notify(
                body=message.text.partition("\n")[2].strip(),
                title=message.subject,
                notify_type=self._kinds[message.is_good],
                body_format=self._format,
            )
        finally:
            log.removeHandler(said)
        if not is_sent:
            raise NotifyError(f"Apprise says {'; '.join(said.lines) or 'only that it failed'}")


class _Said(Handler):
    """Keeps what is logged on this thread: `notify` itself returns no more than a bool."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._thread = sync.get_ident()

    def emit(self, record: LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(one_line(record.getMessage()))


def _secrets(url: str) -> list[str]:
    """The parts of a URL that Apprise might write to its log."""
    parts = urlsplit(url)
    found = [url, parts.netloc, parts.query, *parts.path.split("/")]
    try:
        found += [parts.password or "", parts.username or ""]
    except ValueError:
        pass
    return [text for part in found for text in {part, unquote(part)} if len(text) > 5]
