"""What subscribers and stores see of a task that has secrets in its texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ttasks.model.call import Call
from ttasks.model.graph import TaskGraph
from ttasks.model.nested import PLAIN
from ttasks.model.task import view_of

if TYPE_CHECKING:
    from ttasks.model.redact import Redactor
    from ttasks.model.task import Task

_NO_TEXT = PLAIN - {str}
TEXTS = ("title", "description", "payload", "options")


def redacted_task(task: Task, redactor: Redactor) -> Task:
    """The task itself, or a view of it (same id, same live status and result) without secrets."""
    changes = {}
    for name in TEXTS:
        value = getattr(task, name)
        hidden = hide(value, redactor)
        if hidden != value:
            changes[name] = hidden
    return view_of(task, changes) if changes else task


def redacted_graph(graph: TaskGraph, redactor: Redactor) -> TaskGraph:
    """The graph itself, or one of views of its tasks, without secrets."""
    views = {task.id: redacted_task(task, redactor) for task in graph}
    title = redactor.text(graph.title)
    if title == graph.title and all(views[task.id] is task for task in graph):
        return graph
    nodes = [
        node._replace(task=views[node.task.id], after=tuple(views[task.id] for task in node.after))
        for node in graph.nodes()
    ]
    return TaskGraph.restore(graph.id, nodes, title, graph.key)


def hide(value: Any, redactor: Redactor) -> Any:
    """A str, or a structure of lists and mappings, without secrets; anything else as it is."""
    if isinstance(value, str):
        return redactor.text(value)
    if isinstance(value, Mapping):
        return {key: hide(item, redactor) for key, item in value.items()}
    if type(value) is Call:
        return value.with_leaves(lambda leaf: _hide_leaf(leaf, redactor), _NO_TEXT)
    if type(value) in (list, tuple):
        return type(value)(hide(item, redactor) for item in value)
    return value


def _hide_leaf(leaf: Any, redactor: Redactor) -> Any:
    if isinstance(leaf, str):
        hidden = redactor.text(leaf)
        return leaf if hidden == leaf else hidden
    return leaf
