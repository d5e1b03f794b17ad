"""The interface between the engine and the places where handlers run.

The engine gives a backend one `Job` per attempt; the backend reports its end to the job::

    engine ── start(job) ──→ backend ── runs the handler ──→ job.end(value, error)
       └── job.context.cancel_token.cancel() ──→ the same job, if the backend can stop it

To cancel a job means to cancel its token. A backend that can stop the job follows the token.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ttasks.model.context import TaskContext


class Job(Protocol):
    """One attempt of a task, as its backend sees it. The engine implements it.

    Attributes:
        context: what the handler is given. Its token asks the job to stop.
        handler: what to call with the context. A backend that makes the call elsewhere takes
            function and arguments from `ttasks.backends.call.bound` instead.
        variables: the context variables in which the handler runs; the current context
            (`ttasks.model.context.CURRENT`) is set in them.
    """

    @property
    def context(self) -> TaskContext: ...

    @property
    def handler(self) -> Callable[[TaskContext], Any]: ...

    @property
    def variables(self) -> Context: ...

    def end(self, value: Any, error: BaseException | None) -> object:
        """Take what the handler returned, or what it raised. Does not raise.

        The backend calls this exactly once per job, on any thread, even for a job that the engine
        has left behind.
        """


class Backend(Protocol):
    """A place where handlers run. Implementations are thread-safe.

    Attributes:
        kills: a job that is cancelled or times out ends by itself within a bounded time. If this is
            false, the engine leaves behind jobs that do not end.
        frees_worker: ``start`` returns at once, and the job ends on another thread.
    """

    @property
    def kills(self) -> bool: ...

    @property
    def frees_worker(self) -> bool: ...

    def start(self, job: Job) -> None:
        """Run a job, on this thread or another one, and call ``job.end`` when it has ended.

        Even if ``frees_worker`` is false this may return before the end, when a plain handler
        returned a coroutine.

        Every error, even one of the backend itself, goes to ``job.end`` and is not raised. The only
        exception is the KeyboardInterrupt of a Ctrl-C in the main thread: outside of the handler it
        is raised, and ``job.end`` may or may not have been called.
        """

    def close(self) -> None:
        """Release what the backend keeps between jobs: threads, processes, descriptors.

        The executor calls this at the end of its shutdown, when no job runs any more. Idempotent.
        """
