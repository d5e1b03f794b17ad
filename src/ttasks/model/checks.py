"""Checks of arguments, whose errors name the argument and the value that was given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any


def wrong_type(name: str, value: object, expected: str) -> TypeError:
    """The TypeError for an argument of a wrong type."""
    return TypeError(f"{name} must be {expected}, got {type(value).__name__}: {_brief(value)}")


def wrong_value(name: str, value: object, expected: str) -> ValueError:
    """The ValueError for an argument of a right type and a wrong value."""
    return ValueError(f"{name} must be {expected}, got {_brief(value)}")


def _brief(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # raised by a class of the user's, or for an int of thousands of digits
        text = f"<{type(value).__name__} without a repr>"
    return text if len(text) <= 80 else text[:77] + "..."


def near(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """Up to three known names that are similar, the nearest first.

    ``cutoff`` is the least similarity, from 0.0 to 1.0.
    """
    from difflib import get_close_matches  # imports re

    return get_close_matches(name, sorted(known), 3, cutoff)


def check_str(name: str, value: object, *, empty: bool = True) -> str:
    """A ``str``, not blank unless ``empty``."""
    if not isinstance(value, str):
        raise wrong_type(name, value, "a str")
    if not empty and not value.strip():
        raise wrong_value(name, value, "a non-empty str")
    return value


def check_optional_str(name: str, value: object) -> str | None:
    """None or a ``str`` that is not blank."""
    return None if value is None else check_str(name, value, empty=False)


def check_bool(name: str, value: object) -> bool:
    """A ``bool``; other values are refused, however true or false they are."""
    if not isinstance(value, bool):
        raise wrong_type(name, value, "a bool")
    return value


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> float:
    """A finite number (no bool) within the bounds, as float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type(name, value, "a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an int that no float can hold
        finite = False
    if (
        finite
        and (above is None or value > above)
        and (least is None or value >= least)
        and (most is None or value <= most)
    ):
        return float(value)
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", least), ("<=", most))
        if bound is not None
    ]
    raise wrong_value(name, value, f"a finite number {' and '.join(bounds)}".strip())


def check_int(name: str, value: object, *, least: int) -> int:
    """An ``int`` (no bool) of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, value, "an int")
    if value < least:
        raise wrong_value(name, value, f"an int >= {least}")
    return value


def check_seconds(name: str, value: object) -> float | None:
    """None, or a finite number of seconds above zero."""
    return None if value is None else check_number(name, value, above=0)


def check_moment(name: str, value: object) -> datetime | None:
    """None, or an aware datetime."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise wrong_type(name, value, "an aware datetime or None")
    if value.utcoffset() is None:
        raise wrong_value(name, value, "an aware datetime (with a time zone)")
    return value


def check_callable(name: str, value: object) -> None:
    """Anything that can be called."""
    if not callable(value):
        raise wrong_type(name, value, "a callable")


def check_json(name: str, value: object) -> None:
    """A value that JSON can hold: None, bool, number, str, list or tuple, mapping with str keys."""
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise wrong_value(name, value, "a finite number")
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            check_json(f"{name}[{position}]", item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise wrong_type(f"a key of {name}", key, "a str")
            check_json(f"{name}[{key!r}]", item)
    else:
        raise wrong_type(name, value, "a JSON value (None, bool, number, str, list, dict)")


def plain(value: Any) -> Any:
    """A deep copy of a JSON value in plain lists and dicts."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
