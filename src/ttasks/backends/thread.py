"""The thread backend: a handler runs on the worker that starts it."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING

from ttasks.forks import FORKS, end_copy

if TYPE_CHECKING:
    from ttasks.backends.base import Job
    from ttasks.backends.loop import LoopBackend


class ThreadBackend:
    """Calls the handler on the thread that starts the job.

    Args:
        loop: runs the coroutine that a handler returns.
        kills: whether the handlers that run here obey timeout and cancellation by themselves, as
            those of commands and prompts do. Nothing can end any other handler in a thread.
    """

    frees_worker = False

    def __init__(self, loop: LoopBackend, *, kills: bool) -> None:
        self._loop = loop
        self.kills = kills

    def start(self, job: Job) -> None:
        """See `Backend`."""
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
            self._loop.adopt(job, value)
        else:
            job.end(value, None)

    def close(self) -> None:
        """See `Backend`; there is nothing to end."""
