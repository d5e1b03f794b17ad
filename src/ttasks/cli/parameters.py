"""Parameters of the function that makes a graph, given as ``name=value``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from ttasks.cli.exits import CommandError
from ttasks.errors import did_you_mean
from ttasks.model.checks import near

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_MANY: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
}
_REQUIRED = inspect.Parameter.empty


class _Unfit(Exception):
    """A text is no value of a type; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a function that makes a graph.

    Attributes:
        name: of the parameter.
        kind: its annotation, or else the type of its default, or else str.
        default: its default.
        is_open: it takes any name (``**options``).
    """

    name: str
    kind: Any
    default: Any = _REQUIRED
    is_open: bool = False

    @property
    def is_required(self) -> bool:
        """True if it has to be given."""
        return self.default is _REQUIRED and not self.is_open

    def line(self) -> str:
        """What the help says of it."""
        name = "NAME" if self.is_open else self.name
        text = f"{name}={described(self.kind)}"
        if self.is_required:
            return f"{text}  (required)"
        return text if self.is_open else f"{text}  (default: {_written(self.default)})"


def parameters_of(function: Callable[..., object]) -> list[Parameter]:
    """Parameters of a function that can be given by name, in their order."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return []
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # an annotation that cannot be evaluated here
        hints = {}
    found = []
    for item in signature.parameters.values():
        if item.kind is inspect.Parameter.VAR_POSITIONAL:
            continue
        is_open = item.kind is inspect.Parameter.VAR_KEYWORD
        kind = hints.get(item.name, _usual_kind(item.default))
        found.append(Parameter(item.name, kind, item.default, is_open))
    return found


def _usual_kind(default: Any) -> Any:
    if isinstance(default, (bool, int, float, Path, Enum)):
        return type(default)
    return str


def bind(target: str, parameters: Sequence[Parameter], words: Sequence[str]) -> dict[str, Any]:
    """Convert words ``name=value`` to arguments.

    Args:
        target: name of the function, for errors.
        parameters: of the function.
        words: from the command line; of a list, one for each member.

    Raises:
        CommandError: a word has no such form, there is no such parameter, its value does not fit
            the annotation, or a parameter is missing.
    """
    known = {item.name: item for item in parameters if not item.is_open}
    rest = next((item for item in parameters if item.is_open), None)
    given: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise CommandError(f"{word!r} is no parameter; write name=value")
        name = name.removeprefix("--").replace("-", "_") if name not in known else name
        if name not in known and rest is None:
            listed = f"; it takes {', '.join(known)}" if known else "; it takes none"
            raise CommandError(
                f"{target} has no parameter {name!r}{did_you_mean(near(name, known)) or listed}"
            )
        given.setdefault(name, []).append(value)
    missing = [item.name for item in parameters if item.is_required and item.name not in given]
    if missing:
        example = " ".join(f"{name}=…" for name in missing)
        raise CommandError(f"{target} needs {', '.join(missing)}; add: -- {example}")
    arguments = {}
    for name, values in given.items():
        item = known.get(name) or rest
        assert item is not None
        try:
            arguments[name] = convert_all(values, item.kind)
        except _Unfit as error:
            raise CommandError(f"parameter {name!r} of {target}: {error}") from None
    return arguments


def convert_all(values: list[str], kind: Any) -> Any:
    """Convert the texts that were given for one parameter."""
    many = _many(kind)
    if many is not None:
        origin, member = many
        if len(values) == 1 and values[0] == "":
            return _MANY[origin]([])
        return _MANY[origin]([convert(value, member) for value in values])
    if len(values) > 1:
        raise _Unfit(f"it was given {len(values)} times, and takes one {described(kind)}")
    return convert(values[0], kind)


def _many(kind: Any) -> tuple[Any, Any] | None:
    """The type of a collection and that of its members, also if None would do as well."""
    kind = _bare(kind)
    if get_origin(kind) in (Union, UnionType):
        found = [many for many in map(_many, get_args(kind)) if many is not None]
        return found[0] if found else None
    origin = get_origin(kind) or kind
    try:
        is_many = origin in _MANY
    except TypeError:  # not hashable
        return None
    if not is_many:
        return None
    members = [item for item in get_args(kind) if item is not Ellipsis]
    return origin, members[0] if members else str


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def convert(text: str, kind: Any) -> Any:
    """Convert a text to a type."""
    kind = _bare(kind)
    if kind in (str, Any, object, _REQUIRED):
        return text
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _convert_any(text, kind)
    if origin is Literal:
        for value in get_args(kind):
            if text == (value.name if isinstance(value, Enum) else str(value)):
                return value
        raise _unfit(text, kind)
    if kind is NoneType:
        if text.lower() in ("none", "null", ""):
            return None
        raise _unfit(text, kind)
    if kind is bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        raise _unfit(text, kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _convert_enum(text, kind)
    if isinstance(kind, type) and issubclass(kind, (int, float, Path)):
        try:
            return kind(text)
        except ValueError:
            raise _unfit(text, kind) from None
    raise _Unfit(
        f"its type {described(kind)} cannot be written on a command line; what can: str, int, "
        "float, bool, Path, Enum, Literal, None, and lists of these"
    )


def _convert_any(text: str, kind: Any) -> Any:
    """The first type of a union that fits; str comes last, as it takes everything."""
    for member in sorted(get_args(kind), key=lambda item: item is str):
        try:
            return convert(text, member)
        except _Unfit:
            continue
    raise _unfit(text, kind)


def _convert_enum(text: str, kind: type[Enum]) -> Enum:
    for member in kind:
        if text in (member.name, str(member.value)):
            return member
    raise _unfit(text, kind)


def _unfit(text: str, kind: Any) -> _Unfit:
    return _Unfit(f"expected {described(kind)}, got {text!r}")


def described(kind: Any) -> str:
    """A type, for people."""
    kind = _bare(kind)
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return "|".join(map(described, get_args(kind)))
    if origin is Literal:
        return "|".join(map(str, get_args(kind)))
    if kind is NoneType:
        return "none"
    if kind is bool:
        return "true|false"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(member.name for member in kind)
    many = _many(kind)
    if many is not None:
        return f"{described(many[1])} (once for each)"
    return getattr(kind, "__name__", str(kind))


def _written(value: Any) -> str:
    """A default, as it would be given."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return str(value) if isinstance(value, (str, int, float, Path)) and value != "" else repr(value)
