"""The runs that stores remember: the same questions to both, and what only a ledger can answer."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from support import CUSTOM, WAIT, FakeHandler, Gate, Obedient, background, chain, make, run
from ttasks import (
    GraphError,
    InMemoryStore,
    RetryPolicy,
    Run,
    SQLiteStore,
    StoreError,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
)
from ttasks.backends.call import call_python
from ttasks.model.facts import RunFacts, WaitReason
from ttasks.processes import Liveness, ProcessIdentity
from ttasks.stores.sqlite.run_rows import cancelled_of
from ttasks.testing import FakeClock

BOOM = ValueError("boom")
Store = InMemoryStore | SQLiteStore


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "ledger.db") as store:
        yield store


@pytest.fixture(params=["memory", "ledger"])
def store(request: pytest.FixtureRequest) -> Any:
    return InMemoryStore() if request.param == "memory" else request.getfixturevalue("ledger")


def executor_of(store: Store, handler: Any = None, **options: Any) -> TaskExecutor:
    executor = TaskExecutor.empty(store, **options)
    executor.register(CUSTOM, FakeHandler() if handler is None else handler)
    return executor


def graph_of(*titles: str, key: str | None = None) -> TaskGraph:
    graph = TaskGraph("graph", key=key)
    chain(graph, *titles)
    return graph


def latest(graph: TaskGraph) -> Run:
    assert graph.latest_run is not None
    return graph.latest_run


# Both stores


def test_runs_are_found_by_id_graph_and_key_the_latest_first(store: Store) -> None:
    graphs = [graph_of("a", key="x"), graph_of("b", key="y"), graph_of("c", key="x")]
    task = make("alone")
    with executor_of(store) as executor:
        for graph in graphs:
            run(graph, executor)
        executor.execute(task)
    ids = [latest(graph).id for graph in graphs]
    single = store.runs.latest()
    assert single is not None
    assert list(store.runs) == [single.id, *reversed(ids)]
    assert len(store.runs) == 4
    assert [item.id for item in store.runs.list(key="x")] == [ids[2], ids[0]]
    assert [item.id for item in store.runs.list(key="x", limit=1)] == [ids[2]]
    assert [item.id for item in store.runs.list(graph=graphs[1])] == [ids[1]]
    assert [item.id for item in store.runs.list(graph=graphs[1].id)] == [ids[1]]
    assert [item.id for item in store.runs.list(graph=task)] == [single.id]
    assert store.runs.latest(key="y") == latest(graphs[1])
    assert store.runs.latest(key="nobody") is None
    assert store.runs[ids[0]] == latest(graphs[0])
    assert ids[0] in store.runs
    assert latest(graphs[0]) in store.runs
    assert "nothing" not in store.runs
    assert [store.runs[name].number for name in ids] == [1, 1, 2]


def test_bad_questions_are_errors(store: Store) -> None:
    assert list(store.runs) == []
    assert store.runs.latest() is None
    with pytest.raises(KeyError, match="nope"):
        store.runs["nope"]
    for options in ({"graph": 1}, {"key": 1}, {"limit": "1"}, {"nested": "no"}):
        with pytest.raises(TypeError):
            store.runs.list(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit"):
        store.runs.list(limit=0)


def test_runs_inside_of_others_are_listed_only_if_asked_for(store: Store) -> None:
    inner, outer = graph_of("in"), graph_of("out")

    def handler(context: TaskContext) -> None:
        if context.title == "out":
            inner.run(executor)

    with executor_of(store, handler) as executor:
        run(outer, executor)
    assert [item.id for item in store.runs.list()] == [latest(outer).id]
    assert [item.id for item in store.runs.list(nested=True)] == [
        latest(inner).id,
        latest(outer).id,
    ]


def test_a_graph_without_a_key_counts_its_own_runs(store: Store) -> None:
    handler = FakeHandler({"a": BOOM})
    graph, other = graph_of("a"), graph_of("b")
    with executor_of(store, handler) as executor:
        run(graph, executor)
        run(other, executor)
        run(graph, executor)
    assert [item.number for item in store.runs.list(graph=graph)] == [2, 1]
    assert [item.number for item in store.runs.list(graph=other)] == [1]


def test_facts_from_the_store_equal_those_of_the_run(store: Store) -> None:
    inner = graph_of("in 1", "in 2")

    def handler(context: TaskContext) -> Any:
        clock.advance(1)
        match context.title:
            case "fails":
                raise BOOM
            case "around":
                inner.run(executor)
                executor.execute(make("alone"))
            case "flaky" if context.attempt == 1:
                raise ValueError("not yet")
        return {"answer": [context.title, 1.5, None]}

    clock = FakeClock()
    graph = TaskGraph("all", key="k")
    first = graph.add(make("first", group="db"))
    graph.add(make("second", group="db"))
    fails = graph.add(make("fails", key="key of it"), after=first)
    graph.add(make("blocked"), after=fails)
    graph.add(make("around"), after=first)
    graph.add(make("flaky", retry=RetryPolicy(2)), after=first)
    graph.add(make("last"), after=fails, finally_=True, required=False)
    graph.add(Task.bash("exit 3", title="no handler"))
    with executor_of(store, handler, clock=clock, limits={"db": 1}) as executor:
        run(graph, executor, 2)
    live, kept = latest(graph).facts(), store.runs[latest(graph).id].facts()
    assert kept == live
    assert [store.runs[latest(graph).id].why(task) for task in live.tasks] == [
        live.why(task) for task in live.tasks
    ]
    assert {task.status.value for task in live.tasks.values()} >= {"failed", "blocked", "succeeded"}


def test_the_arguments_of_a_run_are_plain_data(store: Store) -> None:
    graph = graph_of("a")
    limits = {CUSTOM: 1, "db": 2}
    with executor_of(store) as executor:
        run(graph, executor, 3, limits=limits, retry_budget=5, finally_timeout=1.5)
    live, kept = latest(graph).facts(), store.runs[latest(graph).id].facts()
    assert kept == live
    assert kept.workers == 3
    assert kept.options["limits"] == {CUSTOM.value: 1, "db": 2}
    assert (kept.options["retry_budget"], kept.options["finally_timeout"]) == (5, 1.5)


def test_what_a_resume_took_over_and_why_not_is_told_from_the_store(store: Store) -> None:
    handler = FakeHandler({"c": BOOM})

    def build(payload: str) -> TaskGraph:
        graph = TaskGraph("g", key="k")
        a = graph.add(make("a", "same"))
        b = graph.add(make("b", payload), after=a)
        graph.add(make("c", "same"), after=b)
        graph.add(make("d", "same"), after=b)
        return graph

    with executor_of(store, handler) as executor:
        run(build("old"), executor)
        second = run(build("new"), executor, resume=True)
        second = latest(second)
    live, kept = second.facts(), store.runs[second.id].facts()
    assert kept == live
    told = {
        task.title: (task.reused, task.not_reused, task.changed) for task in kept.tasks.values()
    }
    assert told == {
        "a": (True, None, ()),
        "b": (False, "changed", ("payload",)),
        "c": (False, "unsuccessful", ()),
        "d": (False, "upstream", ("b",)),
    }
    assert [task.spans == () for task in kept.tasks.values()] == [True, False, False, False]


# Ledgers only


def test_another_store_of_the_file_watches_a_run_that_goes_on(ledger: SQLiteStore) -> None:
    gate = Gate()
    graph = graph_of("a", "b", key="k")
    with executor_of(ledger, gate) as executor, SQLiteStore(ledger.path) as other:
        started = graph.start(executor)
        gate.wait_reached()
        seen = other.runs[started.id]
        assert (seen.outcome, seen.done, seen.number) == ("running", False, 1)
        assert not seen.wait(0.01)
        a, b = seen.facts().tasks.values()
        assert (a.status.value, a.spans[-1].reason, a.spans[-1].end) == ("running", None, None)
        assert (b.status.value, seen.why("b")) == ("pending", "'b' waits for 'a'.")
        assert ledger.runs[started.id] is started
        gate.open()
        assert started.wait(WAIT)
        assert seen.wait(WAIT)
        assert seen.facts() == started.facts()
        seen.cancel()


def test_another_store_of_the_file_cancels_a_run_whose_finally_tasks_then_run(
    ledger: SQLiteStore,
) -> None:
    gate, cleaned = Obedient(), []
    graph = TaskGraph("graph", key="k")
    a, b = chain(graph, "a", "b")
    graph.add(Task.python(lambda: cleaned.append("x")), after=b, finally_=True)
    with executor_of(ledger, gate) as executor, SQLiteStore(ledger.path) as other:
        executor.register(TaskType.PYTHON, call_python)
        started = graph.start(executor)
        gate.wait_reached()
        seen = other.runs[started.id]
        seen.cancel()
        seen.cancel()
        assert seen.wait(WAIT)
        assert started.wait(WAIT)
    assert (a.status, b.status) == (TaskStatus.CANCELLED, TaskStatus.CANCELLED)
    assert cleaned == ["x"]
    assert (started.outcome, seen.outcome) == ("cancelled", "cancelled")
    assert ledger.check() == []


def test_a_cancellation_from_elsewhere_survives_what_a_resume_notes_of_its_run(
    ledger: SQLiteStore,
) -> None:
    with executor_of(ledger) as executor:
        run(graph_of("a", "b", key="k"), executor)
    gate = Obedient()
    graph = graph_of("a", "b", key="k")
    graph.find("b").payload = "changed"
    with executor_of(ledger, gate) as executor, SQLiteStore(ledger.path) as other:
        started = graph.start(executor, resume=True)
        gate.wait_reached()
        other.runs[started.id].cancel()
        ledger.runs.describe(started, frozenset({0}), {1: ("changed", ("payload",))})
        assert started.wait(WAIT)
    assert started.outcome == "cancelled"
    facts = ledger.runs[started.id].facts()
    assert facts.find("b").not_reused == "changed"


def test_another_store_of_the_file_cancels_one_submitted_task_and_no_other(
    ledger: SQLiteStore,
) -> None:
    asked, other_one = Obedient(), Obedient()
    task, bystander = make("asked"), make("not asked")
    handler = FakeHandler({"asked": asked, "not asked": other_one})
    with executor_of(ledger, handler) as executor, SQLiteStore(ledger.path) as other:
        future, going_on = executor.submit(task), executor.submit(bystander)
        asked.wait_reached()
        other_one.wait_reached()
        seen = other.runs.latest(graph=task)
        assert seen is not None
        seen.cancel()
        with pytest.raises(TaskCancelled):
            future.result(WAIT)
        assert seen.outcome == "cancelled"
        assert not going_on.done()
        executor.cancel(bystander)
    assert task.is_cancelled


def test_one_query_tells_which_of_many_runs_are_to_be_stopped(ledger: SQLiteStore) -> None:
    begun, tasks = threading.Barrier(4), [make(f"task {number}") for number in range(3)]
    statements: list[str] = []
    seqs = list(range(1, 10_000))

    def obey(context: TaskContext) -> None:
        begun.wait(WAIT)
        assert context.wait_cancelled(WAIT), "it was not cancelled"
        context.raise_if_cancelled()

    with (
        executor_of(ledger, obey, max_workers=3) as executor,
        SQLiteStore(ledger.path) as other,
    ):
        futures = [executor.submit(task) for task in tasks]
        begun.wait(WAIT)
        with closing(sqlite3.connect(ledger.path)) as connection:
            connection.set_trace_callback(statements.append)
            assert cancelled_of(connection, seqs) == set()
            assert len(statements) == 1
            seen = other.runs.latest(graph=tasks[1])
            assert seen is not None
            seen.cancel()
            assert len(cancelled_of(connection, seqs)) == 1
        with pytest.raises(TaskCancelled):
            futures[1].result(WAIT)
        assert not futures[0].done()
        assert not futures[2].done()
        executor.cancel(tasks[0])
        executor.cancel(tasks[2])


def test_another_store_of_the_file_cancels_a_task_that_is_executed(ledger: SQLiteStore) -> None:
    gate, task = Obedient(), make("asked")
    with executor_of(ledger, gate) as executor, SQLiteStore(ledger.path) as other:
        ended = background(lambda: executor.attempt(task))
        gate.wait_reached()
        seen = other.runs.latest(graph=task)
        assert seen is not None
        seen.cancel()
        assert ended.result(WAIT).status is TaskStatus.CANCELLED


def test_a_submitted_task_that_waits_for_its_retry_is_cancelled_from_elsewhere(
    ledger: SQLiteStore,
) -> None:
    tried = threading.Event()

    def fail(_: Any) -> None:
        tried.set()
        raise ValueError

    task = make("flaky", retry=RetryPolicy(2, backoff=1000))
    with executor_of(ledger, fail) as executor, SQLiteStore(ledger.path) as other:
        future = executor.submit(task)
        assert tried.wait(WAIT)
        seen = other.runs.latest(graph=task)
        assert seen is not None
        seen.cancel()
        with pytest.raises(TaskCancelled):
            future.result(WAIT)


def test_one_graph_of_a_key_runs_at_a_time_over_stores_of_a_file(ledger: SQLiteStore) -> None:
    gate = Gate()
    with (
        executor_of(ledger, gate) as first,
        SQLiteStore(ledger.path) as other,
        executor_of(other) as second,
    ):
        started = graph_of("a", key="k").start(first)
        gate.wait_reached()
        with pytest.raises(GraphError, match=r"running since .* UTC in process \d+ on "):
            run(graph_of("b", key="k"), second)
        waiting = graph_of("c", key="k").start(second, wait=True)
        assert not waiting.done
        gate.open()
        assert started.wait(WAIT)
        assert waiting.wait(WAIT)
        assert (waiting.ok, waiting.number) == (True, 2)


def other_process(path: str, liveness: Liveness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of a ledger be those of somebody else."""
    monkeypatch.setattr(ProcessIdentity, "liveness", lambda identity: liveness)


