"""Pickle objects for another process, and name what cannot be pickled by its path."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

from ttasks.errors import TaskExecutionError, describe

PROTOCOL = pickle.HIGHEST_PROTOCOL
TRIES = 2000
"""Parts to try in the search for what cannot be pickled."""


def dumps(
    parts: dict[str, Any],
    what: str,
    make_error: Callable[[str], TaskExecutionError] = TaskExecutionError,
) -> bytes:
    """The values of a dict as a pickled list.

    Args:
        parts: by the name for the user: ``func``, ``args`` and so on.
        what: beginning of the error message, for example "f cannot be sent to another process".
        make_error: makes what is raised, from the message.

    Raises:
        TaskExecutionError: names the innermost part that cannot be pickled by its path.
    """
    try:
        return pickle.dumps(list(parts.values()), PROTOCOL)
    except Exception as error:
        for name, value in parts.items():
            reason = _reason(value)
            if reason is not None:
                path, culprit, reason = _culprit(name, value, reason)
                raise make_error(
                    f"{what}: {path} cannot be pickled ({_kind(culprit)}): {describe(reason)}"
                ) from reason
        raise make_error(f"{what}: {describe(error)}") from error


def _reason(value: object) -> Exception | None:
    try:
        pickle.dumps(value, PROTOCOL)
    except Exception as error:
        return error
    return None


def _culprit(path: str, value: object, reason: Exception) -> tuple[str, object, Exception]:
    """The innermost part of a value that cannot be pickled, with its path and the reason."""
    left = TRIES
    seen = {id(value)}
    while True:
        for step, part in _parts(value):
            left -= 1
            if left < 0:
                return path, value, reason
            if id(part) in seen:
                continue
            seen.add(id(part))
            why = _reason(part)
            if why is not None:
                path, value, reason = path + step, part, why
                break
        else:
            return path, value, reason


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an object, each with the path to it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key!r}]", item
        for key in value:
            yield f" (key {key!r})", key
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield f"[{position}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield " (a member)", item
    if isinstance(value, type) or (callable(value) and not hasattr(value, "func")):
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, type):
            yield ".__self__", owner
        return
    for name in (*getattr(value, "__dict__", ()), *_slots(type(value))):
        try:
            yield f".{name}", getattr(value, name)
        except Exception:  # unset, or a property that fails
            continue
    if hasattr(value, "func") and hasattr(value, "args") and hasattr(value, "keywords"):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords


def _slots(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                yield name


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"class {value.__qualname__}"
    return f"a {type(value).__qualname__}"
