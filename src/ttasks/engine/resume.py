"""Resume: take over what an earlier run of the same graph has finished.

A run looks for the latest entry of its graph's key in the store. A task is taken over if that
entry has a task of the same key that SUCCEEDED, with the same fingerprint, a value that was kept,
and if everything that it depends on is taken over (or has SUCCEEDED here) as well. So a task that
has changed runs again, and so does everything downstream of it. All other tasks run as if there had
never been an earlier run: there is one way to start work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ttasks.engine import outcome
from ttasks.errors import GraphError, StoreError, TaskExecutionError
from ttasks.model.fingerprint import fingerprint_of
from ttasks.model.status import TaskStatus

INTERRUPTED = "Task was interrupted: whoever ran it is gone"

if TYPE_CHECKING:
    from ttasks.model.graph import TaskGraph
    from ttasks.model.result import TaskResult
    from ttasks.model.store import Store
    from ttasks.model.task import Task
    from ttasks.model.topology import Topology
    from ttasks.model.views import Node


def prepare_ledger(
    graph: TaskGraph,
    nodes: Sequence[Node],
    topology: Topology,
    store: Store | None,
    resume: bool,
) -> None:
    """Bring graph and store together before a run: who runs what, fingerprints, earlier results.

    Raises:
        GraphError: the graph cannot be resumed, or one of its tasks is running elsewhere.
        StoreError: the store cannot be read.
    """
    if resume and graph.key is None:
        raise GraphError("resume=True needs a graph with a key: TaskGraph(title, key=...)")
    if resume and store is None:
        raise GraphError("resume=True needs an executor with a store")
    if store is None:
        return
    check_not_running(graph, store)
    reusing = any(node.task.reuse for node in nodes)
    if graph.key is not None:
        task_keys([node.task for node in nodes])
    if graph.key is not None or reusing:
        stamp(nodes, topology)
    if resume:
        adopt(graph, nodes, topology, store)
    if reusing:
        reuse(nodes, topology, store)


def stamp(nodes: Sequence[Node], topology: Topology) -> None:
    """Give every task of a graph its fingerprint."""
    known: list[str | None] = [None] * len(nodes)
    for number in in_order(topology):
        task = nodes[number].task
        ends = [known[end] for end in topology.dependencies[number]]
        known[number] = fingerprint_of(task, ends)
        task.stamp(known[number])


def in_order(topology: Topology) -> Iterator[int]:
    """The nodes, each after its dependencies."""
    waiting = [len(ends) for ends in topology.dependencies]
    free = [number for number, count in enumerate(waiting) if not count]
    for number in free:  # grows while it is read
        yield number
        for dependent in topology.dependents[number]:
            waiting[dependent] -= 1
            if not waiting[dependent]:
                free.append(dependent)


def task_keys(tasks: Sequence[Task]) -> dict[str, Task]:
    """Tasks by their key: the one they were given, or else their title if no other has it.

    Raises:
        GraphError: two tasks were given the same key.
    """
    given: dict[str, Task] = {}
    for task in tasks:
        if task.key is not None and given.setdefault(task.key, task) is not task:
            raise GraphError(
                f"Tasks {given[task.key].title!r} and {task.title!r} have the same key "
                f"{task.key!r}; keys must be unique in a graph"
            )
    titles = Counter(task.title for task in tasks if task.key is None)
    return given | {
        task.title: task
        for task in tasks
        if task.key is None and titles[task.title] == 1 and task.title not in given
    }


def adopt(graph: TaskGraph, nodes: Sequence[Node], topology: Topology, store: Store) -> None:
    """Take over what the latest entry of the graph's key has finished.

    The tasks become SUCCEEDED with the earlier result, marked as ``reused``; nothing is announced.

    Raises:
        GraphError: the entry is being run elsewhere.
    """
    mine = {task.id: key for key, task in task_keys([node.task for node in nodes]).items()}
    before = latest(graph, store)
    if before is None:
        return
    check_not_running(before, store)
    mark_interrupted(before, store)
    theirs = task_keys(list(before))
    taken: set[int] = set()
    for number in in_order(topology):
        task = nodes[number].task
        if task.is_succeeded:
            taken.add(number)
            continue
        old = theirs.get(mine.get(task.id, ""))
        if old is None or not all(end in taken for end in topology.dependencies[number]):
            continue
        if task.is_pending and is_same(task, old) and task.take_over(reusable(old, task.id)):
            taken.add(number)


def reuse(nodes: Sequence[Node], topology: Topology, store: Store) -> None:
    """Take over the result of any SUCCEEDED task of the store that is the same work."""
    find = getattr(store.tasks, "succeeded", None)
    for number in in_order(topology):
        task = nodes[number].task
        if not task.reuse or task.fingerprint is None or not task.is_pending:
            continue
        if not all(nodes[end].task.is_succeeded for end in topology.dependencies[number]):
            continue
        old = find(task.fingerprint) if find is not None else _search(task, store)
        if old is not None and is_same(task, old):
            task.take_over(reusable(old, task.id))


def _search(task: Task, store: Store) -> Task | None:
    for task_id in store.tasks:
        old = store.tasks[task_id]
        if old.fingerprint == task.fingerprint and old.is_succeeded and old.id != task.id:
            return old
    return None


def is_same(task: Task, old: Task) -> bool:
    """True if an earlier task SUCCEEDED at the same work and its value was kept."""
    result = old.result
    return (
        old.is_succeeded
        and task.fingerprint is not None
        and old.fingerprint == task.fingerprint
        and result is not None
        and is_kept(result.value)
    )


def is_kept(value: Any) -> bool:
    """False for what stands in place of a value that a store could not keep."""
    return not getattr(type(value), "is_absent", False)


def reusable(old: Task, task_id: str) -> TaskResult:
    """The result of an earlier task, for another one."""
    assert old.result is not None
    return replace(old.result, task_id=task_id, reused=True)


def latest(graph: TaskGraph, store: Store) -> TaskGraph | None:
    """The other graph of the same key that was saved last, None if there is none."""
    keyed = getattr(store.graphs, "keyed", None)
    if keyed is not None:
        ids = [graph_id for graph_id in keyed(graph.key) if graph_id != graph.id]
        return store.graphs[ids[0]] if ids else None
    found = [store.graphs[graph_id] for graph_id in store.graphs if graph_id != graph.id]
    same = [other for other in found if other.key == graph.key]
    return same[-1] if same else None


def check_not_running(graph: TaskGraph, store: Store) -> None:
    """Raise if a process that lives is running a task of a graph; end what a dead one left.

    Raises:
        GraphError: a task is running, here or in another process.
    """
    tasks = {task.id: task for task in graph if task.is_running}
    if not tasks:
        return
    for task in tasks.values():
        if task._lifecycle.owner is not None:
            raise GraphError(f"Task {task.title!r} ({task.id}) is running in this process")
    look = getattr(store, "running", None)
    if look is None:
        return
    try:
        running = look()
    except StoreError as error:
        raise GraphError(f"Cannot find out who runs the tasks of the ledger: {error}") from error
    for item in running:
        if item.task_id in tasks and item.liveness.value != "gone":
            where = f"process {item.owner.pid} on {item.owner.host}"
            raise GraphError(
                f"Task {item.title!r} ({item.task_id}) is running in {where} "
                f"({item.liveness.value}); wait for its end, or end that process"
            )
    from ttasks.handlers.orphans import end_orphans

    for task_id in tasks:
        end_orphans(task_id)


def mark_interrupted(graph: TaskGraph, store: Store) -> None:
    """Note in the store that the tasks of an earlier run that are RUNNING were interrupted."""
    for task in graph:
        if task.is_running and task._lifecycle.owner is None:
            now = datetime.now(UTC)
            error = TaskExecutionError(INTERRUPTED)
            timing = outcome.Timing(now, now, 0.0)
            result = outcome.failure(task.id, error, timing, attempt=1, reason="interrupted")
            task._lifecycle.settle(TaskStatus.FAILED, INTERRUPTED, result)
            store.tasks.save(task)
