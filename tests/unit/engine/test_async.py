"""Coroutines on both sides: async handlers, aexecute and arun."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from contextvars import ContextVar
from typing import Any, TypeVar

import pytest

from support import (
    WAIT,
    FailingStore,
    FakeHandler,
    Gate,
    Obedient,
    background,
    bounded,
    executor_with,
    make,
    run,
    statuses,
    threads,
    wait,
)
from ttasks import (
    RetryPolicy,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskTimeoutError,
    current_context,
)
from ttasks.backends import loop_thread as loop_module

T = TypeVar("T")
COLOUR: ContextVar[str] = ContextVar("COLOUR", default="none")


def arun(coroutine: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, bounded in time, and strict about what is left in the loop."""

    async def main() -> T:
        value = await asyncio.wait_for(coroutine, WAIT)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return value

    return asyncio.run(main())


async def reached(event: threading.Event) -> None:
    """Wait for an event of a thread while the loop goes on."""
    while not event.is_set():
        await asyncio.sleep(0.001)


# Async handlers


def test_a_coroutine_handler_runs_in_a_loop_and_knows_its_context() -> None:
    async def handler(context: TaskContext) -> str:
        await asyncio.sleep(0)
        assert current_context() is context
        inner = await asyncio.create_task(asyncio.sleep(0, COLOUR.get()))
        context.emit_output("said\n")
        context.emit_progress(50)
        return f"{inner} {context.title}"

    executor, recorder = executor_with(handler)
    COLOUR.set("red")
    result = bounded(lambda: executor.execute(make("t")))
    assert result.value == "none t"  # a new thread has contexts of its own
    assert executor.execute(make("t")).value == "red t"
    assert result.output == "said\n"
    assert threads() == []
    recorder.check()


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ValueError("boom"), TaskStatus.FAILED),
        (TaskCancelled("no"), TaskStatus.CANCELLED),
        (SystemExit(3), TaskStatus.FAILED),
        (TimeoutError("mine"), TaskStatus.FAILED),
    ],
)
def test_what_a_coroutine_raises_is_what_a_plain_handler_raises(
    raised: BaseException, status: TaskStatus
) -> None:
    async def handler(context: TaskContext) -> None:
        await asyncio.sleep(0)
        raise raised

    executor, recorder = executor_with(handler)
    task = make("t")
    with pytest.raises(type(raised)):
        bounded(lambda: executor.execute(task))
    assert task.status is status
    assert threads() == []
    recorder.check()


def test_a_coroutine_that_cancels_itself_is_cancelled() -> None:
    async def handler(context: TaskContext) -> None:
        raise asyncio.CancelledError

    executor, recorder = executor_with(handler)
    task = make("t")
    with pytest.raises(TaskCancelled):
        bounded(lambda: executor.execute(task))
    assert task.is_cancelled
    recorder.check()


def test_system_exit_of_one_coroutine_does_not_end_another() -> None:
    waiting, go_on = threading.Event(), threading.Event()

    async def handler(context: TaskContext) -> str:
        if context.title == "exits":
            raise SystemExit(3)
        waiting.set()
        await reached(go_on)
        return "well"

    executor, recorder = executor_with(handler)
    with executor:
        other = executor.submit(make("other"))
        wait(waiting)
        with pytest.raises(SystemExit):
            executor.submit(make("exits")).result(WAIT)
        go_on.set()
        assert other.result(WAIT).value == "well"
    recorder.check()


def test_coroutines_share_one_loop() -> None:
    async def handler(context: TaskContext) -> None:
        loops.append(asyncio.get_running_loop())
        while len(loops) < 4:  # all four are in flight
            await asyncio.sleep(0.001)

    loops: list[asyncio.AbstractEventLoop] = []
    executor, recorder = executor_with(handler, max_workers=4)
    with executor:
        futures = [executor.submit(make(str(n))) for n in range(4)]
        for future in futures:
            future.result(WAIT)
    assert len(set(loops)) == 1
    assert threads() == []
    recorder.check()


def test_cancel_cancels_the_coroutine_which_may_clean_up() -> None:
    started = threading.Event()
    cleaned: list[str] = []

    async def handler(context: TaskContext) -> None:
        try:
            started.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append("cleaned")

    executor, recorder = executor_with(handler)
    task = make("t")
    with executor:
        future = executor.submit(task)
        wait(started)
        assert executor.cancel(task)
        with pytest.raises(TaskCancelled):
            future.result(WAIT)
    assert cleaned == ["cleaned"]
    assert task.is_cancelled
    recorder.check()


