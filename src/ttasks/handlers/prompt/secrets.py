"""Keys: where they come from, and how they are kept out of every text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ttasks.errors import ProviderAuthenticationError
from ttasks.model.redact import Redactor

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
