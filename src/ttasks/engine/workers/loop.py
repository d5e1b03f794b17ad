"""LoopThread: one event loop on one thread for all coroutine handlers of an executor."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from threading import TIMEOUT_MAX, Lock, Thread
from typing import TYPE_CHECKING, Any

from ttasks.engine.workers.bounded import TimeIsUp
from ttasks.errors import TaskCancelled
from ttasks.model.cancel import CancelToken

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task


class LoopThread:
    """An event loop that lives on a thread of its own for as long as somebody uses it.

    Thread-safe. The lock owns the loop, its thread and the number of users; the first user starts
    them, the last one ends them.

    Args:
        abandoned: counts loops that a coroutine blocks, or does not let end, while nobody waits.
    """

    def __init__(self, abandoned: AbandonedCount) -> None:
        self._abandoned = abandoned
        self._lock = Lock()
        self._users = 0
        self._loop: AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def run(
        self, coroutine: Coroutine[Any, Any, Any], seconds: float | None, token: CancelToken
    ) -> Any:
        """Run a coroutine on the loop and wait for it; a cancelled token cancels it.

        It sees a copy of the caller's context variables.

        Raises:
            TimeIsUp: it took longer than ``seconds``; it has been cancelled.
            TaskCancelled: it ended because it was cancelled.
        """
        loop = self._enter()
        try:
            call = _Call(loop, coroutine, copy_context())
            remove = token.add_callback(call.cancel)
            try:
                return call.wait(seconds)
            finally:
                remove()
        finally:
            self._leave()

    def _enter(self) -> AbstractEventLoop:
        import asyncio

        with self._lock:
            self._users += 1
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = Thread(
                    target=_serve, args=(self._loop,), name="ttasks-loop", daemon=True
                )
                try:
                    self._thread.start()
                except RuntimeError:
                    self._loop.close()
                    self._loop = self._thread = None
                    self._users -= 1
                    raise
            return self._loop

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        assert loop is not None
        assert thread is not None
        loop.call_soon_threadsafe(loop.stop)
        # A coroutine that blocks the loop must not block whoever waits for its timeout.
        thread.join(1.0)


class _Call:
    """A coroutine on its way through the loop, as the thread that waits for it sees it.

    ``_task`` belongs to the loop's thread; ``_done`` is locked until the outcome is there.
    """

    def __init__(
        self, loop: AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context
    ) -> None:
        self._loop = loop
        self._task: Task[Any] | None = None
        self._cancelled = False
        self._done = Lock()
        self._done.acquire()
        loop.call_soon_threadsafe(self._begin, coroutine, context)

    def wait(self, seconds: float | None) -> Any:
        """What the coroutine returns or raises, as `LoopThread.run` says."""
        try:
            in_time = self._done.acquire(
                timeout=-1 if seconds is None else min(seconds, TIMEOUT_MAX)
            )
        except BaseException:
            self.cancel()
            raise
        if not in_time:
            self.cancel()
            raise TimeIsUp
        assert self._task is not None
        if self._task.cancelled():
            raise TaskCancelled
        return self._task.result()

    def cancel(self) -> None:
        """Cancel the coroutine, from any thread; nothing happens if it has ended."""
        self._cancelled = True
        with suppress(RuntimeError):  # the loop is closed, so it has
            self._loop.call_soon_threadsafe(self._cancel_task)

    def _begin(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        self._task = self._loop.create_task(coroutine, context=context)
        self._task.add_done_callback(lambda _task: self._done.release())
        if self._cancelled:
            self._task.cancel()

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _serve(loop: AbstractEventLoop) -> None:
    import asyncio

    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
