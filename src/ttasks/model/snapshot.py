"""Snapshot: what a task depends on and has made, beyond its payload.

A task with ``reuse`` declares files, variables and tools. A snapshot has digests of them, so two
snapshots say whether anything has changed, and what.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple, Protocol

from ttasks.model.checks import check_str, wrong_type, wrong_value

DECLARATIONS = ("inputs", "outputs", "env_inputs", "tools")
"""The attributes of a task that declare something."""

NOTHING: tuple[str, ...] = ()


class Snapshot(NamedTuple):
    """Digests of what a task declares, taken when it ran.

    Attributes:
        inputs: path, as the pattern gives it, to the digest of the content; it ends in ``x`` if the
            file is executable.
        env: name of each variable to the digest of its value; None if it was not set.
        tools: command to the digest of what it printed.
        outputs: like ``inputs``, of the files that the task has made.
    """

    inputs: Mapping[str, str]
    env: Mapping[str, str | None]
    tools: Mapping[str, str]
    outputs: Mapping[str, str]


class Declaring(Protocol):
    """What may declare something: a task."""

    @property
    def reuse(self) -> bool: ...
    @property
    def inputs(self) -> tuple[str, ...]: ...
    @property
    def outputs(self) -> tuple[str, ...]: ...
    @property
    def env_inputs(self) -> tuple[str, ...]: ...
    @property
    def tools(self) -> tuple[str, ...]: ...


def declares(task: Declaring) -> bool:
    """True if a task may be skipped, and says what that depends on."""
    return task.reuse and bool(task.inputs or task.outputs or task.env_inputs or task.tools)


def changes(new: Snapshot, old: Snapshot) -> tuple[str, ...]:
    """What differs, for people: "changed src/a.c", "new b.c", "gone c.c", "env CC", "tool gcc"."""
    found = file_changes(new.inputs, old.inputs)
    for word, mine, theirs in (("env", new.env, old.env), ("tool", new.tools, old.tools)):
        names = dict.fromkeys((*mine, *theirs))
        found += [f"{word} {name}" for name in names if mine.get(name, "") != theirs.get(name, "")]
    return tuple(found)


def file_changes(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Which files have changed, are new, or are gone."""
    found = [f"changed {name}" for name in new if name in old and new[name] != old[name]]
    found += [f"new {name}" for name in new if name not in old]
    return found + [f"gone {name}" for name in old if name not in new]


def is_pattern(text: str) -> bool:
    """True if a name stands for all files that fit it."""
    return any(character in text for character in "*?[")


def may_make(output: str, wanted: str) -> bool:
    """True if a file of one absolute pattern may be one of another."""
    output, wanted = output.replace("**/", "*"), wanted.replace("**/", "*")
    if fnmatchcase(output, wanted) or fnmatchcase(wanted, output):
        return True
    return wanted.startswith(output.rstrip("/") + "/")  # a folder


# Checks


def check_files(name: str, value: object) -> tuple[str, ...]:
    """Names and patterns of files; one may be given by itself."""
    found = []
    for item in _items(name, value):
        path = os.fspath(item) if isinstance(item, os.PathLike) else item
        text = check_str(f"an item of {name}", path, empty=False)
        if "\0" in text:
            raise wrong_value(f"an item of {name}", text, "a name without a NUL character")
        found.append(text)
    return tuple(dict.fromkeys(found))


def check_variables(name: str, value: object) -> tuple[str, ...]:
    """Names of environment variables; one may be given by itself."""
    found = [check_str(f"an item of {name}", item, empty=False) for item in _items(name, value)]
    for text in found:
        if "=" in text or "\0" in text:
            raise wrong_value(f"an item of {name}", text, "the name of a variable")
    return tuple(dict.fromkeys(found))


def check_tools(name: str, value: object) -> tuple[str, ...]:
    """Commands that print the version of a tool; one may be given by itself."""
    found = [check_str(f"an item of {name}", item, empty=False) for item in _items(name, value)]
    for text in found:
        try:
            is_command = bool(shlex.split(text)) and "\0" not in text
        except ValueError:
            is_command = False
        if not is_command:
            raise wrong_value(f"an item of {name}", text, "a command such as 'gcc --version'")
    return tuple(dict.fromkeys(found))


def _items(name: str, value: object) -> Iterable[object]:
    if value is None:
        return ()
    if isinstance(value, (str, os.PathLike)):
        return (value,)
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise wrong_type(name, value, "a str, or an iterable of them")
    return value


def check_reused(reuse: bool, *declared: tuple[str, ...]) -> None:
    """Raise ValueError if a task declares something, and is never skipped."""
    for name, value in zip(DECLARATIONS, declared, strict=True):
        if value and not reuse:
            raise ValueError(
                f"{name}={value!r} says when the task may be skipped, so it needs reuse=True"
            )
