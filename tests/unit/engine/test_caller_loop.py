"""Coroutine tasks of arun and aexecute run on the loop of whoever awaits them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import Context, ContextVar
from typing import Any, TypeVar

import pytest

from support import WAIT, Gate, bounded, executor_with, make, wait
from ttasks import (
    Task,
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskExecutionError,
    TaskExecutor,
    TaskFuture,
    TaskGraph,
    TaskTimeoutError,
    current_context,
)
from ttasks.backends import caller_loop
from ttasks.testing import FakeClock

T = TypeVar("T")
COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


def arun(coroutine: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, bounded in time, and strict about what is left in the loop."""

    async def main() -> T:
        value = await asyncio.wait_for(coroutine, WAIT)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return value

    return asyncio.run(main())


async def own_loop() -> asyncio.AbstractEventLoop:
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


# Where they run


def test_a_task_of_arun_may_await_a_queue_of_the_caller() -> None:
    async def main() -> Any:
        queue: asyncio.Queue[str] = asyncio.Queue()

        async def producer() -> None:
            await asyncio.sleep(0)
            await queue.put("from the caller's loop")

        async def consumer() -> str:
            return await queue.get()

        graph = TaskGraph()
        task = graph.add(Task.python(consumer))
        graph.add(Task.python(producer))
        with TaskExecutor() as executor:
            await graph.arun(executor)
        return task.value

    assert arun(main()) == "from the caller's loop"


def test_aexecute_runs_a_coroutine_on_the_callers_loop() -> None:
    async def main() -> None:
        with TaskExecutor() as executor:
            result = await executor.aexecute(Task.python(own_loop))
        assert result.value is asyncio.get_running_loop()

    arun(main())


def test_submit_runs_a_coroutine_on_the_executors_loop_also_if_it_is_awaited() -> None:
    async def main() -> None:
        async with TaskExecutor() as executor:
            result = await executor.submit(Task.python(own_loop))
        assert result.value is not asyncio.get_running_loop()

    arun(main())


def test_submit_in_a_coroutine_of_arun_does_not_depend_on_the_callers_loop() -> None:
    async def main() -> Any:
        async with TaskExecutor() as executor:

            async def submits() -> TaskFuture:
                return executor.submit(Task.python(own_loop))

            result = await executor.aexecute(Task.python(submits))
            inner = await result.value
        return inner.value is asyncio.get_running_loop()

    assert arun(main()) is False


def test_a_graph_run_by_a_handler_of_arun_uses_the_callers_loop_too() -> None:
    async def main() -> None:
        async with TaskExecutor() as executor:
            inner = TaskGraph()
            task = inner.add(Task.python(own_loop))
            outer = TaskGraph()
            outer.add(Task.python(lambda: inner.run(executor).ok))
            await outer.arun(executor)
        assert task.value is asyncio.get_running_loop()

    arun(main())


def test_arun_in_a_coroutine_on_the_executors_loop_stays_there() -> None:
    executor = TaskExecutor()

    async def outer() -> tuple[Any, Any]:
        graph = TaskGraph()
        task = graph.add(Task.python(own_loop))
        await graph.arun(executor)
        return task.value, asyncio.get_running_loop()

    with executor:
        inner, mine = bounded(lambda: executor.execute(Task.python(outer))).value
    assert inner is mine


def test_a_coroutine_on_the_callers_loop_must_not_block_it_by_a_run() -> None:
    async def main() -> None:
        async with TaskExecutor() as executor:

            async def blocks() -> None:
                TaskGraph().run(executor)

            with pytest.raises(RuntimeError, match=r"use await graph\.arun\(executor\)"):
                await executor.aexecute(Task.python(blocks))

    arun(main())


def test_ends_are_announced_off_the_callers_loop() -> None:
    announced: list[int] = []

    def note(event: TaskEvent) -> None:
        announced.append(threading.get_ident())

    async def main() -> None:
        executor = TaskExecutor()
        executor.events.subscribe(note)
        async with executor:
            await executor.aexecute(Task.python(own_loop))

    arun(main())
    assert len(announced) == 2
    assert threading.get_ident() not in announced


def test_the_coroutine_has_its_context_and_the_variables_of_the_caller() -> None:
    async def handler(context: TaskContext) -> str:
        await asyncio.sleep(0)
        assert current_context() is context
        context.emit_output("said\n")
        return COLOUR.get()

    async def main() -> Any:
        COLOUR.set("red")
        executor, recorder = executor_with(handler)
        async with executor:
            result = await executor.aexecute(make("t"))
        recorder.check()
        assert result.output == "said\n"
        return result.value

    assert arun(main()) == "red"


# How they end


def test_system_exit_of_a_task_does_not_end_the_callers_loop() -> None:
    async def exits() -> None:
        raise SystemExit(3)

    async def main() -> str:
        async with TaskExecutor() as executor:
            with pytest.raises(SystemExit):
                await executor.aexecute(Task.python(exits))
        return "goes on"

    assert arun(main()) == "goes on"


