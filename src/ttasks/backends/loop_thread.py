"""The thread of the loop backend: its event loop, and the threads that coroutines ask for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.errors import TaskCancelled
from ttasks.forks import FORKS, end_copy, watched
from ttasks.model.context import CURRENT

if TYPE_CHECKING:
    from ttasks.backends.base import Job
    from ttasks.model.context import TaskContext

LOOP_PATIENCE = 1.0
"""Seconds that the last user of a loop waits for the end of its thread."""

_MOST_THREADS = 32  # like the default of ThreadPoolExecutor

Count = Callable[[int], object]
"""Told of threads that were left behind (+1), and of their end (-1)."""


class LoopThread:
    """A running event loop and its thread.

    Attributes:
        loop: the event loop.
        threads: runs what coroutines give to threads.
    """

    def __init__(self, abandoned: Count, working: AbstractContextManager[object]) -> None:
        self._abandoned = abandoned
        self._working = working
        # Owns the four below. It orders new jobs against the end of the loop, and the end of the
        # thread against `stop`.
        self._lock = sync.Lock()
        self._jobs = 0
        self._closed = self._ended = self._left = False
        self._over = False  # belongs to the loop's thread
        self.threads = _DaemonThreads(abandoned)
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(self.threads)
        self._thread = sync.Thread(target=self._serve, name="ttasks-loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self.loop.close()
            raise

    @property
    def is_current(self) -> bool:
        """True on the loop's own thread."""
        return sync.current_thread() is self._thread

    def run(self, job: Job, coroutine: Coroutine[Any, Any, Any], leave: Callable[[], None]) -> None:
        """Run a coroutine for a job; from any thread. ``leave`` is called before ``job.end``.

        A job that is cancelled before the loop comes to it does not begin.
        """
        run = _Run(self, job, coroutine, leave)
        with self._lock:
            is_closed = self._closed
            if not is_closed:
                self._jobs += 1
                self.loop.call_soon_threadsafe(run.begin)
        if is_closed:
            run.drop()

    def forget(self) -> None:
        """Note that a job has ended."""
        with self._lock:
            self._jobs -= 1

    def stop(self) -> None:
        """End the loop and everything in it; wait a moment, unless on its own thread."""
        self.loop.call_soon_threadsafe(self._stop)
        if self.is_current:
            return
        # A coroutine that blocks the loop must not block the caller for ever.
        self._thread.join(LOOP_PATIENCE)
        with self._lock:
            if self._ended:
                return
            self._left = True
        self._abandoned(+1)

    def _stop(self) -> None:
        self._over = True
        self.loop.stop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            with self._working:
                self._run_forever()
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()
            with self._lock:
                self._ended = True
                left = self._left
            if left:
                self._abandoned(-1)

    def _run_forever(self) -> None:
        # A SystemExit or KeyboardInterrupt of one coroutine comes out of here too. It is that
        # coroutine's result, and must not end the others.
        while not self._over:
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_forever()
        while self._has_work():
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            with suppress(SystemExit, KeyboardInterrupt):
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    def _has_work(self) -> bool:
        """True while anything still runs; if nothing does, no more jobs are accepted."""
        with self._lock:
            self._closed = not self._jobs and not asyncio.all_tasks(self.loop)
            return not self._closed


class _Run:
    """A job on the loop. Its fields belong to the loop's thread."""

    def __init__(
        self,
        thread: LoopThread,
        job: Job,
        coroutine: Coroutine[Any, Any, Any],
        leave: Callable[[], None],
    ) -> None:
        self._thread = thread
        self._job = job
        # Copied, because the engine clears these of a job that has ended before it began.
        self._context = job.context
        self._variables = job.variables
        self._coroutine = coroutine
        self._leave = leave
        self._task: asyncio.Task[Any] | None = None
        self._forget: Callable[[], None] | None = None

    def begin(self) -> None:
        """Let it run; on the loop's thread."""
        if self._context.cancelled:
            self.drop()
            self._thread.forget()
            return
        self._task = self._thread.loop.create_task(
            _awaited(self._coroutine), context=self._variables
        )
        self._task.add_done_callback(self._end)
        self._forget = self._context.cancel_token.add_callback(self._cancel)

    def drop(self) -> None:
        """End a cancelled job that has not begun."""
        self._coroutine.close()
        self._leave()
        self._job.end(None, self._context.cancel_token.error())

    def _cancel(self) -> None:
        """Cancel the coroutine, from any thread; nothing happens if it has ended."""
        assert self._task is not None
        with suppress(RuntimeError):  # the loop is closed, so it has
            self._thread.loop.call_soon_threadsafe(self._task.cancel)

    def _end(self, task: asyncio.Task[Any]) -> None:
        assert self._forget is not None
        self._forget()
        self._thread.threads.leave(self._context)
        value: Any = None
        error: BaseException | None = None
        if task.cancelled():
            error = TaskCancelled()
        elif (error := task.exception()) is None:
            value = task.result()
        self._leave()  # first: `LoopBackend.let_go` after the end waits for the loop's thread
        try:
            self._job.end(value, error)
        finally:
            self._thread.forget()


class _DaemonThreads(ThreadPoolExecutor):
    """The default executor of a loop, on daemon threads that end when they have nothing to do.

    The threads of its base class are joined at the exit of the interpreter. An event loop takes no
    other class; nothing but its public methods is used or replaced. `submit` is called on the
    loop's thread, in the context of the coroutine that asks for a thread.
    """

    def __init__(self, abandoned: Count) -> None:
        super().__init__()
        self._count_abandoned = abandoned
        self._guard = sync.Lock()  # protects the four below
        self._waiting: deque[tuple[TaskContext | None, Callable[[], None]]] = deque()
        self._running: dict[int, TaskContext | None] = {}  # thread to job; None is abandoned
        self._threads_running = 0
        self._over = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call on a thread; see `concurrent.futures.Executor`."""
        future: Future[Any] = Future()
        call = partial(_settle, future, partial(fn, *args, **kwargs))
        with self._guard:
            if self._over:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append((CURRENT.get(), call))
            needs_thread = self._threads_running < _MOST_THREADS
            self._threads_running += needs_thread
        if needs_thread:
            sync.Thread(target=self._work, name="ttasks-to-thread", daemon=True).start()
        return future

    def leave(self, context: TaskContext) -> None:
        """A job has ended: what still runs for it is left behind."""
        with self._guard:
            left = [thread for thread, job in self._running.items() if job is context]
            self._running.update(dict.fromkeys(left))
        for _ in left:
            self._count_abandoned(+1)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; those that run go on."""
        with self._guard:
            self._over = True

    def _work(self) -> None:
        me = sync.get_ident()
        while True:
            with self._guard:
                if not self._waiting:
                    self._threads_running -= 1
                    return
                context, call = self._waiting.popleft()
                self._running[me] = context
            call()
            with self._guard:
                was_left = self._running.pop(me) is None and context is not None
            if was_left:
                self._count_abandoned(-1)


async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await watched(coroutine)


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    forks = FORKS.count
    try:
        value = call()
        if FORKS.count != forks:
            end_copy("A call of asyncio.to_thread")
    except BaseException as error:
        if FORKS.count != forks:
            end_copy("A call of asyncio.to_thread", error)
        future.set_exception(error)
    else:
        future.set_result(value)
