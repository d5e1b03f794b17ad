"""The table of retries in the documentation says what a task, however it is run, does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import CUSTOM, WAIT, FailingStore, FakeHandler, bounded
from ttasks import (
    CircuitBreaker,
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskContext,
    TaskExecutor,
    TaskGraph,
    TaskRejectedError,
    TaskType,
)
from ttasks.testing import FakeClock

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "retries.md"
RETRY_ON = {"`Exception` (default)": None, "`OSError`": OSError, "`BaseException`": BaseException}
Made = tuple[TaskExecutor, TaskType]


def table() -> dict[str, dict[str, str]]:
    """The first table of the page: how the attempt ended, to column, to what is written."""
    text = PAGE.read_text(encoding="utf-8").partition("| how the")
    lines = (text[1] + text[2]).partition("\n\n")[0].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: dict(zip(head[1:], cells, strict=True)) for first, *cells in rows}


TABLE = table()


def raising(error: BaseException | type[BaseException]) -> Callable[[], Made]:
    def make() -> Made:
        def handler(context: TaskContext) -> None:
            raise error

        return with_handler(handler)

    return make


def with_handler(handler: Any, **options: Any) -> Made:
    executor = TaskExecutor.empty(**options)
    executor.register(CUSTOM, handler)
    return executor, CUSTOM


def timeout() -> Made:
    def handler(context: TaskContext) -> None:
        clock.advance(5)
        context.wait_cancelled(60)

    clock = FakeClock()
    return with_handler(handler, clock=clock)


def open_circuit() -> Made:
    breaker = CircuitBreaker(window=1, reset_after=60)
    made = with_handler(FakeHandler({"first": KeyError()}), breakers={"g": breaker})
    with pytest.raises(KeyError):
        made[0].execute(Task("first", None, CUSTOM, group="g"))
    return made


def refusing(error: BaseException) -> Callable[[], Made]:
    def guard(context: TaskContext) -> None:
        raise error

    return lambda: with_handler(FakeHandler(), guards=[guard])


def failing_store() -> Made:
    store = FailingStore()
    store.broken = lambda task: task.is_running
    return with_handler(FakeHandler(), store=store, strict_persistence=True)


def cancelled() -> Made:
    def handler(context: TaskContext) -> None:
        context.cancel_token.cancel()
        raise OSError

    return with_handler(handler)


MAKERS: dict[str, Callable[[], Made]] = {
    "handler raised an `OSError`": raising(OSError("down")),
    "handler raised a `ValueError`": raising(ValueError("bad")),
    "handler raised `SystemExit`": raising(SystemExit(1)),
    "command with exit code 1": lambda: (TaskExecutor(), TaskType.BASH),
    "timeout": timeout,
    "circuit was open": open_circuit,
    "guard rejected it": refusing(TaskRejectedError("no")),
    "guard raised an `OSError`": refusing(OSError("down")),
    "no handler for its type": lambda: (TaskExecutor.empty(), CUSTOM),
    "store failed, with `strict_persistence`": failing_store,
    "handler raised `TaskCancelled`": raising(TaskCancelled),
    "cancelled, and raised an `OSError`": cancelled,
    "Ctrl-C": raising(KeyboardInterrupt),
}


def test_the_table_has_every_outcome_and_nothing_else() -> None:
    assert list(TABLE) == list(MAKERS)
    for cells in TABLE.values():
        assert list(cells) == ["status", "reason", *RETRY_ON]
        assert {cells[column] for column in RETRY_ON} <= {"yes", "no"}


@pytest.mark.parametrize("way", ["execute", "submit", "graph"])
@pytest.mark.parametrize("column", RETRY_ON)
@pytest.mark.parametrize("outcome", TABLE)
def test_a_task_does_what_the_table_says(outcome: str, column: str, way: str) -> None:
    executor, kind = MAKERS[outcome]()
    retry_on = RETRY_ON[column]
    policy = RetryPolicy(2) if retry_on is None else RetryPolicy(2, retry_on=retry_on)
    task = Task("t", "exit 1", kind, retry=policy, group="g")
    if outcome == "timeout":
        task.timeout = 5
    with executor:
        if way == "graph":
            graph = TaskGraph()
            graph.add(task)
            bounded(lambda: graph.run(executor))
            assert graph.errors
        elif way == "submit":
            assert executor.submit(task).exception(WAIT) is not None
        else:
            with pytest.raises(BaseException):  # noqa: B017
                executor.execute(task)
    expected = TABLE[outcome]
    assert task.result is not None
    assert task.status.name == expected["status"]
    assert task.result.termination_reason == expected["reason"]
    assert (task.result.attempts == 2) == (expected[column] == "yes")
