"""GraphViews: what can be read off a graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ttasks.errors import GraphFailedError, describe
from ttasks.model.policy import DependencyPolicy
from ttasks.model.running import GraphStatistics, RunState
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, check_task

GOOD = (TaskStatus.SUCCEEDED, TaskStatus.SKIPPED)
"""What a required task may end as in a graph that is ok."""


class Node(NamedTuple):
    """A task in a graph, with its edges and flags."""

    task: Task
    after: tuple[Task, ...]
    finally_: bool
    required: bool
    policy: DependencyPolicy


class GraphViews:
    """The reading half of `TaskGraph`. Every list is new and in insertion order."""

    title: str
    _nodes: dict[str, Node]
    _dependents: dict[str, list[Task]] | None
    _state: RunState

    def __getitem__(self, task: Task) -> tuple[Task, ...]:
        return self._node(task).after

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and task.id in self._nodes

    def __iter__(self) -> Iterator[Task]:
        return iter([node.task for node in self._nodes.values()])

    def __len__(self) -> int:
        return len(self._nodes)

    def items(self) -> list[tuple[Task, tuple[Task, ...]]]:
        """Each task with its direct dependencies, in insertion order."""
        return [(node.task, node.after) for node in self._nodes.values()]

    def nodes(self) -> list[Node]:
        """Each task with its edges and flags, in insertion order."""
        return list(self._nodes.values())

    def dependencies(self, task: Task) -> list[Task]:
        """Direct dependencies of a task, in the order they were named."""
        return list(self._node(task).after)

    def dependents(self, task: Task, transitive: bool = False) -> list[Task]:
        """Tasks that depend on a task, directly or (``transitive``) at all, in insertion order."""
        self._node(task)
        dependents = self._dependents
        if dependents is None:
            dependents = {}
            for node in self._nodes.values():
                for upstream in node.after:
                    dependents.setdefault(upstream.id, []).append(node.task)
            self._dependents = dependents  # only now: other threads may read it meanwhile
        direct = dependents.get(task.id, [])
        if not transitive:
            return list(direct)
        found = {item.id for item in direct}
        stack = list(direct)
        while stack:
            for item in dependents.get(stack.pop().id, ()):
                if item.id not in found:
                    found.add(item.id)
                    stack.append(item)
        return [node.task for node in self._nodes.values() if node.task.id in found]

    def roots(self) -> list[Task]:
        """Tasks without dependencies, in insertion order."""
        return [node.task for node in self._nodes.values() if not node.after]

    def leaves(self) -> list[Task]:
        """Tasks that nothing depends on, in insertion order."""
        named = {upstream.id for node in self._nodes.values() for upstream in node.after}
        return [node.task for node in self._nodes.values() if node.task.id not in named]

    def is_finally(self, task: Task) -> bool:
        """True if the task was added with ``finally_=True``."""
        return self._node(task).finally_

    def is_optional(self, task: Task) -> bool:
        """True if the task was added with ``required=False``."""
        return not self._node(task).required

    # Views, each a new list in insertion order

    def _with(self, status: TaskStatus, required: bool | None = None) -> list[Task]:
        return [
            node.task
            for node in self._nodes.values()
            if node.task.status is status and required in (None, node.required)
        ]

    @property
    def succeeded(self) -> list[Task]:
        """Tasks that are SUCCEEDED."""
        return self._with(TaskStatus.SUCCEEDED)

    @property
    def failed(self) -> list[Task]:
        """Tasks that are FAILED."""
        return self._with(TaskStatus.FAILED)

    @property
    def cancelled(self) -> list[Task]:
        """Tasks that are CANCELLED."""
        return self._with(TaskStatus.CANCELLED)

    @property
    def blocked(self) -> list[Task]:
        """Tasks that are BLOCKED."""
        return self._with(TaskStatus.BLOCKED)

    @property
    def skipped(self) -> list[Task]:
        """Tasks that are SKIPPED."""
        return self._with(TaskStatus.SKIPPED)

    @property
    def finally_tasks(self) -> list[Task]:
        """Tasks that were added with ``finally_=True``."""
        return [node.task for node in self._nodes.values() if node.finally_]

    @property
    def optional_tasks(self) -> list[Task]:
        """Tasks that were added with ``required=False``."""
        return [node.task for node in self._nodes.values() if not node.required]

    @property
    def required_tasks(self) -> list[Task]:
        """Tasks that were not added with ``required=False``."""
        return [node.task for node in self._nodes.values() if node.required]

    @property
    def required_failed(self) -> list[Task]:
        """Required tasks that are FAILED."""
        return self._with(TaskStatus.FAILED, True)

    @property
    def required_blocked(self) -> list[Task]:
        """Required tasks that are BLOCKED."""
        return self._with(TaskStatus.BLOCKED, True)

    @property
    def optional_failed(self) -> list[Task]:
        """Tasks that are FAILED and not required."""
        return self._with(TaskStatus.FAILED, False)

    @property
    def errors(self) -> dict[str, BaseException]:
        """Exception by task id, of the latest run."""
        return dict(self._state.errors)

    @property
    def run_error(self) -> BaseException | None:
        """What ended the latest run as a whole before its time (a timeout, say), or None."""
        return self._state.error

    @property
    def ok(self) -> bool:
        """True if every required task SUCCEEDED or was SKIPPED and the run itself had no error.

        An empty graph is ok; a graph that has not run yet is not.
        """
        return self._state.error is None and all(
            node.task.status in GOOD for node in self._nodes.values() if node.required
        )

    def raise_for_failure(self) -> None:
        """Return if ``ok``.

        Raises:
            GraphFailedError: it lists every required task that did not succeed with its error.
        """
        if self.ok:
            return
        failures = [
            (node.task.title, self._reason(node.task))
            for node in self._nodes.values()
            if node.required and node.task.status not in GOOD
        ]
        error = self._state.error
        raise GraphFailedError(self.title, failures, None if error is None else describe(error))

    def _reason(self, task: Task) -> str:
        blocker = self._nodes.get(task.blocked_by or "")
        if blocker is not None:
            return f"blocked by {blocker.task.title!r}"
        return task.error or task.status.value

    def statistics(self) -> GraphStatistics:
        """Counts and times of the run that is active, or of the latest; from any thread."""
        counts = dict.fromkeys(TaskStatus, 0)
        running = []
        for node in list(self._nodes.values()):
            status = node.task.status
            counts[status] += 1
            if status is TaskStatus.RUNNING:
                running.append(node.task.title)
        handle = self._state.handle
        if handle is None:
            return GraphStatistics(counts, tuple(running))
        return GraphStatistics(
            counts, tuple(running), handle.waiting, handle.elapsed, handle.retries
        )

    def _node(self, task: Task) -> Node:
        check_task("task", task)
        return self._nodes[task.id]
