"""Find and replace the leaves of nested lists, tuples and dicts.

Containers are lists, tuples (also named ones), dicts with their values, and subclasses of these. A
container that occurs twice is visited once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

PLAIN: frozenset[type] = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Types that hold nothing else."""


def leaves(value: object, skip: frozenset[type] = PLAIN) -> list[Any]:
    """The leaves of a structure in order, except objects of the skipped types.

    Raises:
        ValueError: the structure contains itself, or is nested too deeply to be walked.
    """
    found: list[Any] = []

    def note(leaf: Any) -> Any:
        found.append(leaf)
        return leaf

    rebuilt(value, note, skip)
    return found


def rebuilt(value: object, change: Callable[[Any], Any], skip: frozenset[type] = PLAIN) -> Any:
    """A copy with ``change(leaf)`` in place of each leaf; ``value`` itself if no leaf changes.

    Containers in which nothing changes are shared with the original.

    Raises:
        ValueError: as ``leaves``.
    """
    try:
        return _rebuild(value, change, skip, {}, set())
    except RecursionError:
        raise _too_deep(value) from None


def _rebuild(
    value: Any,
    change: Callable[[Any], Any],
    skip: frozenset[type],
    done: dict[int, Any],
    above: set[int],
) -> Any:
    items = _items(value)
    if items is None:
        return value if type(value) in skip else change(value)
    key = id(value)
    if key in done:
        return done[key]
    if key in above:
        raise _circular(value)
    above.add(key)
    same = True
    new = []
    for item in items:
        made = item if type(item) in skip else _rebuild(item, change, skip, done, above)
        same = same and made is item
        new.append(made)
    above.discard(key)
    done[key] = result = value if same else _like(value, new)
    return result


def _items(value: object) -> Iterable[Any] | None:
    if isinstance(value, (list, tuple)):
        return value
    return value.values() if isinstance(value, dict) else None


def _like(value: Any, items: list[Any]) -> Any:
    """A container like this one with other items."""
    kind = type(value)
    if kind is list:
        return items
    if isinstance(value, tuple):
        return kind._make(items) if hasattr(kind, "_make") else kind(items)
    if kind is dict:
        return dict(zip(value, items, strict=True))
    new = copy(value)
    if isinstance(value, list):
        new[:] = items
    else:
        for name, item in zip(value, items, strict=True):
            new[name] = item
    return new


def _circular(value: object) -> ValueError:
    return ValueError(
        f"a {type(value).__name__} among the arguments contains itself; "
        "tasks cannot be looked for in it"
    )


def _too_deep(value: object) -> ValueError:
    return ValueError(f"the {type(value).__name__} of arguments is nested too deeply")
