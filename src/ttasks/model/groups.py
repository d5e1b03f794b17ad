"""The concurrency groups of a task: none, one or several names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ttasks.model.checks import check_str, wrong_type, wrong_value

Group = str | tuple[str, ...] | None
"""As a task keeps its groups: None, the name of one, or the names of several."""


class Grouped(Protocol):
    """What has groups."""

    @property
    def group(self) -> Group: ...


def check_name(name: str, value: object) -> str:
    """The name of one group: a str that is not blank, and does not stand for a type of tasks."""
    found = check_str(name, value, empty=False)
    if found.startswith("type "):
        raise wrong_value(name, found, "another name: 'type …' stands for the tasks of a type")
    return found


def check_group(name: str, value: object) -> Group:
    """None, a name, or an iterable of names; each is a str that is not blank."""
    if value is None:
        return None
    if isinstance(value, str):
        return check_name(name, value)
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise wrong_type(name, value, "a str, an iterable of them or None")
    items = list(value)
    for position, item in enumerate(items):
        check_name(f"{name}[{position}]", item)
    if isinstance(value, (set, frozenset)):
        items.sort()
    found = tuple(dict.fromkeys(items))
    if len(found) > 1:
        return found
    return found[0] if found else None


def groups_of(task: Grouped) -> tuple[str, ...]:
    """The names of the groups of a task."""
    group = task.group
    if group is None:
        return ()
    return (group,) if isinstance(group, str) else group
