"""The environment of a command: the current one, changes, and a marker that is inherited."""

from __future__ import annotations

import os
from collections.abc import Mapping

MARKER = "TTASKS_TASK"
"""Variable that marks a command and its descendants, with the id of its task (if it has one), a dot
and something random; markers of nested ones are joined by "/"."""


def environment(changes: Mapping[str, str | None] | None, marker: str) -> Mapping[bytes, bytes]:
    """The current environment with changes (None removes a name) and with this marker."""
    # os.environ decodes and encodes every entry that is looked at, which costs as much as the rest
    # of a command's preparation together; what is behind it needs only a copy.
    behind = getattr(os.environ, "_data", None)
    if not isinstance(behind, dict) or not isinstance(next(iter(behind), b""), bytes):
        behind = os.environb
    env: dict[bytes, bytes] = dict(behind)
    for name, value in (changes or {}).items():
        if value is None:
            env.pop(os.fsencode(name), None)
        else:
            env[os.fsencode(name)] = os.fsencode(value)
    key, own = MARKER.encode(), marker.encode()
    outer = env.get(key)
    env[key] = own if outer is None else outer + b"/" + own
    return env


def text_environment(changes: Mapping[str, str | None] | None, marker: str) -> dict[str, str]:
    """The same as str, for systems where that is what an environment is made of."""
    env = dict(os.environ)
    for name, value in (changes or {}).items():
        # Names are upper case in there on Windows, where their case does not matter.
        key = name.upper() if os.name == "nt" else name
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value
    outer = env.get(MARKER)
    env[MARKER] = marker if outer is None else f"{outer}/{marker}"
    return env
