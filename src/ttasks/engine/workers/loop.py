"""LoopThread: one event loop on one thread for all coroutine handlers of an executor."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from threading import Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any

from ttasks.engine.workers.bounded import AbandonedCount, TimeIsUp
from ttasks.errors import TaskCancelled
from ttasks.model.cancel import CancelToken
from ttasks.model.clock import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task


OnEnd = Callable[[Any, "BaseException | None"], None]

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

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the loop, once somebody has started it, for the length of a ``with`` block."""
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            self._leave()

    def start(
        self,
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        token: CancelToken,
        on_end: OnEnd,
    ) -> None:
        """Run a coroutine on the loop and go on; a cancelled token cancels it.

        The caller holds the loop (`held`) until the end.

        Args:
            coroutine: what to run.
            context: its context variables.
            token: cancels it.
            on_end: called on the loop's thread with what it returned, or (None and) what it
                raised: TaskCancelled if it was cancelled. Must not raise.
        """
        with self._lock:
            if self._server is None:
                self._server = _Server(self._abandoned)
            loop = self._server.loop
        _Call(loop, coroutine, context, token, on_end)

    def run(
        self,
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        until: float | None,
        token: CancelToken,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Any:
        """Run a coroutine on the loop and wait for it; a cancelled token cancels it.

        Raises:
            TimeIsUp: it did not end before ``until``, by the clock; it has been cancelled.
            TaskCancelled: it ended because it was cancelled.
        """
        outcome: list[Any] = []
        done = Lock()
        done.acquire()

        def on_end(value: Any, error: BaseException | None) -> None:
            outcome[:] = (value, error)
            done.release()

        with self.held():
            mine = CancelToken()
            remove = token.add_callback(partial(_cancel, mine))
            try:
                self.start(coroutine, context, mine, on_end)
                if not clock.wait_until(done, until):
                    mine.cancel()
                    raise TimeIsUp
            except BaseException:
                mine.cancel()
                raise
            finally:
                remove()
        value, error = outcome
        if error is not None:
            raise error
        return value

    def check_not_inside(self, hint: str) -> None:
        """Raise if the caller is a coroutine on this loop, which would then wait for itself.

        Raises:
            RuntimeError: it is; ``hint`` says what to do instead.
        """
        server = self._server
        if server is not None and server.is_current:
            raise RuntimeError(f"this blocks the event loop that its own tasks run on; {hint}")

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            server, self._server = self._server, None
        if server is not None:
            server.stop()


def _cancel(token: CancelToken) -> None:
    token.cancel()


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

    @property
    def is_current(self) -> bool:
        """True on the loop's own thread."""
        return current_thread() is self._thread

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
    """A coroutine on its way through the loop. Its fields belong to the loop's thread."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        token: CancelToken,
        on_end: OnEnd,
    ) -> None:
        self._loop = loop
        self._token = token
        self._on_end = on_end
        self._task: Task[Any] | None = None
        self._forget: Callable[[], None] | None = None
        loop.call_soon_threadsafe(self._begin, coroutine, context)

    def _begin(self, coroutine: Coroutine[Any, Any, Any], context: Context) -> None:
        self._task = self._loop.create_task(coroutine, context=context)
        self._task.add_done_callback(self._end)
        self._forget = self._token.add_callback(self._cancel)

    def _cancel(self) -> None:
        """Cancel the coroutine, from any thread; nothing happens if it has ended."""
        assert self._task is not None
        with suppress(RuntimeError):  # the loop is closed, so it has
            self._loop.call_soon_threadsafe(self._task.cancel)

    def _end(self, task: Task[Any]) -> None:
        assert self._forget is not None
        self._forget()
        if task.cancelled():
            self._on_end(None, TaskCancelled())
        elif (error := task.exception()) is not None:
            self._on_end(None, error)
        else:
            self._on_end(task.result(), None)
