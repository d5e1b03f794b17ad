"""Which files a task means by names and patterns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from glob import glob
from stat import S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

from ttasks.errors import DeclarationError
from ttasks.model.attributes import COMMANDS
from ttasks.model.snapshot import is_pattern
from ttasks.model.task_type import TaskType

if TYPE_CHECKING:
    from ttasks.model.task import Task

_WITH_FOLDER = (*COMMANDS, TaskType.AGENT)

Found = dict[str, tuple[str, os.stat_result]]
"""By name, as it is given or found: the path, and the status."""


def folder_of(task: Task) -> str:
    """The absolute path of the folder that names are relative to."""
    folder = task.options.get("cwd") if task.type in _WITH_FOLDER else None
    return os.path.abspath(folder) if isinstance(folder, str) else os.getcwd()


def absolute(task: Task, name: str) -> str:
    """The absolute form of a name or pattern."""
    return os.path.normpath(os.path.join(folder_of(task), name))


def find(task: Task, names: Iterable[str]) -> tuple[Found, list[str]]:
    """The regular files that are meant, and those names and patterns that match none.

    Raises:
        DeclarationError: a folder cannot be read.
    """
    folder = folder_of(task)
    found: Found = {}
    missing = []
    for name in names:
        files = _matching(folder, name) if is_pattern(name) else _below(folder, name)
        try:
            some = dict(files)
        except OSError as error:
            raise unreadable(task, name, error) from None
        if not some:
            missing.append(name)
        found |= some
    return found, missing


def find_again(task: Task, names: Iterable[str]) -> Found:
    """Those of the files that are still there."""
    folder = folder_of(task)
    return {name: file for name in names if (file := _file(os.path.join(folder, name))) is not None}


def unreadable(task: Task, name: str, error: OSError) -> DeclarationError:
    """The error for a file or folder that cannot be read."""
    return DeclarationError(task.title, f"{name!r} cannot be read: {error.strerror}")


def _matching(folder: str, pattern: str) -> Iterator[tuple[str, tuple[str, os.stat_result]]]:
    """The files that fit a pattern; folders that fit are left out."""
    for name in glob(pattern, root_dir=folder, recursive=True):
        file = _file(os.path.join(folder, name))
        if file is not None:
            yield name, file


def _below(folder: str, name: str) -> Iterator[tuple[str, tuple[str, os.stat_result]]]:
    """A file, or all files below a folder; as with patterns, none whose name begins with a dot."""
    name = os.path.normpath(name)
    path = os.path.join(folder, name)
    try:
        is_folder = S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return
    if not is_folder:
        file = _file(path)
        if file is not None:
            yield name, file
        return
    for inner, folders, names in os.walk(path, onerror=_raise):
        folders[:] = [item for item in folders if not item.startswith(".")]
        place = os.path.join(name, os.path.relpath(inner, path))
        for item in names:
            file = None if item.startswith(".") else _file(os.path.join(inner, item))
            if file is not None:
                yield os.path.normpath(os.path.join(place, item)), file


def _file(path: str) -> tuple[str, os.stat_result] | None:
    """A regular file; None if there is none, or only a link to nothing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (path, status) if S_ISREG(status.st_mode) else None


def _raise(error: OSError) -> None:
    raise error
