"""cancel_all, and a shutdown with a time limit."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support import WAIT, FakeHandler, Obedient, background, executor_with, make, statuses, wait
from ttasks import TaskCancelled, TaskContext, TaskExecutor, TaskGraph
from ttasks.testing import FakeClock


def test_cancel_all_cancels_queued_and_running_work_and_the_executor_goes_on() -> None:
    handler = Obedient()
    script = FakeHandler({"blocks": handler})
    executor, recorder = executor_with(script, max_workers=1)
    with executor:
        running, queued = executor.submit(make("blocks")), executor.submit(make("queued"))
        handler.wait_reached()
        executor.cancel_all()
        later = executor.submit(make("later"))
        for future in (running, queued):
            with pytest.raises(TaskCancelled):
                future.result(WAIT)
        assert later.result(WAIT).status.value == "succeeded"
        executor.cancel_all()  # of nothing
        assert executor.execute(make("last")).status.value == "succeeded"
    assert "queued" not in script.calls
    recorder.check()


def test_cancel_all_stops_graphs_but_for_their_finally_tasks() -> None:
    handler = Obedient()
    executor, recorder = executor_with(FakeHandler({"blocks": handler}))
    graph = TaskGraph()
    first = graph.add(make("blocks"))
    graph.add(make("after"), after=first)
    graph.add(make("cleanup"), after=first, finally_=True)
    running = background(lambda: graph.run(executor))
    handler.wait_reached()
    executor.cancel_all()
    running.result(WAIT)
    assert statuses(graph) == {"blocks": "cancelled", "after": "cancelled", "cleanup": "succeeded"}
    assert TaskGraph().run(executor).ok
    recorder.check()


def test_cancel_all_may_be_called_by_a_handler_and_after_the_shutdown() -> None:
    def handler(context: TaskContext) -> None:
        executor.cancel_all()
        assert context.cancelled

    executor, recorder = executor_with(handler)
    with pytest.raises(TaskCancelled):
        executor.submit(make("t")).result(WAIT)
    executor.shutdown()
    executor.cancel_all()
    recorder.check()


# Shutdown with a limit


def test_a_shutdown_waits_no_longer_than_its_timeout_and_cancels_the_rest() -> None:
    clock, handler = FakeClock(), Obedient()
    executor, recorder = executor_with(handler, clock=clock)
    future = executor.submit(make("t"))
    handler.wait_reached()
    ending = background(lambda: executor.shutdown(timeout=5))
    clock.wait_for_waits(2)  # the handler's, and that of the shutdown
    assert not future.done()
    clock.advance(5)
    ending.result(WAIT)
    with pytest.raises(TaskCancelled):
        future.result(0)
    recorder.check()


def test_a_shutdown_with_a_timeout_ends_with_the_work() -> None:
    def handler(context: TaskContext) -> Any:
        started.append(1)
        wait(go_on)
        return 7

    go_on, started = threading.Event(), []
    clock = FakeClock()
    executor, recorder = executor_with(handler, clock=clock)
    future = executor.submit(make("t"))
    ending = background(lambda: executor.shutdown(timeout=60))
    clock.wait_for_waits(1)
    go_on.set()
    ending.result(WAIT)
    assert future.result(0).value == 7
    assert clock.waiting == 0
    recorder.check()


def test_a_shutdown_without_time_cancels_at_once_and_an_idle_one_waits_for_nothing() -> None:
    handler = Obedient()
    executor, _ = executor_with(handler)
    future = executor.submit(make("t"))
    handler.wait_reached()
    executor.shutdown(timeout=0)
    with pytest.raises(TaskCancelled):
        future.result(0)
    executor.shutdown(timeout=0)
    TaskExecutor(clock=FakeClock()).shutdown(timeout=60)
