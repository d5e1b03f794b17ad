"""Futures of submitted tasks, and how an event loop waits for work on threads."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from ttasks import sync
from ttasks.backends.loop import CALLER_LOOP
from ttasks.errors import TaskCancelled
from ttasks.model.result import R_co, TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
Await = Callable[[Task], AbstractContextManager[None]]
"""Gives what is entered while the future of a task is waited for; see `Scheduler.awaiting`."""


class TaskFuture(Future[TaskResult[R_co]]):
    """The result of a submitted task: a `concurrent.futures.Future` that can be awaited.

    It raises what ``execute`` would raise. Thread-safe.

    ``cancel()`` cancels a task that has not started; `TaskExecutor.cancel` also one that runs. A
    coroutine that awaits the future and is cancelled cancels the task, whether or not it runs, and
    waits for its end, as `TaskExecutor.aexecute` does.

    Example:
        >>> import asyncio
        >>> from ttasks import Task, TaskExecutor
        >>> async def main(executor):
        ...     return (await executor.submit(Task.bash("echo hello"))).output
        >>> with TaskExecutor() as executor:
        ...     asyncio.run(main(executor))
        'hello\\n'
    """

    def __init__(self, task: Task, cancel: Callable[[Task], object], awaiting: Await) -> None:
        super().__init__()
        self._task = task
        self._cancel_task = cancel
        self._awaiting = awaiting

    def result(self, timeout: float | None = None) -> TaskResult[R_co]:
        """See `concurrent.futures.Future.result`."""
        with self._waiting(timeout):
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """See `concurrent.futures.Future.exception`."""
        with self._waiting(timeout):
            return super().exception(timeout)

    def __await__(self) -> Generator[Any, Any, TaskResult[R_co]]:
        return self._wait().__await__()

    async def _wait(self) -> TaskResult[R_co]:
        with self._waiting(None):
            return await wait_submitted(
                self, lambda: self.cancel() or self._cancel_task(self._task)
            )

    def _waiting(self, timeout: float | None) -> AbstractContextManager[None]:
        return nullcontext() if timeout is not None or self.done() else self._awaiting(self._task)


class Promise:
    """The future of a submitted task, for whoever keeps it.

    Whoever runs the task calls ``may_start`` and ``end``, never at the same time.
    """

    def __init__(self, task: Task, cancel: Callable[[Task], object], awaiting: Await) -> None:
        self._task = task
        self._is_started: bool | None = None
        self.future = TaskFuture(task, cancel, awaiting)
        self.future.add_done_callback(lambda done: cancel(task) if done.cancelled() else None)

    def may_start(self) -> bool:
        """Mark the future as running; False if it was cancelled before."""
        self._is_started = self.future.set_running_or_notify_cancel()
        return self._is_started

    def end(self, status: TaskStatus, error: BaseException | None) -> None:
        """Set the outcome of the task."""
        if self._is_started is None:
            self.may_start()
        if not self._is_started:
            return
        if error is not None:
            self.future.set_exception(error)
        elif status is TaskStatus.SUCCEEDED and self._task.result is not None:
            self.future.set_result(self._task.result)
        else:
            self.future.set_exception(TaskCancelled())


async def wait_submitted(future: Future[T], cancel: Callable[[], object]) -> T:
    """Await a future of another thread; if cancelled, cancel the work and wait for its end.

    The exception of the future is raised unchanged. ``asyncio.wrap_future`` replaces some
    exceptions, and on Python 3.11 it waits for ever if there is a StopIteration.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(set_done)

    def set_done() -> None:
        if not done.done():
            done.set_result(None)

    future.add_done_callback(wake)
    try:
        await asyncio.shield(done)
    except asyncio.CancelledError:
        await _wait_for_end(done, cancel)
        raise
    return future.result()


async def _wait_for_end(done: asyncio.Future[None], cancel: Callable[[], object]) -> None:
    """Wait for the end of work that is being cancelled, also if cancelled again meanwhile."""
    import asyncio

    cancel()
    while not done.done():
        try:
            await asyncio.wait([done])
        except asyncio.CancelledError:
            cancel()


async def run_off_loop(
    work: Callable[[], object],
    cancel: Callable[[], object],
    signals: AbstractContextManager[object] | None = None,
) -> None:
    """Run ``work`` on a thread of its own; if cancelled, call ``cancel`` and wait for its end.

    Coroutines of tasks that are run in it run on the caller's loop. Meanwhile ``signals`` is
    entered on the caller's thread.
    """
    import asyncio

    context = copy_context()
    context.run(CALLER_LOOP.set, asyncio.get_running_loop())
    future: Future[None] = Future()

    def target() -> None:
        try:
            work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(None)

    with nullcontext() if signals is None else signals:
        thread = sync.Thread(target=context.run, args=(target,), name="ttasks-arun", daemon=True)
        thread.start()
        try:
            await wait_submitted(future, cancel)
        finally:
            if future.done():
                thread.join()  # a moment: it has nothing left to do