def test_what_a_coroutine_raises_comes_out_of_aexecute() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise StopIteration("odd")

    async def main() -> None:
        async with TaskExecutor() as executor:
            # Python itself makes this of a StopIteration in a coroutine.
            with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
                await executor.aexecute(Task.python(fails))

    arun(main())


def test_cancelling_arun_cancels_the_coroutines_and_waits_for_their_cleanup() -> None:
    cleaned: list[str] = []

    async def main() -> Task:
        started = asyncio.Event()

        async def sleeps() -> None:
            started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                cleaned.append("up")

        graph = TaskGraph()
        task = graph.add(Task.python(sleeps))
        async with TaskExecutor() as executor:
            run = asyncio.create_task(graph.arun(executor))
            await started.wait()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert cleaned == ["up"]
        return task

    assert arun(main()).is_cancelled


def test_a_timeout_cancels_the_coroutine_on_the_callers_loop() -> None:
    cancelled: list[str] = []
    clock = FakeClock()

    async def sleeps() -> None:
        clock.advance(60)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append("yes")
            raise

    async def main() -> None:
        async with TaskExecutor(clock=clock) as executor:
            with pytest.raises(TaskTimeoutError):
                await executor.aexecute(Task.python(sleeps, timeout=60))
        assert cancelled == ["yes"]

    arun(main())


def test_a_coroutine_whose_loop_is_closed_fails_and_hangs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caller_loop, "LOOK_SECONDS", 0.01)
    executor = TaskExecutor()
    ended: Future[Task] = Future()
    started = threading.Event()

    async def sleeps() -> None:
        started.set()
        await asyncio.sleep(3600)

    task = Task.python(sleeps)
    executor.events.subscribe(lambda event: event.error and ended.set_result(event.task))

    async def main() -> None:
        waiting.append(asyncio.create_task(executor.aexecute(task)))
        while not started.is_set():
            await asyncio.sleep(0)

    waiting: list[asyncio.Task[Any]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert ended.result(WAIT).is_failed
    executor.shutdown()
    assert task.error is not None
    assert "was closed before the coroutine had ended" in task.error
    waiting[0]._log_destroy_pending = False  # type: ignore[attr-defined]


def test_an_executor_does_not_wait_for_a_loop_that_is_closed_already() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    coroutine = own_loop()
    elsewhere = caller_loop.Elsewhere(coroutine, loop, Context())

    async def main() -> None:
        with pytest.raises(TaskExecutionError, match="was closed"):
            await elsewhere

    arun(main())
    elsewhere.close()


# Futures that can be awaited


def test_a_future_of_submit_can_be_awaited_by_several() -> None:
    async def main() -> None:
        async with TaskExecutor() as executor:
            future = executor.submit(Task.python(lambda: 7))
            results = await asyncio.gather(*(wait_for(future) for _ in range(3)))
        assert [result.value for result in results] == [7, 7, 7]
        assert future.result() is results[0]

    async def wait_for(future: TaskFuture) -> Any:
        return await future

    arun(main())


def test_an_awaited_future_raises_what_the_handler_raised() -> None:
    async def main() -> None:
        async with TaskExecutor() as executor:
            with pytest.raises(ZeroDivisionError):
                await executor.submit(Task.python(lambda: 1 / 0))

    arun(main())


def test_a_cancelled_await_cancels_the_task_and_waits_for_its_end() -> None:
    started = threading.Event()

    def handler(context: TaskContext) -> None:
        started.set()
        assert context.wait_cancelled(WAIT)
        context.raise_if_cancelled()

    async def main() -> Task:
        executor, recorder = executor_with(handler)
        task = make("t")

        async def waits() -> None:
            await executor.submit(task)

        async with executor:
            waiting = asyncio.create_task(waits())
            while not started.is_set():
                await asyncio.sleep(0.001)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert task.is_cancelled
        recorder.check()
        return task

    assert arun(main()).is_cancelled


# async with


def test_async_with_waits_for_the_work_and_lets_the_loop_go_on() -> None:
    gate = Gate()

    async def main() -> list[str]:
        went_on = []
        executor, _ = executor_with(gate)

        async def opens() -> None:
            while not gate.reached.is_set():
                await asyncio.sleep(0.001)
            went_on.append("on")
            gate.open()

        opening = asyncio.create_task(opens())
        async with executor:
            future = executor.submit(make("t"))
        await opening
        assert executor.is_shutdown
        assert future.done()
        return went_on

    assert arun(main()) == ["on"]


def test_a_cancelled_async_with_cancels_what_is_left() -> None:
    started = threading.Event()

    def handler(context: TaskContext) -> None:
        started.set()
        assert context.wait_cancelled(WAIT)
        context.raise_if_cancelled()

    async def main() -> None:
        executor, _ = executor_with(handler)
        futures = []

        async def block() -> None:
            async with executor:
                futures.append(executor.submit(make("t")))

        blocking = asyncio.create_task(block())
        while not started.is_set():
            await asyncio.sleep(0.001)
        blocking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocking
        with pytest.raises(TaskCancelled):
            futures[0].result(0)

    arun(main())
    wait(started)
