"""InMemoryStore: live references in dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from itertools import count
from typing import Generic, TypeVar

from ttasks.model.checks import check_str, wrong_type, wrong_value
from ttasks.model.graph import TaskGraph
from ttasks.model.status import TaskStatus
from ttasks.model.store import graph_id
from ttasks.model.task import Task
from ttasks.stores.memory_runs import MemoryRuns

Item = TypeVar("Item", Task, TaskGraph)


class MemoryCollection(MutableMapping[str, Item], Generic[Item]):
    """A dict by id that checks keys and types.

    Thread-safe without a lock: every operation is one operation of a dict, which the interpreter
    makes atomic; iteration goes over a copy of the keys.
    """

    def __init__(self, item_type: type[Item], items: dict[str, Item] | None = None) -> None:
        self._type: type[Item] = item_type
        self._items: dict[str, Item] = {} if items is None else items

    def save(self, item: Item) -> None:
        """Remember ``item`` itself, not a copy."""
        if not isinstance(item, self._type):
            raise wrong_type("item", item, f"a {self._type.__name__}")
        self._items[item.id] = item

    def __getitem__(self, key: str) -> Item:
        return self._items[key]

    def __setitem__(self, key: str, item: Item) -> None:
        if not isinstance(item, self._type):
            raise wrong_type("item", item, f"a {self._type.__name__}")
        if key != item.id:
            raise wrong_value("key", key, f"the id of the object, {item.id!r}")
        self._items[key] = item

    def __delitem__(self, key: str) -> None:
        del self._items[key]

    def __contains__(self, item: object) -> bool:
        if isinstance(item, self._type):
            return item.id in self._items
        return isinstance(item, str) and item in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)


class MemoryTasks(MemoryCollection[Task]):
    """Tasks by id."""

    def __init__(self, graphs: Mapping[str, TaskGraph]) -> None:
        super().__init__(Task)
        self._graphs = graphs

    def cancel(self, task_id: str) -> None:
        """Cancel a task, as `Task.cancel` does; it stays in the store.

        Raises:
            KeyError: there is no such task.
        """
        self[task_id].cancel()

    def counts(self, graph: TaskGraph | str | None = None) -> dict[TaskStatus, int]:
        """The number of tasks by status; a status without tasks counts 0.

        Args:
            graph: a graph or its id: count only its tasks; None counts all.

        Raises:
            KeyError: there is no such graph.
        """
        chosen = list(self._items.values()) if graph is None else self._graphs[graph_id(graph)]
        counts = dict.fromkeys(TaskStatus, 0)
        for task in chosen:
            counts[task.status] += 1
        return counts


class MemoryGraphs(MemoryCollection[TaskGraph]):
    """Graphs; saving one saves its tasks."""

    def __init__(self, tasks: MemoryTasks, items: dict[str, TaskGraph]) -> None:
        super().__init__(TaskGraph, items)
        self._tasks = tasks
        self._saves: dict[str, int] = {}  # when each was saved last
        self._counter = count()

    def save(self, item: TaskGraph) -> None:
        """Remember the graph and its tasks themselves."""
        super().save(item)
        self._saves[item.id] = next(self._counter)
        for task in item:
            self._tasks.save(task)

    def __setitem__(self, key: str, item: TaskGraph) -> None:
        super().__setitem__(key, item)
        self.save(item)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._saves.pop(key, None)

    def keyed(self, key: str) -> list[str]:
        """Ids of the graphs with this key, the one that was saved last first."""
        check_str("key", key)
        same = [graph.id for graph in list(self._items.values()) if graph.key == key]
        return sorted(same, key=lambda graph_id: -self._saves.get(graph_id, -1))


class InMemoryStore:
    """Remembers tasks and graphs for as long as it lives; what comes out is what went in.

    Thread-safe.

    Example:
        >>> store = InMemoryStore()
        >>> task = Task.bash("true")
        >>> store.tasks.save(task)
        >>> store.tasks[task.id] is task
        True
    """

    def __init__(self) -> None:
        graphs: dict[str, TaskGraph] = {}
        self._tasks = MemoryTasks(graphs)
        self._graphs = MemoryGraphs(self._tasks, graphs)
        self._runs = MemoryRuns()

    @property
    def tasks(self) -> MemoryTasks:
        """Tasks by id."""
        return self._tasks

    @property
    def graphs(self) -> MemoryGraphs:
        """Graphs by id; saving one saves its tasks."""
        return self._graphs

    @property
    def runs(self) -> MemoryRuns:
        """Runs of graphs and of single tasks, the latest first."""
        return self._runs

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
