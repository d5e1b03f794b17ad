"""Prompts: their options, and what a handler gives back for one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ttasks.model.checks import check_int, check_number, check_str, wrong_type, wrong_value

PROMPT_OPTIONS = ("model", "provider", "system", "temperature", "max_tokens")
AGENT_OPTIONS = (*PROMPT_OPTIONS, "cwd")

SECRET_SETTINGS = frozenset(
    ("apikey", "authorization", "bearertoken", "headers", "key", "password", "secret", "token")
)
"""Names in a provider setting, in any spelling, that a task must not hold, because it is stored."""

_HOTTEST = 2.0
_WITHOUT_DASHES = str.maketrans("", "", "_-")


@dataclass(frozen=True, slots=True)
class PromptReply:
    """What a prompt handler returns: becomes the parts of a `TaskResult`.

    Attributes:
        text: the whole text of the turn; becomes ``output`` unless it was emitted in chunks.
        usage: name to number of tokens: "input_tokens", "output_tokens", "total_tokens", and
            others that the provider counts. None if it does not count.
        raw: the provider's final message, as JSON; becomes ``raw``.
        answer: text of the final message alone, which becomes ``value``; None means ``text``.
    """

    text: str
    usage: Mapping[str, int] | None = None
    raw: Any = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """What an agent asks permission for, before it acts.

    Attributes:
        kind: "shell", "write", "read", "url", "mcp", or another name of the provider's.
        subject: what it is about: the command, the path, the URL, the name of the tool.
        intention: the agent's reason, in its own words; may be empty.
        raw: the provider's own object, with everything else.
    """

    kind: str
    subject: str
    intention: str = ""
    raw: Any = None


def prompt_options(known: tuple[str, ...] = PROMPT_OPTIONS, **options: Any) -> dict[str, Any]:
    """Check the options of a prompt or an agent; returns them in the form in which tasks keep them.

    None means the value that the handler was made with; such options are left out.

    Args:
        known: names of the options that exist.
        options: any of ``model`` and ``system`` (non-empty str), ``provider`` (mapping without
            secrets), ``temperature`` (0 to 2), ``max_tokens`` (at least 1), ``cwd`` (path).

    Raises:
        TypeError: an option is unknown or has the wrong type.
        ValueError: an option has a wrong value, or a secret is among them.
    """
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"unknown option {name!r} of a prompt (known: {', '.join(known)})")
        if value is not None:
            checked[name] = _CHECKS[name](name, value)
    return checked


def agent_options(**options: Any) -> dict[str, Any]:
    """`prompt_options` for an agent, which also has ``cwd``."""
    return prompt_options(AGENT_OPTIONS, **options)


def _check_text(name: str, value: object) -> str:
    return check_str(name, value, empty=False)


def _check_provider(name: str, value: object) -> Mapping[str, Any]:
    # No value is shown: one of them may be a key that is in the wrong place.
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping or None, got {type(value).__name__}")
    for key in value:
        if isinstance(key, str) and key.lower().translate(_WITHOUT_DASHES) in SECRET_SETTINGS:
            raise ValueError(
                f"{name} of a task must not hold {key!r}, because tasks are stored; give it to "
                "the handler, or name an environment variable as 'api_key_env'"
            )
    if not isinstance(value.get("base_url", ""), str):
        raise TypeError(f"{name}['base_url'] must be a str")
    if "@" in value.get("base_url", "").partition("://")[2].partition("/")[0]:
        raise ValueError(
            f"{name}['base_url'] of a task must not hold a password, because tasks are stored"
        )
    return value


def _check_temperature(name: str, value: object) -> float:
    return check_number(name, value, least=0, most=_HOTTEST)


def _check_tokens(name: str, value: object) -> int:
    return check_int(name, value, least=1)


def _check_cwd(name: str, value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise wrong_type(name, value, "a str, a PathLike or None")
    path = os.fsdecode(value)
    if not path:
        raise wrong_value(name, value, "a non-empty path or None")
    return path


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "model": _check_text,
    "provider": _check_provider,
    "system": _check_text,
    "temperature": _check_temperature,
    "max_tokens": _check_tokens,
    "cwd": _check_cwd,
}
