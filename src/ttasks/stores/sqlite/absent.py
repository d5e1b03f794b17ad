"""NotStored: what a ledger gives back in place of an object that it could not keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from ttasks.errors import StoreError


class NotStored:
    """Stands for a payload, value or raw result that is no JSON and so was not stored.

    Using it fails with a message that says what it stands for; two are equal if that is the same.

    Attributes:
        what: "payload", "value" or "raw".
        kind: qualified name of its type, or of itself if it was a function or class.
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
            f"The {self.what} ({self.kind}) is not JSON, so the ledger did not keep it; "
            f"build the task anew from the code that made it"
        )


def kind_of(value: object) -> str:
    """How `NotStored` names an object: never by its repr, which may hold secrets."""
    named = value if hasattr(value, "__qualname__") else type(value)
    module = getattr(named, "__module__", None)
    name = getattr(named, "__qualname__", type(value).__qualname__)
    label = f"{module}.{name}" if isinstance(module, str) and module != "builtins" else str(name)
    return label if named is not value else f"{type(value).__name__} {label}"