def test_a_coroutine_that_takes_too_long_is_cancelled() -> None:
    cleaned: list[str] = []

    async def handler(context: TaskContext) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            assert context.remaining() == 0
            cleaned.append("cleaned")

    executor, recorder = executor_with(handler)
    task = make("t", timeout=0.05)
    with pytest.raises(TaskTimeoutError, match=r"0\.05 seconds"):
        bounded(lambda: executor.execute(task))
    assert task.is_failed
    assert cleaned == ["cleaned"]
    assert executor.abandoned == 0
    assert threads() == []
    recorder.check()


def test_a_coroutine_that_blocks_its_loop_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "LOOP_PATIENCE", 0.05)
    gate = threading.Event()

    async def handler(context: TaskContext) -> None:
        wait(gate)

    executor, recorder = executor_with(handler)
    task = make("t", timeout=0.05)
    with pytest.raises(TaskTimeoutError):
        bounded(lambda: executor.execute(task))
    assert executor.abandoned == 1
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ttasks"):
            thread.join(WAIT)
    assert executor.abandoned == 0
    recorder.check()


def test_async_handlers_in_a_graph_are_cancelled_with_it() -> None:
    started = threading.Barrier(3)

    async def handler(context: TaskContext) -> str:
        if context.title == "last":
            return "last"
        await asyncio.get_running_loop().run_in_executor(None, started.wait, WAIT)
        await asyncio.sleep(60)
        return "never"

    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    first, second = graph.add(make("a")), graph.add(make("b"))
    graph.add(make("last"), after=[first, second], finally_=True)
    future = background(lambda: graph.run(executor))
    started.wait(WAIT)
    graph.cancel()
    future.result(WAIT)
    assert statuses(graph) == {"a": "cancelled", "b": "cancelled", "last": "succeeded"}
    recorder.check(graph)


# aexecute


def test_aexecute_returns_and_raises_what_execute_does() -> None:
    executor, recorder = executor_with(FakeHandler({"good": 42, "bad": ValueError("boom")}))

    async def main() -> None:
        assert (await executor.aexecute(make("good"))).value == 42
        with pytest.raises(ValueError, match="boom"):
            await executor.aexecute(make("bad"))
        with pytest.raises(ValueError, match="boom"):
            await executor.aexecute(make("bad"), retry_policy=RetryPolicy(3))
        with pytest.raises(TypeError, match="task"):
            await executor.aexecute("t")  # type: ignore[arg-type]

    with executor:
        arun(main())
    with pytest.raises(RuntimeError, match="shut down"):
        arun(executor.aexecute(make("late")))
    recorder.check()


def test_aexecute_does_not_block_the_loop() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate)

    async def main() -> list[TaskStatus]:
        calls = [asyncio.create_task(executor.aexecute(make(str(n)))) for n in range(3)]
        await reached(gate.reached)
        gate.open()
        return [result.status for result in await asyncio.gather(*calls)]

    with executor:
        assert arun(main()) == [TaskStatus.SUCCEEDED] * 3
    recorder.check()


def test_cancelling_who_awaits_aexecute_cancels_the_task_and_waits_for_its_end() -> None:
    obedient = Obedient()
    executor, recorder = executor_with(obedient)
    task = make("t")

    async def main() -> None:
        call = asyncio.create_task(executor.aexecute(task))
        await reached(obedient.reached)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert task.is_cancelled
        assert not executor.is_running(task.id)

    with executor:
        arun(main())
    recorder.check()


def test_a_second_cancellation_does_not_let_go_of_the_task() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate)
    task = make("t")

    async def main() -> None:
        call = asyncio.create_task(executor.aexecute(task))
        await reached(gate.reached)
        for _ in range(3):
            call.cancel()
            await asyncio.sleep(0.01)
            assert not call.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert task.is_cancelled

    with executor:
        arun(main())
    recorder.check()


