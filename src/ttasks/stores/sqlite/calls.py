"""Calls of Python tasks as JSON: functions by name, arguments with their types.

A call is stored only if all of it comes back as it was. Values are JSON where they are JSON; every
other one is an object with one item, whose name says what it is.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from math import isfinite
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ttasks.model.call import Call, Decorated, Reference
from ttasks.model.imported import MAIN, Imported, Later, LostTask, is_at, load, main_file
from ttasks.model.nested import PLAIN
from ttasks.model.service import Service, probe_options
from ttasks.model.task import PythonTask, Task, replace_payload
from ttasks.stores.sqlite.plain import from_json, to_json

_PATHS: dict[str, type[PurePath]] = {
    "PurePosixPath": PurePosixPath,
    "PureWindowsPath": PureWindowsPath,
    type(Path()).__name__: type(Path()),
}
_BY_TEXT = ("uuid.UUID", "decimal.Decimal", "fractions.Fraction")
_ISO: dict[str, Any] = {"date": date, "datetime": datetime, "time": time}


class _NotStorable(Exception):
    """Something in a call would not come back as it is."""


class _NotYet(Exception):
    """A value needs an import."""


def encode_call(call: Call) -> str | None:
    """JSON of a call; None if it would not come back as it is."""
    try:
        facts: dict[str, Any] = {"func": _function(call.func), "backend": placed(call)}
        if call.capture_print:
            facts["capture_print"] = True
        if call.service is not None:
            service = call.service
            facts["service"] = [probe_options(service.ready), service.ready_timeout]
        if call.args:
            facts["args"] = [_encode(item) for item in call.args]
        if call.kwargs:
            facts["kwargs"] = {name: _encode(item) for name, item in call.kwargs.items()}
        return to_json(facts)
    except Exception:  # also RecursionError, and whatever an attribute of the user's raises
        return None


def placed(call: Call) -> str | None:
    """The backend of a call; None if the executor may choose another."""
    return call.backend if call.is_placed else None


def decode_call(text: str) -> Call:
    """The call that JSON holds; what it names is imported when it is made."""
    facts = from_json(text)
    return Call.restore(
        Imported(*facts["func"]),
        tuple(_decode(item) for item in facts.get("args", ())),
        {name: _decode(item) for name, item in facts.get("kwargs", {}).items()},
        facts["backend"],
        facts.get("capture_print", False),
        Service(*facts["service"]) if "service" in facts else None,
    )


def connect(tasks: Sequence[Task]) -> None:
    """Let the calls of tasks that were loaded together refer to each other."""
    known = {task.id: task for task in tasks}

    def change(leaf: Any) -> Any:
        return known.get(leaf.id, leaf) if type(leaf) is LostTask else leaf

    for task in tasks:
        if type(task.payload) is Call:
            replace_payload(task, task.payload.with_leaves(change, PLAIN))


# Functions


def _function(func: Any) -> list[str | None]:
    """Module, name and, for a script, file of a function that can be imported."""
    target, name = func, getattr(func, "__qualname__", None)
    if isinstance(func, MethodType) and isinstance(func.__self__, PythonTask):
        target = type(func.__self__)
        name = target.__qualname__
        if func.__name__ != "run" or getattr(func.__self__, "__dict__", None):
            raise _NotStorable
    elif isinstance(func, Imported):
        return [func.__module__, func.__qualname__, func.file]
    elif not isinstance(func, (FunctionType, BuiltinFunctionType, type, Decorated)):
        raise _NotStorable
    return _address(target, name)


def _address(target: Any, name: Any) -> list[str | None]:
    module = getattr(target, "__module__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not is_at(module, name, target):
        raise _NotStorable
    return [module, name, main_file() if module == MAIN else None]


# Values


def _encode(value: Any) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is int or kind is str:
        return value
    if kind is float:
        return value if isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [_encode(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [_encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[_encode(key), _encode(item)] for key, item in value.items()]}
    if kind is bytes or kind is bytearray:
        return {kind.__name__: b64encode(value).decode()}
    if isinstance(value, Reference):
        return {"task": value.id}
    if isinstance(value, Later):
        return value.facts
    return _encode_object(value, kind)


def _encode_object(value: Any, kind: type) -> Any:
    name = kind.__name__
    if _PATHS.get(name) is kind:
        return {"path": [name, str(value)]}
    if kind is datetime or kind is time:
        return {name: _encode_moment(value)}
    if kind is date:
        return {"date": value.isoformat()}
    if kind is timedelta:
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    if f"{kind.__module__}.{name}" in _BY_TEXT:
        return {"text": [kind.__module__, name, str(value)]}
    if isinstance(value, Enum):
        member = value.name or ""
        if getattr(kind, member, None) is not value:
            raise _NotStorable
        return {"enum": [*_address(kind, kind.__qualname__), member]}
    if isinstance(value, tuple) and hasattr(kind, "_make"):
        return {"named": [*_address(kind, kind.__qualname__), [_encode(item) for item in value]]}
    if is_dataclass(kind):
        return {"dataclass": [*_address(kind, kind.__qualname__), _encode_fields(value)]}
    if isinstance(value, (FunctionType, BuiltinFunctionType, type)):
        return {"name": _address(value, value.__qualname__)}
    raise _NotStorable


def _encode_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that is nothing but them."""
    names = [field.name for field in fields(value)]
    if set(getattr(value, "__dict__", names)) != set(names):
        raise _NotStorable
    if isinstance(value, (str, bytes, int, float, tuple, list, dict, set, frozenset)):
        raise _NotStorable
    return {name: _encode(getattr(value, name)) for name in names}


