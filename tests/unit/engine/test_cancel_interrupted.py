"""Ctrl-C in the main thread while it cancels: the ends that have begun are completed first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from ttasks import InMemoryStore, Task, TaskEvent, TaskExecutor, TaskGraph, TaskStatus, TaskType

KIND = TaskType("cancel interrupted")


def _interrupt(_event: TaskEvent) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "end",
    [
        lambda executor, task: executor.cancel(task),
        lambda executor, task: executor.mark_blocked(task, "parent"),
    ],
)
def test_interrupted_end_is_announced(end: Callable[[TaskExecutor, Task], object]) -> None:
    seen = []
    with TaskExecutor(InMemoryStore()) as executor:
        executor.events.subscribe(_interrupt)
        executor.events.subscribe(lambda event: seen.append(event.status))
        task = Task("waiting", None, KIND)
        with pytest.raises(KeyboardInterrupt):
            end(executor, task)
    assert seen == [task.status]


def test_interrupted_graph_cancel_lets_the_run_end() -> None:
    graph = TaskGraph()
    started = threading.Event()
    with TaskExecutor() as executor:

        @executor.handler(KIND)
        def wait(context) -> None:
            started.set()
            context.wait_cancelled(10)

        first = graph.add(Task("first", None, KIND))
        rest = [graph.add(Task("rest", None, KIND), after=first) for _ in range(3)]
        executor.events.subscribe(_interrupt)
        thread = threading.Thread(target=graph.run, args=(executor,), daemon=True)
        thread.start()
        assert started.wait(10)
        with pytest.raises(KeyboardInterrupt):
            graph.cancel()
        thread.join(10)
        assert not thread.is_alive()
    assert {task.status for task in rest} == {TaskStatus.CANCELLED}
