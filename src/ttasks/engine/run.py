"""Run: one run of a plan from start to end, and every way to stop it.

The thread that calls ``supervise`` waits for the end and for what falls due meanwhile (retries and
timeouts), and carries out requests to stop. In `TaskGraph.run`
and `TaskExecutor.execute` that is the calling thread, where Ctrl-C arrives. The work is done by the
workers of a `Dispatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.engine.attempt import Work
from ttasks.engine.dispatch import Assignment, Dispatch
from ttasks.engine.retry import RetryBudget
from ttasks.errors import TaskCancelled, TaskTimeoutError
from ttasks.model.cancel import CancelToken

if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt
    from ttasks.engine.requests import Requests
    from ttasks.engine.scheduler import Scheduler

CANCEL_PATIENCE = 2.0
"""Seconds that a cancelled handler has to end before it is left behind."""

LOOK_SECONDS = 0.25
"""How often to look whether another process has asked to stop the run."""


class Run:
    """One run: a plan, the threads that carry it out, and every way to stop it.

    The supervisor owns the private fields, except that the lock of the scheduler decides who is
    the first to stop the run.

    Args:
        scheduler: of the executor.
        assignment: what to do.
        requests: requests to stop the run, which the supervisor carries out.
        follows: tokens that stop the run when they are cancelled.
        on_stop: called by the supervisor with the message when the run is stopped, and again if it
            is killed.
        asked: called by the supervisor now and then; True if another process has asked to stop the
            whole run. None means that no other can.

    Attributes:
        stopped_by: "cancelled" or "interrupted" if somebody asked to stop it; None if nobody did.
        error: why the run as a whole ended early; None if it did not.
        errors: exception by task id.
        add, dismiss: add a task, and end a service; see `Dispatch`.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        assignment: Assignment,
        requests: Requests,
        follows: Iterable[CancelToken],
        on_stop: Callable[[str], None] | None = None,
        asked: Callable[[], bool] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._clock = scheduler.services.clock
        self._lock = scheduler.lock
        self._options = options = assignment.options
        self._token = CancelToken()  # cancelled with any of ``follows``
        self._follows = tuple(follows)
        self._requests = requests
        self._label = assignment.label
        self._on_stop = on_stop
        self._asked = asked
        self._untold: list[str] = []  # of ``on_stop``; items are added by any thread
        self._overdue: list[Attempt] = []  # timed out, but sheltering nested work
        self._stuck: dict[Attempt, float] = {}  # cancelled, and when that was first seen
        self._stopped_at: float | None = None
        self._stop_as: tuple[str, str | None] = "cancelled", None  # reason and message
        self._finally_over = False
        self._killed = False
        self.stopped_by: str | None = None
        self._began = self._clock.now()
        self._looks_at = self._began + LOOK_SECONDS
        self._ended: float | None = None
        self._supervisor: int | None = None
        self._unfollow: list[Callable[[], None]] = []  # not empty from `register` on
        self._budget = RetryBudget(options.retry_budget)
        self._dispatch = Dispatch(scheduler, assignment, self._budget, self)
        self.add, self.dismiss = self._dispatch.add, self._dispatch.dismiss
        self.error: BaseException | None = None
        self.errors = self._dispatch.errors

    # On the thread that supervises

    def supervise(self) -> None:
        """Carry the plan out, and return when every task has ended and every thread is gone."""
        self._supervisor = sync.get_ident()
        if not self._unfollow:
            self.register()
        self._scheduler.hold()
        try:
            if self._requests.cancel:
                self._do_due()
            self._dispatch.begin()
            self._wait_for_end()
            self._tell_stops()
        finally:
            self._dispatch.join()
            self._scheduler.let_go()
            self.unregister()
            self._ended = self._clock.now()

    def register(self) -> None:
        """Hear of stops and of free places from now on; comes before the first worker."""
        # First, because a stop may come at once and start a worker.
        self._scheduler.add_run(self._dispatch)
        self._unfollow = [self._token.follow(token) for token in self._follows]
        self._unfollow.append(self._token.add_callback(self._on_token))

    def unregister(self) -> None:
        """Undo `register`."""
        self._scheduler.remove_run(self._dispatch)
        for end in self._unfollow:
            end()

    def _wait_for_end(self) -> None:
        """Wait for the end, and meanwhile do what falls due."""
        raised: BaseException | None = None
        while not self._dispatch.is_over():
            try:
                self._do_due()
                if self._dispatch.must_work:
                    self._dispatch.work_here()
                if self._dispatch.unfinished:
                    self._requests.wait_until(self._next_moment())
            except BaseException as error:
                # An exception from the handler of another signal counts as Ctrl-C. After the
                # third there is nothing left to try.
                if self._requests.interrupts > 1:
                    raise
                raised = raised or error
                self._requests.interrupt()
        if raised is not None:
            raise raised

    def _do_due(self) -> None:
        now, options, requests = self._clock.now(), self._options, self._requests
        self._dispatch.attend(now)
        if requests.cancel and self._stopped_at is None:
            self._stop(requests.reason)
        if requests.interrupts > 1 and not self._killed:
            self._killed = True
            self._stop_finally(requests.reason)
            for attempt in self._dispatch.alive():
                attempt.cancel("interrupted", kill=True)
        limit = options.timeout
        if limit is not None and self._stopped_at is None and now >= self._began + limit:
            error = TaskTimeoutError(limit, what="Graph")
            if self._stop("cancelled", str(error)):
                self.error = error
        self._look(now)
        limit = options.finally_timeout
        if self._stopped_at is not None:
            if limit is not None and now >= self._stopped_at + limit and not self._finally_over:
                late = TaskTimeoutError(limit, what="Finally tasks")
                self.error = self.error or late
                self._stop_finally(requests.reason, str(late))
            self._leave_stuck(now)
        self._leave_overdue()
        self._take_due(now)
        self._tell_stops()

    def _look(self, now: float) -> None:
        """Stop the run if another process has asked for that."""
        if self._asked is not None and self._stopped_at is None and now >= self._looks_at:
            self._looks_at = now + LOOK_SECONDS
            if self._asked():
                self._stop("cancelled")

    def _tell_stops(self) -> None:
        while self._untold and self._on_stop is not None:
            self._on_stop(self._untold.pop(0))

    def _take_due(self, now: float) -> None:
        """Queue the retries that are due, and end the attempts that have timed out."""
        while (attempt := self._dispatch.take_due(now)) is not None:
            if attempt.expire(now):
                self._overdue.append(attempt)
                self._leave_overdue()

    def _next_moment(self) -> float | None:
        """When the next thing is due, by the clock; None if nothing is."""
        options = self._options
        moments = [self._dispatch.next_moment()]
        if self._stopped_at is None:
            if options.timeout is not None:
                moments.append(self._began + options.timeout)
            if self._asked is not None:
                moments.append(self._looks_at)
        else:
            if options.finally_timeout is not None and not self._finally_over:
                moments.append(self._stopped_at + options.finally_timeout)
            moments += [seen + CANCEL_PATIENCE for seen in self._stuck.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def _leave_overdue(self) -> None:
        """End the attempts that have timed out, unless they shelter nested work."""
        self._overdue = [attempt for attempt in self._overdue if not self._dispatch.leave(attempt)]

    def _leave_stuck(self, now: float) -> None:
        """Leave behind handlers that have not ended in time after their cancellation."""
        running = [
            attempt
            for attempt in self._dispatch.alive()
            if attempt.token.cancelled and not attempt.ends_itself
        ]
        self._stuck = {attempt: self._stuck.get(attempt, now) for attempt in running}
        for attempt, seen in list(self._stuck.items()):
            if self._killed or now >= seen + CANCEL_PATIENCE:
                del self._stuck[attempt]
                self._dispatch.leave(attempt)

    # Stopping

    def cancel(self) -> None:
        """Stop the run; may be called from any thread.

        On the supervisor's thread this only requests it: the caller may be a signal handler that
        has interrupted a critical section.
        """
        if sync.get_ident() == self._supervisor:
            self._requests.ask_cancel()
        else:
            self._stop("cancelled")

    def _on_token(self) -> None:
        reason = self._token.reason or "cancelled"
        if self._token.killed:
            self._requests.interrupts = max(self._requests.interrupts, 2)
            self._requests.ask_cancel(reason)
        elif sync.get_ident() == self._supervisor:
            self._requests.ask_cancel(reason)
        else:
            self._stop(reason)

    def _stop(self, reason: str, message: str | None = None) -> bool:
        """Stop all but finally tasks; False if somebody else was first, whose reason counts."""
        with self._lock:
            is_first = self._stopped_at is None
            if is_first:
                self._stopped_at = self._clock.now()
                self._stop_as = reason, self._tell(reason, message)
                if message is None:
                    self.stopped_by = reason
            elif self._finally_over:
                return False
        # Also if another thread is first, as it may not have come this far. Nothing may start once
        # this has returned.
        with self._scheduler.working:  # on whatever thread the ends are announced
            self._dispatch.stop(*self._stop_as)
        if is_first:
            self._requests.ring()
        return is_first

    def _stop_finally(self, reason: str, message: str | None = None) -> None:
        """Stop finally tasks too; None for the message means that the run is killed."""
        self._finally_over = True
        told = self._tell(reason, message, also_finally=True)
        self._dispatch.stop(reason, told, also_finally=True)

    def _tell(self, reason: str, message: str | None, *, also_finally: bool = False) -> str | None:
        """Have it told why the run is stopped; return that, for the tasks that it cancels."""
        if message is None and self._label is not None:
            message = f"{self._label} was {'killed' if also_finally else reason}"
        elif message is None and reason == "interrupted":
            message = "Task was interrupted"
        if reason == "interrupted" and not also_finally:
            self.error = TaskCancelled() if message is None else TaskCancelled(message)
        if message is not None:
            self._untold.append(message)
        return message

    # Calls from the dispatch

    def ring(self) -> None:
        """See `ttasks.engine.dispatch.Watcher`."""
        self._requests.ring()

    def failed(self, work: Work) -> None:
        """See `ttasks.engine.dispatch.Watcher`."""
        if self._options.fail_fast:
            title = self._scheduler.services.recorder.shown(work.task).title
            self._stop("cancelled", f"The graph run was stopped: {title!r} failed (fail_fast)")

    def troubled(self, error: BaseException) -> None:
        """See `ttasks.engine.dispatch.Watcher`."""
        self.error = self.error or error
        self._stop("cancelled", f"The graph run was stopped: {error}")

    def helpless(self, error: BaseException) -> None:
        """See `ttasks.engine.dispatch.Watcher`."""
        self.error = self.error or error
        self._stop_finally("cancelled", str(error))

    # Queries

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, or how long it took."""
        return (self._clock.now() if self._ended is None else self._ended) - self._began

    @property
    def retries(self) -> int:
        """Attempts after the first that it has decided on."""
        return self._budget.used

    @property
    def waiting(self) -> int:
        """Tasks that wait for a retry, or for another run that is executing them."""
        return self._dispatch.waiting

    @property
    def elsewhere(self) -> set[int]:
        """Nodes whose end it has not announced."""
        return self._dispatch.elsewhere

    @property
    def has_decided(self) -> bool:
        """True if some tasks did not run, because of others or of a stop."""
        return self._dispatch.has_decided
