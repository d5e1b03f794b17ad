"""Handlers alone: contexts made by hand, and make_context."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support import bounded, executor_with, make
from ttasks import (
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskTimeoutError,
    current_context,
)
from ttasks.testing import EventRecorder, FakeClock, make_context

# By hand


def test_a_context_can_be_made_of_a_task_alone() -> None:
    task = make("t", {"a": 1}, timeout=60)
    context = TaskContext(task)
    assert (context.id, context.payload, context.attempt) == (task.id, {"a": 1}, 1)
    assert not context.cancelled
    remaining = context.remaining()
    assert remaining is not None
    assert 59 < remaining <= 60
    context.emit_progress(50)
    context.emit_output("nobody listens")
    context.raise_if_cancelled()


def test_progress_of_a_context_made_by_hand_goes_to_its_emitter() -> None:
    heard: list[Any] = []
    context = TaskContext(make("t"), progress_emitter=lambda *report: heard.append(report))
    context.emit_progress(25, "a quarter")
    context.emit_progress(message="more")
    context.emit_output("dropped")
    assert heard == [(25.0, "a quarter"), (None, "more")]


def test_upstream_tasks_are_given_by_id_or_one_after_the_other() -> None:
    one, two = make("one"), make("two")
    for given in ({one.id: one, two.id: two}, (one, two), [one, two], iter((one, two))):
        assert TaskContext(make("t"), given).upstream == {one.id: one, two.id: two}
    assert TaskContext(make("t"), None).upstream == {}
    assert TaskContext(make("t"), upstream={one.id: one}).upstream[one.id] is one


@pytest.mark.parametrize("wrong", [5, "abc", make("t"), [5], {"a": "b"}])
def test_upstream_must_be_tasks(wrong: Any) -> None:
    with pytest.raises(TypeError, match="upstream must be"):
        TaskContext(make("t"), wrong)


def test_a_context_is_made_of_a_task() -> None:
    with pytest.raises(TypeError, match="task must be a Task"):
        TaskContext("t")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="progress_emitter must be a callable"):
        TaskContext(make("t"), progress_emitter=5)  # type: ignore[arg-type]


def test_a_handler_may_call_another_one_and_shares_reports_and_cancellation_with_it() -> None:
    def inner(context: TaskContext) -> str:
        context.emit_output("said within\n")
        context.emit_progress(10)
        assert context.payload == "inner"
        executor.cancel(outer_task)
        context.raise_if_cancelled()
        return "not reached"

    def outer(context: TaskContext) -> str:
        return inner(TaskContext(make("inner", "inner")))

    executor, _ = executor_with(outer)
    events = EventRecorder()
    executor.events.subscribe(events)
    outer_task = make("outer")
    with pytest.raises(TaskCancelled):
        bounded(lambda: executor.execute(outer_task))
    kinds = events.types(outer_task)
    assert TaskEventType.OUTPUT in kinds
    assert TaskEventType.PROGRESS in kinds
    events.check_order()


def test_a_built_in_handler_can_be_called_with_a_context_made_by_hand() -> None:
    from ttasks.commands.shell import run_bash

    done = run_bash(TaskContext(Task.bash("echo hello")))
    assert done.stdout == "hello\n"
    with pytest.raises(TaskTimeoutError):
        run_bash(TaskContext(Task.bash("sleep 30", timeout=0.1)))


# make_context


def test_make_context_keeps_what_the_handler_reports() -> None:
    def handler(context: TaskContext) -> str:
        assert current_context() is context
        context.emit_progress(50, "half")
        context.emit_output("one\n")
        context.emit_output("oh\n", "stderr")
        context.emit_output("two\n")
        return context.title

    context = make_context(make("t"), attempt=2)
    assert context.run(handler) == "t"
    assert context.progress == [(50.0, "half")]
    assert (context.output, context.error_output) == ("one\ntwo\n", "oh\n")
    assert context.attempt == 2
    assert current_context() is None


def test_make_context_runs_a_coroutine_to_its_end() -> None:
    async def handler(context: TaskContext) -> Any:
        await asyncio.sleep(0)
        return current_context()

    context = make_context(make("t"))
    assert context.run(handler) is context


def test_make_context_can_be_cancelled_and_goes_by_a_clock() -> None:
    clock = FakeClock()
    context = make_context(make("t", timeout=10), clock=clock)
    clock.advance(4)
    assert context.remaining() == 6
    context.cancel()
    assert context.cancelled
    assert context.wait_cancelled(3600)
    with pytest.raises(TaskCancelled):
        context.run(lambda context: context.raise_if_cancelled())


def test_make_context_takes_upstream_tasks_with_results() -> None:
    before = Task.python(lambda: 7)
    with TaskExecutor() as executor:
        executor.execute(before)
    context = make_context(make("t"), [before])
    assert context.run(lambda context: context.upstream[before.id].value) == 7


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: make_context("t"), TypeError),
        (lambda: make_context(make("t"), attempt=0), ValueError),
        (lambda: make_context(make("t"), 5), TypeError),
        (lambda: make_context(make("t"), redact="x"), TypeError),
    ],
)
def test_make_context_refuses_bad_arguments(call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call()
