"""Fast construction of frozen dataclasses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from types import new_class
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def fast_maker(frozen: Callable[P, T]) -> Callable[P, T]:
    """A function that makes instances of a frozen dataclass with slots about four times faster.

    The constructor of a frozen dataclass sets each field through ``object.__setattr__``. This
    function fills an open twin with the same slots and then gives it the frozen class. Like that
    constructor it is made from source. It saves 2.2 us for a `TaskResult` and 1.4 us for each of
    two events, of the 20 us that a task of a graph takes in benchmarks/graphs.py.
    """
    items = fields(cast(Any, frozen))
    names = [item.name for item in items]
    twin = new_class(
        f"_Open{getattr(frozen, '__name__', '')}",
        getattr(frozen, "__orig_bases__", ()),  # Generic[...] of a generic class
        exec_body=lambda body: body.update(__slots__=tuple(names)),
    )
    scope: dict[str, Any] = {"new": twin.__new__, "twin": twin, "frozen": frozen}
    parameters = []
    for item in items:
        if item.default is MISSING:
            parameters.append(item.name)
        else:
            scope[f"default_{item.name}"] = item.default
            parameters.append(f"{item.name}=default_{item.name}")
    lines = [
        f"def make({', '.join(parameters)}):",
        "made = new(twin)",
        *(f"made.{name} = {name}" for name in names),
        "made.__class__ = frozen",
        "return made",
    ]
    exec("\n    ".join(lines), scope)
    return cast("Callable[P, T]", scope["make"])
