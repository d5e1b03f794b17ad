"""A service without a graph: it runs while a ``with`` block does."""

from __future__ import annotations

from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ttasks import sync
from ttasks.engine.attempt import Work
from ttasks.engine.signals import Signals
from ttasks.errors import TaskCancelled
from ttasks.model.context import CURRENT
from ttasks.model.status import SUCCEEDED, TaskStatus
from ttasks.model.task import service_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ttasks.engine.run import Run
    from ttasks.engine.scheduler import Scheduler
    from ttasks.engine.single import SingleTasks
    from ttasks.model.policy import RetryPolicy
    from ttasks.model.task import Task

R = TypeVar("R")

_SLICE_SECONDS = 0.1
"""How long the calling thread waits at once; see `ttasks.model.clock`."""


class ServiceUse(Generic[R]):
    """A ``with`` block in which a service runs; the target is its task.

    No generator, for the reason that `ttasks.engine.scheduler.Awaiting` gives.

    Args:
        task: the service.
        retry: its policy.
        scheduler: of the executor.
        single: where it runs.
        cancel: cancels a task.
        uses: the blocks that the executor's shutdown has to end.
    """

    def __init__(
        self,
        task: Task[R],
        retry: RetryPolicy | None,
        scheduler: Scheduler,
        single: SingleTasks,
        cancel: Callable[[Task], object],
        uses: dict[ServiceUse[R], None],
    ) -> None:
        self._task = task
        self._scheduler = scheduler
        self._single = single
        self._cancel = cancel
        self._uses = uses
        self._work = work = Work(task, (), retry)
        work.service = service_of(task)
        work.context = copy_context()
        work.context.run(CURRENT.set, None)  # it is not part of the task that uses it
        work.on_ready, work.on_end = self._note_ready, self._note_end
        self._run: Run | None = None
        self._is_entered = False
        self._is_ready = False
        self._is_known = sync.Event()  # whether it is ready
        self._has_ended = sync.Event()
        self._status: TaskStatus | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Task[R]:
        """Start the service, and wait until it is ready; raises what made it fail."""
        if self._is_entered:
            raise RuntimeError(
                f"This block of service {self._task.title!r} has been entered before; "
                "call executor.running() for each"
            )
        self._is_entered = True
        with Signals():
            self._scheduler.enter_alone()
            try:
                self._single.note(self._work, None)
                self._uses[self] = None
                self._run = self._single.submit(self._work)
            except BaseException:
                self._uses.pop(self, None)
                raise
            finally:
                self._scheduler.leave(None)
        try:
            _wait(self._is_known)
            if not self._is_ready:
                self._raise()
        except BaseException:
            if not self._has_ended.is_set():  # otherwise the task may be running in another block
                self._cancel(self._task)
            _wait(self._has_ended)
            self._uses.pop(self, None)
            raise
        return self._task

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the service, and wait for its end; raises what made it end before."""
        try:
            self.dismiss()
            _wait(self._has_ended)
        except BaseException:
            self._cancel(self._task)  # no more patience
            raise
        finally:
            self._uses.pop(self, None)
        if error is None and self._status is not SUCCEEDED:
            self._raise()

    def dismiss(self) -> None:
        """Stop the service; may be called from any thread, and does not wait."""
        if self._run is not None:
            self._run.dismiss(self._work)

    def _note_ready(self) -> None:
        self._is_ready = True
        self._is_known.set()

    def _note_end(self, status: TaskStatus, error: BaseException | None) -> None:
        self._status, self._error = status, error
        self._has_ended.set()
        self._is_known.set()

    def _raise(self) -> None:
        if self._error is None:
            raise TaskCancelled("The service was stopped before it was ready")
        raise self._error


def _wait(event: sync.Event) -> None:
    while not event.wait(_SLICE_SECONDS):
        pass
