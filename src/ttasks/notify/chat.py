"""Slack and Teams: messages to a channel of a chat, by the URL that it gives for that."""

from __future__ import annotations

import json
import ssl
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ttasks.model.checks import check_number
from ttasks.notify.channel import Channel, name_of
from ttasks.notify.http import LONGEST, check_context, check_url, post
from ttasks.notify.webhook import TIMEOUT
from ttasks.report.labels import joined, shortened

if TYPE_CHECKING:
    from ttasks.notify.message import Message

_SLACK_TEXT = 2_800  # Slack takes 3,000 characters, where & < > count as they are written
_SHOWN = 5  # failures in a chat
_TEAMS_BYTES = 25_000  # Teams takes 28 KB


class _Chat(Channel):
    """A channel that posts JSON to a URL that is itself a secret."""

    _kind = ""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        tls_context: ssl.SSLContext | None = None,
        name: str | None = None,
    ) -> None:
        self._url = check_url(url, https=True)
        self._timeout = check_number("timeout", timeout, above=0, most=LONGEST)
        self._context = check_context(tls_context)
        if name is None:
            name = name_of(self._kind, self._url.hostname or "", url)
        super().__init__(name, [url, self._url.path.strip("/"), self._url.query])

    def send(self, message: Message) -> None:
        """See `Channel`."""
        body = json.dumps(self._document(message)).encode()
        headers = {"Content-Type": "application/json"}
        post(self._url, body, headers, timeout=self._timeout, context=self._context)

    @abstractmethod
    def _document(self, message: Message) -> dict[str, Any]:
        """What the chat takes."""


class Slack(_Chat):
    """Posts to a channel of Slack by the URL of an incoming webhook.

    Args:
        url: of the webhook; whoever knows it can post, so it is a secret.
        timeout: seconds for the connection, and again for the answer; at most a day.
        tls_context: None checks certificates by the system's authorities.
        name: None makes one of the host.

    Raises:
        TypeError, ValueError: an argument is wrong. The message shows no secret.
    """

    _kind = "slack"

    def _document(self, message: Message) -> dict[str, Any]:
        icon = ":white_check_mark:" if message.is_good else ":x:"
        facts = "\n".join([f"*{name}:* {_slack(value)}" for name, value in message.facts()])
        blocks = [_section(f"{icon} *{_slack(message.subject)}*"), _section(facts)]
        for failure in message.data["failures"][:_SHOWN]:
            text = f"*{_slack(failure['title'])}* {failure['status']}"
            if failure["did_not_run"]:
                names = joined(failure["did_not_run"], 5)
                text += f"\nDid not run because of it: {_slack(shortened(names, 300))}"
            room = _SLACK_TEXT - len(text) - 10
            error = _fitting(_slack(failure["error"].replace("```", "'''")), room)
            blocks.append(_section(f"{text}\n```{error}```" if error.strip() else text))
        if more := _more(message):
            blocks.append(_section(more))
        return {"text": _slack(message.subject), "blocks": blocks}


class Teams(_Chat):
    """Posts to a channel or chat of Microsoft Teams, as an Adaptive Card.

    The URL is that of a workflow made from "Post to a channel when a webhook request is received".

    Args:
        url: of the workflow; whoever knows it can post, so it is a secret.
        timeout: seconds for the connection, and again for the answer; at most a day.
        tls_context: None checks certificates by the system's authorities.
        name: None makes one of the host.

    Raises:
        TypeError, ValueError: an argument is wrong. The message shows no secret.
    """

    _kind = "teams"

    def _document(self, message: Message) -> dict[str, Any]:
        color = "Good" if message.is_good else "Attention"
        facts = [{"title": name, "value": _teams(value)} for name, value in message.facts()]
        body: list[dict[str, Any]] = [
            _block(message.subject, size="Medium", weight="Bolder", color=color),
            {"type": "FactSet", "facts": facts},
        ]
        for failure in message.data["failures"][:_SHOWN]:
            body.append(_block(f"{failure['title']} {failure['status']}", weight="Bolder"))
            if failure["error"]:
                body.append(_block(failure["error"], fontType="Monospace", spacing="None"))
            if failure["did_not_run"]:
                names = joined(failure["did_not_run"], 5)
                body.append(_block(f"Did not run because of it: {names}", spacing="None"))
        if more := _more(message):
            body.append(_block(more))
        while len(json.dumps(body)) > _TEAMS_BYTES:
            body.pop()
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "msteams": {"width": "Full"},
            "body": body,
        }
        attachment = {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None,
            "content": card,
        }
        return {"type": "message", "attachments": [attachment]}


def _more(message: Message) -> str:
    data = message.data
    number = max(0, len(data["failures"]) - _SHOWN) + data["more_failures"]
    return f"… and {number:,} more" if number else ""


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": _fitting(text, 3_000)}}


def _slack(text: str) -> str:
    """Text of ours for Slack, in which nobody is mentioned and nothing is a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fitting(text: str, room: int) -> str:
    """Slack's text cut to so many characters, and not within an ``&amp;``."""
    if len(text) <= room:
        return text
    cut = text[: room - 1]
    start = cut.rfind("&", len(cut) - 5)
    if start >= 0 and ";" not in cut[start:]:
        cut = cut[:start]
    return cut + "…"


def _block(text: str, **style: str) -> dict[str, Any]:
    shown = _teams(shortened(text, 1_500))
    return {"type": "TextBlock", "text": shown, "wrap": True, **style}


_TEAMS_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>#~|"})


def _teams(text: str) -> str:
    """Text of ours for a card, whose Markdown then shows it as it is."""
    return text.translate(_TEAMS_SPECIAL).replace("\n", "\n\n")
