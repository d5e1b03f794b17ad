"""check_store: passes the stores of this library, and finds what others do wrong."""

from __future__ import annotations

from typing import Any

import pytest

from ttasks import InMemoryStore, SQLiteStore, Task, TaskGraph
from ttasks.testing import check_store


def test_the_stores_of_the_library_pass() -> None:
    check_store(InMemoryStore)
    check_store(lambda: SQLiteStore(":memory:"))


class Broken(InMemoryStore):
    """A store in which one method of a collection is another."""

    def __init__(self, collection: str, method: str, replacement: Any) -> None:
        super().__init__()
        broken = type("Broken", (type(getattr(self, collection)),), {method: replacement})
        getattr(self, collection).__class__ = broken


def forget(self: object, item: object) -> None: ...


def save_graph_only(self: Any, item: TaskGraph) -> None:
    self._items[item.id] = item


def take_anything(self: Any, key: str, item: Any) -> None:
    self._items[key] = item


def newest_first(self: Any) -> Any:
    return iter(list(self._items)[::-1])


def fail_at_last(self: Any, item: Task) -> None:
    if not isinstance(item, Task):
        raise TypeError
    if item.title == "last" and item.is_running:
        raise OSError("disk full")
    self._items[item.id] = item


@pytest.mark.parametrize(
    ("collection", "method", "replacement", "rule"),
    [
        ("graphs", "save", save_graph_only, "save the tasks of a graph with it"),
        ("tasks", "__setitem__", take_anything, "raise ValueError"),
        ("tasks", "__iter__", newest_first, "save the tasks of a graph with it|order"),
        (
            "tasks",
            "__contains__",
            lambda self, item: item in self._items,
            "keep the tasks of a graph",
        ),
        ("graphs", "keyed", lambda self, key: [], "resumed"),
        ("tasks", "save", fail_at_last, "save tasks while"),
    ],
)
def test_what_is_wrong_is_found(collection: str, method: str, replacement: Any, rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        check_store(lambda: Broken(collection, method, replacement))


def test_a_store_that_forgets_is_found() -> None:
    with pytest.raises(KeyError):
        check_store(lambda: Broken("tasks", "save", forget))


def test_what_is_no_store_is_found() -> None:
    class Nothing:
        def close(self) -> None: ...

    with pytest.raises(AssertionError, match="it lacks tasks, graphs"):
        check_store(Nothing)  # type: ignore[arg-type]