def test_cancelling_who_awaits_queued_work_does_not_wait_for_the_queue() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate, max_workers=1)
    task = make("queued")

    async def main() -> None:
        first = asyncio.create_task(executor.aexecute(make("first")))
        await reached(gate.reached)
        call = asyncio.create_task(executor.aexecute(task))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert task.is_cancelled
        assert not first.done()
        gate.open()
        await first

    with executor:
        arun(main())
    assert recorder.of(task) == [TaskEventType.CANCELLED]
    recorder.check()


def test_wait_for_ends_a_task_that_takes_too_long() -> None:
    executor, recorder = executor_with(Obedient())
    task = make("t")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.aexecute(task), 0.05)

    with executor:
        arun(main())
    assert task.is_cancelled
    recorder.check()


# arun


def test_arun_runs_a_graph_and_returns_it() -> None:
    executor, recorder = executor_with(FakeHandler({"b": ValueError("boom")}))
    graph = TaskGraph()
    graph.add(make("c"), after=graph.add(make("b"), after=graph.add(make("a"))))
    assert arun(graph.arun(executor)) is graph
    assert statuses(graph) == {"a": "succeeded", "b": "failed", "c": "blocked"}
    recorder.check(graph)


def test_arun_never_blocks_the_loop_not_even_in_the_store() -> None:
    saving, go_on = threading.Event(), threading.Event()

    class SlowStore(FailingStore):
        def __init__(self) -> None:
            super().__init__()
            save = self.graphs.save

            def slowly(graph: TaskGraph) -> None:
                saving.set()
                wait(go_on)
                save(graph)

            self.graphs.save = slowly  # type: ignore[method-assign]

    gate = Gate()
    executor, recorder = executor_with(gate, store=SlowStore())
    graph = TaskGraph()
    graph.add(make("a"))

    async def main() -> None:
        call = asyncio.create_task(graph.arun(executor))
        await reached(saving)  # the loop goes on while the store does not
        go_on.set()
        await reached(gate.reached)
        gate.open()
        await call

    arun(main())
    assert graph.ok
    recorder.check(graph)


def test_two_graphs_run_in_one_loop_at_the_same_time() -> None:
    barrier = threading.Barrier(2)
    executor, recorder = executor_with(lambda context: barrier.wait(WAIT))
    graphs = [TaskGraph("one"), TaskGraph("two")]
    for graph in graphs:
        graph.add(make("a"))

    async def main() -> None:
        await asyncio.gather(*(graph.arun(executor, 1) for graph in graphs))

    arun(main())
    assert all(graph.ok for graph in graphs)
    recorder.check()


def test_errors_of_arun_are_those_of_run() -> None:
    executor, recorder = executor_with(FakeHandler())
    graph = TaskGraph()
    task = make("a")
    graph.add(task, after=make("elsewhere"))

    async def main() -> None:
        with pytest.raises(ValueError, match="elsewhere"):
            await graph.arun(executor)
        with pytest.raises(ValueError, match="max_workers"):
            await graph.arun(executor, 0)
        with pytest.raises(TypeError, match="executor"):
            await graph.arun("executor")  # type: ignore[arg-type]

    arun(main())
    assert task.is_pending
    assert recorder.events == []


def stoppable(handler: Any) -> tuple[TaskGraph, TaskExecutor, Any]:
    executor, recorder = executor_with(handler)
    graph = TaskGraph()
    first = graph.add(make("first"))
    graph.add(make("last"), after=graph.add(make("second"), after=first), finally_=True)
    return graph, executor, recorder


STOPPED = {"first": "cancelled", "second": "cancelled", "last": "succeeded"}


def test_cancelling_who_awaits_arun_stops_the_run_and_waits_for_its_finally_tasks() -> None:
    obedient, last = Obedient(), Gate()
    graph, executor, recorder = stoppable(FakeHandler({"first": obedient, "last": last}))

    async def main() -> None:
        call = asyncio.create_task(graph.arun(executor))
        await reached(obedient.reached)
        call.cancel()
        await reached(last.reached)
        assert not call.done()
        last.open()
        with pytest.raises(asyncio.CancelledError):
            await call

    arun(main())
    assert statuses(graph) == STOPPED
    recorder.check(graph)


def test_cancelling_who_awaits_arun_a_second_time_ends_the_finally_tasks_too() -> None:
    obedient, last = Obedient(), Obedient()
    graph, executor, recorder = stoppable(FakeHandler({"first": obedient, "last": last}))

    async def main() -> None:
        call = asyncio.create_task(graph.arun(executor))
        await reached(obedient.reached)
        call.cancel()
        await reached(last.reached)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    arun(main())
    assert statuses(graph) == {**STOPPED, "last": "cancelled"}
    recorder.check(graph)


