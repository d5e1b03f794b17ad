"""Partial runs: what is left out stands as the ledger has it, or the run is refused."""

from __future__ import annotations

import pytest

from support import CUSTOM, FakeHandler, chain, make, run
from ttasks import GraphError, InMemoryStore, TaskExecutor, TaskGraph
from ttasks.engine.partial import earlier_tasks, partial_graph


def graph_of(*titles: str) -> TaskGraph:
    graph = TaskGraph("graph", key="k")
    chain(graph, *titles)
    return graph


def executor_of(store: InMemoryStore, handler: FakeHandler) -> TaskExecutor:
    executor = TaskExecutor.empty(store)
    executor.register(CUSTOM, handler)
    return executor


def test_only_what_is_chosen_runs_and_the_rest_keeps_result_and_fingerprint() -> None:
    store, first = InMemoryStore(), graph_of("a", "b", "c")
    with executor_of(store, FakeHandler()) as executor:
        run(first, executor)
        second = graph_of("a", "b", "c")
        second.find("a").payload = "changed"
        part = partial_graph(second, [second.find("c")], store)
        assert [task.is_succeeded for task in part] == [True, True, False]
        a, old = second.find("a"), first.find("a")
        assert a.result is not None
        assert (a.result.task_id, a.result.reused) == (a.id, True)
        assert a.fingerprint == old.fingerprint
        ran: list[str] = []
        executor.events.subscribe(lambda event: ran.append(event.task.title) if event.task else 0)
        run(part, executor)
    assert part.ok
    assert set(ran) == {"c"}


def test_what_has_failed_or_was_never_run_is_named() -> None:
    store = InMemoryStore()
    with executor_of(store, FakeHandler({"b": ValueError("boom")})) as executor:
        run(graph_of("a", "b", "c"), executor)
    graph = graph_of("a", "b", "c", "d")
    with pytest.raises(GraphError, match="'b' would be left out, but has not succeeded"):
        partial_graph(graph, [graph.find("c")], store)
    with pytest.raises(GraphError, match="'c' would be left out"):
        partial_graph(graph, [graph.find("d")], None)
    assert all(task.is_pending for task in graph)
    many = TaskGraph("many", key="m")
    last = many.add(make("last"), after=[many.add(make(str(number))) for number in range(12)])
    with pytest.raises(GraphError, match="'9' and 2 more would be left out, but have"):
        partial_graph(many, [last], store)


def test_a_graph_without_a_key_has_no_earlier_tasks() -> None:
    store, graph = InMemoryStore(), TaskGraph("graph")
    chain(graph, "a", "b")
    with executor_of(store, FakeHandler()) as executor:
        run(graph, executor)
    assert earlier_tasks(graph, store) == {}
    assert earlier_tasks(graph_of("a"), None) == {}
