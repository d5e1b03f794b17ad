"""What holds for Python tasks on threads, on the event loop and in processes alike."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import callkit
from callkit import BACKENDS, make, recorded
from commandkit import wait_until
from ttasks import (
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskEventType,
    TaskExecutionError,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskTimeoutError,
)

pytestmark = [
    pytest.mark.parametrize("backend", BACKENDS),
    pytest.mark.usefixtures("bare_main"),
]


@pytest.fixture
def executor() -> Iterator[TaskExecutor]:
    with TaskExecutor() as executor:
        yield executor


def test_the_value_is_what_the_function_returns(backend: str, executor: TaskExecutor) -> None:
    task = make(backend, callkit.double, 21)
    result = executor.execute(task)
    assert (result.value, result.raw, result.output) == (42, 42, "")
    assert task.value == 42
    assert result.termination_reason is None


def test_text_that_is_returned_is_the_output(backend: str, executor: TaskExecutor) -> None:
    assert executor.execute(make(backend, callkit.echo, "text")).output == "text"


def test_values_of_other_tasks_arrive_in_arguments(backend: str, executor: TaskExecutor) -> None:
    graph = TaskGraph()
    one = graph.add(make(backend, callkit.double, 1))
    two = graph.add(make(backend, callkit.double, 2))
    given: dict[str, Any] = {"list": [one, {"deep": (two, 5)}], "point": callkit.Point(one, two)}
    nested = graph.add(make(backend, callkit.echo, given))
    graph.run(executor)
    assert nested.value == {"list": [2, {"deep": (4, 5)}], "point": callkit.Point(2, 4)}
    assert type(nested.value["point"]) is callkit.Point
    assert given["list"][0] is one
    assert graph[nested] == (one, two)


def test_arguments_are_not_changed_by_the_call(backend: str, executor: TaskExecutor) -> None:
    graph = TaskGraph()
    one = graph.add(make(backend, callkit.double, 1))
    items = [one, 7]
    task = graph.add(make(backend, callkit.append, items))
    graph.run(executor)
    assert task.value == [2, 7, 0]
    assert items == [one, 7]


def test_reports_become_events_while_it_runs(backend: str, executor: TaskExecutor) -> None:
    events = recorded(executor)
    result = executor.execute(make(backend, callkit.report))
    assert [event.type for event in events] == [
        TaskEventType.STARTED,
        TaskEventType.PROGRESS,
        TaskEventType.OUTPUT,
        TaskEventType.OUTPUT,
        TaskEventType.PROGRESS,
        TaskEventType.SUCCEEDED,
    ]
    assert (events[1].progress_percent, events[1].progress_message) == (25.0, "a quarter ")
    assert (events[2].output_chunk, events[3].output_stream) == ("line \n", "stderr")
    assert (result.output, result.error, result.value) == ("line \n", "trouble\n", "done")


def test_the_context_tells_about_the_attempt(backend: str, executor: TaskExecutor) -> None:
    task = make(
        backend,
        callkit.describe_context,
        title="about",
        description="me",
        timeout=30,
        options={"n": [1]},
    )
    assert executor.execute(task).value == (
        task.id, "about", "me", "python", 30.0, {"n": [1]}, 1, "running", True, False
    )  # fmt: skip


def test_secrets_are_hidden_everywhere(backend: str) -> None:
    with TaskExecutor(
        redact=["hunter2", re.compile("tok_[a-z]+")], capture_locals=True
    ) as executor:
        events = recorded(executor)
        result = executor.execute(make(backend, callkit.report, "hunter2 tok_abc"))
        failing = make(backend, callkit.fail_with_locals, "hunter2")
        with pytest.raises(ValueError):
            executor.execute(failing)
    assert result.output == "line *** ***\n"
    assert events[1].progress_message == "a quarter *** ***"
    assert failing.result is not None
    assert "hunter2" not in repr(failing.result)
    shown = [event.task.payload.args for event in events]
    assert "hunter2" not in repr(shown)
    assert failing.payload.args == ("hunter2",)


def test_a_failure_keeps_type_message_and_place(backend: str, executor: TaskExecutor) -> None:
    task = make(backend, callkit.fail, 7)
    with pytest.raises(ValueError, match="^bad number 7$"):
        executor.execute(task)
    assert task.is_failed
    result = task.result
    assert result is not None
    assert result.failure is not None
    assert (result.termination_reason, result.failure.type) == ("handler", "builtins.ValueError")
    assert "callkit.py" in result.failure.traceback
    assert "in fail\n" in result.failure.traceback
    assert result.failure.locals == {}


def test_locals_are_kept_if_asked_for(backend: str) -> None:
    with TaskExecutor(capture_locals=True) as executor:
        task = make(backend, callkit.fail_with_locals, "open")
        with pytest.raises(ValueError):
            executor.execute(task)
    assert task.result is not None
    assert task.result.failure is not None
    kept = task.result.failure.locals
    assert list(kept) == ["secret", "long", "many", "bad", "within"]
    assert kept["secret"] == "'open'"
    assert kept["long"].startswith("'xxx")
    assert all(len(text) <= 500 for text in kept.values())
    assert kept["many"].startswith("[0, 1, 2")
    assert kept["bad"] == "<repr raised RuntimeError>"
    assert kept["within"] == "{'deep': ['open']}"


def test_a_failure_without_a_text_is_a_failure(backend: str, executor: TaskExecutor) -> None:
    task = make(backend, callkit.fail_without_text)
    with pytest.raises(callkit.BadText):
        executor.execute(task)
    assert task.is_failed
    assert "BadText" in str(task.error)


def test_endless_recursion_is_a_failure(backend: str, executor: TaskExecutor) -> None:
    task = make(backend, callkit.recurse)
    with pytest.raises(RecursionError):
        executor.execute(task)
    assert task.is_failed


def test_too_much_memory_is_a_failure(backend: str, executor: TaskExecutor) -> None:
    task = make(backend, callkit.too_much)
    with pytest.raises((MemoryError, OverflowError)):
        executor.execute(task)
    assert task.is_failed


def test_raising_task_cancelled_cancels(backend: str, executor: TaskExecutor) -> None:
    task = make(backend, callkit.cancel_myself)
    with pytest.raises(TaskCancelled, match="not needed"):
        executor.execute(task)
    assert task.is_cancelled


def test_a_failed_attempt_is_tried_again(backend: str, executor: TaskExecutor) -> None:
    policy = RetryPolicy(3, retry_on=(ConnectionError,))
    task = make(backend, callkit.fail_until, 3, retry=policy)
    result = executor.execute(task)
    assert (result.value, result.attempts) == (3, 3)


def hanging(backend: str, folder: Any, **settings: Any) -> tuple[Task, Any]:
    """A task that never ends by itself, and what waits until it hangs."""
    if backend == "process":
        mark = folder / "ready"
        task = Task.python(callkit.hang, (str(mark),), backend="process", **settings)
        return task, lambda: wait_until(mark.exists)
    begun = threading.Event()

    def wait() -> None:
        context = callkit.here()
        begun.set()
        context.wait_cancelled(600)
        context.raise_if_cancelled()

    async def await_long() -> None:
        begun.set()
        await asyncio.sleep(600)

    func = wait if backend == "thread" else await_long
    return Task.python(func, **settings), lambda: wait_until(begun.is_set)


def test_a_timeout_ends_the_attempt(backend: str, executor: TaskExecutor, tmp_path: Any) -> None:
    task, _ = hanging(backend, tmp_path, timeout=0.2)
    with pytest.raises(TaskTimeoutError, match="0.2 seconds"):
        executor.execute(task)
    assert task.is_failed
    assert task.result is not None
    assert task.result.termination_reason == "timeout"
    assert task.result.duration < 5  # half a second, as benchmarks/callables.py measures


def test_a_cancellation_ends_the_attempt(
    backend: str, executor: TaskExecutor, tmp_path: Any
) -> None:
    task, hangs = hanging(backend, tmp_path)
    future = executor.submit(task)
    hangs()
    assert executor.cancel(task)
    with pytest.raises(TaskCancelled):
        future.result(20)
    assert task.is_cancelled


def test_cancelling_a_graph_ends_what_runs(
    backend: str, executor: TaskExecutor, tmp_path: Any
) -> None:
    graph = TaskGraph()
    task, hangs = hanging(backend, tmp_path)
    graph.add(task)
    after = graph.add(make(backend, callkit.echo, task))
    canceller = threading.Thread(target=lambda: (hangs(), graph.cancel()))
    canceller.start()
    graph.run(executor)
    canceller.join()
    assert (task.status, after.status) == (TaskStatus.CANCELLED, TaskStatus.CANCELLED)
    assert executor.abandoned == 0


def test_aexecute_and_arun_await_the_end(backend: str, executor: TaskExecutor) -> None:
    async def main() -> tuple[Any, ...]:
        first = await executor.aexecute(make(backend, callkit.double, 1))
        submitted = executor.submit(make(backend, callkit.double, 2))
        second = await asyncio.wrap_future(submitted)
        graph = TaskGraph()
        third = graph.add(make(backend, callkit.double, 3))
        fourth = graph.add(make(backend, callkit.double, third))
        await graph.arun(executor)
        return first.value, second.value, third.value, fourth.value

    assert asyncio.run(main()) == (2, 4, 6, 12)


def test_cancelling_aexecute_cancels_the_task(
    backend: str, executor: TaskExecutor, tmp_path: Any
) -> None:
    task, hangs = hanging(backend, tmp_path)

    async def main() -> None:
        waiting = asyncio.ensure_future(executor.aexecute(task))
        await asyncio.to_thread(hangs)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    assert task.is_cancelled


def test_a_missing_value_is_a_failure_that_names_the_upstream(
    backend: str, executor: TaskExecutor
) -> None:
    upstream = make(backend, callkit.fail, 1, title="the source")
    task = make(backend, callkit.echo, [upstream])
    with pytest.raises(TaskExecutionError, match="echo.*'the source'.*is pending"):
        executor.execute(task)
    with pytest.raises(ValueError):
        executor.execute(upstream)
    with pytest.raises(TaskExecutionError, match="'the source'.*is failed: bad number 1"):
        executor.execute(make(backend, callkit.echo, upstream))


def test_many_at_once_give_each_its_own_value(backend: str, executor: TaskExecutor) -> None:
    graph = TaskGraph()
    tasks = [graph.add(make(backend, callkit.double, number)) for number in range(60)]
    graph.run(executor, max_workers=4)
    assert [task.value for task in tasks] == [2 * number for number in range(60)]
