"""The interface of a provider of language models, and what all providers share.

That is: how keys are kept out of every text, and which error stands for what a server says.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ttasks.errors import (
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
    RateLimitedError,
    UnknownModelError,
)
from ttasks.model.prompt import PermissionRequest, PromptReply
from ttasks.model.redact import Redactor


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What is asked for in one turn.

    Attributes:
        text: the prompt.
        options: the handler's options, overridden by those of the task; see `prompt_options`.
    """

    text: str
    options: Mapping[str, Any]


class Channel(Protocol):
    """Where a turn reports to while it goes on; for the thread of the event loop."""

    def emit(self, text: str) -> None:
        """Pass on the next chunk of the answer."""

    async def ask(self, request: PermissionRequest) -> bool | None:
        """Wait for the decision whether the agent may do something; None if the turn has ended."""


class Provider(Protocol):
    """A way to a language model; opened when the first turn begins and then reused.

    `turn` and `close` are coroutines of one event loop; several turns may be under way at once.
    Errors are a `ttasks.errors.ProviderError` each, without a secret in any text.
    """

    name: str

    async def turn(self, request: TurnRequest, channel: Channel) -> PromptReply:
        """Ask the model, emit its answer in chunks, and return the whole.

        When it is cancelled, or raises, nothing of the turn goes on.
        """

    async def close(self) -> None:
        """End every process, thread and connection; no turn is under way.

        May be called again, and after ``kill``: then what is left is to be closed.
        """

    def kill(self) -> None:
        """End every process at once, from any thread, without waiting for the event loop."""


OpenProvider = Callable[[], Provider]
"""Opens a provider; raises MissingExtraError if what it needs is not installed."""


# Keys

_LONGEST_REASON = 1000
_SECRET_NAMES = ("api_key", "bearer_token")
_BEARER = re.compile(r"(?i)bearer\s+[^\s\"']{8,}")


class Secret:
    """A str that no repr and no traceback shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str | None) -> None:
        self._text = text

    def get(self) -> str | None:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "<Secret>" if self._text else "<no Secret>"


class Setting:
    """A provider setting of the Copilot SDK; its repr and its errors show no key."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def resolve(self, provider: str) -> dict[str, Any]:
        """The setting as the SDK takes it, with the key that ``api_key_env`` names.

        Raises:
            ProviderAuthenticationError: there is no such environment variable.
        """
        values = dict(self._values)
        name = values.pop("api_key_env", None)
        if name is not None:
            key = os.environ.get(name)
            if not key:
                raise ProviderAuthenticationError(
                    provider, f"environment variable {name!r}, named by 'api_key_env', is not set"
                )
            values["api_key"] = key
        return values

    def __repr__(self) -> str:
        return f"<Setting of {', '.join(self._values)}>"


def secrets_of(setting: Mapping[str, Any]) -> list[str]:
    """What must not be shown of a resolved provider setting."""
    found = [setting.get(name) for name in _SECRET_NAMES]
    headers = setting.get("headers")
    if isinstance(headers, Mapping):
        found += headers.values()
    return [text for text in found if isinstance(text, str) and text] + password_of(
        setting.get("base_url")
    )


def password_of(url: object) -> list[str]:
    """The user and password in a URL, as they stand in it."""
    if not isinstance(url, str):
        return []
    place = url.partition("://")[2].partition("/")[0]
    return [place.rpartition("@")[0]] if place.rpartition("@")[0] else []


def clean(text: str, secrets: list[str]) -> str:
    """A text of a provider for an error message: one paragraph, not too long, no secret in it."""
    text = Redactor([*secrets, _BEARER]).text(text)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


# Errors

EMPTY = "the model's answer is empty"

_MALFORMED = re.compile(r"\bJSON\b|\bparse\b")
_CONNECTION = re.compile(
    r"HTTP request|connect|refused|timed out|ended|closed|missing finish_reason", re.IGNORECASE
)

_BY_STATUS: dict[int, tuple[type[ProviderError], str]] = {
    401: (ProviderAuthenticationError, "the key is not accepted"),
    403: (ProviderAuthenticationError, "access is denied"),
    404: (UnknownModelError, "no such model, or no model server at that address"),
    429: (RateLimitedError, "rate limited"),
}


def reason_of(provider: str, status: int | None, message: str) -> ProviderError:
    """The error for an HTTP status and a text, or for a text alone if no answer came."""
    message = _inner(message)
    said = f": {message}" if message else ""
    if status is None:
        return _without_answer(provider, message)
    if status in _BY_STATUS:
        kind, reason = _BY_STATUS[status]
    elif status >= 500:
        kind, reason = ProviderConnectionError, "the model's server failed"
    else:
        kind, reason = ProviderError, "the request was refused"
    return kind(provider, f"{reason} (HTTP {status}){said}", status)


def malformed(provider: str, message: str) -> ProviderResponseError:
    """The error for something that is no answer."""
    return ProviderResponseError(provider, f"the model's answer is malformed: {message}")


def no_connection(provider: str, message: str) -> ProviderConnectionError:
    """The error for a server that cannot be reached, or goes away."""
    what = "connection refused" if "refused" in message else "the connection failed"
    return ProviderConnectionError(provider, f"{what}: {message}")


def _without_answer(provider: str, message: str) -> ProviderError:
    if _MALFORMED.search(message):
        return malformed(provider, message)
    if _CONNECTION.search(message):
        return no_connection(provider, message)
    return ProviderError(provider, message or "failed without a reason")


def _inner(message: str) -> str:
    """The text in an error that is JSON, as servers and the CLI send it."""
    if not message.startswith(("{", '"')):
        return message
    try:
        value = json.loads(message)
    except ValueError:
        return message
    if isinstance(value, dict):
        value = value.get("message", message)
    return value if isinstance(value, str) else message
