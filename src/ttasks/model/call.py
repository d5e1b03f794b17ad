"""Call: a function, its arguments, and where it is to run; the payload of a Python task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import partial
from inspect import CO_VARARGS, CO_VARKEYWORDS
from os.path import basename
from types import FunctionType, MappingProxyType, MethodType
from typing import Any, TypeVar, cast

from ttasks.model.checks import check_bool, wrong_type, wrong_value
from ttasks.model.nested import leaves, rebuilt
from ttasks.model.service import Service

THREAD, ASYNCIO, PROCESS = "thread", "asyncio", "process"

T = TypeVar("T")
_write = object.__setattr__


class Reference:
    """What may stand among the arguments of a call for a value that is there later: tasks."""

    __slots__ = ()

    id: str


class Standin:
    """A stand-in among the arguments of a call."""

    __slots__ = ()

    def resolve(self) -> Any:
        """Return what it stands for; called when the call is made."""
        raise NotImplementedError


class Literal(Standin):
    """Stands for a value that is passed unchanged, even if it contains tasks."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def resolve(self) -> Any:
        """The value."""
        return self._value

    def __repr__(self) -> str:
        return f"literal({self._value!r})"


def literal(value: T) -> T:
    """Pass a task, or an object that contains tasks, to a function unchanged.

    Among the arguments of a Python task other tasks stand for their values and become
    dependencies; those in ``literal(...)`` do not. A task with such an argument has no fingerprint.

    Args:
        value: a task, or a list, tuple or dict of them; anything else too.

    Returns:
        A stand-in, which type checkers take for the value.

    Example:
        >>> watched = Task.bash("make")
        >>> Task.python(print, (literal(watched),)).payload.references()
        ()
    """
    return cast(T, Literal(value))


