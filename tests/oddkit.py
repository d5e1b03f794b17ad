"""Exceptions whose classes raise when somebody looks at them, for tests in worker processes too."""

from __future__ import annotations

from typing import Any


class Nameless(type):
    """Raises when its classes are asked for their names."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__name__", "__qualname__", "__module__"):
            raise SystemExit
        return super().__getattribute__(name)


class Secretive(Exception, metaclass=Nameless):
    pass


class Odd(str):
    """A text that cannot be asked whether it is empty."""

    __slots__ = ()

    def __len__(self) -> int:
        raise SystemExit

    def __bool__(self) -> bool:
        raise SystemExit


class Oddly(Exception):
    def __str__(self) -> str:
        return Odd("told oddly")


class Mute(Exception, metaclass=Nameless):
    def __str__(self) -> str:
        raise Secretive


CASES: list[tuple[type[Exception], str, str]] = [
    (Secretive, "Secretive", "Secretive"),
    (Oddly, "Oddly", "told oddly"),
    (Mute, "Mute", "Mute (whose text raised Secretive)"),
]


def raise_it(number: int) -> None:
    raise CASES[number][0]
