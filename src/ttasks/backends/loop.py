"""The loop backend: the coroutines of all jobs run on one event loop, on one thread.

The loop lives while there is a job or a holder (`LoopBackend.hold`). A job is stopped through its
token; the loop has no clock. What a coroutine runs in threads (``asyncio.to_thread``) gets daemon
threads: they never keep the interpreter from exiting, and are counted when their job leaves them
behind.

A job of a run that is awaited on an event loop of the program (``CALLER_LOOP``) has its coroutine
run there; see `ttasks.backends.caller_loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.forks import FORKS, end_copy

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ttasks.backends.base import Job
    from ttasks.backends.loop_thread import LoopThread
    from ttasks.model.cancel import CancelToken

CALLER_LOOP: ContextVar[AbstractEventLoop | None] = ContextVar("ttasks_caller_loop", default=None)
"""The loop on which somebody awaits the run that a job is part of; None if nobody does."""

_NOTHING: AbstractContextManager[object] = nullcontext()


class LoopBackend:
    """Runs coroutines on one event loop, whose thread lives while it is used.

    A coroutine that awaits ends soon after its token is cancelled, but one that blocks the loop
    does not, so ``kills`` is false.

    Args:
        abandoned: called from any thread, with +1 for each thread that is left behind and with -1
            when it ends.
        working: the loop's thread spends its life in this context.
    """

    kills = False
    frees_worker = True

    def __init__(
        self,
        abandoned: Callable[[int], object],
        working: AbstractContextManager[object] = _NOTHING,
    ) -> None:
        self._abandoned = abandoned
        self._working = working
        self._lock = sync.Lock()  # protects the three below
        self._holders = 0
        self._jobs: dict[Job, CancelToken] = {}
        self._thread: LoopThread | None = None

    def start(self, job: Job) -> None:
        """See `Backend`. The handler is called here, and its coroutine runs on the loop.

        If the handler returns anything else, that is the value of the job.
        """
        forks = FORKS.count
        try:
            value = job.variables.run(job.handler, job.context)
        except BaseException as error:
            if FORKS.count != forks:
                end_copy("A handler", error)
            job.end(None, error)
            return
        if FORKS.count != forks:
            end_copy("A handler")
        if type(value) is CoroutineType:
            self.adopt(job, value)
        else:
            job.end(value, None)

    def adopt(self, job: Job, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run the coroutine that the handler of a job has returned."""
        try:
            with self._lock:
                if self._thread is None:
                    from ttasks.backends.loop_thread import LoopThread  # imports asyncio

                    self._thread = LoopThread(self._abandoned, self._working)
                self._jobs[job] = job.context.cancel_token
                thread = self._thread
            loop = job.variables.get(CALLER_LOOP)
            if loop is not None and loop is not thread.loop:
                from ttasks.backends.caller_loop import Elsewhere

                coroutine = Elsewhere(coroutine, loop, job.variables.copy())
        except BaseException as error:
            coroutine.close()
            job.end(None, error)
            return
        thread.run(job, coroutine, partial(self._forget, job))

    def _forget(self, job: Job) -> None:
        """Forget a job that has ended; called on the loop's thread."""
        with self._lock:
            self._jobs.pop(job, None)
            if self._holders or self._jobs:
                return
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def hold(self) -> None:
        """Keep the loop, once a job has started it, until `let_go`."""
        with self._lock:
            self._holders += 1

    def let_go(self) -> None:
        """Undo one `hold`.

        The last one waits a moment for the end of the loop's thread, unless jobs are to go on.
        Cancelled jobs get no more time than that.
        """
        with self._lock:
            self._holders -= 1
        self.close()

    def close(self) -> None:
        """See `Backend`. Does nothing while somebody holds the loop or jobs are to go on."""
        with self._lock:
            if self._holders or any(not token.cancelled for token in self._jobs.values()):
                return
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def is_current(self) -> bool:
        """True on the thread of a loop that the caller's jobs run on: it must not wait for them."""
        thread, loop = self._thread, CALLER_LOOP.get()
        if thread is not None and thread.is_current:
            return True
        if loop is None:
            return False
        from ttasks.backends.caller_loop import is_running_here

        return is_running_here(loop)