class Decorated:
    """Base of callables that stand for the function in ``__wrapped__``."""

    __wrapped__: Callable[..., Any]


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Call:
    """A function, its arguments, and where it is to run. Immutable.

    A task among the arguments, also inside lists, tuples and values of dicts, stands for its value
    unless it is in `literal`. The arguments are kept as they are given: they are not copied, and
    never changed.

    Args:
        func: what to call: a function or anything callable.
        args: positional arguments.
        kwargs: keyword arguments; None means none.
        backend: "thread", "asyncio" or "process"; None means "asyncio" for ``async def`` functions,
            else "thread".
        capture_print: what the function prints becomes output of the task.
        service: how to tell that it is ready, if it stays; None for a function that ends by itself.

    Attributes:
        is_placed: the backend was named, or the function allows only one; otherwise the executor
            may choose another.

    Raises:
        TypeError: the function cannot be called, or not with these arguments.
        ValueError: the backend is unknown or does not fit the function; the arguments contain
            themselves.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    backend: str
    capture_print: bool
    is_placed: bool
    service: Service | None

    def __init__(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        backend: str | None = None,
        *,
        capture_print: bool = False,
        service: Service | None = None,
    ) -> None:
        is_named = backend is not None
        if service is not None:
            backend = _backend_of_service(func, backend)
        backend = check_function("func", func, backend)
        check_bool("capture_print", capture_print)
        if not isinstance(args, (tuple, list)):
            hint = "; for a single one write (value,)"
            raise TypeError(f"{wrong_type('args', args, 'a tuple or list of arguments')}{hint}")
        if kwargs is None:
            kwargs = {}
        elif not isinstance(kwargs, Mapping):
            raise wrong_type("kwargs", kwargs, "a mapping from names to arguments")
        for name in kwargs:
            if not isinstance(name, str):
                raise wrong_type("a name in kwargs", name, "a str")
        _check_arguments(func, tuple(args), kwargs)
        _write(self, "func", func)
        _write(self, "args", tuple(args))
        _write(self, "_kwargs", dict(kwargs))
        _write(self, "backend", backend)
        _write(self, "capture_print", capture_print)
        _write(self, "is_placed", is_named or backend != THREAD)
        _write(self, "service", service)
        self.references()

    @classmethod
    def restore(
        cls,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        backend: str | None,
        capture_print: bool = False,
        service: Service | None = None,
    ) -> Call:
        """Make a call as a store remembers it: nothing is checked.

        A backend of None means "thread", unless the executor chooses another.
        """
        call = object.__new__(cls)
        _write(call, "func", func)
        _write(call, "args", args)
        _write(call, "_kwargs", kwargs)
        _write(call, "backend", backend or THREAD)
        _write(call, "capture_print", capture_print)
        _write(call, "is_placed", backend is not None)
        _write(call, "service", service)
        return call

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments; read-only."""
        return MappingProxyType(self._kwargs)

    def references(self) -> tuple[Any, ...]:
        """The tasks that stand among the arguments for their values, each once, in order.

        Raises:
            ValueError: the arguments contain themselves.
        """
        if not self.args and not self._kwargs:
            return ()
        found = leaves((self.args, self._kwargs))
        return tuple({leaf.id: leaf for leaf in found if isinstance(leaf, Reference)}.values())

    def bind(
        self, value: Callable[[Any], Any], *, late: bool = True
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with ``value(task)`` in place of each task; what holds none is shared.

        ``late`` puts what other stand-ins stand for in their place, which may import modules.
        """
        if not self.args and not self._kwargs:
            return (), {}

        def change(leaf: Any) -> Any:
            if isinstance(leaf, Reference):
                return value(leaf)
            return leaf.resolve() if late and isinstance(leaf, Standin) else leaf

        args, kwargs = rebuilt((self.args, self._kwargs), change)
        return args, kwargs

    def with_leaves(self, change: Callable[[Any], Any], skip: frozenset[type]) -> Call:
        """The call with other arguments of the same structure; itself if they are the same."""
        before = (self.args, self._kwargs)
        after = rebuilt(before, change, skip)
        if after is before:
            return self
        call = copy(self)
        _write(call, "args", after[0])
        _write(call, "_kwargs", after[1])
        return call

    def __repr__(self) -> str:
        return f"<Call of {name_of(self.func)} on backend {self.backend!r}>"


def name_of(func: object) -> str:
    """How to call a function in titles and messages."""
    if isinstance(func, Decorated):
        return name_of(func.__wrapped__)
    if isinstance(func, partial):
        return f"partial {name_of(func.func)}"
    name = getattr(func, "__qualname__", None)
    if not isinstance(name, str):
        return type(func).__qualname__
    name = name.rpartition("<locals>.")[2]
    if name.endswith("<lambda>") and isinstance(func, FunctionType):
        code = func.__code__
        return f"lambda at {basename(code.co_filename)}:{code.co_firstlineno}"
    return name


def check_function(name: str, func: object, backend: object) -> str:
    """Check that a function can be run on a backend; returns the backend, chosen if None."""
    if inspect.iscoroutine(func):
        raise TypeError(
            f"{name} must be a function, got a coroutine object: give the async function itself, "
            f"and its arguments beside it ({func.__qualname__} instead of {func.__qualname__}(...))"
        )
    if not callable(func):
        raise wrong_type(name, func, "a callable")
    backend = check_backend(backend)
    body = _body(func)
    if inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body):
        raise TypeError(
            f"{name} must return its value, and {name_of(func)} is a generator function; "
            "collect what it yields in a function of your own, for example with list(...)"
        )
    if backend is None:
        return ASYNCIO if inspect.iscoroutinefunction(body) else THREAD
    BACKENDS[backend](func)
    return backend


def _backend_of_service(func: object, backend: str | None) -> str | None:
    """The backend of a service, which has to be able to end the function."""
    if backend == THREAD:
        raise ValueError(
            f"a service cannot have backend='thread': nothing can end {name_of(func)} there; use "
            "'process', or an async def function"
        )
    if backend is None and callable(func) and not inspect.iscoroutinefunction(_body(func)):
        return PROCESS
    return backend


def check_backend(backend: object) -> str | None:
    """The name of a backend, or None."""
    if backend is None:
        return None
    if not isinstance(backend, str):
        raise wrong_type("backend", backend, "a str or None")
    if backend not in BACKENDS:
        *most, last = map(repr, BACKENDS)
        raise wrong_value("backend", backend, f"{', '.join(most)} or {last}")
    return backend


def _check_plain(func: Any) -> None:
    if inspect.iscoroutinefunction(_body(func)):
        raise ValueError(
            f"backend='thread' needs a plain function, {name_of(func)} is async def; "
            "leave backend out, or use 'asyncio' or 'process'"
        )


def _check_async(func: Any) -> None:
    if not inspect.iscoroutinefunction(_body(func)):
        raise ValueError(
            f"backend='asyncio' needs an async def function, {name_of(func)} is none; "
            "leave backend out, or use 'thread' or 'process'"
        )


def _check_importable(func: Any) -> None:
    plain = _plain(func)
    where, _, _ = getattr(plain, "__qualname__", "").rpartition(".<locals>.")
    if getattr(plain, "__name__", "") == "<lambda>":
        why = f"{name_of(plain)} has no name"
    elif where:
        why = f"{name_of(plain)} is defined inside of {where}"
    else:
        return
    raise ValueError(
        f"backend='process' needs a function that another process can import by name, but {why}; "
        "define it with def at the top level of a module"
    )


BACKENDS: dict[str, Callable[[Any], None]] = {
    THREAD: _check_plain,
    ASYNCIO: _check_async,
    PROCESS: _check_importable,
}
"""The backends that tasks may name, each with the check of a function that is to run there.

The only place that knows their names before an executor does. Another backend joins with a line
here, and by being given to the executor.
"""


def check_usual_backend(name: str, backend: object) -> str:
    """Check the backend for plain functions that name none; None stands for "thread"."""
    if backend is None:
        return THREAD
    if not isinstance(backend, str):
        raise wrong_type(name, backend, "a str or None")
    if backend not in BACKENDS or backend == ASYNCIO:
        known = " or ".join(repr(known) for known in BACKENDS if known != ASYNCIO)
        raise wrong_value(name, backend, known)
    return backend


def _plain(func: Any) -> Any:
    """The function behind partials, methods and decorations."""
    while True:
        if isinstance(func, partial):
            func = func.func
        elif isinstance(func, Decorated):
            func = func.__wrapped__
        elif isinstance(func, MethodType):
            func = func.__func__
        else:
            return func


def _body(func: Any) -> Any:
    """What runs when a callable is called: a function, or a class."""
    plain = _plain(func)
    return plain if isinstance(plain, (FunctionType, type)) else _plain(type(plain).__call__)


def _check_arguments(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Check that the function takes these arguments, where its signature is known."""
    if type(func) is FunctionType and not kwargs and not hasattr(func, "__wrapped__"):
        code = func.__code__
        fixed = not code.co_flags & (CO_VARARGS | CO_VARKEYWORDS) and not code.co_kwonlyargcount
        least = code.co_argcount - len(func.__defaults__ or ())
        if fixed and least <= len(args) <= code.co_argcount:
            return  # a task takes 10 us to make; what follows adds 17 us
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        return  # some callables written in C have none
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name_of(func)}() {error}") from None
