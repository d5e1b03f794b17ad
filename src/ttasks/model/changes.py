"""Changes: how the work of a task differs from that of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ttasks.model.call import Call, name_of
from ttasks.model.frames import short_repr
from ttasks.model.snapshot import DECLARATIONS

if TYPE_CHECKING:
    from ttasks.model.task import Task


def changed_parts(task: Task, old: Task) -> tuple[str, ...]:
    """The parts of the fingerprint, but for the upstreams, in which a task differs from an old one.

    For people: "payload", "function", "argument 1", "option cwd", "env CC", "version", "type".
    """
    changed: list[str] = []
    if task.type is not old.type:
        changed.append("type")
    changed += _changed_payload(task.payload, old.payload)
    changed += _changed_options(task.options, old.options)
    changed += [
        name for name in ("version", *DECLARATIONS) if getattr(task, name) != getattr(old, name)
    ]
    return tuple(changed)


def _changed_payload(new: Any, old: Any) -> list[str]:
    if getattr(type(old), "is_absent", False):
        return []  # a ledger could not keep it, so nobody knows
    if type(new) is not Call or type(old) is not Call:
        return [] if _is_equal(new, old) else ["payload"]
    changed = [] if name_of(new.func) == name_of(old.func) else ["function"]
    names: dict[int | str, None] = dict.fromkeys(range(max(len(new.args), len(old.args))))
    names |= dict.fromkeys((*new.kwargs, *old.kwargs))
    try:
        mine, theirs = _arguments(new), _arguments(old)
    except Exception:  # what an old argument was cannot be imported any more
        return changed
    changed += [
        f"argument {name + 1 if isinstance(name, int) else name}"
        for name in names
        if mine.get(name) != theirs.get(name)
    ]
    return changed


def _arguments(call: Call) -> dict[int | str, str]:
    """The arguments of a call as text; tasks among them by their place."""
    places = {task.id: place for place, task in enumerate(call.references())}
    args, kwargs = call.bind(lambda task: f"<task {places[task.id]}>")
    found: dict[int | str, str] = {at: short_repr(value) for at, value in enumerate(args)}
    return found | {name: short_repr(value) for name, value in kwargs.items()}


def _changed_options(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    changed = []
    for name in dict.fromkeys((*new, *old)):
        mine, theirs = new.get(name), old.get(name)
        if _is_equal(mine, theirs):
            continue
        if name == "env":
            mine, theirs = mine or {}, theirs or {}
            variables = dict.fromkeys((*mine, *theirs))
            changed += [f"env {key}" for key in variables if mine.get(key) != theirs.get(key)]
        else:
            changed.append(f"option {name}")
    return changed


def _is_equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # whatever the comparison of a foreign class raises
        return False
