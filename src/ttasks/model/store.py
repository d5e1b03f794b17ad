"""Store: the protocol between the engine and whatever remembers tasks and graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from ttasks.model.checks import wrong_type
from ttasks.model.task import Task

if TYPE_CHECKING:
    from ttasks.model.graph import TaskGraph

Item = TypeVar("Item")


class Collection(Protocol[Item]):
    """A mutable mapping from id to object, with ``save``. Thread-safe.

    An implementer owes: iteration in the order of first saving; ``in`` takes the object or its id;
    a key that is not the id of the object is a ValueError, an object of the wrong type a
    TypeError, an unknown id a KeyError; a write that fails is a StoreError and changes nothing.
    """

    def save(self, item: Item) -> None:
        """Insert or replace ``item`` under its id; when this returns, it is remembered."""

    def __getitem__(self, key: str) -> Item: ...
    def __setitem__(self, key: str, item: Item) -> None: ...
    def __delitem__(self, key: str) -> None: ...
    def __contains__(self, item: object) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...


@runtime_checkable
class Store(Protocol):
    """Remembers tasks and graphs. Thread-safe.

    A store is any object that has these two collections with these methods; it need not derive from
    this class. It may return the very objects that were saved (`InMemoryStore`), or copies as of
    the time when they were saved (`SQLiteStore`), and documents which.
    Saving a graph saves its tasks and edges with it, all or nothing; deleting a graph keeps its
    tasks.

    The engine also uses these optional methods:

    - ``close()`` releases what the store holds; idempotent, and nothing is lost by not calling it;
    - ``record(task, event)`` saves a task and an event of it in one write; it goes with
      ``events.wants(kind)`` and ``events.append(event)`` for events that are no transition;
    - ``runs`` remembers runs, see `ttasks.model.run.RunLog`; ``record`` is then also given
      ``notes=``, what the run has noted of the task, to be kept with the event;
    - ``runs.is_cancelled(run)`` says whether another process has asked to stop a run;
    - ``graphs.keyed(key)`` returns the ids of the graphs with a key, the one saved last first;
    - ``graphs.save_outcome(graph)`` writes the ``run_error`` of a graph that was saved before, and
      nothing of its tasks;
    - ``running()`` returns the tasks that are RUNNING in the store, with their processes;
    - ``tasks.succeeded(fingerprint)`` returns a SUCCEEDED task with a fingerprint, or None;
    - ``slots`` remembers which moments of schedules were run, see `ttasks.model.slots.SlotLog`.
    """

    @property
    def tasks(self) -> Collection[Task]:
        """Tasks by id."""

    @property
    def graphs(self) -> Collection[TaskGraph]:
        """Graphs by id."""


_METHODS = (
    "save",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "__contains__",
    "__iter__",
    "__len__",
)


def check_store_methods(store: object) -> None:
    """Check that an object can be used as a store.

    Raises:
        TypeError: it cannot; the message names what is missing.
    """
    missing = []
    for name in ("tasks", "graphs"):
        collection = getattr(store, name, None)
        if collection is None:
            missing.append(name)
        else:
            missing += [
                f"{name}.{method}"
                for method in _METHODS
                if not callable(getattr(collection, method, None))
            ]
    if missing:
        expected = "a Store (InMemoryStore, SQLiteStore, your own) or None"
        raise TypeError(f"{wrong_type('store', store, expected)}; it lacks {', '.join(missing)}")


def graph_id(graph: object) -> str:
    """The id of a graph that is given as itself or by its id."""
    found = getattr(graph, "id", graph)
    if not isinstance(found, str):
        raise wrong_type("graph", graph, "a TaskGraph or its id")
    return found
