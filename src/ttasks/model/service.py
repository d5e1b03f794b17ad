"""Service: work that stays, and how to tell that it is ready. The probes are in `ttasks.ready`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ttasks.model.checks import check_seconds, wrong_type

READY_SECONDS = 30.0
"""Default of ``ready_timeout``."""


class Probe:
    """A probe that a ledger can keep: its options say all about it."""

    __slots__ = ()

    def __call__(self) -> object:
        """Return something true if the service is ready."""
        raise NotImplementedError

    def to_options(self) -> dict[str, Any]:
        """Return it as JSON values: its kind as ``probe``, and its arguments."""
        raise NotImplementedError


AnyProbe = Callable[[], object]
"""What is called until it returns something true."""


@dataclass(frozen=True, slots=True)
class Service:
    """How to tell that a service is ready.

    Attributes:
        ready: called until it returns something true; the options of a probe that a ledger has
            kept; None for a service that is ready at once.
        ready_timeout: seconds from its start until it must be ready.
    """

    ready: AnyProbe | Mapping[str, Any] | None = None
    ready_timeout: float = READY_SECONDS


def check_service(ready: object, ready_timeout: object) -> Service:
    """Check the arguments of a service that a user makes.

    Raises:
        TypeError: the probe cannot be called without arguments, or the time is no number.
        ValueError: the time is not above 0, or not finite.
    """
    seconds = check_seconds("ready_timeout", ready_timeout)
    if seconds is None:
        raise wrong_type("ready_timeout", ready_timeout, "a number of seconds")
    return Service(check_probe("ready", ready), seconds)


def check_probe(name: str, value: Any) -> Any:
    """A probe that a user gives, or None."""
    if value is None or isinstance(value, Probe):
        return value
    if not callable(value):
        hint = ""
        if isinstance(value, int):
            hint = f"; for a port write ttasks.ready.tcp({value!r})"
        elif isinstance(value, str):
            hint = "; for a line of output write ttasks.ready.output(...)"
        raise TypeError(
            f"{wrong_type(name, value, 'a probe of ttasks.ready, a callable or None')}{hint}"
        )
    for function in (value, type(value).__call__):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name} must be a plain function, {_name_of(value)} is async def; make the check "
                "without a coroutine"
            )
        if inspect.isgeneratorfunction(function):
            raise TypeError(
                f"{name} must return whether the service is ready, {_name_of(value)} yields; "
                "use return in place of yield"
            )
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        raise TypeError(
            f"{name} is called without arguments: {_name_of(value)}() {error}"
        ) from None
    except ValueError:
        pass  # some callables written in C have no signature
    return value


def probe_options(ready: Any) -> dict[str, Any] | None:
    """The JSON values that stand for a probe.

    Of a callable of the user's they have its module and name, by which it is imported again, and,
    for a script, its file.
    """
    if ready is None:
        return None
    if isinstance(ready, Probe):
        return ready.to_options()
    if isinstance(ready, Mapping):
        return dict(ready)
    module = getattr(ready, "__module__", None)
    options = {"probe": "function", "module": module, "name": _name_of(ready)}
    if module == "__main__":
        options["file"] = getattr(sys.modules.get(module), "__file__", None)
    return options


def _name_of(function: object) -> str:
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__
