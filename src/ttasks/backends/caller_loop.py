"""Coroutines of tasks on the event loop of the program that awaits `arun` or `aexecute`.

The loop thread of the executor keeps the job: it follows the token, and the end of the attempt is
saved and announced there, so that stores and subscribers never hold up the program's loop::

    loop thread ── begin, cancel ──→ the program's loop ── the coroutine ──┐
        └── job.end ←── value or error ────────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

from ttasks.errors import TaskExecutionError
from ttasks.forks import watched

LOOK_SECONDS = 1.0
"""How often to check whether the program's loop was closed, since nothing reports that."""


def is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    """True on the thread of this loop, while it runs."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class Elsewhere(Coroutine[Any, Any, Any]):
    """A coroutine for the executor's loop, which has another one run on the program's loop.

    It ends when that has ended, with the same outcome, and passes every cancellation on to it. The
    fields belong to the executor's loop, but for the task, which belongs to the program's.

    Args:
        coroutine: what to run.
        loop: of the program.
        variables: the context variables of the coroutine; belong to it from now on.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        variables: Context,
    ) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._variables = variables
        self._is_given = False
        self._task: asyncio.Task[Any] | None = None
        self._trouble: Exception | None = None  # why there is none
        self._steps = self._run()

    def send(self, value: Any) -> Any:
        """See `collections.abc.Coroutine`."""
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        """See `collections.abc.Coroutine`."""
        return self._steps.throw(*error)

    def close(self) -> None:
        """See `collections.abc.Coroutine`."""
        self._steps.close()
        self._drop()

    def __await__(self) -> Any:
        return self._steps.__await__()

    async def _run(self) -> Any:
        here = asyncio.get_running_loop()
        ended = here.create_future()

        def wake(_task: object) -> None:
            with suppress(RuntimeError):  # this loop is closed: nobody waits any more
                here.call_soon_threadsafe(set_ended)

        def set_ended() -> None:
            if not ended.done():
                ended.set_result(None)

        def finish(task: asyncio.Task[Any]) -> None:
            self._coroutine.close()  # it has ended, or was cancelled before its first step
            wake(task)

        def begin() -> None:
            guarded = self._guarded()
            try:
                self._task = self._loop.create_task(guarded, context=self._variables)
            except Exception as error:  # the program has a task factory of its own
                guarded.close()
                self._coroutine.close()
                self._trouble = error
                wake(None)
            else:
                self._task.add_done_callback(finish)

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:
            self._drop()
            raise self._closed() from None
        self._is_given = True
        while not ended.done():
            try:
                await asyncio.wait([ended], timeout=LOOK_SECONDS)
            except asyncio.CancelledError:
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._cancel)
            if not ended.done() and self._loop.is_closed():
                self._drop()
                raise self._closed()
        if self._task is None:
            assert self._trouble is not None
            raise self._trouble
        value, error = self._task.result()
        if error is not None:
            raise error
        return value

    async def _guarded(self) -> tuple[Any, BaseException | None]:
        # A SystemExit is the outcome of this task, and must not end the program's loop.
        try:
            return await watched(self._coroutine), None
        except SystemExit as error:
            return None, error

    def _drop(self) -> None:
        """Close the coroutine if the program's loop will never begin it."""
        if not self._is_given or (self._task is None and self._loop.is_closed()):
            self._coroutine.close()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _closed(self) -> TaskExecutionError:
        return TaskExecutionError(
            "The event loop that awaited this run was closed before the coroutine had ended; "
            "await graph.arun() and executor.aexecute() to their end"
        )
