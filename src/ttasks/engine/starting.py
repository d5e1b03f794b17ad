"""Starting: a run on a thread of its own, which begins before the caller goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.backends.loop import CALLER_LOOP
from ttasks.model.context import CURRENT

if TYPE_CHECKING:
    from ttasks.engine.scheduler import Scheduler
    from ttasks.model.run import Run


def start(work: Callable[[Callable[[Run], None]], None], scheduler: Scheduler) -> Run:
    """Call ``work`` on a thread of its own; return the run that it begins.

    Args:
        work: runs a graph. It calls its argument with the run, once nothing can go wrong any more
            that is the caller's to hear.
        scheduler: counts the thread as work under way.

    Raises:
        BaseException: what ``work`` raised before that.
    """
    begun = sync.Event()
    found: list[Run] = []
    raised: list[BaseException] = []

    def begin(run: Run) -> None:
        found.append(run)
        begun.set()

    def target() -> None:
        try:
            work(begin)
        except BaseException as error:
            raised.append(error)  # the run itself knows of what comes later
        finally:
            begun.set()
            scheduler.done()

    context = copy_context()
    context.run(CURRENT.set, None)  # it is not part of the task that starts it
    context.run(CALLER_LOOP.set, None)  # and nobody awaits it there
    # Not a daemon, so that the run is done before the interpreter exits.
    thread = sync.Thread(target=context.run, args=(target,), name="ttasks-start", daemon=False)
    scheduler.begun()
    try:
        thread.start()
    except BaseException:
        scheduler.done()
        raise
    begun.wait()
    if not found:
        raise raised[0]
    return found[0]
