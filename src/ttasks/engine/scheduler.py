"""Scheduler: what the runs of one executor share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

from ttasks import sync
from ttasks.engine.attempt import Attempt, Services
from ttasks.engine.deadlock import Deadlock, Holder, find_deadlock
from ttasks.engine.ending import settle
from ttasks.engine.limits import Groups, Places, RunPlaces
from ttasks.engine.twins import Claims
from ttasks.errors import TaskCancelled
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.backends.base import Backend
    from ttasks.engine.attempt import Handler
    from ttasks.engine.snapshots import Snapshots, Watch
    from ttasks.model.task import Task
    from ttasks.model.task_type import TaskType


class Sharer(Holder, Protocol):
    """A run, as the scheduler knows it."""

    def unpark(self, group: str) -> bool:
        """A place has become free; True if a task may take it. Called with the lock held."""

    def provide_worker(self) -> None:
        """Wake or start a worker if anything is queued."""

    def refuse_deadlock(self) -> None:
        """Fail a task that waits for a place which it will never get, if there is one."""


class Working:
    """Marks threads that work for the executor: they must not wait for its shutdown."""

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


# Added to when one is made, and only then; a copy is made in one operation.
_SCHEDULERS: WeakSet[Scheduler] = WeakSet()


def is_running_here(task_id: str) -> bool:
    """True if an executor of this process is running the task."""
    return any(task_id in scheduler.services.running for scheduler in list(_SCHEDULERS))


class Awaiting:
    """A ``with`` block in which the caller waits for the future of a submitted task.

    If the caller is a handler, and the task waits for its place in a group, the task is refused.
    This is no generator: an exception that goes through one gets attributes, which the class of a
    user's exception may forbid.
    """

    def __init__(self, scheduler: Scheduler, task: Task) -> None:
        self._scheduler = scheduler
        self._task = task
        self._outer: Attempt | None = None

    def __enter__(self) -> None:
        outer = self._outer = self._scheduler.ambient()
        if outer is None:
            return
        try:
            self._scheduler.begin_await(outer, self._task.id)
        except BaseException:
            self._scheduler.end_await(outer, self._task.id)
            raise

    def __exit__(self, *_error: object) -> None:
        if self._outer is not None:
            self._scheduler.end_await(self._outer, self._task.id)


class Scheduler:
    """What the runs of one executor share. Thread-safe.

    ``lock`` owns the fields of this class, and in every run the plan, the crew, the agenda and the
    places. It is never held while handlers, subscribers, guards or stores run.

    Args:
        services: for attempts.
        handlers: backend and handler by type; each change is one atomic operation.
        backend_of: the backend for a payload, for types that have none of their own.
        places: in groups, over all runs.
        working: marks a thread as working for the executor, in a ``with`` block.
        hold: keeps alive what tasks share (the event loop) until ``let_go``.
        let_go: undoes one ``hold``.
        on_close: called when nothing is under way any more after ``close``; may be called again.

    Attributes:
        take_over_saved: lets a task take over the result of an equal one in the store, if that has
            one by now.
        snapshots: of what tasks declare; made when they are needed.
        watch: returns what watches an execution of a task with ``reuse``, given its upstreams and
            whether to verify it; None if nothing has to. Sets its fingerprint. Raises
            DeclarationError.
        ending: cancelled by ``shutdown(cancel=True)``, and by ``cancel_all``, after which there is
            another.
        claims: fingerprints that tasks with ``reuse`` are working at.
        abandoned: threads that were left behind with a handler and still run.
        awaits: ids of the submitted tasks for whose futures an attempt waits; with the lock held.
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
        self.claims = Claims()
        self.take_over_saved: Callable[[Task], bool] = lambda task: False
        self.snapshots: Callable[[], Snapshots]
        self.watch: Callable[[Task, Sequence[Task], bool], Watch | None]
        self.awaits: dict[Attempt, list[str]] = {}
        self._bells: list[sync.Lock] = []  # of those that wait until nothing is under way
        _SCHEDULERS.add(self)

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
        """Begin a piece of work; the same thread calls `leave` at its end.

        Until then the thread counts as working for the executor. After a shutdown only work that
        was accepted before may begin more.

        Returns:
            The attempt that the caller is part of, which is not left behind before `leave`; None
            if the caller is no handler of this executor.

        Raises:
            RuntimeError: the executor is shut down.
            TaskCancelled: the caller is a handler that was left behind.
        """
        outer, context = self.ambient(), CURRENT.get()
        if outer is not None and not outer.shelter():
            raise outer.token.error()
        # In this order: an attempt is cancelled before it is left behind.
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
        """Begin work that is part of no attempt; ``leave(None)`` ends it."""
        with self.lock:
            if self._closed and not is_nested:
                raise RuntimeError("the executor is shut down and takes no new work")
            self._under_way += 1
        self.working.__enter__()

    def leave(self, outer: Attempt | None) -> None:
        """End a piece of work; ``outer`` is what `enter` returned."""
        if outer is not None:
            outer.unshelter()
        self.working.__exit__()
        self.done()

    def begun(self) -> None:
        """Begin work on another thread, which calls `done` at its end."""
        with self.lock:
            self._under_way += 1

    def count_abandoned(self, change: int) -> None:
        """Count a thread that is left behind (+1), or has ended after all (-1)."""
        with self.lock:
            self.abandoned += change

    def done(self) -> None:
        """End work that `begun` has counted."""
        with self.lock:
            self._under_way -= 1
            self._idle.notify_all()
            if self._bells and not self._under_way:
                bells, self._bells = self._bells, []
                for bell in bells:
                    bell.release()
        self.close_when_idle()

    def close_when_idle(self) -> None:
        """Call ``on_close`` if nothing is under way and nothing new is accepted."""
        with self.lock:
            is_over = self._closed and not self._under_way
        if is_over:
            self._on_close()

    def wait_idle(self) -> None:
        """Wait until nothing is under way."""
        with self.lock:
            while self._under_way:
                self._idle.wait()

    def wait_idle_until(self, moment: float) -> bool:
        """Wait until nothing is under way, or until that moment; True if nothing is."""
        bell = sync.Lock()
        bell.acquire()
        with self.lock:
            if not self._under_way:
                return True
            self._bells.append(bell)
        self.services.clock.wait_until(bell, moment)
        with self.lock:
            if bell in self._bells:
                self._bells.remove(bell)
            return not self._under_way

    def cancel_all(self) -> None:
        """Cancel what is under way; what begins from now on is not affected."""
        with self.lock:
            before = self.ending
            if not before.cancelled:
                self.ending = CancelToken()
        before.cancel()

    def is_inside(self) -> bool:
        """True if the caller is a handler of this executor, a subscriber, or called by one."""
        return self.working.is_here or self.ambient() is not None

    def ambient(self) -> Attempt | None:
        """The running attempt of this executor that the caller is part of, if any."""
        context = CURRENT.get()
        if context is None:
            return None
        attempt = self.services.running.get(context.id)
        # The context may be that of an earlier attempt, which was left behind.
        is_same = attempt is not None and attempt.token is context.cancel_token
        return attempt if is_same else None

    def outer_tokens(self, outer: Attempt | None) -> list[CancelToken]:
        """The tokens that cancel work which the caller begins as part of ``outer``."""
        if outer is not None:
            # Only the task decides: a finally task outlives ``shutdown(cancel=True)``.
            return [outer.token]
        context = CURRENT.get()
        return [self.ending] if context is None else [context.cancel_token, self.ending]

    def add_run(self, run: Sharer) -> None:
        """Tell a run of places that become free, from now on."""
        with self.lock:
            self._runs[run] = None

    def remove_run(self, run: Sharer) -> None:
        """Undo `add_run`."""
        with self.lock:
            self._runs.pop(run, None)

    def give_back(self, places: RunPlaces, groups: Groups) -> None:
        """Give back a place in each of some groups, and let whoever waits for one go on."""
        with self.lock:
            places.give_back(groups)
            unparked = {run for run in self._runs for group in groups if run.unpark(group)}
        for run in unparked:
            run.provide_worker()

    def find_deadlock(self, run: Sharer) -> Deadlock | None:
        """A node of this run that waits for what waits for it; with the lock held."""
        return find_deadlock(run, self._runs, self.awaits)

    def awaiting(self, task: Task) -> Awaiting:
        """For a ``with`` block that waits for the future of a submitted task, without a limit."""
        return Awaiting(self, task)

    def begin_await(self, outer: Attempt, task_id: str) -> None:
        """Note what an attempt waits for; refuse the task if it needs the place of its waiter."""
        with self.lock:
            self.awaits.setdefault(outer, []).append(task_id)
            runs = list(self._runs)
        for run in runs:
            run.refuse_deadlock()

    def end_await(self, outer: Attempt, task_id: str) -> None:
        """Undo `begin_await`, as far as it came."""
        with self.lock:
            ids = self.awaits.get(outer, [])
            if task_id in ids:
                ids.remove(task_id)
            if not ids:
                self.awaits.pop(outer, None)

    def cancel(self, task: Task) -> bool:
        """See `TaskExecutor.cancel`."""
        # A subscriber that is told of the end here must not wait for the shutdown.
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
                # Its end is being announced; try again after that.
                if life.on_release(partial(self.cancel, task)):
                    return True
            elif settle(recorder, task, TaskStatus.CANCELLED, TaskCancelled()):
                return True
            elif life.status.is_sink:
                return life.status is TaskStatus.CANCELLED
