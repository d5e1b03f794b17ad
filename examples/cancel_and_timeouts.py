"""Ending things before their time: tasks, commands with children, graphs."""

from __future__ import annotations

import time
from threading import Timer

from ttasks import (
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskTimeoutError,
    TaskType,
)

POLITE = TaskType("polite")


def timed_out_command(executor: TaskExecutor) -> None:
    """The command and all it has started are ended; what it printed so far is kept."""
    task = Task.bash("echo begun; sleep 60 & sleep 60", timeout=0.3)
    try:
        executor.execute(task)
    except TaskTimeoutError as error:
        print("timeout:", error)
    assert task.is_failed
    assert task.result.termination_reason == "timeout"
    assert task.result.output == "begun\n"


def cancelled_command(executor: TaskExecutor) -> None:
    """From any thread; here as soon as the command has printed something."""
    task = Task.bash("echo ready; sleep 60")
    with executor.events.subscribed(
        lambda event: executor.cancel(event.task), types=TaskEventType.OUTPUT
    ):
        try:
            executor.execute(task)
        except TaskCancelled as error:
            print("cancel:", error)
    assert task.is_cancelled
    assert task.result.output == "ready\n"


def cancelled_handler(executor: TaskExecutor) -> None:
    """A handler in Python cannot be ended from outside; it has to look."""

    def polite(context: TaskContext) -> None:
        while not context.wait_cancelled(0.05):
            pass  # a small piece of work
        context.raise_if_cancelled()

    executor.register(POLITE, polite)
    task = Task("polite", None, POLITE)
    future = executor.submit(task)
    timer = Timer(0.2, executor.cancel, [task])
    timer.start()
    assert isinstance(future.exception(), TaskCancelled)
    timer.join()
    assert task.is_cancelled


def stopped_graph(executor: TaskExecutor) -> None:
    """A timeout of the whole run: finally tasks have their own time."""
    graph = TaskGraph("slow")
    slow = graph.add(Task.bash("sleep 60", title="slow"))
    never = graph.add(Task.bash("true", title="never"), after=slow)
    cleanup = graph.add(Task.bash("true", title="cleanup"), after=slow, finally_=True)
    began = time.monotonic()
    graph.run(executor, timeout=0.3, finally_timeout=10)
    assert time.monotonic() - began < 10
    assert slow.is_cancelled
    assert never.is_cancelled
    assert cleanup.is_done
    assert not graph.ok
    print("graph:", graph.run_error)


def main() -> None:
    with TaskExecutor() as executor:
        timed_out_command(executor)
        cancelled_command(executor)
        cancelled_handler(executor)
        stopped_graph(executor)


if __name__ == "__main__":
    main()
