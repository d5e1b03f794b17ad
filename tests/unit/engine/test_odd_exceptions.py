"""Exceptions whose classes raise when somebody looks at them end their task like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from oddkit import CASES, raise_it
from support import EventRecorder, bounded, executor_with, make, run
from ttasks import Task, TaskContext, TaskEventType, TaskExecutor, TaskGraph


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_handler_may_raise_it(number: int) -> None:
    kind, name, text = CASES[number]

    def fail(context: TaskContext) -> Any:
        raise kind

    executor, events = executor_with(fail, capture_locals=True)
    graph = TaskGraph()
    task = graph.add(make("a"))
    after = graph.add(make("b"), after=task)
    with executor:
        run(graph, executor, timeout=5)
    assert task.error == text
    assert task.result is not None
    assert task.result.failure is not None
    assert task.result.failure.type.rpartition(".")[2] == name
    assert after.is_blocked
    assert graph.run_error is None
    events.check(graph)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_guard_may_raise_it(number: int) -> None:
    kind, name, _ = CASES[number]

    def refuse(context: TaskContext) -> None:
        raise kind

    executor, _ = executor_with(lambda context: None, guards=[refuse])
    task = make("a")
    with executor:
        assert bounded(lambda: executor.submit(task).exception()) is not None
    assert task.is_failed
    assert name in (task.error or "")


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_worker_process_may_raise_it(number: int) -> None:
    task = Task.python(raise_it, (number,), backend="process", timeout=60)
    with TaskExecutor() as executor:
        events = EventRecorder(executor)
        error = executor.submit(task).exception(60)
    assert error is not None
    assert task.is_failed
    assert events.of(task) == [TaskEventType.STARTED, TaskEventType.FAILED]
    assert CASES[number][1] in f"{task.result.failure}"  # type: ignore[union-attr]


@dataclass(frozen=True)
class Frozen(Exception):
    """An exception to which nothing can be assigned."""

    text: str


def prints_and_fails() -> None:
    print("before")
    raise Frozen("frozen")


def test_a_frozen_exception_goes_through_captured_prints() -> None:
    with TaskExecutor() as executor:
        result = executor.attempt(Task.python(prints_and_fails, capture_print=True))
    assert result.failure is not None
    assert result.failure.type.endswith("Frozen")
    assert result.output == "before\n"


def test_a_frozen_exception_goes_through_the_wait_for_a_future() -> None:
    caught: list[BaseException] = []

    def waits() -> None:
        try:
            executor.submit(Task.python(prints_and_fails, capture_print=True)).result()
        except BaseException as error:
            caught.append(error)

    with TaskExecutor() as executor:
        executor.execute(Task.python(waits))
    assert caught == [Frozen("frozen")]


def test_a_frozen_exception_goes_through_a_subscription() -> None:
    with TaskExecutor() as executor, pytest.raises(Frozen), executor.events.subscribed(print):
        raise Frozen("frozen")
