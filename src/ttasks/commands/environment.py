"""The environment of a command: the current one, changes, and a mark that is inherited."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ttasks.trees import MARKER, joined


def environment(changes: Mapping[str, str | None] | None, mark: str) -> Mapping[bytes, bytes]:
    """The current environment with changes (None removes a name) and with this mark."""
    env = dict(os.environb)
    for name, value in (changes or {}).items():
        if value is None:
            env.pop(os.fsencode(name), None)
        else:
            env[os.fsencode(name)] = os.fsencode(value)
    outer = env.get(MARKER.encode())
    env[MARKER.encode()] = os.fsencode(joined(None if outer is None else os.fsdecode(outer), mark))
    return env


def text_environment(changes: Mapping[str, str | None] | None, mark: str) -> dict[str, str]:
    """The same as str, for systems where that is what an environment is made of."""
    env = dict(os.environ)
    for name, value in (changes or {}).items():
        # Names are upper case in there on Windows, where their case does not matter.
        key = name.upper() if os.name == "nt" else name
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value
    env[MARKER] = joined(env.get(MARKER), mark)
    return env
