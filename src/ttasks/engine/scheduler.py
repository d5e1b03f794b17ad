"""Scheduler: what all runs of one executor share, and the ways to start one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.engine.attempt import Attempt, Services
from ttasks.engine.ending import settle
from ttasks.engine.limits import Places, RunPlaces
from ttasks.engine.run import Requests, Run, Work
from ttasks.errors import InvalidTransitionError, TaskCancelled
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT
from ttasks.model.plan import Plan
from ttasks.model.running import RunOptions
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of
from ttasks.model.topology import Topology

if TYPE_CHECKING:
    from ttasks.backends.base import Backend
    from ttasks.engine.attempt import Handler
    from ttasks.model.task import Task
    from ttasks.model.task_type import TaskType

_ONE = RunOptions(max_workers=1)


class Working:
    """Marks threads as being at work for the executor: they must not wait for the end of it all."""

    def __init__(self) -> None:
        self._here = sync.local()

    def __enter__(self) -> None:
        self._here.depth = getattr(self._here, "depth", 0) + 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        max_workers: threads for submitted tasks.
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
        max_workers: int,
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
        self._submission_options = RunOptions(max_workers=max_workers)
        self._runs: dict[Run, None] = {}  # an ordered set
        # Owns the making of a run for submitted tasks.
        self._submitting = sync.Lock()
        self._submissions: Run | None = None
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
        self.working.__exit__(None, None, None)
        self._leave()

    def _leave(self) -> None:
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

    def add_run(self, run: Run) -> None:
        """A run begins: it hears of places that become free."""
        with self.lock:
            self._runs[run] = None

    def remove_run(self, run: Run) -> None:
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

    # Single tasks

    def execute(
        self, work: Work, requests: Requests, outer: Attempt | None
    ) -> BaseException | None:
        """Run one task while the calling thread supervises; returns what it ended in.

        ``outer`` is what `enter` has returned.

        Raises:
            InvalidTransitionError: the calling thread is just announcing the end of the task.
        """
        task = work.task
        life = lifecycle_of(task)
        if life.ender == sync.get_ident():
            # In a subscriber that hears of the end: nobody but this thread could let go of it.
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.RUNNING.value
            )
        run = Run(
            self,
            [],
            Plan(Topology([], []), []),
            RunPlaces(Places(), self.places, frozenset() if outer is None else outer.held),
            _ONE,
            copy_context(),
            "ttasks-execute",
            requests,
            outer=outer,
            is_shared=False,
        )
        run.add(work, start=False)
        run.supervise()
        return run.errors.get(task.id)

    def submit(self, work: Work) -> None:
        """Run one task on a thread of the pool.

        Raises:
            RuntimeError: no thread could be started; the task has not been touched.
        """
        run = self._submissions
        if run is not None and run.add(work):
            return
        new = self._new_submissions()
        new.register()  # before anybody can add to it
        is_begun = False
        try:
            is_begun = self._begin(new, work)
        finally:
            if not is_begun:
                new.unregister()

    def _begin(self, new: Run, work: Work) -> bool:
        """Have a thread supervise submitted tasks; False if another thread was faster."""
        with self._submitting:
            run = self._submissions
            if run is not None and run.add(work):
                return False
            new.add(work, start=False)
            # No daemon, so that what was submitted is done before the interpreter exits.
            thread = sync.Thread(
                target=self._supervise, args=(new,), name="ttasks-submit", daemon=False
            )
            with self.lock:
                self._under_way += 1
            try:
                thread.start()
            except BaseException:
                self._leave()
                raise
            self._submissions = new
            return True

    def _new_submissions(self) -> Run:
        return Run(
            self,
            [],
            Plan(Topology([], []), []),
            RunPlaces(Places(), self.places, frozenset()),
            self._submission_options,
            Context(),
            "ttasks-submit",
            Requests(self.services.clock),
            is_shared=False,
            is_open=True,
        )

    def _supervise(self, run: Run) -> None:
        try:
            with self.working:
                run.supervise()
        finally:
            self._leave()

    def cancel(self, task: Task) -> bool:
        """See `TaskExecutor.cancel`."""
        # Its end is announced here, and a subscriber must not wait for the end of it all then.
        with self.working:
            return self._cancel(task)

    def _cancel(self, task: Task) -> bool:
        life = lifecycle_of(task)
        while True:
            owner = life.owner
            if owner is not None:
                if owner.cancel():
                    return True
                if life.status.is_sink:
                    return life.status is TaskStatus.CANCELLED
                # It has just ended, and that is being announced.
                if life.on_release(partial(self._cancel_later, task)):
                    return True
            elif self._settle_cancelled(task) or life.status.is_sink:
                return life.status is TaskStatus.CANCELLED

    def _cancel_later(self, task: Task) -> None:
        self.cancel(task)

    def _settle_cancelled(self, task: Task) -> bool:
        recorder = self.services.recorder
        return settle(recorder, task, TaskStatus.CANCELLED, TaskCancelled())
