"""Scheduler: what the runs of one executor share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ttasks import sync
from ttasks.engine.attempt import Attempt, Services
from ttasks.engine.ending import settle
from ttasks.engine.limits import Places, RunPlaces
from ttasks.errors import TaskCancelled
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.backends.base import Backend
    from ttasks.engine.attempt import Handler
    from ttasks.model.task import Task
    from ttasks.model.task_type import TaskType


class Sharer(Protocol):
    """A run, as the scheduler knows it."""

    def unpark(self, group: str) -> bool:
        """A place has become free; with the lock held. True if a task may take it."""

    def provide_worker(self) -> None:
        """See to it that somebody takes what is queued."""


class Working:
    """Marks threads as being at work for the executor: they must not wait for the end of it all."""

    def __init__(self) -> None:
        self._here = sync.local()

    def __enter__(self) -> None:
        self._here.depth = getattr(self._here, "depth", 0) + 1

    def __exit__(self, *_error: object) -> None:
        self._here.depth -= 1

    @property
    def is_here(self) -> bool:
        """True if the calling thread is at work for the executor."""
        return getattr(self._here, "depth", 0) > 0


class Scheduler:
    """What the runs of one executor share. Thread-safe.

    ``lock`` owns the fields of this class, and in every run the plan, the crew, the agenda and the
    places. It is never held while handlers, subscribers, guards or stores run.

    Args:
        services: for attempts.
        handlers: where tasks of a type run, and what runs them; each change is one operation.
        backend_of: where a task with this payload runs, for types that have no backend.
        places: in groups, over all runs.
        working: marks a thread as working for the executor, in a ``with`` block.
        hold: keeps what tasks share from one to the next, until ``let_go``.
        let_go: undoes one ``hold``.
        on_close: called once nothing is under way any more after ``close``; may be called again.

    Attributes:
        ending: cancelled by ``shutdown(cancel=True)``.
        abandoned: threads that were left behind with a handler and still run.
    """

    def __init__(
        self,
        services: Services,
        handlers: Mapping[TaskType, tuple[Backend | None, Handler]],
        backend_of: Callable[[object], Backend],
        places: Places,
        working: Working,
        hold: Callable[[], None],
        let_go: Callable[[], None],
        on_close: Callable[[], None],
    ) -> None:
        self.lock = sync.Lock()
        self._idle = sync.Condition(self.lock)
        self.services = services
        self.handlers = handlers
        self.backend_of = backend_of
        self.places = places
        self._runs: dict[Sharer, None] = {}  # an ordered set
        self._under_way = 0
        self._closed = False
        self._on_close = on_close
        self.abandoned = 0
        self.hold = hold
        self.let_go = let_go
        self.working = working
        self.ending = CancelToken()

    # What is under way

    @property
    def is_closed(self) -> bool:
        """True once nothing new is accepted."""
        return self._closed

    def close(self) -> None:
        """Accept nothing new from now on."""
        with self.lock:
            self._closed = True

    def enter(self) -> Attempt | None:
        """Count one more thing that is under way; `leave` follows, on the same thread.

        Until then the thread counts as working for the executor. It is accepted after the end too,
        as part of what was accepted before, if the caller is inside of that.

        Returns:
            The attempt that it is part of, which is not left behind until `leave`; None if the
            caller is no handler of this executor.

        Raises:
            RuntimeError: nothing new is accepted.
            TaskCancelled: the caller is a handler that was left behind.
        """
        outer, context = self.ambient(), CURRENT.get()
        if outer is not None and not outer.shelter():
            raise outer.token.error()
        # Asked second: an attempt that was left behind had been cancelled before it was gone.
        if outer is None and context is not None and context.cancelled:
            raise context.cancel_token.error()
        try:
            self.enter_alone(is_nested=self.is_inside())
        except BaseException:
            if outer is not None:
                outer.unshelter()
            raise
        return outer

    def enter_alone(self, *, is_nested: bool = False) -> None:
        """The same for what is part of nothing; ends with ``leave(None)``."""
        with self.lock:
            if self._closed and not is_nested:
                raise RuntimeError("the executor is shut down and takes no new work")
            self._under_way += 1
        self.working.__enter__()

    def leave(self, outer: Attempt | None) -> None:
        """It is over."""
        if outer is not None:
            outer.unshelter()
        self.working.__exit__()
        self.done()

    def begun(self) -> None:
        """Count what goes on by itself, on a thread of its own; `done` follows."""
        with self.lock:
            self._under_way += 1

    def done(self) -> None:
        """It is over."""
        with self.lock:
            self._under_way -= 1
            self._idle.notify_all()
        self.close_when_idle()

    def close_when_idle(self) -> None:
        """Let go of what tasks share, if nothing new is accepted and nothing is under way."""
        with self.lock:
            is_over = self._closed and not self._under_way
        if is_over:
            self._on_close()

    def wait_idle(self) -> None:
        """Wait until nothing is under way."""
        with self.lock:
            while self._under_way:
                self._idle.wait()

    def is_inside(self) -> bool:
        """True if the caller is a handler of this executor, a subscriber, or called by one."""
        return self.working.is_here or self.ambient() is not None

    def ambient(self) -> Attempt | None:
        """The attempt of this executor that the calling code works for, until it ends."""
        context = CURRENT.get()
        if context is None:
            return None
        attempt = self.services.running.get(context.id)
        # Its context may be of an earlier attempt, which was left behind.
        is_same = attempt is not None and attempt.token is context.cancel_token
        return attempt if is_same else None

    def outer_tokens(self, outer: Attempt | None) -> list[CancelToken]:
        """What cancels work that the calling code begins now, as part of ``outer``."""
        if outer is not None:
            # It shares the fate of the task alone: finally tasks outlive the end of all.
            return [outer.token]
        context = CURRENT.get()
        return [self.ending] if context is None else [context.cancel_token, self.ending]

    def add_run(self, run: Sharer) -> None:
        """A run begins: it hears of places that become free."""
        with self.lock:
            self._runs[run] = None

    def remove_run(self, run: Sharer) -> None:
        """A run is over."""
        with self.lock:
            self._runs.pop(run, None)

    def give_back(self, places: RunPlaces, group: str) -> None:
        """Give back a place in a group, and let whoever waits for it go on."""
        with self.lock:
            places.give_back(group)
            unparked = [run for run in self._runs if run.unpark(group)]
        for run in unparked:
            run.provide_worker()

    def cancel(self, task: Task) -> bool:
        """See `TaskExecutor.cancel`."""
        # Its end is announced here, and a subscriber must not wait for the end of it all then.
        with self.working:
            return self._cancel(task)

    def _cancel(self, task: Task) -> bool:
        life, recorder = lifecycle_of(task), self.services.recorder
        while True:
            owner = life.owner
            if owner is not None:
                if owner.cancel():
                    return True
                if life.status.is_sink:
                    return life.status is TaskStatus.CANCELLED
                # It has just ended, and that is being announced.
                if life.on_release(partial(self.cancel, task)):
                    return True
            elif settle(recorder, task, TaskStatus.CANCELLED, TaskCancelled()):
                return True
            elif life.status.is_sink:
                return life.status is TaskStatus.CANCELLED
