"""The decorator ``@task``: a function that can also be made into tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import update_wrapper
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ttasks.errors import did_you_mean
from ttasks.model.attributes import FUNCTION_SETTINGS, check_settings, meant_by
from ttasks.model.call import Decorated, check_function, name_of
from ttasks.model.task import PythonSettings, PythonTask, Task

P = ParamSpec("P")
Q = ParamSpec("Q")
C = TypeVar("C")
R = TypeVar("R")
S = TypeVar("S")


class FunctionSettings(PythonSettings, total=False):
    """Keyword arguments of ``@task``; see `Task` and `Task.python`."""

    title: str | None
    backend: str | None
    capture_print: bool


class TaskFunction(Decorated, Generic[P, C, R]):
    """A function that ``@task`` has decorated; immutable.

    ``f(...)`` calls it plainly. ``f.task(...)`` makes a task of such a call. It also works on
    methods: ``obj.method.task(...)``.
    """

    def __init__(
        self, func: Callable[P, C], settings: Mapping[str, Any], found_at: Any = None
    ) -> None:
        check_function("func", func, settings.get("backend"))
        update_wrapper(self, func)
        self._settings = _checked(settings)
        # What `__reduce__` returns: the name of a decorated function stands for this object, not
        # for the function inside.
        self._found_at = found_at or getattr(func, "__qualname__", None)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Call the function; no task is made."""
        return cast(C, self.__wrapped__(*args, **kwargs))

    def task(self, *args: P.args, **kwargs: P.kwargs) -> PythonTask[R]:
        """Make a task that calls the function with these arguments.

        Tasks among them stand for their values; see `PythonTask.as_argument` for type checkers.

        Raises:
            TypeError: the function does not take these arguments.
        """
        return cast(PythonTask[R], Task.python(cast(Any, self), args, kwargs, **self._settings))

    def having(self, **settings: Unpack[FunctionSettings]) -> Self:
        """The same function, whose tasks have other settings; arguments as for ``@task``."""
        return type(self)(self.__wrapped__, {**self._settings, **settings}, (_itself, (self,)))

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(
        self: TaskFunction[Concatenate[S, Q], C, R], instance: S, owner: type
    ) -> TaskFunction[Q, C, R]: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        method = self.__wrapped__.__get__(instance, owner)
        found_at = (getattr, (instance, self.__wrapped__.__name__))
        return type(self)(method, self._settings, found_at)

    def __reduce__(self) -> Any:
        return self._found_at

    def __repr__(self) -> str:
        return f"<task function {name_of(self.__wrapped__)}>"


class _Decorator(Protocol):
    """What ``@task(...)`` returns."""

    @overload
    def __call__(
        self, func: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...

    @overload
    def __call__(self, func: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


@overload
def task(
    func: Callable[P, Coroutine[Any, Any, R]], /
) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...


@overload
def task(func: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


@overload
def task(**settings: Unpack[FunctionSettings]) -> _Decorator: ...


def task(func: Any = None, /, **settings: Any) -> Any:
    """Let a function also make tasks: ``@task`` or ``@task(timeout=5, retry=…, backend=…)``.

    Calling the function stays a plain call, also where it is ``async def`` (it then gives a
    coroutine). Its method ``task`` makes a `PythonTask` of a call.

    Args:
        func: the function; not a generator function.
        settings: what its tasks have, see `Task` and `Task.python`.

    Raises:
        TypeError: it is no function, or a setting is unknown or has the wrong type.
        ValueError: a setting has a wrong value, or the backend does not fit the function.

    Example:
        >>> @task(timeout=5)
        ... def double(number: int) -> int:
        ...     return 2 * number
        >>> double(4)
        8
        >>> double.task(4).title
        'double'
    """
    if func is not None:
        return TaskFunction(func, settings)
    settings = _checked(settings)

    def decorate(func: Callable[..., Any]) -> TaskFunction[..., Any, Any]:
        return TaskFunction(func, settings)

    return decorate


def _itself(func: Any) -> Any:
    return func


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a function's tasks, as `Task` would keep them."""
    for name in settings.keys() - FUNCTION_SETTINGS:
        hint = did_you_mean(meant_by(name))
        known = ", ".join(sorted(FUNCTION_SETTINGS))
        raise TypeError(f"@task has no setting {name!r}{hint or f'; it has {known}'}")
    return check_settings(settings)
