"""From what a model's server says to an error with a readable reason."""

from __future__ import annotations

import json
import re

from ttasks.errors import (
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
    RateLimitedError,
    UnknownModelError,
)

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
