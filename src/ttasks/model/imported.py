"""Functions and values by name: what a stored call refers to, imported when the call is made.

Reading a ledger runs no user code, so nothing is imported before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ttasks.errors import StoreError, TaskExecutionError, describe
from ttasks.model.call import Reference, Standin, name_of
from ttasks.model.task import PythonTask, Task
from ttasks.model.task_type import TaskType

MAIN = "__main__"


class Imported:
    """Stands for a function in a stored call.

    Args:
        module: its module.
        name: its qualified name there; of a task in class form, that of the class.
        file: of a script, whose module is always ``__main__``; else None.
    """

    def __init__(self, module: str, name: str, file: str | None = None) -> None:
        self.__module__ = module
        self.__qualname__ = name
        self.file = file

    def load(self) -> Callable[..., Any]:
        """The function itself; imports its module.

        Raises:
            StoreError: it cannot be imported.
        """
        found = load(self.__module__, self.__qualname__, self.file)
        if isinstance(found, type) and issubclass(found, PythonTask):
            task = object.__new__(found)
            Task.__init__(task, name_of(found), None, TaskType.PYTHON)
            found = getattr(task, "run", None)
        if not callable(found):
            raise StoreError(f"{self._name()}, which the ledger names, is no longer callable")
        return found  # type: ignore[no-any-return]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.load()(*args, **kwargs)

    def _name(self) -> str:
        return f"{self.__module__}.{self.__qualname__}"

    def __repr__(self) -> str:
        return f"<{self._name()}, to be imported>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Imported):
            return (self._name(), self.file) == (other._name(), other.file)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._name())


class Later(Standin):
    """Stands for an argument of a stored call that only user code can make.

    Args:
        facts: how the ledger holds it.
        make: makes it from them.
    """

    __slots__ = ("_make", "facts")

    def __init__(self, facts: dict[str, Any], make: Callable[[dict[str, Any]], Any]) -> None:
        self.facts = facts
        self._make = make

    def resolve(self) -> Any:
        """The argument itself; imports its module."""
        return self._make(self.facts)

    def __repr__(self) -> str:
        return f"<stored {next(iter(self.facts))}>"


class LostTask(Reference):
    """Stands for a task among the arguments of a call that was loaded without its graph."""

    __slots__ = ("id",)

    def __init__(self, task_id: str) -> None:
        self.id = task_id

    @property
    def title(self) -> str:
        """Its id; its title is not known."""
        return self.id

    @property
    def value(self) -> Any:
        """Not there."""
        raise TaskExecutionError(
            f"Its argument, the value of task {self.id}, is missing: the task was loaded from the "
            "ledger alone; load the graph that it is part of"
        )

    is_succeeded = False

    def __repr__(self) -> str:
        return f"<value of task {self.id}>"


def is_at(module: str, name: str, wanted: object) -> bool:
    """True if an object can be imported by this name. Looks only at what is loaded."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found is not None and found is wanted


def load(module: str, name: str, file: str | None = None) -> Any:
    """Import what has this name.

    Raises:
        StoreError: there is no such thing, or whatever the module raised.
    """
    what = f"{module}.{name}, which the ledger names"
    if module == MAIN and main_file() != file:
        raise StoreError(
            f"{name} was defined in the script {file}, which is not the one that runs; define what "
            "other programs shall run in a module that they can import"
        )
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may raise anything
        kind = type(error).__name__
        raise StoreError(f"{what}, cannot be imported: {kind}: {describe(error)}") from error
    return found


def main_file() -> str | None:
    """The file of the script that runs; None if there is none."""
    return getattr(sys.modules.get(MAIN), "__file__", None)
