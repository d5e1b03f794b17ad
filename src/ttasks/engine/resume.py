"""Resume: take over what an earlier run of the same graph has finished.

A run looks for the latest entry of its graph's key in the store. A task is taken over if that
entry has a task of the same key that SUCCEEDED, with the same fingerprint and a value that was
kept, and if everything that it depends on is taken over as well (or has SUCCEEDED here, or is sure
to be SKIPPED again). So a task that has changed runs again, and so does everything downstream of
it. All other tasks run as if there had never been an earlier run: there is one way to start work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ttasks.engine.equals import announce_reused, copy_result, has_kept_result, is_same
from ttasks.engine.interrupted import check_not_running, end_interrupted, run_inside
from ttasks.engine.snapshots import Watch
from ttasks.errors import GraphError
from ttasks.model.call import Call
from ttasks.model.changes import changed_parts
from ttasks.model.fingerprint import fingerprint_of
from ttasks.model.running import CACHE_ON
from ttasks.model.snapshot import declares
from ttasks.model.status import TaskStatus
from ttasks.model.task import is_service, lifecycle_of, stamp
from ttasks.model.topology import in_order

if TYPE_CHECKING:
    from ttasks.engine.looks import Looks
    from ttasks.engine.recorder import Recorder
    from ttasks.engine.snapshots import Snapshots
    from ttasks.model.graph import Node, TaskGraph
    from ttasks.model.run import Reason
    from ttasks.model.running import RunOptions
    from ttasks.model.store import Store
    from ttasks.model.task import Task
    from ttasks.model.topology import Topology


def prepare_ledger(
    graph: TaskGraph,
    nodes: Sequence[Node],
    topology: Topology,
    store: Store | None,
    recorder: Recorder,
    options: RunOptions,
    looks: Looks,
) -> tuple[list[Task], dict[int, Reason]]:
    """Prepare a run with a store: check who runs what, set fingerprints, reuse earlier results.

    Errors are raised before any task of the graph has changed.

    Returns:
        The tasks that took over a result, in the graph's order, and why the other nodes did not:
        all of them for a resume, else those that declare what they depend on.

    Raises:
        DeclarationError: what a task declares is not there.
        GraphError: the graph cannot be resumed, or one of its tasks is running elsewhere.
        StoreError: the store cannot be read, or interrupted tasks cannot be saved in it.
    """
    resume = options.resume
    if resume and graph.key is None:
        raise GraphError("resume=True needs a graph with a key: TaskGraph(title, key=...)")
    if resume and store is None:
        raise GraphError("resume=True needs an executor with a store: TaskExecutor(store)")
    keys = unique_keys(graph) if graph.key is not None else {}
    if store is None:
        return [], {}
    recorder.catch_up()
    before = latest(graph, store) if resume else None
    interrupted = check_not_running(graph, store, mine=True)
    if before is not None:
        interrupted += check_not_running(before, store, mine=False)
    reusing = any(node.task.reuse for node in nodes)
    if graph.key is not None or reusing or keeps_fingerprints(store):
        stamp_all(nodes, topology, looks)
    inside = run_inside(interrupted, graph if before is None else before, store)
    end_interrupted(interrupted, before, inside, recorder)
    taken: list[int] = []
    reasons: dict[int, Reason] = {}
    if before is not None:
        taken, reasons = adopt(nodes, topology, keys, before, looks)
    elif resume:
        reasons = dict.fromkeys(range(len(nodes)), ("first", ()))
    if reusing and options.cache == CACHE_ON:
        taken += reuse(nodes, topology, store, looks)
        if not resume and graph.key is not None:
            reasons = why_declared_run(graph, nodes, topology, keys, store, looks)
    return [nodes[number].task for number in sorted(taken)], {
        number: reason for number, reason in reasons.items() if not nodes[number].task.is_succeeded
    }


# Fingerprints


def keeps_fingerprints(store: Store) -> bool:
    """True if tasks can be found by fingerprint in a store."""
    return hasattr(store.tasks, "succeeded")


def stamp_all(nodes: Sequence[Node], topology: Topology, looks: Looks) -> None:
    """Give every task of a graph its fingerprint; one that SUCCEEDED keeps what it has.

    A task whose inputs are still to be made by others gets none yet.

    Raises:
        DeclarationError: what a task declares is not there.
    """
    known: list[str | None] = [None] * len(nodes)
    for number in in_order(topology):
        task = nodes[number].task
        if not task.is_succeeded or task.fingerprint is None:
            ends = [known[end] for end in topology.dependencies[number]]
            snapshot = None
            if task.reuse:
                snapshot = looks.look(task, partial(_before, number, nodes, topology))
            stamp(task, fingerprint_of(task, ends, snapshot))
        known[number] = task.fingerprint


def _before(number: int, nodes: Sequence[Node], topology: Topology) -> list[Task]:
    """The tasks that a node comes after, over any number of steps."""
    found = dict.fromkeys(topology.dependencies[number])
    waiting = list(found)
    while waiting:
        ends = [end for end in topology.dependencies[waiting.pop()] if end not in found]
        found.update(dict.fromkeys(ends))
        waiting += ends
    return [nodes[end].task for end in found]


# The graph of the same key


def latest(graph: TaskGraph, store: Store) -> TaskGraph | None:
    """The graph with the same key that was saved last.

    None if there is none, or if that is the graph itself and it has run.
    """
    keyed = getattr(store.graphs, "keyed", None)
    if keyed is not None:
        ids = list(keyed(graph.key))
    else:
        ids = [graph_id for graph_id in store.graphs if store.graphs[graph_id].key == graph.key]
        ids.reverse()
    if ids and ids[0] == graph.id and not all(task.is_pending for task in graph):
        return None
    return next((store.graphs[graph_id] for graph_id in ids if graph_id != graph.id), None)


def task_keys(tasks: Iterable[Task]) -> dict[str, list[Task]]:
    """Tasks by their key, or those without one by their title unless that is a key."""
    given: dict[str, list[Task]] = {}
    titles: dict[str, list[Task]] = {}
    for task in tasks:
        if task.key is None:
            titles.setdefault(task.title, []).append(task)
        else:
            given.setdefault(task.key, []).append(task)
    return titles | given


def unique_keys(tasks: Iterable[Task]) -> dict[str, Task]:
    """The tasks whose key or title no other has, by that.

    Raises:
        GraphError: two tasks were given the same key. The same title is allowed.
    """
    found = task_keys(tasks)
    for key, same in found.items():
        if len(same) > 1 and same[0].key is not None:
            raise GraphError(
                f"Tasks {same[0].title!r} and {same[1].title!r} have the same key {key!r}; "
                "keys must be unique in a graph"
            )
    return {key: same[0] for key, same in found.items() if len(same) == 1}


def same_keys(keys: Mapping[str, Task], before: TaskGraph) -> dict[str, Task]:
    """The tasks of an earlier graph with a key of `unique_keys`, by the id of the task here."""
    theirs = {key: same[0] for key, same in task_keys(before).items() if len(same) == 1}
    return {task.id: theirs[key] for key, task in keys.items() if key in theirs}


def adopt(
    nodes: Sequence[Node],
    topology: Topology,
    keys: dict[str, Task],
    before: TaskGraph,
    looks: Looks,
) -> tuple[list[int], dict[int, Reason]]:
    """Take over the results of tasks that SUCCEEDED in an earlier graph.

    The tasks become SUCCEEDED with that result, marked as ``reused``; nothing is announced.

    Returns:
        The nodes whose tasks did so, and why the others did not.
    """
    taken: list[int] = []
    reasons: dict[int, Reason] = {}
    places = {node.task.id: node for node in before.nodes()}
    earlier = {mine: places[old.id] for mine, old in same_keys(keys, before).items()}
    settled: set[int] = set()
    for number in in_order(topology):
        node = nodes[number]
        task = node.task
        if task.is_succeeded:
            settled.add(number)
            continue
        old = earlier.get(task.id)
        if is_service(
            task
        ):  # what it did counts for those after it, and it runs if one of them does
            if old is not None and _is_unchanged(task, old.task):
                settled.add(number)
            continue
        missing = [end for end in topology.dependencies[number] if end not in settled]
        if old is None or missing:
            ends = [nodes[end].task.title for end in missing]
            reasons[number] = _not_taken_over(task, None if old is None else old.task, ends, looks)
        elif _take_over(task, old.task, looks):
            settled.add(number)
            taken.append(number)
        elif was_skipped(node, old):
            settled.add(number)
        else:
            reasons[number] = _not_taken_over(task, old.task, (), looks)
    return taken, reasons


def why_declared_run(
    graph: TaskGraph,
    nodes: Sequence[Node],
    topology: Topology,
    keys: dict[str, Task],
    store: Store,
    looks: Looks,
) -> dict[int, Reason]:
    """Why the tasks that declare what they depend on run again."""
    left = [number for number, node in enumerate(nodes) if declares(node.task)]
    left = [number for number in left if not nodes[number].task.is_succeeded]
    if not left:
        return {}
    before = latest(graph, store)
    earlier = {} if before is None else same_keys(keys, before)
    reasons = {}
    for number in left:
        task = nodes[number].task
        ends = [nodes[end].task for end in topology.dependencies[number]]
        missing = [end.title for end in ends if not (end.is_succeeded or is_service(end))]
        reasons[number] = _not_taken_over(task, earlier.get(task.id), missing, looks)
    return reasons


def _take_over(task: Task, old: Task, looks: Looks) -> bool:
    """`take_over`, if the files that the earlier task has made are still there."""
    return is_same(task, old) and looks.stands(task, old) and copy_result(task, old)


def _is_unchanged(task: Task, old: Task) -> bool:
    return task.fingerprint is not None and task.fingerprint == old.fingerprint


def _not_taken_over(task: Task, old: Task | None, missing: Sequence[str], looks: Looks) -> Reason:
    """Why a task runs again; ``missing`` are the titles of upstreams that do."""
    if old is None:
        return "first", ()
    if not old.is_succeeded:
        return "unsuccessful", ()
    changed = changed_parts(task, old)
    declared = looks.reason(task, old, changed)
    if declared is not None:
        return declared
    if changed:
        return "changed", changed
    if missing:
        return "upstream", tuple(missing)
    if not has_kept_result(old):
        return "value", ()
    return "changed", ("function" if type(task.payload) is Call else "fingerprint",)


def was_skipped(node: Node, old: Node) -> bool:
    """True if a task was SKIPPED, and will be again if its upstreams end as they did."""
    task = node.task
    is_same = _is_unchanged(task, old.task)
    return old.task.is_skipped and is_same and node.policy is old.policy


# Any task of the store


class Finder:
    """Finds SUCCEEDED tasks by fingerprint; reads a store that cannot do this through, once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._find = getattr(store.tasks, "succeeded", None)
        self._found: dict[str, Task] | None = None

    def find(self, fingerprint: str) -> Task | None:
        """A task that SUCCEEDED, preferably the latest; None if there is none."""
        if self._find is not None:
            found: Task | None = self._find(fingerprint)
            return found
        if self._found is None:
            tasks = map(self._store.tasks.__getitem__, list(self._store.tasks))
            self._found = {
                task.fingerprint: task
                for task in tasks
                if task.fingerprint is not None and has_kept_result(task)
            }
        return self._found.get(fingerprint)


