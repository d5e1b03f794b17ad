"""Values as SQLite and JSON hold them, and the placeholder for those that they cannot hold.

A value is held as JSON only if it comes back exactly as it was; otherwise it is a `NotStored`.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from ttasks.errors import StoreError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

# One encoder each, made once: `json.dumps` with options makes a new one for every call.
_exact = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_lenient = json.JSONEncoder(separators=(",", ":"), default=str).encode

Text = str | bytes
"""Text in a row: bytes where UTF-8 cannot hold it."""

# How a row holds a payload or a value. Text is kept as it is, for readers with other tools.
# "output" means that the value is the text in the column of that name; "pickle" is a base64 pickle
# of a value that is not JSON, in a ledger opened with ``pickle_values=True``; "call" is the call of
# a Python task (see `calls`).
TEXT, JSON, ABSENT, NONE = "text", "json", "absent", "none"
OUTPUT, PICKLE, CALL = "output", "pickle", "call"


LONGEST = 150_000_000
"""Characters of a text that a row takes; SQLite takes 1,000,000,000 bytes of a row."""


class NotStored:
    """In place of a payload, value or raw result that is not JSON, or too long, and was not stored.

    Using it raises an error that says what it replaces. Two are equal if they replace the same.

    Attributes:
        what: "payload", "value" or "raw".
        kind: qualified name of its type, or of the object itself if it was a function or class.
    """

    __slots__ = ("kind", "what")

    what: str
    kind: str
    is_absent = True

    def __init__(self, what: str, kind: str) -> None:
        self.what = what
        self.kind = kind

    def __repr__(self) -> str:
        return f"<not stored: {self.what}, {self.kind}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NotStored):
            return (self.what, self.kind) == (other.what, other.kind)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.what, self.kind))

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise StoreError(self._message())

    def __getitem__(self, key: Any) -> NoReturn:
        raise StoreError(self._message())

    def __iter__(self) -> Iterator[Any]:
        raise StoreError(self._message())

    def __getattr__(self, name: str) -> NoReturn:
        # Only for names that are not found otherwise; copy and pickle ask for dunder names.
        if name.startswith("__") or name in self.__slots__:
            raise AttributeError(name)
        raise AttributeError(self._message())

    def _message(self) -> str:
        return (
            f"The {self.what} ({self.kind}) is not JSON, or is too long, so the ledger did not "
            f"keep it; build the task anew from the code that made it"
        )


def kind_of(value: object) -> str:
    """The name of an object for `NotStored`; never its repr, which may hold secrets."""
    kind = type(value)
    if kind is NotStored:
        return value.kind  # type: ignore[attr-defined, no-any-return]
    try:
        name = getattr(value, "__qualname__", None)
        named = kind if name is None else value
        module = getattr(named, "__module__", None)
    except BaseException:  # whatever a `__getattr__` raises, SystemExit too
        name, named, module = None, kind, vars(kind).get("__module__")
    label = str(kind.__qualname__ if name is None else name)
    if isinstance(module, str) and module != "builtins":
        label = f"{module}.{label}"
    return label if named is not value else f"{kind.__name__} {label}"


def encode_object(value: object, pickles: bool = False) -> tuple[str, Text]:
    """The kind and the text with which a row holds an object."""
    if type(value) is str:
        return (TEXT, to_text(value)) if len(value) <= LONGEST else (ABSENT, kind_of(value))
    text = exact_json(value)
    if text is not None:
        return (JSON, text) if len(text) <= LONGEST else (ABSENT, kind_of(value))
    if pickles and type(value) is not NotStored:
        import pickle

        try:
            text = b64encode(pickle.dumps(value)).decode()
        except Exception:  # whatever a `__reduce__` raises
            pass
        else:
            if len(text) <= LONGEST:
                return PICKLE, text
    return ABSENT, kind_of(value)


def shortened(text: str) -> str:
    """The beginning and the end of a text that is too long for a row; any other as it is."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 4
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n[{left_out} characters are left out in the ledger]\n{text[-half:]}"


def decode_object(what: str, kind: str, text: Text | None, pickles: bool = False) -> Any:
    """The object, or a `NotStored` in its place."""
    if kind == NONE or text is None:
        return None
    if kind == TEXT:
        return from_text(text)
    if kind == JSON:
        return from_json(text)
    if kind != PICKLE:
        return NotStored(what, from_text(text))
    if not pickles:
        return NotStored(what, "a pickle; open the ledger with pickle_values=True")
    import pickle

    try:
        return pickle.loads(b64decode(text))
    except Exception as error:  # its class is gone, or whatever a `__setstate__` raises
        return NotStored(what, f"a pickle that raised {type(error).__name__}")


def exact_json(value: object) -> str | None:
    """JSON from which exactly this value can be read again, or None.

    Exactly means equal and of the same types throughout. So it holds no tuple, no int as a key, no
    NaN and no instance of a subclass, which would come back as something else.
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
    """JSON of data of this library; anything that is not JSON by mistake becomes its str."""
    return _lenient(value)


def from_json(text: Text | None) -> Any:
    """What a JSON text holds; None if there is no text."""
    return None if text is None else json.loads(text)


def to_text(text: str) -> Text:
    """A str for a row; as bytes if it has lone surrogates, which SQLite does not accept."""
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
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime."""
    return EPOCH + timedelta(microseconds=micros)
