"""What is taken for a channel: one, a function, or a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from ttasks.model.checks import wrong_type
from ttasks.notify.channel import Channel
from ttasks.notify.chat import Slack, Teams
from ttasks.notify.mail import Mail
from ttasks.notify.webhook import Webhook

if TYPE_CHECKING:
    from ttasks.notify.message import Message

_TEAMS_HOSTS = (".logic.azure.com", ".powerplatform.com", ".webhook.office.com")
_MAIL = {"smtp": "starttls", "smtps": "tls", "smtp+plain": "none"}
_HINT = "give a URL such as https://host/path, smtp://host?from=...&to=... or one of Apprise"


ChannelLike = Channel | Callable[["Message"], object] | str
"""What is taken for a channel: one, a function that is called with each message, or a URL."""


class _Function(Channel):
    """A channel that calls a function."""

    def __init__(self, function: Callable[[Message], object]) -> None:
        module = getattr(function, "__module__", None) or type(function).__module__
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        super().__init__(f"{module}.{name}")
        self._function = function

    def send(self, message: Message) -> None:
        self._function(message)


def check_channels(channels: Iterable[ChannelLike]) -> list[Channel]:
    """The channels, each of another name.

    Raises:
        TypeError: one is of a wrong type, or they are no iterable.
        ValueError: there is none, two have the same name, or a URL is wrong.
    """
    if isinstance(channels, (str, bytes)) or not isinstance(channels, Iterable):
        raise wrong_type("channels", _shown(channels), "an iterable of channels")
    found = [_channel(f"channels[{at}]", item) for at, item in enumerate(channels)]
    if not found:
        raise ValueError("there is no channel; give at least one")
    names = [channel.name for channel in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"two channels have the name {twice[0]!r}; give them names of their own (name=...)"
        )
    return found


def _channel(name: str, value: Any) -> Channel:
    if isinstance(value, Channel):
        if not hasattr(value, "name"):
            raise TypeError(f"{name} has no name; call super().__init__(name) in its __init__")
        return value
    if isinstance(value, str):
        return channel_of(value)
    if iscoroutinefunction(value):
        raise TypeError(f"{name} is a coroutine function, which nothing would await; write def")
    if callable(value) and not isinstance(value, type):
        return _Function(value)
    if isinstance(value, type):
        raise TypeError(f"{name} is the class {value.__name__}; give an instance of it")
    raise wrong_type(name, value, "a Channel, a function that takes a Message, or a URL")


def _shown(value: object) -> object:
    return "..." if isinstance(value, (str, bytes)) else value  # a URL may hold a secret


def channel_of(url: str) -> Channel:
    """Return the channel that a URL means.

    ============================================ ======================================
    URL                                          channel
    ============================================ ======================================
    ``https://hooks.slack.com/...``              `Slack`
    ``https://...logic.azure.com/...``           `Teams` (also ``.powerplatform.com``)
    any other ``https:`` or ``http:``            `Webhook`; ``#whsec_...`` is its secret
    ``smtp://user:password@host?from=A&to=B``    `Mail` with STARTTLS; ``smtps`` with TLS,
                                                 ``smtp+plain`` without
    any other                                    `Apprise`
    ============================================ ======================================

    Raises:
        TypeError, ValueError: it is no URL of a channel. The message shows no secret.
        MissingExtraError: it takes an extra that is not installed.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, got {type(url).__name__}")
    scheme, divider, _ = url.partition("://")
    if not divider or not scheme:
        raise ValueError(f"that is no URL of a channel; {_HINT}")
    scheme = scheme.lower()
    if scheme in _MAIL:
        return _mail(url, _MAIL[scheme])
    if scheme in ("http", "https"):
        return _web(url)
    from ttasks.notify.apprise import Apprise

    return Apprise(url)


def _web(url: str) -> Channel:
    address, _, secret = url.partition("#")
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        host = ""
    if host == "hooks.slack.com":
        return Slack(url)
    if host.endswith(_TEAMS_HOSTS):
        return Teams(url)
    return Webhook(address, unquote(secret) or None)


def _mail(url: str, tls: str) -> Mail:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the host or port of the mail server is wrong") from None
    query = parse_qs(parts.query, keep_blank_values=True)
    unknown = sorted(set(query) - {"from", "to"})
    if unknown:
        raise ValueError(f"the URL of a mail has from= and to= after the ?, not {unknown[0]!r}")
    if not parts.hostname or len(query.get("from", ())) != 1 or not query.get("to"):
        raise ValueError("the URL of a mail must be like smtp://host?from=a@b.org&to=c@d.org")
    return Mail(
        parts.hostname,
        query["to"],
        sender=query["from"][0],
        port=port,
        tls=tls,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )
