"""Tasks that wait for the futures of tasks they have submitted, which need their places."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from support import WAIT, Gate, bounded, executor_with, make
from ttasks import Task, TaskContext, TaskExecutor, TaskRejectedError

Handle = Callable[[TaskExecutor, Task, TaskContext], Any]


def result(executor: TaskExecutor, inner: Task, context: TaskContext) -> Any:
    return executor.submit(inner).result()


def exception(executor: TaskExecutor, inner: Task, context: TaskContext) -> Any:
    error = executor.submit(inner).exception()
    assert error is not None
    raise error


def awaited(executor: TaskExecutor, inner: Task, context: TaskContext) -> Any:
    async def wait_for() -> None:
        await executor.submit(inner)

    return wait_for()


def parked_first(executor: TaskExecutor, inner: Task, context: TaskContext) -> Any:
    """It has been waiting for its place for long when somebody waits for it."""
    future = executor.submit(inner)
    executor.submit(make("last")).result()  # one worker: it comes after the attempt to start inner
    return future.result()


def nested(executor: TaskExecutor, inner: Task, context: TaskContext) -> Any:
    """A task without a group in between waits for it."""
    return executor.execute(make("middle", payload=inner))


@pytest.mark.parametrize("wait_for", [result, exception, awaited, parked_first, nested])
def test_a_task_that_waits_for_one_which_needs_its_place_is_told(wait_for: Handle) -> None:
    inner = make("inner", group="a")

    def handle(context: TaskContext) -> Any:
        ran.append(context.title)
        if context.title == "middle":
            return executor.submit(inner).result()
        return wait_for(executor, inner, context) if context.title == "outer" else None

    ran: list[str] = []
    executor, _ = executor_with(handle, limits={"a": 1}, max_workers=1)
    with executor, pytest.raises(TaskRejectedError) as caught:
        bounded(lambda: executor.execute(make("outer", group="a")))
    assert "inner" not in ran
    assert inner.is_failed
    assert str(caught.value) == (
        "Task 'inner' would wait for ever for a place in group 'a'; 'outer' has one, and waits for "
        "'inner', which waits for a place in group 'a'. Use execute, run or aexecute there, which "
        "share places"
    )


def test_a_submitted_task_that_waits_for_another_is_told() -> None:
    inner = make("inner", group="a")

    def handle(context: TaskContext) -> Any:
        return executor.submit(inner).result() if context.title == "outer" else None

    executor, _ = executor_with(handle, limits={"a": 1}, max_workers=2)
    with executor:
        future = executor.submit(make("outer", group="a"))
        assert isinstance(bounded(future.exception), TaskRejectedError)


def test_only_the_task_that_is_waited_for_is_refused() -> None:
    """Others of the full group wait, and run afterwards."""
    waiting = [make(f"other {number}", group="a") for number in range(3)]
    inner = make("inner", group="a")

    def handle(context: TaskContext) -> None:
        if context.title == "outer":
            futures.extend(executor.submit(one) for one in waiting)
            futures.append(executor.submit(make("later", group="a")))
            with pytest.raises(TaskRejectedError):
                executor.submit(inner).result()

    futures: list[Any] = []
    executor, _ = executor_with(handle, limits={"a": 1}, max_workers=2)
    with executor:
        bounded(lambda: executor.execute(make("outer", group="a")))
        for future in futures:
            assert bounded(future.result).ok


def test_two_that_wait_for_futures_of_each_others_group() -> None:
    barrier = threading.Barrier(2, timeout=WAIT)

    def handle(context: TaskContext) -> None:
        if context.payload is not None:
            barrier.wait()
            executor.submit(make(f"for {context.title}", group=context.payload)).result()

    executor, _ = executor_with(handle, limits={"a": 1, "b": 1}, max_workers=4)
    with executor:
        futures = [
            executor.submit(make(own, group=own, payload=other)) for own, other in ("ab", "ba")
        ]
        errors = [bounded(future.exception) for future in futures]
    (refused,) = [error for error in errors if error is not None]
    assert "'a' has one, and waits for 'for a', which waits for a place in group 'b'" in str(
        refused
    )


def test_a_group_with_a_free_place_is_waited_for() -> None:
    gate = Gate()

    def handle(context: TaskContext) -> Any:
        if context.title == "holds":
            return gate(context)
        return executor.submit(make("inner", group="b")).result() if context.payload else None

    executor, _ = executor_with(handle, limits={"a": 1, "b": 1}, max_workers=4)
    with executor:
        holder = executor.submit(make("holds", group="b"))
        gate.wait_reached()
        outer = executor.submit(make("outer", group="a", payload="inner"))
        gate.open()
        assert bounded(outer.result).ok
        assert bounded(holder.result).ok


def test_who_waits_for_a_bounded_time_waits_for_that_time() -> None:
    def handle(context: TaskContext) -> Any:
        if context.title == "inner":
            return None
        future = executor.submit(inner)
        with pytest.raises(TimeoutError):
            future.result(timeout=0.05)
        return None

    inner = make("inner", group="a")
    executor, _ = executor_with(handle, limits={"a": 1}, max_workers=1)
    with executor:
        assert bounded(lambda: executor.execute(make("outer", group="a"))).ok
    assert inner.is_succeeded
