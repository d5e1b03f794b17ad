"""Circuit breakers of an executor: through execute, submit and graphs, on a fake clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support import (
    CUSTOM,
    WAIT,
    FakeHandler,
    Gate,
    Obedient,
    background,
    executor_with,
    make,
    run,
    statuses,
    wait,
)
from ttasks import (
    BreakerStatus,
    CircuitBreaker,
    CircuitOpenError,
    CircuitState,
    DependencyPolicy,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskRejectedError,
)
from ttasks.testing import FakeClock

CLOSED, OPEN, HALF_OPEN = CircuitState
BOOM = ValueError("boom")
ONE = CircuitBreaker(window=1, reset_after=30)


def guarded(title: str, **options: Any) -> Task:
    """A task of the group that has the breaker."""
    return make(title, group="api", **options)


def with_breaker(handler: Callable[[TaskContext], Any], **options: Any) -> Any:
    """Executor, recorder and clock."""
    clock = FakeClock()
    options = {"breakers": {"api": ONE}, "clock": clock} | options
    return *executor_with(handler, **options), clock


def fail(executor: TaskExecutor, *titles: str) -> None:
    for title in titles:
        with pytest.raises(ValueError):
            executor.execute(guarded(title))


def by_execute(executor: TaskExecutor, task: Task) -> None:
    with pytest.raises(CircuitOpenError):
        executor.execute(task)


def by_submit(executor: TaskExecutor, task: Task) -> None:
    assert isinstance(executor.submit(task).exception(WAIT), CircuitOpenError)


def by_graph(executor: TaskExecutor, task: Task) -> None:
    graph = TaskGraph()
    graph.add(task)
    run(graph, executor)
    assert isinstance(graph.errors[task.id], CircuitOpenError)


@pytest.mark.parametrize("way", [by_execute, by_submit, by_graph])
def test_an_open_circuit_fails_the_task_without_calling_the_handler(way: Any) -> None:
    handler = FakeHandler({"bad": BOOM})
    executor, recorder, clock = with_breaker(handler)
    with executor:
        fail(executor, "bad")
        clock.advance(10)
        task = guarded("next")
        way(executor, task)
    assert handler.calls == ["bad"]
    assert task.is_failed
    assert task.result is not None
    assert task.result.termination_reason == "circuit_open"
    assert task.error == "The circuit of group 'api' is open for 20 s more"
    assert recorder.of(task) == [TaskEventType.STARTED, TaskEventType.FAILED]
    recorder.check()


def test_the_error_says_when_the_next_trial_is() -> None:
    executor, _, clock = with_breaker(FakeHandler({"bad": BOOM}))
    fail(executor, "bad")
    clock.advance(12.5)
    with pytest.raises(CircuitOpenError) as caught:
        executor.execute(guarded("next"))
    assert (caught.value.group, caught.value.retry_after) == ("api", 17.5)
    assert executor.breaker_states["api"] == BreakerStatus(OPEN, 1, 1, 17.5)


def test_it_opens_and_closes_with_one_event_each_before_the_end_of_the_attempt() -> None:
    handler = FakeHandler({"a": BOOM, "b": BOOM})
    executor, recorder, clock = with_breaker(handler)
    states = [executor.breaker_states["api"].state]
    for title in "abc":
        try:
            executor.execute(guarded(title))
        except ValueError:
            pass
        states.append(executor.breaker_states["api"].state)
        clock.advance(30)
        states.append(executor.breaker_states["api"].state)
    assert states == [CLOSED, OPEN, HALF_OPEN, OPEN, HALF_OPEN, CLOSED, CLOSED]
    assert [(event.task.title, event.type.value) for event in recorder.events] == [
        ("a", "started"),
        ("a", "circuit_opened"),
        ("a", "failed"),
        ("b", "started"),
        ("b", "circuit_opened"),
        ("b", "failed"),
        ("c", "started"),
        ("c", "circuit_closed"),
        ("c", "succeeded"),
    ]
    assert recorder.events[1].error == "circuit of group 'api' opened"
    assert recorder.events[7].error == "circuit of group 'api' closed"
    recorder.check()


def test_opening_and_closing_stand_in_the_journal(tmp_path: Any) -> None:
    store = SQLiteStore(tmp_path / "ledger.db")
    clock = FakeClock()
    executor = TaskExecutor.empty(store, breakers={"api": ONE}, clock=clock)
    executor.register(CUSTOM, FakeHandler({"a": BOOM}))
    fail(executor, "a")
    clock.advance(30)
    executor.execute(guarded("b"))
    entries = [(entry.title, entry.type.value, entry.error) for entry in store.events.read()]
    store.close()
    assert ("a", "circuit_opened", "circuit of group 'api' opened") in entries
    assert ("b", "circuit_closed", "circuit of group 'api' closed") in entries
    assert executor.persistence_errors == {}


def test_half_open_lets_exactly_one_trial_through() -> None:
    gate = Gate()
    executor, recorder, clock = with_breaker(
        FakeHandler({"bad": BOOM, **dict.fromkeys("01234567", gate)})
    )
    fail(executor, "bad")
    clock.advance(30)
    tasks = [guarded(str(number)) for number in range(8)]
    barrier = threading.Barrier(len(tasks))
    refused = threading.Semaphore(0)

    def go(task: Task) -> str:
        barrier.wait(WAIT)
        try:
            return str(executor.execute(task).value)
        except CircuitOpenError as error:
            refused.release()
            return str(error)

    futures = [background(lambda task=task: go(task)) for task in tasks]
    gate.wait_reached()
    for _ in range(7):
        assert refused.acquire(timeout=WAIT)
    assert executor.breaker_states["api"].state is HALF_OPEN
    gate.open()
    answers = [future.result(WAIT) for future in futures]
    assert len(recorder.titles(TaskEventType.SUCCEEDED)) == 1
    assert answers.count("The circuit of group 'api' is open until its trial call has ended") == 7
    assert executor.breaker_states["api"].state is CLOSED
    recorder.check()


def test_a_breaker_is_shared_by_all_runs_of_an_executor() -> None:
    handler = FakeHandler({"a": BOOM, "b": BOOM})
    executor, recorder, clock = with_breaker(
        handler, breakers={"api": CircuitBreaker(window=2, failure_rate=1, reset_after=30)}
    )
    for title, expected in (("a", CLOSED), ("b", OPEN)):
        graph = TaskGraph()
        graph.add(guarded(title))
        run(graph, executor)
        assert executor.breaker_states["api"].state is expected
    by_graph(executor, guarded("c"))
    clock.advance(30)
    executor.execute(guarded("d"))
    assert handler.calls == ["a", "b", "d"]
    recorder.check()


def test_groups_have_circuits_of_their_own_and_other_tasks_none() -> None:
    executor, recorder, _ = with_breaker(
        FakeHandler({"bad": BOOM}), breakers={"api": ONE, "db": ONE}
    )
    fail(executor, "bad")
    for group in ("db", "unheard of", None):
        executor.execute(make("fine", group=group))
    assert [status.state for status in executor.breaker_states.values()] == [OPEN, CLOSED]
    recorder.check()


def test_a_breaker_for_a_group_that_no_task_is_in_stays_closed() -> None:
    executor, _, _ = with_breaker(FakeHandler({"bad": BOOM}), breakers={"nobody": ONE})
    fail(executor, "bad", "bad")
    assert executor.breaker_states == {"nobody": BreakerStatus(CLOSED, 0, 0, 0.0)}


@pytest.mark.parametrize("way", ["execute", "submit", "graph"])
def test_an_open_circuit_is_retried_by_policy(way: str) -> None:
    handler = FakeHandler({"bad": BOOM})
    executor, recorder, clock = with_breaker(handler)
    fail(executor, "bad")
    task = guarded("next", retry=RetryPolicy(4, backoff=16))
    graph = TaskGraph()
    graph.add(task)
    with executor:
        if way == "graph":
            future: Any = background(lambda: graph.run(executor))
        elif way == "submit":
            future = executor.submit(task)
        else:
            future = background(lambda: executor.execute(task))
        assert [clock.advance_to_next() for _ in range(2)] == [16.0, 32.0]
        future.result(WAIT)
    assert task.is_succeeded
    assert task.result is not None
    assert task.result.attempts == 3
    assert handler.calls == ["bad", "next"]
    assert executor.breaker_states["api"].state is CLOSED
    recorder.check()


def test_each_attempt_counts() -> None:
    executor, recorder, _ = with_breaker(
        FakeHandler({"bad": BOOM}), breakers={"api": CircuitBreaker(2, 1.0)}
    )
    with pytest.raises(CircuitOpenError):
        executor.execute(guarded("bad", retry=RetryPolicy(3)))
    assert executor.breaker_states["api"].calls == 2
    recorder.check()


def test_refused_and_rejected_attempts_do_not_count() -> None:
    def guard(context: TaskContext) -> None:
        if context.title == "rejected":
            raise TaskRejectedError("no")

    breaker = CircuitBreaker(window=9, min_calls=1, reset_after=30)
    executor, _, clock = with_breaker(
        FakeHandler({"bad": BOOM}), breakers={"api": breaker}, guards=[guard]
    )
    for _ in range(3):
        with pytest.raises(TaskRejectedError):
            executor.execute(guarded("rejected"))
    assert executor.breaker_states["api"] == BreakerStatus(CLOSED, 0, 0, 0.0)
    fail(executor, "bad")
    by_execute(executor, guarded("refused"))
    assert executor.breaker_states["api"] == BreakerStatus(OPEN, 1, 1, 30.0)
    clock.advance(30)
    with pytest.raises(TaskRejectedError):  # before it could be the trial
        executor.execute(guarded("rejected"))
    executor.execute(guarded("trial"))
    assert executor.breaker_states["api"].state is CLOSED


def test_a_cancelled_call_says_nothing() -> None:
    obedient = Obedient()
    executor, recorder, clock = with_breaker(FakeHandler({"long": obedient, "bad": BOOM}))

    def cancel_one() -> None:
        obedient.reached.clear()
        task = guarded("long")
        future = background(lambda: executor.execute(task))
        wait(obedient.reached)
        executor.cancel(task)
        assert future.exception(WAIT) is not None

    cancel_one()
    assert executor.breaker_states["api"] == BreakerStatus(CLOSED, 0, 0, 0.0)
    fail(executor, "bad")
    clock.advance(30)
    cancel_one()  # the trial
    assert executor.breaker_states["api"].state is HALF_OPEN
    executor.execute(guarded("next"))  # so this is the trial
    assert executor.breaker_states["api"].state is CLOSED
    recorder.check()


def test_a_timeout_counts_as_a_failure() -> None:
    executor, recorder, clock = with_breaker(FakeHandler({"slow": Obedient()}))
    future = background(lambda: executor.execute(guarded("slow", timeout=5)))
    clock.wait_for_waits(2)  # of the handler and for it
    clock.advance(5)
    assert future.exception(WAIT) is not None
    assert executor.breaker_states["api"].state is OPEN
    recorder.check()


@pytest.mark.parametrize("way", ["execute", "graph"])
def test_coroutines_have_breakers_too(way: str) -> None:
    async def handler(context: TaskContext) -> str:
        if context.title == "bad":
            raise BOOM
        return context.title

    executor, recorder, clock = with_breaker(handler)
    graph = TaskGraph()
    bad = graph.add(guarded("bad"))
    graph.add(guarded("refused"), after=bad, on_dep_failure=DependencyPolicy.ON_FAILURE)
    if way == "graph":
        run(graph, executor)
        assert [type(error) for error in graph.errors.values()] == [ValueError, CircuitOpenError]
    else:
        fail(executor, "bad")
        by_execute(executor, guarded("refused"))
    clock.advance(30)
    assert executor.execute(guarded("fine")).value == "fine"
    assert executor.breaker_states["api"].state is CLOSED
    recorder.check()


def test_the_group_that_a_call_began_in_is_told_of_its_end() -> None:
    def move(context: TaskContext) -> None:
        task.group = "elsewhere"
        raise BOOM

    executor, recorder, _ = with_breaker(move)
    task = guarded("t")
    with pytest.raises(ValueError):
        executor.execute(task)
    assert executor.breaker_states["api"].state is OPEN
    recorder.check()


def test_a_fallback_runs_while_the_circuit_is_open() -> None:
    executor, recorder, _ = with_breaker(FakeHandler({"bad": BOOM}))
    fail(executor, "bad")
    graph = TaskGraph()
    first = graph.add(guarded("first"), required=False)
    graph.add(make("else"), after=first, on_dep_failure=DependencyPolicy.ON_FAILURE)
    assert run(graph, executor).ok
    assert statuses(graph) == {"first": "failed", "else": "succeeded"}
    recorder.check(graph)


def test_looking_at_the_states_gives_a_copy() -> None:
    executor, _, _ = with_breaker(FakeHandler())
    executor.breaker_states.clear()
    assert list(executor.breaker_states) == ["api"]
    assert TaskExecutor.empty().breaker_states == {}


@pytest.mark.parametrize(
    ("breakers", "message"),
    [
        (ONE, "breakers must be a mapping from group name or TaskType to CircuitBreaker"),
        ([("api", ONE)], "breakers must be a mapping"),
        ({1: ONE}, "a group name in breakers must be a str, got int: 1"),
        ({"api": None}, r"breakers\['api'\] must be a CircuitBreaker, got NoneType"),
        ({"api": 0.5}, r"breakers\['api'\] must be a CircuitBreaker, got float: 0.5"),
        ({"api": CircuitBreaker}, r"breakers\['api'\] must be a CircuitBreaker, got type"),
    ],
)
def test_a_wrong_mapping_is_a_type_error(breakers: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TaskExecutor(breakers=breakers)


def test_a_blank_group_name_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="a group name in breakers must be a non-empty str"):
        TaskExecutor(breakers={" ": ONE})


# By type, and one for each group


def test_a_breaker_by_type_holds_for_all_tasks_of_the_type() -> None:
    executor, recorder, _ = with_breaker(FakeHandler({"a": BOOM}), breakers={CUSTOM: ONE})
    fail(executor, "a")
    with pytest.raises(CircuitOpenError, match="circuit of task type 'custom' is open") as caught:
        executor.execute(make("b", group="any"))
    assert (caught.value.group, caught.value.what) == ("custom", "task type")
    assert executor.breaker_states[CUSTOM].state is OPEN
    opened = [e.error for e in recorder.events if e.type is TaskEventType.CIRCUIT_OPENED]
    assert opened == ["circuit of task type 'custom' opened"]


def test_a_star_gives_each_group_a_circuit_of_its_own() -> None:
    script = FakeHandler({"a": BOOM})
    three = CircuitBreaker(window=3)
    executor, _, _ = with_breaker(script, breakers={"*": ONE, "patient": three})
    assert executor.breaker_states.keys() == {"patient"}
    for group in ("one", "patient"):
        with pytest.raises(ValueError):
            executor.execute(make("a", group=group))
    executor.execute(make("b", group="two"))
    executor.execute(make("b"))  # in no group
    states = {name: status.state for name, status in executor.breaker_states.items()}
    assert states == {"patient": CLOSED, "one": OPEN, "two": CLOSED}
    with pytest.raises(CircuitOpenError):
        executor.execute(make("b", group="one"))


def test_a_call_that_one_circuit_refuses_takes_no_trial_of_another() -> None:
    script = FakeHandler({"a": BOOM})
    executor, _, clock = with_breaker(script, breakers={"api": ONE, CUSTOM: ONE})
    fail(executor, "a")  # opens both
    clock.advance(30)
    executor.execute(guarded("b"))  # both trials succeed
    assert {status.state for status in executor.breaker_states.values()} == {CLOSED}
    with pytest.raises(ValueError):
        executor.execute(make("a", group="other"))  # opens that of the type alone
    with pytest.raises(CircuitOpenError):
        executor.execute(guarded("c"))
    assert executor.breaker_states["api"].state is CLOSED
    clock.advance(30)
    executor.execute(guarded("d"))


def test_arguments_that_cannot_be_made_tell_a_circuit_nothing() -> None:
    executor, _, _ = with_breaker(FakeHandler(), breakers={"api": ONE})
    missing = make("missing")
    result = executor.attempt(Task.python(print, (missing,), group="api"))
    assert result.attempts == 0
    assert executor.breaker_states["api"].calls == 0


def test_the_statistics_of_a_graph_have_breakers_and_reasons_and_become_json() -> None:
    handler = FakeHandler({"a": BOOM, "c": TaskRejectedError("no")})
    executor, _, _ = with_breaker(handler, breakers={"api": ONE, CUSTOM: CircuitBreaker()})
    graph = TaskGraph()
    before = graph.statistics()
    assert (before.total, before.started_at, before.breakers) == (0, None, {})
    first = graph.add(guarded("a"))
    graph.add(guarded("b"), after=first, on_dep_failure=DependencyPolicy.RUN_ANYWAY)
    graph.add(make("c"))
    graph.add(make("d"))
    graph.run(executor, max_workers=1, retry_budget=3)
    statistics = graph.statistics()
    assert statistics.total == 4
    assert statistics.reasons == {"handler": 1, "circuit_open": 1, "rejected": 1}
    assert statistics.retry_budget == 3
    assert statistics.started_at is not None
    assert statistics.ended_at is not None
    assert statistics.started_at <= statistics.ended_at
    assert statistics.breakers["api"].state is OPEN
    shown = json.loads(statistics.to_json())
    assert shown == statistics.to_dict()
    assert shown["counts"]["failed"] == 3
    assert shown["counts"]["skipped"] == 0
    assert shown["breakers"]["api"]["state"] == "open"
    assert shown["breakers"]["type custom"]["calls"] == 3
