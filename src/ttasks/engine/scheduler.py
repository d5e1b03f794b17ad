"""Scheduler: what all runs of one executor share, and the ways to start one."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from types import TracebackType
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.engine.attempt import Attempt, Services
from ttasks.engine.ending import settle
from ttasks.engine.limits import Places, RunPlaces
from ttasks.engine.run import Run, Work
from ttasks.errors import HandlerNotFoundError, InvalidTransitionError, TaskCancelled
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
    from ttasks.engine.signals import Signals
    from ttasks.model.task import Task
    from ttasks.model.task_type import TaskType

_ONE = RunOptions(max_workers=1)


class _Working:
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
        handlers: what runs tasks of a type: the place, and the handler; each change is one
            operation of a dict.
        places: in groups, over all runs.
        max_workers: threads for submitted tasks.

    Attributes:
        working: marks a thread as working for the executor, in a ``with`` block.
        ending: cancelled by ``shutdown(cancel=True)``.
        abandoned: threads that were left behind with a handler and still run.
    """

    def __init__(
        self,
        services: Services,
        handler_of: Callable[[Task], tuple[Backend, Handler]],
        places: Places,
        max_workers: int,
    ) -> None:
        self.lock = sync.Lock()
        self._idle = sync.Condition(self.lock)
        self.services = services
        self.handler_of = handler_of
        self.places = places
        self._submission_options = RunOptions(max_workers=max_workers)
        self._runs: list[Run] = []
        self._submissions: Run | None = None
        self._under_way = 0
        self._closed = False
        self.abandoned = 0
        self.working = _Working()
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

    def enter(self) -> None:
        """Count one more thing that is under way; `leave` follows.

        Raises:
            RuntimeError: nothing new is accepted, and this is no part of what was.
        """
        is_nested = self.is_inside()
        with self.lock:
            if self._closed and not is_nested:
                raise RuntimeError("the executor is shut down and takes no new work")
            self._under_way += 1

    def leave(self) -> None:
        """It is over."""
        with self.lock:
            self._under_way -= 1
            self._idle.notify_all()

    def wait_idle(self) -> None:
        """Wait until nothing is under way."""
        with self.lock:
            while self._under_way:
                self._idle.wait()

    def is_inside(self) -> bool:
        """True if the caller is a handler of this executor, a subscriber, or called by one."""
        return self.working.is_here or self.ambient() is not None

    def ambient(self) -> Attempt | None:
        """The attempt of this executor that the calling code works for."""
        context = CURRENT.get()
        return None if context is None else self.services.running.get(context.id)

    def outer_tokens(self) -> list[CancelToken]:
        """What cancels work that the calling code begins now."""
        context = CURRENT.get()
        tokens = [] if context is None else [context.cancel_token]
        # Work inside a task shares the task's fate alone: finally tasks outlive the end of all.
        return tokens if self.ambient() is not None else [*tokens, self.ending]

    def add_run(self, run: Run) -> None:
        """A run begins."""
        with self.lock:
            self._runs.append(run)

    def remove_run(self, run: Run) -> None:
        """A run is over."""
        with self.lock:
            self._runs.remove(run)

    def give_back(self, places: RunPlaces, group: str) -> None:
        """Give back a place in a group, and let whoever waits for it go on."""
        with self.lock:
            places.give_back(group)
            unparked = [run for run in self._runs if run.unpark(group)]
        for run in unparked:
            run.provide_worker()

    # Single tasks

    def execute(self, work: Work, signals: Callable[[Run], Signals]) -> BaseException | None:
        """Run one task while the calling thread supervises; returns what it ended in."""
        task = work.task
        life = lifecycle_of(task)
        if life.ender == sync.get_ident():
            # In a subscriber that hears of the end: nobody but this thread could let go of it.
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.RUNNING.value
            )
        run = self._run_of_one(work)
        with signals(run):
            run.supervise()
        return run.errors.get(task.id)

    def _run_of_one(self, work: Work) -> Run:
        outer = self.ambient()
        held = frozenset[str]() if outer is None else outer.held
        places = RunPlaces(Places(), self.places, held)
        run = Run(
            self,
            [],
            Plan(Topology([], []), []),
            places,
            _ONE,
            work.context or copy_context(),
            "ttasks-execute",
            CancelToken(),
            is_shared=False,
        )
        run.add(work, start=False)
        return run

    def submit(self, work: Work) -> None:
        """Run one task on a thread of the pool.

        Raises:
            RuntimeError: no thread could be started; the task has not been touched.
        """
        while True:
            with self.lock:
                run = self._submissions
            if run is not None and run.add(work):
                return
            new = self._new_submissions()
            new.add(work, start=False)
            with self.lock:
                if self._submissions is not run:
                    continue  # another thread was faster
                self._submissions = new
                self._under_way += 1
            try:
                sync.Thread(target=self._supervise, args=(new,), name="ttasks-submit").start()
            except BaseException:
                with self.lock:
                    self._submissions = None
                self.leave()
                raise
            return

    def _new_submissions(self) -> Run:
        return Run(
            self,
            [],
            Plan(Topology([], []), []),
            RunPlaces(Places(), self.places, frozenset()),
            self._submission_options,
            Context(),
            "ttasks-submit",
            CancelToken(),
            is_shared=False,
            is_open=True,
        )

    def _supervise(self, run: Run) -> None:
        try:
            with self.working:
                run.supervise()
        finally:
            self.leave()

    def cancel(self, task: Task) -> bool:
        """See `TaskExecutor.cancel`."""
        life = lifecycle_of(task)
        while True:
            owner = life.owner
            if owner is not None:
                if owner.cancel():
                    return True
                if life.status.is_sink:
                    return life.status is TaskStatus.CANCELLED
                # It has just ended, and that is being announced.
                if life.on_release(lambda: self.cancel(task)):
                    return True
            elif self._settle_cancelled(task) or life.status.is_sink:
                return life.status is TaskStatus.CANCELLED

    def _settle_cancelled(self, task: Task) -> bool:
        recorder = self.services.recorder
        return settle(recorder, task, TaskStatus.CANCELLED, TaskCancelled())


def handler_finder(
    handlers: dict[TaskType, tuple[Backend, Handler]],
) -> Callable[[Task], tuple[Backend, Handler]]:
    """What finds the handler of a task.

    Its errors: HandlerNotFoundError if the type has none.
    """

    def find(task: Task) -> tuple[Backend, Handler]:
        found = handlers.get(task.type)
        if found is None:
            raise HandlerNotFoundError(
                task.type.value, sorted(type.value for type in list(handlers))
            )
        return found

    return find
