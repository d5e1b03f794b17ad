"""Single tasks: those that are executed or submitted without a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.engine.attempt import Work
from ttasks.engine.dispatch import Assignment
from ttasks.engine.limits import Places, RunPlaces
from ttasks.engine.requests import Requests
from ttasks.engine.run import Run
from ttasks.engine.single_history import SingleHistory
from ttasks.errors import InvalidTransitionError
from ttasks.model.clock import SYSTEM_CLOCK
from ttasks.model.plan import Plan
from ttasks.model.run import Run as PublicRun
from ttasks.model.running import RunOptions
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of
from ttasks.model.topology import Topology

if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt
    from ttasks.engine.scheduler import Scheduler

_ONE = RunOptions(max_workers=1)


class SingleTasks:
    """Runs tasks one by one. Thread-safe.

    An executed task is a run of its own. Submitted tasks share a run, which begins with the first
    of them and ends when all that have been added meanwhile have ended.

    Args:
        scheduler: of the executor.
        max_workers: threads for submitted tasks.
        remember: called with the run of each task, where the store keeps those of single tasks.
        to_cancel: returns the runs of single tasks here that another process has asked to stop;
            None if the store knows none.
        daemon: whether the interpreter may exit before submitted tasks have ended.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        max_workers: int,
        remember: Callable[[PublicRun], None] | None = None,
        to_cancel: Callable[[], Iterable[PublicRun]] | None = None,
        *,
        daemon: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._remember = remember
        self._daemon = daemon
        self._to_cancel = to_cancel
        # A clock of tests must not see moments that nobody asked for.
        looks = to_cancel is not None and scheduler.services.clock is SYSTEM_CLOCK
        self._look = self._cancel_asked if looks else None
        self._options = RunOptions(max_workers=max_workers)
        # Protects ``_submissions``: only one thread makes a run for submitted tasks.
        self._submitting = sync.Lock()
        self._submissions: Run | None = None

    def note(self, work: Work, outer: Attempt | None) -> None:
        """Give a task a run of its own; comes before `execute` and `submit`."""
        scheduler = self._scheduler
        work.history = history = SingleHistory(
            scheduler.services,
            work.task,
            outer,
            self._options.max_workers if work.on_end is not None else 1,
            scheduler.cancel,
        )
        work.run = PublicRun(history)
        if self._remember is not None:
            self._remember(work.run)

    def execute(
        self, work: Work, requests: Requests, outer: Attempt | None
    ) -> BaseException | None:
        """Run one task, supervised by the calling thread; returns its error, None for success.

        ``outer`` is what `Scheduler.enter` returned.

        Raises:
            InvalidTransitionError: the calling thread is announcing the end of the task.
        """
        task = work.task
        life = lifecycle_of(task)
        if life.ender == sync.get_ident():
            # In a subscriber that is told of the end: only this thread could release the task.
            raise InvalidTransitionError(
                task.id, task.title, task.status.value, TaskStatus.RUNNING.value
            )
        scheduler = self._scheduler
        assignment = Assignment(
            [],
            Plan(Topology([], []), []),
            RunPlaces(Places(), scheduler.places, frozenset() if outer is None else outer.held),
            _ONE,
            copy_context(),
            "ttasks-execute",
            outer,
            is_shared=False,
        )
        run = Run(scheduler, assignment, requests, scheduler.outer_tokens(outer), asked=self._look)
        run.add(work, start=False)
        try:
            run.supervise()
        finally:
            if work.history is not None:
                work.history.keep()
        return run.errors.get(task.id)

    def submit(self, work: Work) -> Run:
        """Run one task on a worker thread; returns the run that it has become a part of.

        Raises:
            RuntimeError: no thread could be started; the task has not been touched.
        """
        run = self._submissions
        if run is not None and run.add(work):
            return run
        new = self._new_submissions()
        new.register()  # before anybody can add to it
        begun: Run | None = None
        try:
            begun = self._begin(new, work)
        finally:
            if begun is not new:
                new.unregister()
        return begun

    def _begin(self, new: Run, work: Work) -> Run:
        """Have a thread supervise submitted tasks; another run if another thread was faster."""
        with self._submitting:
            run = self._submissions
            if run is not None and run.add(work):
                return run
            new.add(work, start=False)
            thread = sync.Thread(
                target=self._supervise, args=(new,), name="ttasks-submit", daemon=self._daemon
            )
            self._scheduler.begun()
            try:
                thread.start()
            except BaseException:
                self._scheduler.done()
                raise
            self._submissions = new
            return new

    def _new_submissions(self) -> Run:
        scheduler = self._scheduler
        assignment = Assignment(
            [],
            Plan(Topology([], []), []),
            RunPlaces(Places(), scheduler.places, frozenset()),
            self._options,
            Context(),
            "ttasks-submit",
            is_shared=False,
            is_open=True,
        )
        # The executor stops it, but not the task that submits the first of them.
        requests = Requests(scheduler.services.clock)
        return Run(scheduler, assignment, requests, (scheduler.ending,), asked=self._look)

    def _cancel_asked(self) -> bool:
        """Cancel the tasks that another process has asked to stop; the run itself goes on."""
        assert self._to_cancel is not None
        try:
            asked = self._to_cancel()
        except Exception:  # a store that cannot be read now may be asked again later
            return False
        for run in asked:
            run.cancel()
        return False

    def _supervise(self, run: Run) -> None:
        try:
            with self._scheduler.working:
                run.supervise()
        finally:
            self._scheduler.done()
