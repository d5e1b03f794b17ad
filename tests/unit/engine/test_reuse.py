"""Reuse, over every kind of store: the result of any equal task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resumekit import Build, Script, script
from support import CUSTOM, EventRecorder, FakeHandler, make, run
from ttasks import (
    SQLiteStore,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
)

__all__ = ["script"]


def reusing(payload: Any = "work", **options: Any) -> Build:
    def build() -> TaskGraph:
        graph = TaskGraph("any")
        a = graph.add(make("a", payload, reuse=True, **options))
        graph.add(make("b", "more", reuse=True), after=a)
        graph.add(make("c"))
        return graph

    return build


def test_reuse_takes_any_equal_result_of_the_store(script: Script) -> None:
    script.run(reusing(), {"a": "value", "b": OSError("no")}, resume=False)
    graph, calls = script.run(reusing(), resume=False)
    assert calls == ["b", "c"]
    a = next(iter(graph))
    assert a.result is not None
    assert (a.result.value, a.result.reused, a.result.task_id) == ("value", True, a.id)
    assert script.run(reusing(), resume=False)[1] == ["c"]
    assert script.run(reusing("other"), resume=False)[1] == ["a", "b", "c"]
    assert script.run(reusing(version="2"), resume=False)[1] == ["a", "b", "c"]


def test_reuse_goes_over_graphs_titles_and_keys(script: Script) -> None:
    def other() -> TaskGraph:
        graph = TaskGraph("other", key="other")
        graph.add(make("another title", "work", key="z"))
        return graph

    script.run(other)
    assert script.run(reusing(), resume=False)[1] == ["b", "c"]


def test_execute_and_submit_reuse_as_well(script: Script) -> None:
    store = script.open_store()
    handler = FakeHandler({"t": "value"})
    with TaskExecutor.empty(store) as executor:
        executor.register(CUSTOM, handler)
        recorder = EventRecorder(executor)
        first = executor.execute(make("t", "p", reuse=True))
        task = make("t", "p", reuse=True)
        second = executor.execute(task)
        third = executor.submit(make("t", "p", reuse=True)).result(10)
        executor.execute(make("t", "p"))
        executor.execute(make("t", "other", reuse=True))
    assert len(handler.calls) == 3
    assert (first.reused, second.reused, third.reused) == (False, True, True)
    assert second.value == "value"
    assert task.is_succeeded
    assert recorder.of(task) == [TaskEventType.REUSED]
    assert store.tasks[task.id].is_succeeded
    store.close()


def test_a_task_that_was_deleted_is_not_reused(script: Script) -> None:
    first, _ = script.run(reusing(), resume=False)
    store = script.open_store()
    for task in first:
        del store.tasks[task.id]
    store.close()
    assert script.run(reusing(), resume=False)[1] == ["a", "b", "c"]


def test_a_value_that_is_not_stored_is_not_reused(tmp_path: Path) -> None:
    script = Script(lambda: SQLiteStore(tmp_path / "ledger"))
    script.run(reusing(), {"a": lambda context: (1, 2)}, resume=False)
    assert script.run(reusing(), {"a": "text"}, resume=False)[1] == ["a", "b", "c"]
    with SQLiteStore(tmp_path / "ledger") as store:
        fingerprint = store.tasks[next(iter(store.tasks))].fingerprint
        assert fingerprint is not None
        found = store.tasks.succeeded(fingerprint)
        assert found is not None
        assert found.result is not None
        assert found.result.value == "text"
        assert store.tasks.succeeded("unknown") is None
    script.run(reusing(), {"a": lambda context: (1, 2)}, resume=False)
    assert script.run(reusing(), resume=False)[1] == ["c"]


def test_a_task_that_lost_its_fingerprint_is_not_found_by_it(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor.empty(store) as executor:
        executor.register(CUSTOM, FakeHandler({"t": [OSError("no")]}))
        graph = TaskGraph("graph", key="k")
        task = graph.add(make("t", "p"))
        run(graph, executor)
        fingerprint = task.fingerprint
        assert fingerprint is not None
        assert store.tasks[task.id].fingerprint == fingerprint
        task.payload = object()
        executor.register(CUSTOM, FakeHandler())
        run(graph, executor)
        assert store.tasks[task.id].fingerprint is None
        assert store.tasks.succeeded(fingerprint) is None
