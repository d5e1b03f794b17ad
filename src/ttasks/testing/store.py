"""What every store has to do, as a function that checks one; use it from `ttasks.testing`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ttasks.engine.executor import TaskExecutor
from ttasks.model.context import TaskContext
from ttasks.model.graph import TaskGraph
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store, check_store_methods
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType

_KIND = TaskType("checked")


def check_store(make_store: Callable[[], Store]) -> None:
    """Check that a store keeps to the protocol, and that graphs run and resume with it.

    It holds for stores that keep the objects themselves and for those that keep copies. Values and
    payloads in it are JSON.

    Args:
        make_store: called with nothing, makes an empty store; each is closed here if it can be.

    Raises:
        AssertionError: it says which rule was broken. Other exceptions are the store's own.
    """
    for rule in (_keeps_tasks, _keeps_graphs, _is_a_mapping, _is_strict, _resumes):
        store = make_store()
        try:
            rule(store)
        finally:
            close = getattr(store, "close", None)
            if close is not None:
                close()


def _check(fact: object, rule: str) -> None:
    if not fact:
        raise AssertionError(f"a store must do this: {rule}")


def _is_refused(error: type[Exception], action: Callable[[], object]) -> bool:
    try:
        action()
    except error:
        return True
    return False


def _some_graph() -> tuple[TaskGraph, Task, Task]:
    graph = TaskGraph("title", key="key")
    first = graph.add(Task("first", {"n": [1, None]}, _KIND, options={"a": 1}, timeout=2.5))
    last = graph.add(Task("last", "text", _KIND, key="k"), after=first, finally_=True)
    return graph, first, last


def _keeps_tasks(store: Store) -> None:
    try:
        check_store_methods(store)
    except TypeError as error:
        raise AssertionError(f"a store must have all methods of Store: {error}") from None
    task = _some_graph()[1]
    store.tasks.save(task)
    task.transition_to(TaskStatus.FAILED, "no")
    store.tasks.save(task)
    kept = store.tasks[task.id]
    names = ("id", "title", "payload", "type", "timeout", "created_at", "status", "error")
    for name in names:
        _check(getattr(kept, name) == getattr(task, name), f"keep {name!r} of a task")
    _check(dict(kept.options) == dict(task.options), "keep the options of a task")


def _keeps_graphs(store: Store) -> None:
    graph, first, last = _some_graph()
    store.graphs.save(graph)
    kept = store.graphs[graph.id]
    _check((kept.title, kept.key) == ("title", "key"), "keep title and key of a graph")
    _check(list(kept) == [first, last], "keep the tasks of a graph in order")
    _check(kept[last] == (first,) and kept.is_finally(last), "keep edges and flags of a graph")
    _check(list(store.tasks) == [first.id, last.id], "save the tasks of a graph with it")
    first.transition_to(TaskStatus.FAILED, "no")
    store.tasks.save(first)
    _check(store.graphs[graph.id].failed == [first], "show in a graph what became of its tasks")
    del store.graphs[graph.id]
    _check(first in store.tasks, "keep the tasks of a graph that is deleted")


def _is_a_mapping(store: Store) -> None:
    graphs = [_some_graph()[0] for _ in range(3)]
    tasks = [task for graph in graphs for task in graph]
    pairs: list[tuple[Any, list[Any]]] = [(store.graphs, graphs), (store.tasks, tasks)]
    for collection, items in pairs:
        for item in [*items, items[0]]:
            collection[item.id] = item
        _check(list(collection) == [item.id for item in items], "iterate in order of first saving")
        _check(len(collection) == len(items), "know its length")
    for collection, (item, *_) in pairs:
        _check(item in collection and item.id in collection, "find an object, or its id, with in")
        _check(None not in collection and "x" not in collection, "find nothing else with in")
        del collection[item.id]
        _check(item not in collection, "delete")


def _is_strict(store: Store) -> None:
    graph, task, _ = _some_graph()
    pairs: list[tuple[Any, Any, Any]] = [(store.tasks, task, graph), (store.graphs, graph, task)]
    for collection, item, stranger in pairs:
        _check(_is_refused(KeyError, lambda: collection["x"]), "raise KeyError for unknown ids")  # noqa: B023
        for wrong in (None, "text", stranger):
            _check(
                _is_refused(TypeError, lambda: collection.save(wrong)),  # noqa: B023
                "raise TypeError for what is of the wrong type",
            )
        _check(
            _is_refused(ValueError, lambda: collection.__setitem__("x", item)),  # noqa: B023
            "raise ValueError for a key that is not the id",
        )
        _check(len(collection) == 0, "keep nothing of what it refused")


def _resumes(store: Store) -> None:
    calls: list[str] = []

    def handle(context: TaskContext) -> str:
        calls.append(context.title)
        if calls == ["first", "last"]:
            raise OSError("the first time")
        return context.title

    for expected in (["first", "last"], ["first", "last", "last"]):
        graph = _some_graph()[0]
        with TaskExecutor.empty(store) as executor:
            executor.register(_KIND, handle)
            graph.run(executor, resume=True)
        _check(not executor.persistence_errors, "save tasks while a graph runs")
        _check(not executor.graph_persistence_errors, "save a graph that begins to run")
        _check(calls == expected, "let a graph be resumed")
