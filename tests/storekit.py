"""What tests of stores share: tasks with everything in them, and all that a store has to keep."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from subprocess import CompletedProcess
from typing import Any

from ttasks.model.graph import TaskGraph
from ttasks.model.policy import RetryPolicy
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType

ATTRIBUTES = (
    "id",
    "title",
    "payload",
    "type",
    "description",
    "timeout",
    "retry",
    "priority",
    "deadline",
    "group",
    "key",
    "version",
    "reuse",
    "options",
    "created_at",
    "fingerprint",
    "status",
    "error",
    "blocked_by",
)
HTTP = TaskType("http")


def everything(task: Task) -> dict[str, Any]:
    """All that a store has to keep of a task."""
    facts = {name: getattr(task, name) for name in ATTRIBUTES}
    facts["options"] = dict(task.options)
    return facts | {"result": result_facts(task.result)}


def result_facts(result: TaskResult | None) -> dict[str, Any] | None:
    if result is None:
        return None
    facts = {name: getattr(result, name) for name in TaskResult.__slots__}
    if isinstance(result.raw, CompletedProcess):  # has no equality of its own
        facts["raw"] = vars(result.raw)
    return facts


def shape(graph: TaskGraph) -> list[tuple[Any, ...]]:
    """The nodes of a graph, by id of their tasks."""
    return [
        (task.id, [upstream.id for upstream in after], finally_, required, policy)
        for task, after, finally_, required, policy in graph.nodes()
    ]


def finished(task: Task, /, **facts: Any) -> Task:
    """Let a task succeed with this result."""
    return ended(task, TaskStatus.SUCCEEDED, None, **facts)


def ended(task: Task, status: TaskStatus, message: str | None, /, **facts: Any) -> Task:
    """Let a task end with this status and result."""
    now = datetime.now(UTC)
    task.transition_to(TaskStatus.RUNNING)
    task.transition_to(status, message)
    result = TaskResult(task.id, status, now, now + timedelta(seconds=1.5), 1.5, **facts)
    state = task.__getstate__() | {"result": result}
    task.__setstate__(state)
    return task


def full_task() -> Task:
    return Task(
        "título with ünïcode \U0001f600 and \0",
        {"url": "http://localhost", "codes": [1, 2.5, None, True], "deep": {"é": [[]]}},
        HTTP,
        "description\nof two lines",
        timeout=0.1 + 0.2,
        retry=RetryPolicy(
            5,
            0.5,
            multiplier=2.0,
            max_backoff=30.0,
            jitter=0.25,
            retry_on=(OSError, TimeoutError),
            max_elapsed=90.0,
        ),
        priority=-2.5,
        deadline=datetime(2031, 2, 3, 4, 5, 6, 7, timezone(timedelta(hours=5, minutes=45))),
        group="db",
        key="the key",
        version="3",
        reuse=True,
        options={"headers": {"a": "b"}, "retries": 3, "follow": False, "none": None},
    )


def a_collection(store: Store, which: str) -> tuple[Any, Any, Any]:
    """A collection of a store and two objects for it."""
    if which == "tasks":
        return store.tasks, Task.bash("true"), Task.bash("false")
    graphs = []
    for _ in range(2):
        graph = TaskGraph("title")
        graph.add(Task.bash("true"), after=graph.add(Task.bash("true")))
        graphs.append(graph)
    return store.graphs, *graphs
