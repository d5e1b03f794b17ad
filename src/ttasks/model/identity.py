"""The identity of a value or function, as JSON, for fingerprints.

Two values have the same identity only if a function cannot distinguish them by type or content:
``(1, 2)`` and ``[1, 2]`` differ, as do an enum and its value. A function is known by its name and
its code.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, time, timezone
from enum import Enum, Flag
from functools import lru_cache, partial
from hashlib import blake2b
from inspect import CO_OPTIMIZED, CO_VARARGS, CO_VARKEYWORDS
from pathlib import PurePath
from re import Pattern
from types import (
    BuiltinFunctionType,
    CodeType,
    EllipsisType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

from ttasks.model.call import Call, Decorated, Literal, Reference, Standin
from ttasks.model.imported import Imported
from ttasks.model.service import probe_options

as_text = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
"""JSON that is the same for equal data. Made once: `json.dumps` would make an encoder per call."""


class NoIdentity(TypeError):
    """A value has no identity: nothing says which other values equal it."""


# Types whose repr or str says everything, by their names: this module does not import them.
_BY_REPR = frozenset({"builtins.complex", "builtins.range", "datetime.timedelta", "datetime.date"})
_BY_STR = frozenset(
    {
        "uuid.UUID",
        "decimal.Decimal",
        "fractions.Fraction",
        "ipaddress.IPv4Address",
        "ipaddress.IPv4Network",
        "ipaddress.IPv6Address",
        "ipaddress.IPv6Network",
    }
)
_AS_THEY_ARE = frozenset({type(None), bool, int, float, str})
_CONTAINERS = (str, bytes, int, float, tuple, list, dict, set, frozenset)
"""Bases of types that hold more than the fields of a dataclass."""


_NO_USERS = sys.stdlib_module_names | {"ttasks"}
"""Packages whose classes are known by their names."""


class _Identifier:
    """Finds the identities of a payload's parts.

    Args:
        places: number by id of each task that stands among the arguments for its value.
    """

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self._functions: list[object] = []  # being looked at; a function may close over itself

    def value(self, value: Any) -> Any:
        """JSON that stands for a value."""
        kind = type(value)
        if kind in _AS_THEY_ARE:
            return value
        if isinstance(value, Reference):
            return {"task": self._places[value.id]}
        if isinstance(value, Literal):
            return {"literal": _Identifier({}).value(value.resolve())}
        if isinstance(value, Standin):
            return self.value(value.resolve())
        if kind is list:
            return [self.value(item) for item in value]
        if kind is tuple:
            return {"tuple": [self.value(item) for item in value]}
        if kind is dict or kind is MappingProxyType:
            return {"dict": self._pairs(value)}
        if kind is set or kind is frozenset:
            return {kind.__name__: sorted(as_text(self.value(item)) for item in value)}
        if kind is bytes or kind is bytearray:
            return {kind.__name__: value.hex()}
        return {"is": _name_of_class(kind), "of": self._other(value, kind)}

    def _other(self, value: Any, kind: type) -> Any:
        """JSON for a value of a type that is named beside it."""
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _BY_REPR:
            return repr(value)
        if name in _BY_STR:
            return str(value)
        if isinstance(value, PurePath):
            return str(value)
        if isinstance(value, Enum):
            return self.value(value.value) if isinstance(value, Flag) else value.name
        if kind in (datetime, time):
            return self._moment(value)
        if kind in (OrderedDict, Counter):
            return [[self.value(key), self.value(item)] for key, item in value.items()]
        if isinstance(value, tuple) and hasattr(kind, "_fields"):  # a named tuple
            return [self.value(item) for item in value]
        if is_dataclass(kind) and not isinstance(value, _CONTAINERS):
            return {field.name: self.value(getattr(value, field.name)) for field in fields(value)}
        if isinstance(value, Pattern):
            return [self.value(value.pattern), value.flags]
        if value is Ellipsis or value is NotImplemented:
            return None
        if isinstance(value, type):
            return _name_of_class(value)
        if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType, partial, Decorated)):
            return self.function(value)
        return self._unknown(value)

    @staticmethod
    def _unknown(value: object) -> Any:
        raise NoIdentity(f"a {type(value).__qualname__} has no identity")

    def _pairs(self, value: Mapping[Any, Any]) -> list[Any]:
        pairs = [[self.value(key), self.value(item)] for key, item in value.items()]
        return sorted(pairs, key=as_text)

    def _moment(self, value: datetime | time) -> Any:
        zone = value.tzinfo
        if zone is not None and not isinstance(zone, timezone):
            name = getattr(zone, "key", None)  # of a ZoneInfo
            if not isinstance(name, str):
                return self._unknown(zone)
            return [value.replace(tzinfo=None).isoformat(), value.fold, name]
        return [value.isoformat(), value.fold]

    # Functions

    def function(self, func: Any) -> Any:
        """JSON that stands for something callable."""
        for place, known in enumerate(self._functions):
            if known is func:
                return {"again": place}
        self._functions.append(func)
        try:
            return self._function(func)
        finally:
            self._functions.pop()

    def _function(self, func: Any) -> Any:
        if isinstance(func, Imported):
            return self.function(func.load())
        if isinstance(func, partial):
            given = [self.value(func.args), self.value(func.keywords)]
            return ["partial", self.function(func.func), given]
        if isinstance(func, FunctionType):
            return [_name_of(func), _code_identity(func.__code__), self._surroundings(func)]
        if isinstance(func, type):
            return [_name_of_class(func), self._methods(func)]
        if isinstance(func, MethodType):
            return ["method", self._owner(func.__self__), self.function(func.__func__)]
        if isinstance(func, BuiltinFunctionType):
            owner = func.__self__
            if owner is None or isinstance(owner, ModuleType):
                return [func.__module__, func.__qualname__]
            return ["method", self.value(owner), func.__name__]
        wrapped = getattr(func, "__wrapped__", None)
        if wrapped is not None:  # @task, lru_cache and the like
            return [_name_of_class(type(func)), self.function(wrapped)]
        return ["call", self.value(func), self.function(type(func).__call__)]

    def _surroundings(self, func: FunctionType) -> Any:
        """The default values of a function, and the variables that it has closed over."""
        if not (func.__defaults__ or func.__kwdefaults__ or func.__closure__):
            return None
        try:
            cells = [cell.cell_contents for cell in func.__closure__ or ()]
        except ValueError:
            raise NoIdentity("a closed-over variable has no value yet") from None
        return [
            self.value(func.__defaults__),
            self.value(func.__kwdefaults__),
            [self._cell(cell) for cell in cells],
        ]

    def _cell(self, value: Any) -> Any:
        return self.function(value) if isinstance(value, FunctionType) else self.value(value)

    def _owner(self, owner: Any) -> Any:
        """JSON for the object of a method."""
        if not isinstance(owner, Reference):
            return self.value(owner)
        # A task in class form. Its arguments stand in the call, so only what a constructor of the
        # user's own has added counts here.
        added = self._pairs(getattr(owner, "__dict__", {}))
        return [_name_of_class(type(owner)), self._methods(type(owner)), added]

    def _methods(self, kind: type) -> list[Any]:
        """The code of the methods of a class, the inherited ones too."""
        found = []
        for base in kind.__mro__:
            if base.__module__.partition(".")[0] in _NO_USERS:
                continue
            for name, item in sorted(vars(base).items()):
                plain = getattr(item, "__func__", getattr(item, "fget", item))
                if isinstance(plain, FunctionType):
                    found.append([name, _code_identity(plain.__code__)])
        return found


def call_identity(call: Call) -> Any:
    """JSON that stands for a call: the function, and its arguments by the names of its parameters.

    Tasks that stand for their values are numbers.

    Raises:
        NoIdentity: the function or an argument has none.
    """
    places = {task.id: place for place, task in enumerate(call.references())}
    identifier = _Identifier(places)
    facts = [identifier.function(call.func), identifier.value(_bound(call))]
    return facts if call.service is None else [*facts, probe_options(call.service.ready)]


def value_identity(value: Any) -> Any:
    """JSON that stands for a payload that is not a call.

    Raises:
        NoIdentity: it has none.
    """
    return _Identifier({}).value(value)


def _bound(call: Call) -> Any:
    """The arguments by parameter, default values included; as given where none are known."""
    func, args, kwargs = call.func, call.args, call.kwargs
    if isinstance(func, Imported):
        func = func.load()
    if type(func) is FunctionType and not hasattr(func, "__wrapped__"):
        code = func.__code__
        if not code.co_flags & (CO_VARARGS | CO_VARKEYWORDS):
            # What follows below would take more time than all the rest.
            names = code.co_varnames[: code.co_argcount]
            defaults = func.__defaults__ or ()
            values = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
            values |= func.__kwdefaults__ or {}
            return values | dict(zip(names, args, strict=False)) | dict(kwargs)
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):  # of some callables written in C
        return [list(args), dict(kwargs)]
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


@lru_cache(maxsize=4096)
def _code_identity(code: CodeType) -> str:
    """A digest of what a function does, whatever its lines, comments and docstring are."""
    facts = [
        code.co_name,
        code.co_code.hex(),
        [_constant(item) for item in _constants(code)],
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_exceptiontable.hex(),
        [code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount],
    ]
    text = as_text(facts).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).hexdigest()


def _constants(code: CodeType) -> Iterable[Any]:
    """The constants of a function without its docstring, those of a class without its line."""
    constants = code.co_consts
    if code.co_flags & CO_OPTIMIZED:
        if code.co_name[:1] != "<" and constants and isinstance(constants[0], str):
            return (None, *constants[1:])
    elif "__firstlineno__" in code.co_names:  # from Python 3.13 on
        line = code.co_firstlineno
        return [None if type(item) is int and item == line else item for item in constants]
    return constants


def _constant(item: Any) -> Any:
    if isinstance(item, CodeType):
        return {"code": _code_identity(item)}
    if isinstance(item, tuple):
        return {"tuple": [_constant(part) for part in item]}
    if isinstance(item, frozenset):
        return {"frozenset": sorted(as_text(_constant(part)) for part in item)}
    if isinstance(item, EllipsisType):
        return {"is": "..."}
    return _Identifier({}).value(item)


def _name_of(func: Callable[..., Any]) -> list[str]:
    return [_module_name(func.__module__, func), func.__qualname__]


def _name_of_class(kind: type) -> list[str]:
    return [_module_name(kind.__module__, None), kind.__qualname__]


def _module_name(name: str | None, func: Any) -> str:
    """The name of a module; of a script, which is always ``__main__``, its file."""
    if name not in ("__main__", "__mp_main__"):
        return str(name)
    if isinstance(func, FunctionType):
        return func.__code__.co_filename
    return str(getattr(sys.modules.get(name), "__file__", name))
