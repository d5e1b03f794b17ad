"""Recipe: what a schedule runs, made anew for each slot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import iscoroutinefunction, signature
from typing import Any

from ttasks.errors import type_name
from ttasks.model.checks import wrong_type
from ttasks.model.function import TaskFunction
from ttasks.model.graph import TaskGraph
from ttasks.model.task import Task, copy_of

_WANTED = "a Task, or a function that makes a Task or a TaskGraph"


class Recipe:
    """What a schedule runs.

    Args:
        factory, args, kwargs: see `Schedule.do`.

    Raises:
        TypeError: that cannot be run again and again, or does not take the arguments.
    """

    def __init__(self, factory: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if isinstance(factory, TaskGraph):
            raise TypeError(
                f"factory must be {_WANTED}; the graph {factory.title!r} itself can run only once, "
                "so give the function that makes it"
            )
        if isinstance(factory, Task):
            if args or kwargs:
                raise TypeError(f"the task {factory.title!r} is copied, and takes no arguments")
            self._make: Callable[[], object] = partial(copy_of, factory)
            self.name: str | None = factory.key or factory.title
            return
        if not callable(factory):
            raise wrong_type("factory", factory, _WANTED)
        if isinstance(factory, TaskFunction):  # a call would do the work here and now
            self._make = partial(factory.task, *args, **kwargs)
        elif iscoroutinefunction(factory):
            raise TypeError(
                f"factory must be {_WANTED}; {_name_of(factory)} is a coroutine function, which "
                "Task.python makes a task of"
            )
        else:
            _check_call(factory, args, kwargs)
            self._make = partial(factory, *args, **kwargs)
        self.name = _name_of(factory)

    def make(self) -> TaskGraph:
        """The graph for a slot; that of one task has its title.

        Raises:
            BaseException: what the factory raises.
            TypeError, ValueError: it returned something that cannot be run now.
        """
        made = self._make()
        if isinstance(made, Task):
            if not made.is_pending:
                raise _used("task", made.title, made.status.value)
            return TaskGraph.of([made], made.title)
        if not isinstance(made, TaskGraph):
            if hasattr(made, "close") and type_name(made) == "coroutine":
                made.close()
            raise TypeError(
                f"the factory returned {made!r:.80}; it has to return a Task or a TaskGraph, such "
                "as Task.python(function)"
            )
        if made.latest_run is not None:
            raise _used("graph", made.title, "run")
        return made


def _check_call(
    factory: Callable[..., object], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Raise TypeError if a factory does not take these arguments, so that no slot has to fail."""
    try:
        found = signature(factory)
    except (TypeError, ValueError):  # not every builtin tells
        return
    try:
        found.bind(*args, **kwargs)
    except TypeError as error:
        name = _name_of(factory) or "the factory"
        raise TypeError(f"{name} cannot be called: {error}; give do() its arguments") from None


def _used(kind: str, title: str, status: str) -> ValueError:
    return ValueError(
        f"the factory returned the {kind} {title!r}, which has {status} before; it has to make a "
        "new one for each slot"
    )


def _name_of(function: object) -> str | None:
    """The name of a function; None for a lambda, and for what has no name."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str) or name.endswith("<lambda>"):
        return None
    return name.rpartition("<locals>.")[2]
