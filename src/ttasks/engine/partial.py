"""Partial runs: a part of a graph, with what is left out taken over from the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ttasks.engine.equals import copy_result, has_kept_result
from ttasks.engine.resume import latest, same_keys, unique_keys
from ttasks.errors import GraphError
from ttasks.model.graph import TaskGraph
from ttasks.model.selection import needed, part_of
from ttasks.model.task import stamp

if TYPE_CHECKING:
    from ttasks.model.store import Store
    from ttasks.model.task import Task


def earlier_tasks(graph: TaskGraph, store: Store | None) -> dict[str, Task]:
    """What the latest run of the graph's key has of each task, by the id of the task here.

    Raises:
        GraphError: two tasks have the same key.
        StoreError: the ledger cannot be read.
    """
    before = None if store is None or graph.key is None else latest(graph, store)
    keys = unique_keys(graph)
    return {} if before is None else same_keys(keys, before)


def partial_graph(graph: TaskGraph, chosen: Iterable[Task], store: Store | None) -> TaskGraph:
    """A graph that runs the chosen tasks of another one, and nothing else.

    Other tasks that succeeded in the latest run of the key become SUCCEEDED with that result. They
    keep the fingerprint of then, so a later resume notices what has changed since. Those that have
    not succeeded are not part of it.

    Args:
        graph: the whole, whose tasks are PENDING.
        chosen: tasks of it.
        store: the ledger; None knows of no earlier run.

    Raises:
        GraphError: a dependency of what is chosen is left out, and has not succeeded.
        StoreError: the ledger cannot be read.
    """
    running = {task.id for task in chosen}
    earlier = earlier_tasks(graph, store)
    missing = [
        task.title
        for task in needed(graph, [task for task in graph if task.id in running])
        if task.id not in earlier or not has_kept_result(earlier[task.id])
    ]
    if missing:
        names = ", ".join(map(repr, missing[:10]))
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        verb = "has" if len(missing) == 1 else "have"
        raise GraphError(
            f"{names}{more} would be left out, but {verb} not succeeded in the latest run in the "
            "ledger, and what is to run depends on it; run it too"
        )
    done = []
    for task in graph:
        if task.id not in running and task.id in earlier and _take_over(task, earlier[task.id]):
            done.append(task)
    return part_of(graph, [task for task in graph if task.id in running], done)


def _take_over(task: Task, old: Task) -> bool:
    """Let a task that is left out be what it was, whatever has changed since."""
    if not has_kept_result(old):
        return False
    stamp(task, old.fingerprint)
    return copy_result(task, old)
