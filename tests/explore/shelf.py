"""Shelf: a store under the explorer, which remembers what it was told, and fails when told to."""

from __future__ import annotations

from collections.abc import Callable

from explore.primitives import sleep
from ttasks import InMemoryStore, Task, TaskGraph, TaskStatus


class Shelf(InMemoryStore):
    """An `InMemoryStore` that keeps apart what was saved, and what the tasks have become since.

    Args:
        called: told at each call of the store, and once more when the call has done its work.
        broken: numbers of the saves that fail, from 1.
        slow_reads: seconds that it takes to find an earlier run.

    Attributes:
        saved: status by id of the task.
        unsaved: ids of the tasks whose latest save has failed.
        late: ids of the tasks of which any save has failed.
    """

    def __init__(
        self, called: Callable[[str], None], broken: frozenset[int], slow_reads: float
    ) -> None:
        super().__init__()
        self._called = called
        self._broken = broken
        self._saves = 0
        self.saved: dict[str, TaskStatus] = {}
        self.unsaved: set[str] = set()
        self.late: set[str] = set()
        save_task, save_graph, keyed = self.tasks.save, self.graphs.save, self.graphs.keyed

        def save(task: Task) -> None:
            self._save([task])
            save_task(task)
            called("saved")

        def save_a_graph(graph: TaskGraph) -> None:
            self._save(list(graph))
            self.tasks.save = save_task  # type: ignore[method-assign]
            save_graph(graph)
            self.tasks.save = save  # type: ignore[method-assign]
            called("saved")

        def look_up(key: str) -> list[str]:
            called("read")
            if slow_reads:
                sleep(slow_reads)
            found = keyed(key)
            called("found")
            return found

        self.tasks.save = save  # type: ignore[method-assign]
        self.graphs.save = save_a_graph  # type: ignore[method-assign]
        self.graphs.keyed = look_up  # type: ignore[method-assign]

    def _save(self, tasks: list[Task]) -> None:
        self._called("save")
        self._saves += 1
        ids = {task.id for task in tasks}
        if self._saves in self._broken:
            self.unsaved |= ids
            self.late |= ids
            raise OSError("disk full")
        self.unsaved -= ids
        for task in tasks:
            self.saved[task.id] = task.status
