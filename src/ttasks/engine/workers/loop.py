"""LoopThread: one event loop on one thread for all coroutine handlers of an executor."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from threading import TIMEOUT_MAX, Lock, Thread
from typing import TYPE_CHECKING, Any

from ttasks.engine.workers.bounded import AbandonedCount, TimeIsUp
from ttasks.errors import TaskCancelled
from ttasks.model.cancel import CancelToken

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task


LOOP_PATIENCE = 1.0
"""Seconds that the last user of a loop waits for its end."""


class LoopThread:
    """An event loop that lives on a thread of its own for as long as somebody uses it.

    Thread-safe. The lock owns the server and the number of users; the first user starts it, the
    last one ends it.

    Args:
        abandoned: counts loops that a coroutine blocks, or does not let end, after that.
    """

    def __init__(self, abandoned: AbandonedCount) -> None:
        self._abandoned = abandoned
        self._lock = Lock()
        self._users = 0
        self._server: _Server | None = None

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
        with self._lock:
            if self._server is None:
                self._server = _Server(self._abandoned)
            self._users += 1
            return self._server.loop

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            server, self._server = self._server, None
        assert server is not None
        server.stop()


class _Server:
    """A running event loop and its thread. The lock owns who of thread and ``stop`` came first."""

    def __init__(self, abandoned: AbandonedCount) -> None:
        import asyncio

        self._abandoned = abandoned
        self._lock = Lock()
        self._over = self._ended = self._left = False
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._serve, name="ttasks-loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise

    def stop(self) -> None:
        """End the loop, and all that still runs in it."""
        self._over = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        # A coroutine that blocks the loop must not block whoever waits for its timeout.
        self._thread.join(LOOP_PATIENCE)
        with self._lock:
            if not self._ended:
                self._left = True
                self._abandoned.add(1)

    def _serve(self) -> None:
        import asyncio

        asyncio.set_event_loop(self.loop)
        try:
            self._run_forever()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
            with self._lock:
                self._ended = True
                if self._left:
                    self._abandoned.add(-1)

    def _run_forever(self) -> None:
        import asyncio

        # A SystemExit or KeyboardInterrupt of one coroutine, which also comes out of here, is
        # its own result and must not end the others.
        while not self._over:
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


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
