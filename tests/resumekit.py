"""What tests of resume and reuse share: a script that is started again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support import CUSTOM, EventRecorder, FakeHandler, make, run
from ttasks import InMemoryStore, SQLiteStore, Store, TaskExecutor, TaskGraph

Build = Callable[[], TaskGraph]


class BareCollection:
    """Of a collection only what the protocol asks for."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.save = inner.save

    def __getitem__(self, key: str) -> Any:
        return self._inner[key]

    def __setitem__(self, key: str, item: Any) -> None:
        self._inner[key] = item

    def __delitem__(self, key: str) -> None:
        del self._inner[key]

    def __contains__(self, item: object) -> bool:
        return item in self._inner

    def __iter__(self) -> Iterator[str]:
        return iter(self._inner)

    def __len__(self) -> int:
        return len(self._inner)


class BareStore:
    """A store of somebody who implemented no more than he had to."""

    def __init__(self) -> None:
        inner = InMemoryStore()
        self.tasks = BareCollection(inner.tasks)
        self.graphs = BareCollection(inner.graphs)

    def close(self) -> None: ...


class Script:
    """A script that is started again and again: every run opens the store and builds anew."""

    def __init__(self, open_store: Callable[[], Any]) -> None:
        self.open_store = open_store
        self.recorder: EventRecorder

    def run(self, build: Build, steps: Any = None, **options: Any) -> tuple[TaskGraph, list[str]]:
        """Run a graph with ``resume=True``; the graph, and the titles that really ran."""
        handler = FakeHandler(steps)
        store = self.open_store()
        executor = TaskExecutor.empty(store)
        executor.register(CUSTOM, handler)
        self.recorder = EventRecorder(executor)
        with closing(store), executor:
            graph = run(build(), executor, **{"resume": True, **options})
        self.recorder.check(graph)
        assert executor.persistence_errors == {}
        assert executor.graph_persistence_errors == {}
        return graph, sorted(handler.calls)


@pytest.fixture(params=["sqlite", "memory", "bare"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Script:
    if request.param == "sqlite":
        return Script(lambda: SQLiteStore(tmp_path / "ledger"))
    store: Store = InMemoryStore() if request.param == "memory" else BareStore()
    return Script(lambda: store)


def abc(changes: dict[str, dict[str, Any]] | None = None, key: str = "nightly") -> Build:
    """Build a -> b -> c, and d on its own; ``changes`` are attributes of tasks by title."""

    def build() -> TaskGraph:
        graph = TaskGraph("graph", key=key)
        made = {name: make(name, **(changes or {}).get(name, {})) for name in "abcd"}
        graph.add(made["a"])
        graph.add(made["b"], after=made["a"])
        graph.add(made["c"], after=made["b"])
        graph.add(made["d"])
        return graph

    return build


BROKEN = {"c": OSError("no")}
