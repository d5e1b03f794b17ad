"""Selection: which tasks of a graph are to run when only a part of it is wanted. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ttasks.errors import GraphError, did_you_mean
from ttasks.model.graph import Node, TaskGraph, topology_of
from ttasks.model.names import Names
from ttasks.model.task import Task, is_service
from ttasks.model.topology import Topology, in_order

_PATTERN = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted of a graph. Members are keys, titles, or patterns of these (`fnmatch`).

    A task is chosen if every part that is not empty agrees.

    Attributes:
        only: these tasks.
        skip: all but these.
        from_: these, and what comes after them over any number of steps.
        until: these, and what comes before them over any number of steps.
        again: ids of tasks that have to run again; these, and what comes after them. None means
            any.
    """

    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    from_: Sequence[str] = ()
    until: Sequence[str] = ()
    again: Collection[str] | None = None

    def __bool__(self) -> bool:
        return bool(self.only or self.skip or self.from_ or self.until or self.again is not None)


def select(graph: TaskGraph, selection: Selection) -> list[Task]:
    """The tasks that are to run, in insertion order.

    Finally tasks come along with whatever they come after, over any number of steps, and if they
    come after nothing; naming them in ``skip`` does not change that. The same holds for services
    before a task that runs, over any number of steps.

    Returns:
        An empty list if nothing but finally tasks would run, and none of them was asked for.

    Raises:
        GraphError: a name that is no pattern is that of no task (near names are given), or the
            graph is not valid.

    Example:
        >>> graph = TaskGraph()
        >>> build = graph.add(Task.bash("make", title="build"))
        >>> test = graph.add(Task.bash("make test", title="test"), after=build)
        >>> [task.title for task in select(graph, Selection(until=["build"]))]
        ['build']
    """
    nodes, topology = graph.nodes(), topology_of(graph)
    find = _Finder(graph, nodes)
    chosen = set(range(len(nodes)))
    if selection.only:
        chosen &= find(selection.only)
    if selection.from_:
        chosen &= _reach(find(selection.from_), topology.dependents)
    if selection.until:
        chosen &= _reach(find(selection.until), topology.dependencies)
    if selection.again is not None:
        start = {at for at, node in enumerate(nodes) if node.task.id in selection.again}
        chosen &= _reach(start, topology.dependents)
    chosen -= find(selection.skip)
    asked_for = bool(selection.only or selection.from_ or selection.until)
    if not any(asked_for or not nodes[at].finally_ for at in chosen):
        return []
    size = 0
    while size != len(chosen):  # a service may bring finally tasks along, and they others
        size = len(chosen)
        chosen |= {at for at in _reach(chosen, topology.dependencies) if is_service(nodes[at].task)}
        after = _reach(chosen, topology.dependents)
        for at, node in enumerate(nodes):
            if node.finally_ and (at in after or not topology.dependencies[at]):
                chosen.add(at)
    return [nodes[at].task for at in sorted(chosen)]


def needed(graph: TaskGraph, chosen: Iterable[Task]) -> list[Task]:
    """What must have succeeded before, so that only the chosen tasks can run.

    These are the dependencies of the chosen tasks that are not chosen themselves, in insertion
    order. Finally tasks need nothing: they clean up whatever there is.
    """
    wanted = {task.id for task in chosen}
    missing = {
        end.id
        for node in graph.nodes()
        if node.task.id in wanted and not node.finally_
        for end in node.after
        if end.id not in wanted
    }
    return [task for task in graph if task.id in missing]


def part_of(graph: TaskGraph, chosen: Iterable[Task], done: Iterable[Task]) -> TaskGraph:
    """A graph of the chosen tasks and of those that are done, with the key of the whole.

    The tasks are the same objects. Where a finally task came after a task that is left out, it
    comes after the chosen ones before that. Other edges to what is left out are dropped.
    """
    topology, nodes = topology_of(graph), graph.nodes()
    running = {task.id for task in chosen}
    kept = running | {task.id for task in done}
    stand_ins = _stand_ins(topology, nodes, running)
    part = []
    for node in nodes:
        if node.task.id not in kept:
            continue
        after: dict[str, Task] = {}
        for end in node.after:
            if end.id in kept:
                after[end.id] = end
            elif node.finally_:
                after |= stand_ins[end.id]
        part.append(node._replace(after=tuple(after.values())))
    made = TaskGraph(graph.title, key=graph.key)
    return TaskGraph.restore(made.id, part, graph.title, graph.key)


def _stand_ins(
    topology: Topology, nodes: Sequence[Node], running: Collection[str]
) -> dict[str, dict[str, Task]]:
    """Of each task that does not run, those before it that do: the nearest on each path."""
    found: dict[str, dict[str, Task]] = {}
    for at in in_order(topology):
        if nodes[at].task.id in running:
            continue
        mine = found[nodes[at].task.id] = {}
        for end in topology.dependencies[at]:
            task = nodes[end].task
            mine |= {task.id: task} if task.id in running else found[task.id]
    return found


def _reach(start: Iterable[int], edges: Sequence[Sequence[int]]) -> set[int]:
    """The start, and all that can be reached from it."""
    found = set(start)
    stack = list(found)
    while stack:
        for end in edges[stack.pop()]:
            if end not in found:
                found.add(end)
                stack.append(end)
    return found


class _Finder:
    """Finds the numbers of tasks by keys, titles and patterns."""

    def __init__(self, graph: TaskGraph, nodes: Sequence[Node]) -> None:
        self._graph = graph
        self._tasks = [node.task for node in nodes]

    def __call__(self, names: Iterable[str]) -> set[int]:
        found: set[int] = set()
        for name in names:
            exact = {at for at, task in enumerate(self._tasks) if name in (task.key, task.title)}
            found |= exact or self._like(name)
        return found

    def _like(self, name: str) -> set[int]:
        """The tasks that fit a pattern, perhaps none."""
        if not _PATTERN & set(name):
            near = did_you_mean(Names(self._tasks).near(name))
            title = f"graph {self._graph.title!r}" if self._graph.title else "the graph"
            raise GraphError(f"{title} has no task {name!r}{near}")
        return {
            at
            for at, task in enumerate(self._tasks)
            if fnmatchcase(task.title, name) or fnmatchcase(task.key or "", name)
        }