def reuse(nodes: Sequence[Node], topology: Topology, store: Store, looks: Looks) -> list[int]:
    """Take over the results of SUCCEEDED tasks of the store that are the same work.

    Returns:
        The nodes whose tasks did so.
    """
    taken: list[int] = []
    finder = Finder(store)
    for number in in_order(topology):
        task = nodes[number].task
        ends = topology.dependencies[number]
        upstreams = [nodes[end].task for end in ends]
        ready = all(task.is_succeeded or is_service(task) for task in upstreams)
        if task.reuse and ready and take_over_equal(task, finder, looks):
            taken.append(number)
    return taken


def reuse_one(
    task: Task, upstream: Sequence[Task], store: Store, recorder: Recorder, looks: Looks
) -> bool:
    """Let a task without a graph reuse a result from the store; True if it did.

    Raises:
        DeclarationError: what the task declares is not there.
    """
    if task.is_terminal and not task.can_transition_to(TaskStatus.RUNNING):
        return False
    if not (task.reuse or keeps_fingerprints(store)):
        return False
    before = task.fingerprint
    stamp(task, fingerprint_of(task, [end.fingerprint for end in upstream], looks.look(task)))
    taken = (
        task.reuse
        and all(end.is_succeeded for end in upstream)
        and take_over_equal(task, Finder(store), looks)
    )
    if taken or (task.fingerprint != before and task in store.tasks):
        recorder.resave(task)
    if taken:
        announce_reused([task], None, recorder)
    return taken


def watch_for(
    task: Task,
    upstream: Sequence[Task],
    store: Store,
    snapshots: Callable[[], Snapshots],
    is_verified: bool,
) -> Watch | None:
    """What watches the execution of a task that is about to start, whose fingerprint is set.

    Raises:
        DeclarationError: what it declares is not there.
    """
    before = snapshots().before(task) if declares(task) else None
    fingerprint = fingerprint_of(task, [end.fingerprint for end in upstream], before)
    if fingerprint != task.fingerprint:
        stamp(task, fingerprint)
        lifecycle_of(task).edited = True  # so that it is saved
    twin = None
    if is_verified and task.reuse and fingerprint is not None:
        twin = Finder(store).find(fingerprint)
    if before is None and twin is None:
        return None
    return Watch(snapshots(), task, before, twin)


def take_over_equal(task: Task, finder: Finder, looks: Looks) -> bool:
    """Let a PENDING task take over the result of an equal one, if there is one."""
    if task.fingerprint is None or not task.is_pending:
        return False
    old = finder.find(task.fingerprint)
    return old is not None and _take_over(task, old, looks)