def _encode_moment(value: Any) -> list[Any]:
    zone = value.tzinfo
    name = getattr(zone, "key", None)
    if isinstance(name, str):
        return [value.replace(tzinfo=None).isoformat(), value.fold, name]
    if type(value).fromisoformat(value.isoformat()) != value:
        raise _NotStorable
    return [value.isoformat(), value.fold, None]


def _decode(facts: Any) -> Any:
    """A value; a stand-in for one that needs an import."""
    if isinstance(facts, list):
        return [_decode(item) for item in facts]
    if not isinstance(facts, dict):
        return facts
    ((kind, held),) = facts.items()
    if kind == "task":
        return LostTask(held)
    if kind == "tuple":
        return tuple([_decode(item) for item in held])
    try:
        if kind == "dict":
            return {_build(key, False): _decode(item) for key, item in held}
        return _build(facts, False)
    except _NotYet:
        return Later(facts, lambda facts: _build(facts, True))


def _build(facts: Any, importing: bool) -> Any:
    """A value, with all that it holds."""
    if isinstance(facts, list):
        return [_build(item, importing) for item in facts]
    if not isinstance(facts, dict):
        return facts
    ((kind, held),) = facts.items()
    return _BUILDERS[kind](held, importing)


def _moment(kind: str) -> Callable[[Any, bool], Any]:
    def build(held: Any, importing: bool) -> Any:
        text, fold, zone = held
        moment = _ISO[kind].fromisoformat(text).replace(fold=fold)
        if zone is not None:
            from zoneinfo import ZoneInfo

            moment = moment.replace(tzinfo=ZoneInfo(zone))
        return moment

    return build


def _imported(make: Callable[..., Any]) -> Callable[[Any, bool], Any]:
    """A builder that imports what the first three items name, and makes something of the rest."""

    def build(held: Any, importing: bool) -> Any:
        if not importing:
            raise _NotYet
        return make(load(*held[:3]), *[_build_part(item) for item in held[3:]])

    return build


def _build_part(item: Any) -> Any:
    if isinstance(item, Mapping):  # the fields of a dataclass
        return {name: _build(value, True) for name, value in item.items()}
    return _build(item, True)


def _dataclass(kind: Any, values: dict[str, Any]) -> Any:
    """A dataclass with these fields, past its constructor, which may change them."""
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def _of_text(module: str, name: str, text: str) -> Any:
    if f"{module}.{name}" not in _BY_TEXT:
        raise ValueError(f"{module}.{name} is no type that the ledger keeps as text")
    return load(module, name)(text)


_BUILDERS: dict[str, Callable[[Any, bool], Any]] = {
    "float": lambda held, importing: float(held),
    "tuple": lambda held, importing: tuple(_build(held, importing)),
    "set": lambda held, importing: set(_build(held, importing)),
    "frozenset": lambda held, importing: frozenset(_build(held, importing)),
    "dict": lambda held, importing: {
        _build(key, importing): _build(item, importing) for key, item in held
    },
    "bytes": lambda held, importing: b64decode(held),
    "bytearray": lambda held, importing: bytearray(b64decode(held)),
    "path": lambda held, importing: _PATHS[held[0]](held[1]),
    "date": lambda held, importing: date.fromisoformat(held),
    "datetime": _moment("datetime"),
    "time": _moment("time"),
    "timedelta": lambda held, importing: timedelta(*held),
    "text": lambda held, importing: _of_text(*held),
    "enum": _imported(lambda kind, name: kind[name]),
    "named": _imported(lambda kind, items: kind._make(items)),
    "dataclass": _imported(_dataclass),
    "name": _imported(lambda found: found),
}
