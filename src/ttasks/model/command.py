"""Options of command tasks: their checks and their JSON form."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ttasks.model.checks import check_bool, check_int, check_number, wrong_type, wrong_value
from ttasks.model.service import READY_SECONDS, check_probe, check_service, probe_options

GRACE_SECONDS = 2.0
"""Default of ``grace``."""

STOP_SIGNAL = 15
"""Default of ``stop_signal``: SIGTERM."""

_LAST_SIGNAL = 64


def command_options(**options: Any) -> dict[str, Any]:
    """Check the options of a command; returns them in the form in which tasks keep them.

    Options that have their default are left out, so that naming a default does not change the
    fingerprint of a task. The result is JSON, and passes this check again unchanged.

    Args:
        options: any of ``cwd`` (str or PathLike), ``env`` (mapping of str to str, or None to
            remove the name), ``env_from`` (names of variables that the process that runs the
            command must have), ``stdin`` (str or bytes), ``strict`` (bool), ``output_limit`` (bytes
            per stream, at least 2), ``grace`` (seconds, at least 0); None is the default of all
            but ``strict`` and ``grace``.

    Raises:
        TypeError: an option is unknown or has the wrong type.
        ValueError: an option has a wrong value.
    """
    return _checked(options, _CHECKS, "command")


def service_options(**options: Any) -> dict[str, Any]:
    """Check the options of a service, in the same way.

    Args:
        options: those of a command, and ``ready`` (the options of a probe), ``ready_timeout``
            (seconds, above 0) and ``stop_signal`` (a number, 1 to 64).

    Raises:
        TypeError, ValueError: as for `command_options`.
    """
    return _checked(options, _SERVICE_CHECKS, "service")


def _checked(
    options: Mapping[str, Any], checks: Mapping[str, Callable[[str, Any], Any]], what: str
) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in options.items():
        check = checks.get(name)
        if check is None:
            known = ", ".join(checks)
            raise TypeError(f"unknown option {name!r} of a {what} (known: {known})")
        value = check(name, value)
        if value != _DEFAULTS.get(name):
            checked[name] = value
    return checked


def missing_variables(options: Mapping[str, Any]) -> list[str]:
    """The names in ``env_from`` that neither the environment of this process nor ``env`` has."""
    env = options.get("env") or {}
    return [
        name for name in options.get("env_from") or () if name not in os.environ and name not in env
    ]


def with_variables(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options with the values of ``env_from`` in ``env``, as if they had been given there."""
    names = options.get("env_from")
    if not names or missing_variables(options):
        return options
    given = {name: os.environ[name] for name in names if name in os.environ}
    rest = {name: value for name, value in options.items() if name != "env_from"}
    return {**rest, "env": {**given, **(options.get("env") or {})}}


def check_script(payload: str) -> str:
    """The script of a command. It may be empty, and then succeeds as ``bash -c ''`` does."""
    return check_text("payload", payload)


def stdin_bytes(value: Any) -> bytes | None:
    """The bytes that a command reads, from the form in which a task keeps them."""
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    return b64decode(value["base64"])


def check_text(name: str, value: object) -> str:
    """A str that the operating system accepts as an argument."""
    if not isinstance(value, str):
        raise wrong_type(name, value, "a str")
    at = value.find("\0")
    if at >= 0:
        raise ValueError(f"{name} must not have a NUL character, got one at position {at}")
    _check_encodable(name, value)
    return value


def _check_encodable(name: str, value: str) -> None:
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must be text that can be written as UTF-8, "
            f"got a lone surrogate at position {error.start}"
        ) from None


def _check_cwd(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise wrong_type(name, value, "a str, a PathLike or None")
    text = check_text(name, os.fsdecode(value))
    if not text:
        raise wrong_value(name, value, "a non-empty path or None")
    return text


def _check_env(name: str, value: object) -> dict[str, str | None] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise wrong_type(name, value, "a mapping of str to str or None")
    env: dict[str, str | None] = {}
    for key, text in value.items():
        if not isinstance(key, str):
            raise wrong_type(f"a name in {name}", key, "a str")
        check_text(f"a name in {name}", key)
        if not key or "=" in key:
            raise wrong_value(f"a name in {name}", key, "a non-empty str without '='")
        if text is not None:
            if not isinstance(text, str):
                # Environment values tend to be secrets: their type says enough.
                raise TypeError(f"{name}[{key!r}] must be a str or None, got {type(text).__name__}")
            check_text(f"{name}[{key!r}]", text)
        env[key] = text
    return env or None


def _check_env_from(name: str, value: object) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise wrong_type(name, value, "a list of names of variables")
    return list(_check_env(name, dict.fromkeys(value)) or ()) or None


def _check_stdin(name: str, value: object) -> str | dict[str, str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        _check_encodable(name, value)
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": b64encode(value).decode()}
    if isinstance(value, Mapping) and set(value) == {"base64"}:
        text = value["base64"]
        try:
            b64decode(text, validate=True)
        except (TypeError, ValueError):
            raise wrong_value(name, value, "valid base64") from None
        return {"base64": text}
    raise wrong_type(name, value, "a str, bytes or None")


def _check_limit(name: str, value: object) -> int | None:
    return None if value is None else check_int(name, value, least=2)


def _check_grace(name: str, value: object) -> float:
    return check_number(name, value, least=0)


def _check_ready(name: str, value: object) -> dict[str, Any] | None:
    # A ledger has the options of a probe.
    return probe_options(value if isinstance(value, Mapping) else check_probe(name, value))


def _check_ready_timeout(name: str, value: object) -> float:
    return check_service(None, value).ready_timeout


def _check_signal(name: str, value: object) -> int:
    number = check_int(name, value, least=1)
    if number > _LAST_SIGNAL:
        raise wrong_value(name, value, f"a signal number from 1 to {_LAST_SIGNAL}")
    return int(number)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "cwd": _check_cwd,
    "env": _check_env,
    "stdin": _check_stdin,
    "strict": check_bool,
    "output_limit": _check_limit,
    "grace": _check_grace,
    "env_from": _check_env_from,
}
_SERVICE_CHECKS = {
    **_CHECKS,
    "ready": _check_ready,
    "ready_timeout": _check_ready_timeout,
    "stop_signal": _check_signal,
}
_DEFAULTS = {
    "strict": False,
    "grace": GRACE_SECONDS,
    "ready_timeout": READY_SECONDS,
    "stop_signal": STOP_SIGNAL,
}