def test_a_cancellation_that_comes_before_the_run_has_begun_is_not_lost() -> None:
    starting, go_on = threading.Event(), threading.Event()
    handler = FakeHandler({"first": Obedient()})
    graph, executor, recorder = stoppable(handler)
    nodes = graph.nodes

    def slowly() -> Any:
        starting.set()
        wait(go_on)
        return nodes()

    graph.nodes = slowly  # type: ignore[method-assign]

    async def main() -> None:
        call = asyncio.create_task(graph.arun(executor))
        await reached(starting)
        call.cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call

    arun(main())
    assert statuses(graph) == STOPPED
    assert handler.calls == ["last"]
    recorder.check(graph)


def test_arun_cancelled_at_any_moment_ends_and_runs_its_finally_task() -> None:
    async def main(steps: int) -> None:
        graph, executor, recorder = stoppable(FakeHandler({"first": Obedient()}))
        call = asyncio.create_task(graph.arun(executor))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        if steps:
            assert statuses(graph) == STOPPED
        recorder.check(graph)

    for steps in range(60):
        arun(main(steps))


def test_a_graph_run_awaited_inside_an_async_handler_does_not_block_its_loop() -> None:
    inner = TaskGraph("inner")
    inner.add(make("b"), after=inner.add(make("a")))

    async def handler(context: TaskContext) -> str:
        if context.title == "outer":
            await inner.arun(executor, 1)
        await asyncio.sleep(0)
        return context.title

    executor, recorder = executor_with(handler, max_workers=1)
    graph = TaskGraph()
    graph.add(make("outer"))
    assert run(graph, executor, 1).ok
    assert inner.ok
    recorder.check()


@pytest.mark.parametrize("blocking", ["execute", "run"])
def test_what_would_block_the_loop_of_its_own_tasks_is_refused(blocking: str) -> None:
    executor = TaskExecutor.empty()
    inner = make("inner")

    async def handler(context: TaskContext) -> None:
        if context.title == "inner":
            return
        if blocking == "execute":
            executor.execute(inner)
        else:
            graph = TaskGraph()
            graph.add(inner)
            graph.run(executor)

    executor.register(inner.type, handler)
    with pytest.raises(RuntimeError, match="use await"):
        bounded(lambda: executor.execute(make("outer")))
    assert inner.is_pending


def test_coroutines_await_other_tasks_and_graphs_of_their_executor() -> None:
    executor = TaskExecutor.empty()
    ended: list[str] = []

    async def handler(context: TaskContext) -> None:
        if context.title == "outer":
            await executor.aexecute(make("one"))
            graph = TaskGraph()
            graph.add(make("two"))
            await graph.arun(executor)
        ended.append(context.title)

    executor.register(make("t").type, handler)
    bounded(lambda: executor.execute(make("outer")))
    assert ended == ["one", "two", "outer"]


def test_coroutines_with_a_timeout_take_no_thread_each() -> None:
    executor = TaskExecutor.empty()
    most = 0

    async def handler(context: TaskContext) -> None:
        nonlocal most
        most = max(most, sum(thread.name.startswith("ttasks") for thread in threading.enumerate()))
        await asyncio.sleep(0)

    graph = TaskGraph()
    for number in range(50):
        task = graph.add(make(str(number), timeout=10))
    executor.register(task.type, handler)
    bounded(lambda: graph.run(executor, 2))
    assert graph.ok
    assert most <= 3  # two workers and the loop


@pytest.mark.parametrize("error", [StopIteration(3), CancelledError("mine")])
def test_aexecute_raises_what_asyncio_takes_for_something_else(error: Exception) -> None:
    def handler(context: TaskContext) -> None:
        raise error

    executor, recorder = executor_with(handler)
    task = make("t")

    async def main() -> BaseException | None:
        try:
            await executor.aexecute(task)
        except (RuntimeError, CancelledError) as raised:
            return raised.__cause__ if isinstance(raised, RuntimeError) else raised
        return None

    assert arun(main()) is error  # a coroutine raises a StopIteration as a RuntimeError
    assert task.is_failed
    recorder.check()
