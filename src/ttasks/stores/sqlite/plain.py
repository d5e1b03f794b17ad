"""Values as SQLite and JSON hold them, and only those that come back exactly as they were."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# One encoder each, made once: `json.dumps` with options makes a new one for every call.
_exact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_lenient = json.JSONEncoder(separators=(",", ":"), default=str).encode

Text = str | bytes
"""Text in a row: bytes where UTF-8 cannot hold it."""


def exact_json(value: object) -> str | None:
    """JSON from which exactly this value can be read again, or None.

    Exactly means: equal and of the same types throughout. So there is no tuple, no int as a key,
    no NaN and no subclass in it, for they would come back as something else.
    """
    try:
        return _exact(value) if _is_exact(value) else None
    except (ValueError, RecursionError, RuntimeError):
        # An int of too many digits; nested too deeply, or in itself; changed meanwhile.
        return None


def _is_exact(value: object) -> bool:
    kind = type(value)
    if kind is str or value is None or kind is int or kind is bool:
        return True
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    if kind is list:
        return all(map(_is_exact, value))  # type: ignore[call-overload]
    if kind is dict:
        return all(
            type(key) is str and _is_exact(item)
            for key, item in value.items()  # type: ignore[attr-defined]
        )
    return False


def to_json(value: object) -> str:
    """JSON of plain data of this library; what is none by mistake becomes its str."""
    return _lenient(value)


def from_json(text: Text | None) -> Any:
    """What a JSON text holds; None if there is no text."""
    return None if text is None else json.loads(text)


def to_text(text: str) -> Text:
    """A str for a row. SQLite takes no lone surrogates, which stand for undecodable bytes."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return text.encode("utf-8", "surrogatepass")
    return text


def from_text(text: Text) -> str:
    """The str that ``to_text`` was given."""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")


def to_optional(text: str | None) -> Text | None:
    """``to_text``, None for None."""
    return None if text is None else to_text(text)


def from_optional(text: Text | None) -> str | None:
    """``from_text``, None for None."""
    return None if text is None else from_text(text)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 in UTC, exactly."""
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime."""
    return _EPOCH + timedelta(microseconds=micros)
