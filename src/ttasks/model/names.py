"""Names: the tasks of a graph by key, title or id."""

from __future__ import annotations

from collections.abc import Iterable

from ttasks.errors import GraphError, UnknownDependencyError
from ttasks.model.checks import near
from ttasks.model.task import Task


class Names:
    """The tasks of a graph by their current names; also suggests names for a wrong one."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._keyed: dict[str, list[Task]] = {}
        self._titled: dict[str, list[Task]] = {}
        self._ids: dict[str, Task] = {}
        for task in tasks:
            self._ids[task.id] = task
            self._titled.setdefault(task.title, []).append(task)
            if task.key is not None:
                self._keyed.setdefault(task.key, []).append(task)

    def called(self, name: str) -> list[Task]:
        """The tasks with this key, or else with this title, or else the one with this id."""
        found = self._keyed.get(name) or self._titled.get(name)
        if found is None:
            return [self._ids[name]] if name in self._ids else []
        return found

    def near(self, name: str) -> list[str]:
        """Up to three keys and titles that are like a name."""
        return near(name, {*self._keyed, *self._titled})

    def upstream(self, task: Task, name: str) -> Task:
        """The one task that another depends on by name.

        Raises:
            UnknownDependencyError: there is none.
            GraphError: there are several.
        """
        found = self.called(name)
        if not found:
            raise UnknownDependencyError(task, name, self.near(name))
        if len(found) > 1:
            raise GraphError(
                f"Task {task.title!r} depends on {name!r}, and {len(found)} tasks of the graph "
                "have this name; give them keys, or pass the task itself"
            )
        return found[0]