def unfinished(ledger: SQLiteStore) -> str:
    """The id of a run that another store of the file has begun and not ended."""
    with SQLiteStore(ledger.path) as lost:
        graph = graph_of("a", "b", key="k")
        with executor_of(lost, FakeHandler()) as executor:
            monkey = pytest.MonkeyPatch()
            with monkey.context() as patch:
                patch.setattr(type(lost.runs), "end", lambda *_: None)
                run(graph, executor)
        return latest(graph).id


def test_a_run_whose_process_is_gone_reads_as_interrupted(
    ledger: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = unfinished(ledger)
    assert ledger.runs[run_id].outcome == "running"
    other_process(ledger.path, Liveness.GONE, monkeypatch)
    lost = ledger.runs[run_id]
    assert (lost.outcome, lost.done, lost.wait(1)) == ("interrupted", True, True)
    facts = lost.facts()
    assert (facts.ended_at, facts.duration) == (None, None)
    assert facts.elapsed == max(task.ended or 0.0 for task in facts.tasks.values())
    with executor_of(ledger) as executor:  # its key is free
        assert run(graph_of("a", key="k"), executor).ok


def test_a_process_that_cannot_be_seen_keeps_its_key_until_somebody_says_it_is_gone(
    ledger: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = unfinished(ledger)
    other_process(ledger.path, Liveness.UNKNOWN, monkeypatch)
    with executor_of(ledger) as executor:
        with pytest.raises(GraphError, match=rf"mark_interrupted\('{run_id}'\)"):
            run(graph_of("a", key="k"), executor)
        other_process(ledger.path, Liveness.ALIVE, monkeypatch)
        with pytest.raises(GraphError, match="still running in process"):
            ledger.runs.mark_interrupted(run_id)
        other_process(ledger.path, Liveness.UNKNOWN, monkeypatch)
        ledger.runs.mark_interrupted(ledger.runs[run_id])
        ledger.runs.mark_interrupted(run_id)
        assert ledger.runs[run_id].outcome == "interrupted"
        assert run(graph_of("a", key="k"), executor).ok
    with pytest.raises(KeyError):
        ledger.runs.mark_interrupted("nope")


def test_an_older_run_of_a_graph_tells_what_was_then(ledger: SQLiteStore) -> None:
    handler = FakeHandler({"b": BOOM})
    graph = graph_of("a", "b", "c")
    with executor_of(ledger, handler) as executor:
        run(graph, executor)
        first = latest(graph)
        handler.script["b"] = "fine"
        run(graph, executor)
    kept = ledger.runs[first.id].facts()
    assert [task.status.value for task in kept.tasks.values()] == ["succeeded", "failed", "blocked"]
    assert kept.find("b").error == "boom"
    assert (kept.outcome, ledger.runs[latest(graph).id].outcome) == ("failed", "ok")
    mine = first.facts()
    assert [task.spans for task in kept.tasks.values()] == [
        task.spans for task in mine.tasks.values()
    ]


def test_a_task_cancelled_by_hand_ends_in_the_facts_of_a_ledger_too(ledger: SQLiteStore) -> None:
    gate = Gate()
    graph = graph_of("a", "b")
    a, b = graph
    with executor_of(ledger, gate) as executor:
        started = graph.start(executor)
        gate.wait_reached()
        executor.cancel(b)
        gate.open()
        assert started.wait(WAIT)
    assert a.is_succeeded
    assert ledger.runs[started.id].facts() == started.facts()
    assert ledger.runs[started.id].facts().tasks[b.id].status.value == "cancelled"


@pytest.mark.parametrize("stop", [False, True])
def test_what_task_cancel_ends_is_saved_and_announced_when_its_turn_comes(
    stop: bool, ledger: SQLiteStore
) -> None:
    gate = Gate()
    graph = graph_of("a", "b", "c")
    a, b, c = graph
    with executor_of(ledger, gate) as executor:
        events: list[TaskEvent] = []
        executor.events.subscribe(events.append, types=[TaskEventType.CANCELLED])
        started = graph.start(executor)
        gate.wait_reached()
        b.cancel()
        b.cancel()
        if stop:
            graph.cancel()
        gate.open()
        assert started.wait(WAIT)
    assert [event.task_id for event in events].count(b.id) == 1
    assert ledger.tasks[b.id].is_cancelled
    kept = ledger.runs[started.id].facts()
    assert kept == started.facts()
    assert kept.why(b) == "'b' did not run: Task was cancelled."
    if not stop:
        assert a.is_succeeded
        assert kept.why(c) == (
            "'c' did not run: it is blocked by 'b', which was cancelled (Task was cancelled)."
        )


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_takes_over_the_result_of_its_twin_ends_in_the_ledger(
    workers: int, ledger: SQLiteStore
) -> None:
    gate = Gate()
    graph = TaskGraph()
    for number in range(2):
        graph.add(make(f"t{number}", "work", reuse=True))
    with executor_of(ledger, gate) as executor:
        started = graph.start(executor, workers)
        gate.wait_reached()
        gate.open()
        assert started.wait(WAIT)
    kept = ledger.runs[started.id].facts()
    assert kept == started.facts()
    assert sorted(len(task.attempts) for task in kept.tasks.values()) == [0, 1]
    for task in kept.tasks.values():
        assert task.status.value == "succeeded"
        assert task.ended is not None
        assert all(span.end is not None for span in task.spans)
    whys = [why for why in kept.whys().values() if "took over" in why]
    assert len(whys) == 1


def waits_for_retry(ledger: SQLiteStore, clock: Any) -> tuple[TaskExecutor, TaskGraph, Run]:
    """A run whose only task has failed once and waits for its next attempt."""
    graph = TaskGraph()
    graph.add(make("flaky", retry=RetryPolicy(3, backoff=50)))
    executor = executor_of(ledger, FakeHandler({"flaky": BOOM}), clock=clock)
    retrying = threading.Event()
    executor.events.subscribe(lambda event: retrying.set(), types=[TaskEventType.FAILED])
    started = graph.start(executor)
    assert retrying.wait(WAIT)
    for _ in range(int(WAIT * 1000)):
        if graph.statistics().waiting:
            break
        threading.Event().wait(0.001)
    return executor, graph, started


def test_a_task_cancelled_while_it_waits_for_its_retry_says_so(ledger: SQLiteStore) -> None:
    class Late(FakeClock):
        """A clock that never says the same twice."""

        def now(self) -> float:
            self.advance(0.001)
            return super().now()

    executor, graph, started = waits_for_retry(ledger, Late())
    with executor:
        graph.cancel()
        assert started.wait(WAIT)
    kept = ledger.runs[started.id].facts()
    assert kept.tasks == started.facts().tasks
    assert kept.why("flaky") == (
        "'flaky' was cancelled while it waited for attempt 2: The graph run was cancelled."
    )


def test_another_store_sees_that_a_task_waits_for_its_retry(ledger: SQLiteStore) -> None:
    executor, graph, started = waits_for_retry(ledger, FakeClock())
    with executor, SQLiteStore(ledger.path) as other:
        (seen,) = other.runs[started.id].facts().tasks.values()
        (live,) = started.facts().tasks.values()
        graph.cancel()
    assert seen == live
    assert (seen.status.value, seen.spans[-1].reason) == ("pending", WaitReason.RETRY)


def test_another_store_sees_that_a_task_waits_for_a_place(ledger: SQLiteStore) -> None:
    gate = Gate()
    graph = TaskGraph()
    first = graph.add(make("first"))
    graph.add(make("second", group="db"), after=first)
    graph.add(make("third", group="db"), after=first)
    graph.add(make("fourth"), after=first)
    handler = FakeHandler({"second": gate, "fourth": gate})
    with executor_of(ledger, handler, limits={"db": 1}) as executor:
        started = graph.start(executor, 3)
        gate.wait_reached()
        with SQLiteStore(ledger.path) as other:
            third = other.runs[started.id].facts().find("third")
            gate.open()
        assert started.wait(WAIT)
    assert third.status.value == "pending"
    assert third.ready is not None
    assert third.spans[0].because == (first.id,)
    assert (third.spans[-1].reason, third.spans[-1].because) == (WaitReason.GROUP, ("db",))


def test_another_store_sees_that_a_task_waits_for_a_worker(ledger: SQLiteStore) -> None:
    gate = Gate()
    graph = TaskGraph()
    graph.add(make("a"))
    graph.add(make("b", group="db"))
    with executor_of(ledger, gate, limits={"db": 1}) as executor:
        started = graph.start(executor, 1)
        gate.wait_reached()
        with SQLiteStore(ledger.path) as other:
            why = other.runs[started.id].why("b")
            live = started.why("b")
        gate.open()
        assert started.wait(WAIT)
    assert why == live == "'b' waits for a free worker (the run has 1)."


def test_prune_deletes_the_runs_of_what_is_gone(ledger: SQLiteStore) -> None:
    graph = graph_of("a")
    with executor_of(ledger) as executor:
        run(graph, executor)
        executor.execute(make("alone"))
    assert len(ledger.runs) == 2
    kept = ledger.runs[latest(graph).id]
    ledger.prune(datetime.now(UTC) - timedelta(hours=1))
    assert len(ledger.runs) == 2
    ledger.prune(datetime.now(UTC) + timedelta(hours=1))
    assert len(ledger.runs) == 0
    with pytest.raises(StoreError, match="no longer in the ledger"):
        kept.facts()


def test_a_run_of_a_deleted_graph_is_told_without_its_tasks(ledger: SQLiteStore) -> None:
    graph = graph_of("a")
    with executor_of(ledger) as executor:
        run(graph, executor)
    del ledger.graphs[graph.id]
    kept = ledger.runs[latest(graph).id].facts()
    assert (kept.outcome, dict(kept.tasks)) == ("ok", {})


@pytest.mark.parametrize("column", ["facts", "outcome", "number", "ending", "key"])
def test_a_damaged_row_of_a_run_is_an_error_that_names_it(ledger: SQLiteStore, column: str) -> None:
    graph = graph_of("a", key="k")
    with executor_of(ledger) as executor:
        run(graph, executor)
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute(f"UPDATE runs SET {column}='7'")
        connection.commit()
    with pytest.raises(StoreError, match=f"run '{latest(graph).id}' is damaged"):
        ledger.runs[latest(graph).id].facts()
    assert any("run" in problem for problem in ledger.check())


def test_damaged_notes_of_a_run_are_an_error(ledger: SQLiteStore) -> None:
    graph = graph_of("a")
    with executor_of(ledger) as executor:
        run(graph, executor)
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("UPDATE events SET details=replace(details, '[1', '[2')")
        connection.commit()
    with pytest.raises(StoreError, match="event 1 is damaged"):
        ledger.runs[latest(graph).id].facts()


def test_a_run_that_cannot_be_saved_goes_on(
    ledger: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("disk full")

    for name in ("begin", "_update"):
        with monkeypatch.context() as patch:
            patch.setattr(type(ledger.runs), name, fail)
            graph = graph_of("a", key="k")
            executor = executor_of(ledger)
            assert run(graph, executor).ok
            assert "disk full" in str(executor.graph_persistence_errors[graph.id])
            assert latest(graph).ok
            if name == "begin":  # there is no row whose end is missing
                executor.shutdown()
            else:
                with pytest.warns(RuntimeWarning, match="1 graph or run could not be saved in <"):
                    executor.shutdown()
    with monkeypatch.context() as patch:
        patch.setattr(type(ledger.runs), "begin", fail)
        with (
            executor_of(ledger, strict_persistence=True) as executor,
            pytest.raises(StoreError, match="disk full"),
        ):
            run(graph_of("a"), executor)
    with executor_of(ledger) as executor:  # what could not be ended does not keep its key
        assert run(graph_of("a", key="k"), executor).ok


def test_a_ledger_in_memory_has_runs_too() -> None:
    with SQLiteStore(":memory:") as store, executor_of(store) as executor:
        graph = run(graph_of("a"), executor)
        assert store.runs[latest(graph).id].facts() == latest(graph).facts()


def test_the_runs_of_many_threads_are_all_kept(ledger: SQLiteStore) -> None:
    with executor_of(ledger) as executor:
        futures = [background(lambda: run(graph_of("a"), executor)) for _ in range(6)]
        graphs = [future.result(WAIT) for future in futures]
        done = [executor.submit(make(str(number))) for number in range(6)]
        for future in done:
            future.result(WAIT)
    assert len(ledger.runs) == 12
    for graph in graphs:
        assert ledger.runs[latest(graph).id].facts() == latest(graph).facts()
    facts: list[RunFacts] = [item.facts() for item in ledger.runs.list(limit=6)]
    assert {item.outcome for item in facts} == {"ok"}
    assert replace(facts[0], tasks={}).tasks == {}
