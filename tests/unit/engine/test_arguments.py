"""A Python task whose arguments cannot be made is not tried again, and made no attempt."""

from __future__ import annotations

import threading

import pytest

from support import background, bounded
from ttasks import (
    DependencyPolicy,
    RetryPolicy,
    Task,
    TaskArgumentError,
    TaskExecutor,
    TaskGraph,
    TaskTimeoutError,
)
from ttasks.testing import EventRecorder, FakeClock

RETRY = RetryPolicy(3, backoff=3600, retry_on=BaseException)


def test_a_missing_value_is_not_tried_again() -> None:
    events = EventRecorder()
    graph = TaskGraph()
    fails = graph.add(Task.python(lambda: 1 / 0))
    task = Task.python(print, (fails,), retry=RETRY)
    graph.add(task, on_dep_failure=DependencyPolicy.RUN_ANYWAY)
    with TaskExecutor(clock=FakeClock()) as executor:
        executor.events.subscribe(events)
        bounded(lambda: graph.run(executor))
    assert task.is_failed
    assert task.result is not None
    assert (task.result.attempts, task.result.attempt_durations) == (0, ())
    error = graph.errors[task.id]
    assert isinstance(error, TaskArgumentError)
    assert error.task_id == task.id
    assert "print cannot be called. The value of task" in str(error)
    events.check_order()


def test_arguments_that_do_not_pickle_are_not_sent_again() -> None:
    task = Task.python(print, (threading.Lock(),), backend="process", retry=RETRY)
    with TaskExecutor(clock=FakeClock()) as executor:
        result = background(lambda: executor.attempt(task)).result(20)
    assert result.attempts == 0
    assert "args[0] cannot be pickled" in str(task.error)


def test_a_task_among_its_own_arguments_is_not_tried_again() -> None:
    arguments: list[object] = []
    task = Task.python(print, (arguments,), retry=RETRY)
    arguments.append(task)
    with TaskExecutor(clock=FakeClock()) as executor:
        result = bounded(lambda: executor.attempt(task))
    assert result.attempts == 1
    assert "cycle" in str(task.error)


def test_a_handler_that_runs_such_a_task_has_made_its_attempt() -> None:
    missing = Task.bash("true")
    with TaskExecutor() as executor:
        outer = Task.python(lambda: executor.execute(Task.python(print, (missing,))))
        result = bounded(lambda: executor.attempt(outer))
    assert result.attempts == 1


# What a timeout says


def test_the_error_of_a_timed_out_command_begins_with_the_time() -> None:
    task = Task.bash("echo warning >&2; sleep 30", timeout=0.3)
    with TaskExecutor() as executor, pytest.raises(TaskTimeoutError):
        executor.execute(task)
    assert task.result is not None
    assert task.result.error == "Task timed out after 0.3 seconds\nwarning\n"
    assert task.error == "Task timed out after 0.3 seconds"


def test_the_error_of_a_timed_out_handler_begins_with_the_time() -> None:
    clock = FakeClock()

    def handler() -> None:
        from ttasks import current_context

        context = current_context()
        assert context is not None
        context.emit_output("warning\n", "stderr")
        clock.advance(5)
        context.wait_cancelled(60)

    task = Task.python(handler, timeout=5)
    with TaskExecutor(clock=clock) as executor:
        result = bounded(lambda: executor.attempt(task))
    assert result.error == "Task timed out after 5 seconds\nwarning\n"
