"""Shorter ways to use an executor: attempt, defaults, stores that only have the methods."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

import ttasks
import ttasks.testing
from support import FailingStore, FakeHandler, executor_with, make, wait
from ttasks import (
    HandlerNotFoundError,
    InMemoryStore,
    InvalidTransitionError,
    StoreError,
    Task,
    TaskCancelled,
    TaskContext,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskTimeoutError,
)
from ttasks.testing import FakeClock

# attempt, and execute without check


@pytest.mark.parametrize("error", [ValueError("oops"), TaskCancelled("no"), StoreError("mine")])
def test_attempt_returns_the_result_of_a_task_that_did_not_succeed(error: Exception) -> None:
    executor, recorder = executor_with(FakeHandler({"t": error}))
    task = make("t")
    result = executor.attempt(task)
    assert result is task.result
    assert not result.status.is_active
    assert task.error == str(error)
    recorder.check()


def test_attempt_returns_the_result_of_a_success() -> None:
    executor, _ = executor_with(FakeHandler({"t": 7}))
    assert executor.attempt(make("t")).value == 7


def test_execute_without_check_is_attempt() -> None:
    executor, _ = executor_with(FakeHandler({"t": [ValueError("1"), ValueError("2")]}))
    task = make("t")
    result = executor.execute(task, check=False, retry_policy=ttasks.RetryPolicy(2))
    assert (result.status, result.attempts) == (TaskStatus.FAILED, 2)


def test_attempt_of_a_task_without_a_handler_returns_its_failure() -> None:
    result = TaskExecutor.empty().attempt(Task.bash("true"))
    assert result.failure is not None
    assert result.failure.type.endswith(HandlerNotFoundError.__name__)


def test_attempt_raises_if_the_task_cannot_start() -> None:
    executor, _ = executor_with(FakeHandler())
    task = make("t")
    executor.execute(task)
    with pytest.raises(InvalidTransitionError):
        executor.attempt(task)


def test_attempt_raises_what_a_strict_store_raises() -> None:
    store = FailingStore()
    store.broken = lambda task: task.is_succeeded
    executor, _ = executor_with(FakeHandler(), store=store, strict_persistence=True)
    with pytest.raises(StoreError, match="disk full"):
        executor.attempt(make("t"))


def test_attempt_takes_upstream_tasks() -> None:
    executor, _ = executor_with(lambda context: list(context.upstream))
    other = make("other")
    assert executor.attempt(make("t"), {other.id: other}).value == [other.id]


# The number of workers


def most_at_once(executor: TaskExecutor, **options: Any) -> int:
    """How many of six tasks of a graph run at once."""
    running, full = [], threading.Event()
    lock, most = threading.Lock(), 0

    def work() -> None:
        nonlocal most
        with lock:
            running.append(1)
            most = max(most, len(running))
            if most == options.get("max_workers", executor.max_workers):
                full.set()
        wait(full)
        with lock:
            running.pop()

    graph = TaskGraph()
    for _ in range(6):
        graph.add(Task.python(work))
    graph.run(executor, **options)
    assert graph.ok
    return most


def test_graphs_run_on_as_many_workers_as_the_executor_was_given() -> None:
    assert most_at_once(TaskExecutor(max_workers=6)) == 6
    assert most_at_once(TaskExecutor(max_workers=1)) == 1


def test_a_run_may_have_a_number_of_workers_of_its_own() -> None:
    assert most_at_once(TaskExecutor(max_workers=1), max_workers=3) == 3


def test_without_a_number_there_are_as_many_workers_as_concurrent_futures_has() -> None:
    from concurrent.futures import ThreadPoolExecutor

    if not hasattr(ThreadPoolExecutor(), "_max_workers"):
        pytest.skip("this Python does not show it")
    assert TaskExecutor().max_workers in (
        ThreadPoolExecutor()._max_workers,
        min(32, (os.cpu_count() or 1) + 4),
    )


# Stores


class Delegate:
    """A store without a base class and without a close, whose attributes are looked up."""

    def __init__(self) -> None:
        self._inner = InMemoryStore()

    def __getattr__(self, name: str) -> Any:
        if name == "close":
            raise AttributeError(name)
        return getattr(self._inner, name)


def test_a_store_is_whatever_has_the_methods() -> None:
    store = Delegate()
    task = Task.python(lambda: 7)
    with TaskExecutor(store) as executor:  # type: ignore[arg-type]
        executor.execute(task)
    assert store.tasks[task.id] is task
    ttasks.testing.check_store(Delegate)  # type: ignore[arg-type]


class NoGraphs:
    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}


def test_what_an_object_lacks_to_be_a_store_is_named() -> None:
    with pytest.raises(TypeError, match=r"got NoGraphs.*; it lacks tasks\.save, graphs"):
        TaskExecutor(NoGraphs())  # type: ignore[arg-type]


# Secrets in the environment


def test_values_of_matching_variables_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "hunter2-and-more")
    monkeypatch.setenv("SHORT_TOKEN", "true")
    monkeypatch.setenv("OTHER", "no-secret")
    executor = TaskExecutor(redact=iter(["literal"]), redact_env=("*_TOKEN", "*_KEY"))
    with executor:
        result = executor.execute(Task.bash('echo "$MY_TOKEN $SHORT_TOKEN $OTHER literal"'))
    assert result.output == "*** true no-secret ***\n"


# Defaults for tasks


def test_the_executor_has_a_retry_policy_for_tasks_without_one() -> None:
    script = {"t": [OSError("1"), 7], "own": [OSError("1"), OSError("2")]}
    executor, _ = executor_with(FakeHandler(script), retry=ttasks.RetryPolicy(2))
    graph = TaskGraph()
    in_graph, own = make("t"), make("own", retry=ttasks.RetryPolicy(1))
    graph.add(in_graph)
    graph.add(own)
    graph.run(executor)
    assert in_graph.value == 7
    assert own.is_failed
    assert executor.execute(make("t")).attempts == 2
    assert executor.submit(make("t")).result(10).attempts == 2
    once = ttasks.RetryPolicy(1)
    assert executor.execute(make("t"), retry_policy=once, check=False).attempts == 1


def test_the_executor_has_a_timeout_for_tasks_without_one() -> None:
    clock, seen = FakeClock(), []

    def handler(context: TaskContext) -> None:
        seen.append((context.timeout, context.remaining()))
        if context.title == "late":
            clock.advance(5)
            context.wait_cancelled(60)

    executor, recorder = executor_with(handler, timeout=5, clock=clock)
    with pytest.raises(TaskTimeoutError, match="after 5 seconds"):
        executor.execute(make("late"))
    executor.execute(make("own", timeout=60))
    assert seen == [(5.0, 5.0), (60.0, 60.0)]
    recorder.check()


def test_a_command_keeps_to_the_timeout_of_the_executor() -> None:
    with TaskExecutor(timeout=0.2) as executor:
        result = executor.attempt(Task.bash("sleep 30"))
    assert result.termination_reason == "timeout"
    assert result.error == "Task timed out after 0.2 seconds"


async def whereabouts_of_a_coroutine() -> int:
    return os.getpid()


def test_the_executor_has_a_backend_for_functions_that_name_none() -> None:
    with TaskExecutor(backend="process") as executor:
        assert executor.execute(Task.python(os.getpid)).value != os.getpid()
        assert executor.execute(Task.python(os.getpid, backend="thread")).value == os.getpid()
        assert executor.execute(Task.python(whereabouts_of_a_coroutine)).value == os.getpid()


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"retry": "often"}, TypeError, "retry must be"),
        ({"timeout": 0}, ValueError, "timeout must be"),
        ({"timeout": "5"}, TypeError, "timeout must be"),
        ({"backend": "asyncio"}, ValueError, "backend must be 'thread' or 'process'"),
        ({"backend": 5}, TypeError, "backend must be a str"),
    ],
)
def test_bad_defaults_are_refused(
    options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        TaskExecutor(**options)
