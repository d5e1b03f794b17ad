"""Resume, over every kind of store: what is taken over, and what runs again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resumekit import BROKEN, BareCollection, BareStore, Build, Script, abc, script
from support import (
    CUSTOM,
    EventRecorder,
    FakeHandler,
    Gate,
    background,
    bounded,
    make,
    run,
    statuses,
)
from ttasks import (
    DependencyPolicy,
    GraphError,
    InMemoryStore,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
)

__all__ = ["script"]

# What is taken over


def test_an_unchanged_graph_that_is_done_runs_nothing_again(script: Script) -> None:
    first, calls = script.run(abc(), {"a": 1, "b": [[1, "two", None]], "c": {"k": [1.5]}})
    assert calls == ["a", "b", "c", "d"]
    second, calls = script.run(abc())
    assert calls == []
    assert second.ok
    assert {event.type for event in script.recorder.events} == {TaskEventType.REUSED}
    values = [task.result.value for task in second if task.result is not None]
    assert values == [1, [1, "two", None], {"k": [1.5]}, None]
    assert all(task.result is not None and task.result.reused for task in second)
    assert not any(task.result is not None and task.result.reused for task in first)
    assert [task.result.task_id for task in second if task.result] == [t.id for t in second]


def test_what_failed_runs_again_and_its_upstream_does_not(script: Script) -> None:
    first, _ = script.run(abc(), BROKEN)
    assert statuses(first)["c"] == "failed"
    second, calls = script.run(abc())
    assert calls == ["c"]
    assert second.ok


def test_what_was_taken_over_is_taken_over_again(script: Script) -> None:
    for _ in range(3):
        _, calls = script.run(abc(), BROKEN)
    assert calls == ["c"]
    _, calls = script.run(abc())
    assert calls == ["c"]
    assert script.run(abc())[1] == []


def test_without_resume_everything_runs(script: Script) -> None:
    script.run(abc())
    assert script.run(abc(), resume=False)[1] == ["a", "b", "c", "d"]


def test_the_latest_run_counts(script: Script) -> None:
    script.run(abc(), {"a": "old"})
    script.run(abc(), {"a": "new", **BROKEN}, resume=False)
    graph, calls = script.run(abc())
    assert calls == ["c"]
    a = next(iter(graph))
    assert a.result is not None
    assert a.result.value == "new"


def test_graphs_of_other_keys_do_not_count(script: Script) -> None:
    script.run(abc(key="nightly"))
    assert script.run(abc(key="weekly"))[1] == ["a", "b", "c", "d"]


def test_the_first_run_of_a_key_runs_everything(script: Script) -> None:
    assert script.run(abc())[1] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"a": {"payload": "other"}}, ["a", "b", "c"]),
        ({"b": {"payload": {"n": 1}}}, ["b", "c"]),
        ({"b": {"options": {"n": 1}}}, ["b", "c"]),
        ({"c": {"version": "2"}}, ["c"]),
        ({"a": {"timeout": 5.0, "priority": 3.0, "description": "text"}}, []),
        ({"a": {"retry": RetryPolicy(2), "group": "g"}}, []),
    ],
    ids=str,
)
def test_what_has_changed_runs_again_with_all_downstream(
    script: Script, changes: dict[str, dict[str, Any]], expected: list[str]
) -> None:
    script.run(abc())
    assert script.run(abc(changes))[1] == expected
    assert script.run(abc(changes))[1] == []


class Function:
    """A payload that is no JSON, but says what it is."""

    def __init__(self, source: str) -> None:
        self.source = source

    def identity(self) -> list[str]:
        return ["function", self.source]


def test_a_function_that_says_what_it_is_counts_by_that(script: Script) -> None:
    script.run(abc({"b": {"payload": Function("x + 1")}}))
    assert script.run(abc({"b": {"payload": Function("x + 1")}}))[1] == []
    assert script.run(abc({"b": {"payload": Function("x + 2")}}))[1] == ["b", "c"]


def test_a_payload_that_cannot_be_compared_runs_again_with_all_downstream(script: Script) -> None:
    script.run(abc({"b": {"payload": object()}}))
    assert script.run(abc({"b": {"payload": object()}}))[1] == ["b", "c"]


def test_another_upstream_counts_as_a_change(script: Script) -> None:
    def build(upstream: str) -> Build:
        def made() -> TaskGraph:
            graph = TaskGraph("graph", key="k")
            ends = {name: graph.add(make(name, name)) for name in "xy"}
            graph.add(make("z"), after=ends[upstream])
            return graph

        return made

    script.run(build("x"))
    assert script.run(build("x"))[1] == []
    assert script.run(build("y"))[1] == ["z"]


def test_added_tasks_run_and_removed_ones_do_not_matter(script: Script) -> None:
    def more() -> TaskGraph:
        graph = abc()()
        graph.add(make("new"), after=next(iter(graph)))
        return graph

    def fewer() -> TaskGraph:
        graph = abc()()
        graph.remove(list(graph)[2])
        return graph

    script.run(abc())
    assert script.run(more)[1] == ["new"]
    assert script.run(fewer)[1] == []
    assert script.run(more)[1] == ["c", "new"]  # the latest run did not have them


# Keys


def titled(*titles: str, **keys: str) -> Build:
    def build() -> TaskGraph:
        graph = TaskGraph("graph", key="k")
        for at, title in enumerate(titles):
            graph.add(make(title, at))
        for key, title in keys.items():
            graph.add(make(title, key, key=key))
        return graph

    return build


def test_tasks_without_a_title_of_their_own_run_again(script: Script) -> None:
    script.run(titled("same", "same", "other"))
    assert script.run(titled("same", "same", "other"))[1] == ["same", "same"]


def test_keys_stand_for_tasks_of_any_title(script: Script) -> None:
    script.run(titled("plain", one="same", two="same"))
    assert script.run(titled("plain", one="another", two="same"))[1] == []


def test_a_key_comes_before_an_equal_title(script: Script) -> None:
    script.run(titled("one", one="x"))
    assert script.run(titled("one", one="x"))[1] == ["one"]


def test_two_tasks_with_one_key_are_an_error_before_anything_starts(script: Script) -> None:
    def build() -> TaskGraph:
        graph = TaskGraph("graph", key="k")
        graph.add(make("first", key="same"))
        graph.add(make("second", key="same"))
        return graph

    for resume in (True, False):
        with pytest.raises(GraphError, match="'first' and 'second' have the same key 'same'"):
            script.run(build, resume=resume)
    store = script.open_store()
    assert len(store.graphs) == len(store.tasks) == 0
    store.close()


def test_equal_keys_in_the_earlier_graph_stand_for_nothing(script: Script) -> None:
    store = script.open_store()
    graph = TaskGraph("graph", key="k")
    for _ in range(2):
        task = graph.add(make("t", key="same"))
        task.transition_to(TaskStatus.RUNNING)
        task.transition_to(TaskStatus.SUCCEEDED)
    store.graphs.save(graph)
    store.close()
    if isinstance(store, SQLiteStore):
        assert script.run(titled("plain", same="t"))[1] == ["plain", "t"]


def test_resume_without_a_key_is_an_error(script: Script) -> None:
    with pytest.raises(GraphError, match="resume=True needs a graph with a key"):
        script.run(lambda: TaskGraph("graph"))


def test_resume_without_a_store_is_an_error() -> None:
    with TaskExecutor() as executor, pytest.raises(GraphError, match="an executor with a store"):
        TaskGraph("graph", key="k").run(executor, resume=True)


# Policies and the end


def with_finally(**options: Any) -> Build:
    def build() -> TaskGraph:
        graph = TaskGraph("graph", key="k")
        a = graph.add(make("a", **options))
        b = graph.add(make("b"), after=a)
        graph.add(make("last"), after=[a, b], finally_=True)
        return graph

    return build


def test_a_finally_task_that_had_not_run_runs(script: Script) -> None:
    script.run(with_finally(), {"last": OSError("killed, say")})
    assert script.run(with_finally())[1] == ["last"]


def test_a_finally_task_runs_again_if_what_it_waits_for_does(script: Script) -> None:
    script.run(with_finally(), {"b": OSError("no")})
    assert script.run(with_finally())[1] == ["b", "last"]
    assert script.run(with_finally())[1] == []
    assert script.run(with_finally(version="2"))[1] == ["a", "b", "last"]


def fallback(policy: DependencyPolicy = DependencyPolicy.ON_FAILURE) -> Build:
    def build() -> TaskGraph:
        graph = TaskGraph("graph", key="k")
        main = graph.add(make("main"))
        other = graph.add(make("other"), after=main, on_dep_failure=policy)
        graph.add(
            make("join"),
            after=[main, other],
            on_dep_failure=DependencyPolicy.CONTINUE_IF_ANY,
        )
        return graph

    return build


def test_what_follows_a_task_that_is_skipped_again_is_taken_over(script: Script) -> None:
    assert script.run(fallback())[1] == ["join", "main"]
    graph, calls = script.run(fallback())
    assert calls == []
    assert statuses(graph) == {"main": "succeeded", "other": "skipped", "join": "succeeded"}
    assert script.run(fallback())[1] == []


def test_another_policy_of_a_skipped_task_counts_as_a_change(script: Script) -> None:
    script.run(fallback())
    assert script.run(fallback(DependencyPolicy.BLOCK))[1] == ["join", "other"]


def test_what_succeeded_after_a_failure_runs_again_with_what_failed(script: Script) -> None:
    script.run(fallback(), {"main": OSError("no")})
    assert script.run(fallback())[1] == ["join", "main"]


def test_cancelled_tasks_of_a_cancelled_run_run_anew(script: Script) -> None:
    def stop(context: Any) -> None:
        graphs[-1].cancel()

    graphs: list[TaskGraph] = []

    def build() -> TaskGraph:
        graphs.append(abc()())
        return graphs[-1]

    first, _ = script.run(build, {"b": stop}, max_workers=1)
    assert statuses(first)["c"] == "cancelled"
    second, calls = script.run(abc())
    assert "c" in calls
    assert "a" not in calls
    assert second.ok


def test_retries_are_kept_with_what_is_taken_over(script: Script) -> None:
    build = abc({"a": {"retry": RetryPolicy(3)}})
    script.run(build, {"a": [OSError("1"), OSError("2"), "third"]})
    graph, calls = script.run(build)
    assert calls == []
    result = next(iter(graph)).result
    assert result is not None
    assert (result.value, result.attempts, len(result.attempt_durations)) == ("third", 3, 3)


# A graph that the store already has


def test_a_loaded_graph_runs_what_is_left(script: Script) -> None:
    first, _ = script.run(abc(), BROKEN)

    def load() -> TaskGraph:
        return loader.graphs[first.id]  # type: ignore[no-any-return]

    for resume in (False, True):
        loader = script.open_store()
        graph, calls = script.run(load, BROKEN, resume=resume)
        loader.close()
        assert calls == ["c"]
        assert [task.id for task in graph] == [task.id for task in first]


def test_a_graph_that_was_saved_before_its_run_is_resumed(script: Script) -> None:
    script.run(abc(), BROKEN)

    def saved() -> TaskGraph:
        graph = abc()()
        store = script.open_store()
        store.graphs.save(graph)
        store.close()
        return graph

    assert script.run(saved)[1] == ["c"]


def test_a_graph_that_is_run_again_takes_nothing_from_older_ones(script: Script) -> None:
    script.run(abc(), {"a": "old"})
    graph, _ = script.run(abc(), {"a": OSError("no")}, resume=False)
    assert script.run(lambda: graph, {"a": "new"})[1] == ["a", "b", "c"]


def test_a_graph_of_the_same_key_that_is_running_is_an_error() -> None:
    store = InMemoryStore()
    gate = Gate()
    with TaskExecutor.empty(store) as executor:
        executor.register(CUSTOM, FakeHandler({"a": gate}))
        first = abc()()
        running = background(lambda: first.run(executor))
        gate.wait_reached()
        second = abc()()
        with pytest.raises(GraphError, match="running"):
            run(second, executor, resume=True)
        assert second.id not in store.graphs
        assert all(task.is_pending for task in second)
        gate.open()
        running.result(10)
        assert run(second, executor, resume=True).ok


# Values


def test_a_value_that_is_not_stored_is_not_taken_over(tmp_path: Path) -> None:
    script = Script(lambda: SQLiteStore(tmp_path / "ledger"))
    first, _ = script.run(abc(), {"b": lambda context: (1, 2)})
    assert first.ok
    with SQLiteStore(tmp_path / "ledger") as store:
        stored = list(store.graphs[first.id])[1].result
        assert stored is not None
        assert repr(stored.value) == "<not stored: value, tuple>"
    second, calls = script.run(abc(), {"b": lambda context: [1, 2]})
    assert calls == ["b", "c"]
    assert second.ok
    assert script.run(abc())[1] == []


def test_a_value_in_memory_is_taken_over_as_it_is() -> None:
    store = InMemoryStore()
    script = Script(lambda: store)
    value = object()
    script.run(abc(), {"b": value})
    graph, calls = script.run(abc())
    assert calls == []
    result = list(graph)[1].result
    assert result is not None
    assert result.value is value


def test_resumed_events_come_only_from_what_runs(script: Script) -> None:
    script.run(abc(), BROKEN)
    script.run(abc())
    kinds = [(event.task.title, event.type.value) for event in script.recorder.events]
    assert kinds[:3] == [("a", "reused"), ("b", "reused"), ("d", "reused")]
    assert kinds[3:] == [("c", "started"), ("c", "succeeded")]
    assert isinstance(script.recorder.events[0].task, Task)


def test_a_task_that_another_run_ends_meanwhile_took_over_nothing() -> None:
    class Slow(BareCollection):
        """Lets another run have a task while a resume looks for earlier graphs."""

        def __iter__(self) -> Iterator[str]:
            if task.is_pending:
                bounded(lambda: executor.execute(task))
            return super().__iter__()

    store = BareStore()
    store.graphs = Slow(store.graphs)
    executor = TaskExecutor.empty(store)
    executor.register(CUSTOM, FakeHandler())
    recorder = EventRecorder(executor)
    graph = TaskGraph("shared", key="shared")
    task = graph.add(make("a"))
    with executor:
        run(graph, executor, resume=True)
    assert recorder.titles(TaskEventType.STARTED) == ["a"]
    assert recorder.titles(TaskEventType.REUSED) == []
    recorder.check(graph)
