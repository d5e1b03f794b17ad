"""Run: takes the nodes of a plan to their outcomes, on threads.

Workers take nodes from the plan, run them and report the outcome. The worker that finishes a node
takes the next one itself, so a chain of tasks needs no hand-off between threads. One more thread
supervises: it waits for the end and for what is due at a certain time (the next attempt of a task,
the end of its time), and carries out requests to stop. In `TaskGraph.run` and
`TaskExecutor.execute` that is the calling thread, where Ctrl-C arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.engine.agenda import Agenda
from ttasks.engine.attempt import Attempt
from ttasks.engine.crew import Crew
from ttasks.engine.ending import settle
from ttasks.engine.retry import RetryBudget, Tries
from ttasks.errors import (
    HandlerNotFoundError,
    InvalidTransitionError,
    TaskCancelled,
    TaskExecutionError,
    TaskTimeoutError,
)
from ttasks.model.cancel import CancelToken
from ttasks.model.plan import Decision, Plan
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.engine.limits import RunPlaces
    from ttasks.engine.scheduler import Scheduler
    from ttasks.model.clock import Clock
    from ttasks.model.policy import RetryPolicy
    from ttasks.model.running import RunOptions
    from ttasks.model.task import Task

CANCEL_PATIENCE = 2.0
"""Seconds after its cancellation until a handler that will not end is left behind."""

SUPERVISOR = 0
"""Slot of a supervisor that has to work itself."""

LEFT_BEHIND = TaskStatus.PENDING
"""Stands for the outcome of a node whose worker was left behind."""


class Requests:
    """What a run was asked for, and the alarm that tells its supervisor.

    May exist before the run does. Every method is a few plain assignments and blocks on no lock, so
    that signal handlers may call it between any two lines.

    Attributes:
        cancel: the run is to be stopped.
        interrupts: how often somebody asked in person; at the second time everything is killed.
        reason: "cancelled" or "interrupted".
    """

    __slots__ = ("_clock", "_lock", "cancel", "interrupts", "reason")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = sync.Lock()
        self._lock.acquire()
        self.cancel = False
        self.interrupts = 0
        self.reason = "cancelled"

    def ask_cancel(self, reason: str = "cancelled") -> None:
        """Ask to stop the run; any number of times."""
        self.reason = reason
        self.cancel = True
        self.ring()

    def interrupt(self, reason: str = "interrupted") -> None:
        """Ask to stop the run; the second time, to kill what is left of it."""
        self.reason = reason
        self.cancel = True
        self.interrupts += 1
        self.ring()

    def ring(self) -> None:
        """End the wait of the supervisor, or the next one."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it rings already

    def wait_until(self, moment: float | None) -> None:
        """Wait until it rings, or until that moment; None means without a limit."""
        self._clock.wait_until(self._lock, moment)


@dataclass(slots=True)
class Work:
    """A task of a run, and what its attempts need.

    Attributes:
        task: the task.
        upstream: its direct dependencies.
        retry: its policy; None for one attempt.
        is_finally, is_required: its flags in the graph.
        context: context variables of its handler; None for those of the run.
        may_start: asked before its first attempt; False if somebody has cancelled it.
        on_end: told of its outcome, on the thread that brings it about, without any lock.
        is_tried_again: it had ended without success before the run began.
        tries: its attempts so far; kept by the run.
        prior: the attempt that waits for the next one; kept by the run.
        awaited: somebody else was running the task when it was its turn; kept by the run.
        decision: it will not run unless whoever runs it has success; kept by the run.
    """

    task: Task
    upstream: tuple[Task, ...] = ()
    retry: RetryPolicy | None = None
    is_finally: bool = False
    is_required: bool = True
    context: Context | None = None
    may_start: Callable[[], bool] | None = None
    on_end: Callable[[TaskStatus, BaseException | None], None] | None = None
    tries: Tries | None = None
    prior: Attempt | None = None
    is_tried_again: bool = False
    awaited: bool = False
    decision: Decision | None = None


class Run:
    """One run: a plan, the threads that carry it out, and every way to stop it.

    The lock of the scheduler owns the plan, the crew, the agenda and the places in groups; it is
    never held while handlers, subscribers, guards or stores run. An entry of ``_live`` is set by
    the worker of the node and removed by whoever ends the attempt, each with one operation.
    ``_overdue``, ``_stuck`` and the times of stopping belong to the supervisor.

    Args:
        scheduler: of the executor.
        works: the tasks, by node.
        plan: what may run; belongs to the run from now on.
        places: in groups.
        options: how to run it.
        context: context variables that handlers see.
        name: beginning of the names of the threads.
        requests: stop it; the supervisor carries them out.
        outer: the attempt that the run is part of; None if there is none.
        label: what the messages of tasks say was stopped; None for a run of single tasks.
        is_shared: what somebody else runs is waited for; else it is an error.
        is_open: tasks may be added until every one has ended (see ``add``).

    Attributes:
        error: what ended the run as a whole before its time; None if nothing did.
        errors: exception by task id.
        has_decided: tasks did not run because of what became of others, or of a stop.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        works: list[Work],
        plan: Plan,
        places: RunPlaces,
        options: RunOptions,
        context: Context,
        name: str,
        requests: Requests,
        *,
        outer: Attempt | None = None,
        label: str | None = None,
        is_shared: bool = True,
        is_open: bool = False,
    ) -> None:
        self._scheduler = scheduler
        self._services = scheduler.services
        self._handlers = scheduler.handlers
        self._clock = scheduler.services.clock
        self._lock = scheduler.lock
        self._works = works
        self._plan = plan
        self._places = places
        self._options = options
        self._context = context
        self._token = CancelToken()  # follows whatever the run is part of
        self._label = label
        self._is_shared = is_shared
        self._is_open = is_open
        self._closed = False
        self._must_work = False  # no other thread could be started
        self._grouped = plan.grouped
        self._held = places.held_by(None)
        self._crew = Crew(self._serve, options.max_workers, name)
        self._agenda: Agenda[int | Attempt] = Agenda()
        self._requests = requests
        self._live: dict[int, tuple[Attempt, sync.Thread]] = {}
        self._overdue: list[Attempt] = []  # their time is up, but they wait for what ends itself
        self._stuck: dict[Attempt, float] = {}  # cancelled: when first seen running on
        self._stop_error: BaseException | None = None
        self._stop_reason = "cancelled"
        self._stop_message: str | None = None
        self._stopped_at: float | None = None
        self._stop_all = False
        self._finally_over = False
        self._killed = False
        self._began = self._clock.now()
        self._ended: float | None = None
        self._supervisor: int | None = None
        self._unfollow: list[Callable[[], None]] = []  # not empty from `register` on
        self._outer = outer
        self.budget = RetryBudget(options.retry_budget)
        self.error: BaseException | None = None
        self.errors: dict[str, BaseException] = {}
        self.has_decided = False

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
            self._carry_out_all(self._plan.begin())
            self._wait_for_end()
        finally:
            self._join()
            self._scheduler.let_go()
            self.unregister()
            self._ended = self._clock.now()

    def register(self) -> None:
        """Hear of stops and of free places from now on; comes before the first worker."""
        outer = self._scheduler.outer_tokens(self._outer)
        self._unfollow = [self._token.follow(token) for token in outer]
        self._unfollow.append(self._token.add_callback(self._on_token))
        self._scheduler.add_run(self)

    def unregister(self) -> None:
        """Undo `register`."""
        self._scheduler.remove_run(self)
        for end in self._unfollow:
            end()

    def _wait_for_end(self) -> None:
        """Wait for the end, and do what is due meanwhile."""
        raised: BaseException | None = None
        while not self._is_over():
            try:
                self._do_due()
                if self._must_work:
                    self._must_work = False
                    self._work(SUPERVISOR)
                if self._plan.unfinished:
                    self._requests.wait_until(self._next_moment())
            except BaseException as error:
                # Whatever handlers of yet other signals raise is as good as Ctrl-C. At the third
                # there is nothing left to be tried.
                if self._requests.interrupts > 1:
                    raise
                raised = raised or error
                self._requests.interrupt()
        if raised is not None:
            raise raised

    def _is_over(self) -> bool:
        """True once every node is finished; nothing can be added then."""
        with self._lock:
            self._closed = not self._plan.unfinished
            return self._closed

    def _do_due(self) -> None:
        now, options, requests = self._clock.now(), self._options, self._requests
        if requests.cancel:
            self._stop(requests.reason, requests.reason)
        if requests.interrupts > 1 and not self._killed:
            self._killed = True
            self._stop_finally("killed")
            for attempt, _thread in self._alive():
                attempt.cancel("interrupted", kill=True)
        if options.timeout is not None and now >= self._began + options.timeout:
            error = TaskTimeoutError(options.timeout, what="Graph")
            if self._stop("cancelled", None, str(error)):
                self.error = error
        limit = options.finally_timeout
        if self._stopped_at is not None:
            if limit is not None and now >= self._stopped_at + limit and not self._finally_over:
                late = TaskTimeoutError(limit, what="Finally tasks")
                self.error = self.error or late
                self._stop_finally(None, str(late))
            self._leave_stuck(now)
        self._leave_overdue()
        self._take_due(now)

    def _take_due(self, now: float) -> None:
        """Queue what is to be tried again, and end what has had its time."""
        while True:
            with self._lock:
                item = self._agenda.take(now)
                if isinstance(item, int):
                    self._plan.resume(item, now)
            if item is None:
                break
            if isinstance(item, Attempt):
                item.ticket = None
                item.token.cancel("timeout")
                self._overdue.append(item)
                self._leave_overdue()
        self.provide_worker()

    def _next_moment(self) -> float | None:
        """When something is due next, by the clock; None if nothing is."""
        options = self._options
        with self._lock:
            moments = [self._agenda.next()]
        if self._stopped_at is None:
            if options.timeout is not None:
                moments.append(self._began + options.timeout)
        else:
            if options.finally_timeout is not None and not self._finally_over:
                moments.append(self._stopped_at + options.finally_timeout)
            moments += [seen + CANCEL_PATIENCE for seen in self._stuck.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def _leave_overdue(self) -> None:
        """End the attempts whose time is up, unless they wait for what ends by itself."""
        self._overdue = [attempt for attempt in self._overdue if not self._leave(attempt)]

    def _leave(self, attempt: Attempt) -> bool:
        """End an attempt whose handler has not returned; False if it is to be waited for."""
        if not attempt.is_started:
            return True  # its worker will find it cancelled
        if not attempt.leave():
            return attempt.status is not None or not attempt.ends_itself
        if attempt.left:
            with self._lock:
                entry = self._live.get(attempt.node)
                if entry is not None and entry[0] is attempt:
                    self._crew.drop(entry[1])
                self._scheduler.abandoned += 1
            self._go_on(attempt.node, self._after(attempt))
        return True

    def _leave_stuck(self, now: float) -> None:
        """Leave behind cancelled handlers that have had their time and cannot be ended."""
        running = [
            attempt
            for attempt, _thread in self._alive()
            if attempt.token.cancelled and not attempt.ends_itself
        ]
        self._stuck = {attempt: self._stuck.get(attempt, now) for attempt in running}
        for attempt, seen in list(self._stuck.items()):
            if self._killed or now >= seen + CANCEL_PATIENCE:
                del self._stuck[attempt]
                self._leave(attempt)

    def _alive(self) -> list[tuple[Attempt, sync.Thread]]:
        return list(self._live.copy().values())

    def _join(self) -> None:
        """Wait for the end of all workers that are not left behind."""
        with self._lock:
            resting, threads = self._crew.close()
        for wake in resting:
            wake.release()
        for thread in threads:
            if thread.ident is not None:
                thread.join()

    # Stopping

    def cancel(self) -> None:
        """Stop the run; from any thread. On its supervisor's, ask for that instead.

        There it may come from a signal handler that has interrupted a critical section.
        """
        if sync.get_ident() == self._supervisor:
            self._requests.ask_cancel()
        else:
            self._stop("cancelled", "cancelled")

    def _on_token(self) -> None:
        reason = self._token.reason or "cancelled"
        if self._token.killed:
            self._requests.interrupts = max(self._requests.interrupts, 2)
            self._requests.ask_cancel(reason)
        elif sync.get_ident() == self._supervisor:
            self._requests.ask_cancel(reason)
        else:
            self._stop(reason, reason)

    def _stop(self, reason: str, how: str | None, message: str | None = None) -> bool:
        """Stop all but finally tasks; False if that has been done before."""
        with self._lock:
            if self._stopped_at is not None:
                return False
            self._stopped_at = self._clock.now()
        with self._scheduler.working:  # on whatever thread the ends are announced
            self._cancel_rest(reason, how, message)
        if reason == "interrupted":
            self.error = self._stop_error
        self._requests.ring()
        return True

    def _stop_finally(self, how: str | None, message: str | None = None) -> None:
        """Stop finally tasks too."""
        self._finally_over = True
        self._cancel_rest(self._requests.reason, how, message, also_finally=True)

    def _cancel_rest(
        self, reason: str, how: str | None, message: str | None, *, also_finally: bool = False
    ) -> None:
        if message is None and self._label is not None:
            message = f"{self._label} was {how}"
        elif message is None and reason == "interrupted":
            message = "Task was interrupted"
        with self._lock:
            self._stop_reason, self._stop_message = reason, message
            self._stop_error = TaskCancelled() if message is None else TaskCancelled(message)
            self._stop_all = self._stop_all or also_finally
            decisions = self._plan.stop(also_finally=also_finally)
        for attempt, _thread in self._alive():
            # An open run has no finally tasks, and may have forgotten the task by now.
            if also_finally or self._is_open or not self._works[attempt.node].is_finally:
                attempt.cancel(reason, message=message)
        self._carry_out_all(decisions)

    def _is_stopped(self, work: Work) -> bool:
        return self._stop_error is not None and (self._stop_all or not work.is_finally)

    def _on_failure(self, work: Work) -> None:
        """A required task has FAILED for good."""
        if self._options.fail_fast:
            title = self._services.recorder.shown(work.task).title
            self._stop(
                "cancelled", None, f"The graph run was stopped: {title!r} failed (fail_fast)"
            )

    def _on_trouble(self, work: Work, error: BaseException) -> None:
        """The engine or a store that has to work does not; this is the end of the run."""
        if not self._is_shared:  # a run of its own is only the task itself
            self.errors.setdefault(work.task.id, error)
            return
        self.error = self.error or error
        self._stop("cancelled", None, f"The graph run was stopped: {error}")

    # What others ask

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, or that it took."""
        return (self._clock.now() if self._ended is None else self._ended) - self._began

    @property
    def retries(self) -> int:
        """Attempts after the first that it has decided on."""
        return self.budget.used

    @property
    def waiting(self) -> int:
        """Tasks that wait for another attempt, or for somebody else who runs them."""
        return self._plan.delayed

    def ring(self) -> None:
        """See `ttasks.engine.attempt.Keeper`."""
        self._requests.ring()

    def unpark(self, group: str) -> bool:
        """A place has become free; with the lock held. True if a node may take it."""
        return self._plan.unpark(group, self._clock.now())

    # On the workers' threads

    def _serve(self, slot: int) -> None:
        with self._scheduler.working:
            self._work(slot)

    def _work(self, slot: int) -> None:
        """Take nodes and run them until none is left."""
        lock, plan, crew, now = self._lock, self._plan, self._crew, self._clock.now
        take_place, is_open = self._places.take, self._is_open
        me = sync.current_thread()
        wake = sync.Lock()
        wake.acquire()
        decisions: deque[Decision] = deque()
        finished: int | None = None
        outcome = LEFT_BEHIND
        while True:
            helper = None
            # By trying and yielding, never by queueing for it: a thread that queued would be handed
            # the lock while it still waits for the interpreter lock, and the thread that runs would
            # then run into it, so that every task costs a context switch (a lock convoy).
            while not lock.acquire(False):
                sync.sleep(0)
            try:
                moment = now()
                if finished is not None:
                    unlocked = plan.finish(finished, outcome, moment)
                    if unlocked:
                        decisions.extend(unlocked)
                    if is_open:
                        self._forget(finished)
                    finished = None
                node = None if decisions else plan.take(take_place, moment, slot)
                if plan.queue and not crew.all_work:
                    helper = crew.helper()
                if node is None and not decisions:
                    if not plan.unfinished:
                        self._requests.ring()
                    if crew.closing or slot == SUPERVISOR:
                        break
                    crew.rest(wake)
            finally:
                lock.release()
            if helper is not None:
                self._begin(helper)
            if decisions:
                decision = decisions.popleft()
                node, outcome = decision.node, self._carry_out(decision)
            elif node is None:
                wake.acquire()
                continue
            else:
                outcome = self._run(node, me)
                if outcome is LEFT_BEHIND:
                    with lock:
                        self._scheduler.abandoned -= 1
                    return
            if outcome is not TaskStatus.RUNNING:
                finished = node

    def _run(self, node: int, me: sync.Thread) -> TaskStatus:
        """Run one attempt of a node; RUNNING means that it goes on, or that there is another."""
        work = self._works[node]
        task = work.task
        try:
            if lifecycle_of(task).status is TaskStatus.FAILED and self._was_run_elsewhere(work):
                self._release(node)
                return self._end(node, work, task.status)
            if self._stop_error is not None and self._is_stopped(work):
                work.decision = Decision(node, TaskStatus.CANCELLED)
            if work.decision is not None:
                self._release(node)
                return self._carry_out(work.decision)
            if task.type not in self._handlers:
                return self._without_handler(node, work)
            attempt = self._attempt(node, work)
            if attempt is None:
                return self._refused(node, work)
            self._live[node] = (attempt, me)
            if self._stop_error is not None and self._is_stopped(work):
                # The stop came between taking the node and here.
                attempt.cancel(self._stop_reason, message=self._stop_message)
            if task.timeout is not None:
                self._watch(attempt, task.timeout)
            if not attempt.start():
                self._live.pop(node, None)
                self._forget_moment(attempt)
                return self._refused(node, work, again=not self._is_shared)
            if not attempt.has_ended and attempt.detach():
                return TaskStatus.RUNNING
            attempt.context = attempt.variables = _NOTHING  # see `Attempt.context`
            return LEFT_BEHIND if attempt.left else self._after(attempt)
        except BaseException as error:  # the engine has a bug: nothing may hang
            self._live.pop(node, None)
            self.errors[task.id] = error
            self._on_trouble(work, error)
            return self._end(node, work, TaskStatus.FAILED)

    def _attempt(self, node: int, work: Work) -> Attempt | None:
        """The next attempt of a node; None if there can be none."""
        task = work.task
        if work.may_start is not None:
            may_start, work.may_start = work.may_start, None
            if not may_start():
                return None
        found = self._handlers[task.type]
        backend = found[0] or self._scheduler.backend_of(task.payload)
        if work.retry is not None and work.tries is None:
            work.tries = Tries(work.retry, self._clock, self.budget)
        prior, work.prior = work.prior, None
        held = self._held
        if self._grouped:
            held = self._places.held_by(self._plan.group_of(node))
        variables = (self._context if work.context is None else work.context).copy()
        return Attempt(
            self._services,
            self,
            task,
            backend,
            found[1],
            variables,
            work.upstream,
            work.tries,
            prior,
            held,
            self._outer,
            node,
        )

    def _without_handler(self, node: int, work: Work) -> TaskStatus:
        """End a task whose type has no handler."""
        task, recorder = work.task, self._services.recorder
        known = sorted(type.value for type in list(self._handlers))
        error = HandlerNotFoundError(task.type.value, known)
        if not settle(recorder, task, TaskStatus.FAILED, error, owner=work.prior):
            return self._refused(node, work)
        self._release(node)
        self.errors[task.id] = error
        if work.is_required:
            self._on_failure(work)
        return self._end(node, work, TaskStatus.FAILED)

    def _watch(self, attempt: Attempt, timeout: float) -> None:
        """Have the supervisor end an attempt in time, unless it is ended by its backend."""
        attempt.deadline = self._clock.now() + timeout
        if attempt.backend.kills:
            return
        with self._lock:
            attempt.ticket, is_first = self._agenda.add(attempt.deadline, attempt)
        if is_first:
            self._requests.ring()

    def _forget_moment(self, attempt: Attempt) -> None:
        if attempt.ticket is not None:
            with self._lock:
                self._agenda.drop(attempt.ticket)

    def _after(self, attempt: Attempt) -> TaskStatus:
        """What follows from the end of an attempt; RUNNING means another one, later."""
        node = attempt.node
        work = self._works[node]
        self._live.pop(node, None)
        if attempt.ticket is not None:
            self._forget_moment(attempt)
        if self._grouped:
            self._release(node)
        if attempt.trouble is not None:
            self._on_trouble(work, attempt.trouble)
        if attempt.retry_in is not None and self._postpone(work, attempt):
            return TaskStatus.RUNNING
        assert attempt.status is not None
        if attempt.error is not None:
            self.errors[work.task.id] = attempt.error
        if attempt.status is TaskStatus.FAILED and work.is_required:
            self._on_failure(work)
        return attempt.status if work.on_end is None else self._end(node, work, attempt.status)

    def _postpone(self, work: Work, attempt: Attempt) -> bool:
        """Put a node aside until its next attempt; False if there will be none after all."""
        node = attempt.node
        with self._lock:
            retry_in = attempt.retry_in
            if retry_in is None:
                return False  # cancelled just now
            now = self._clock.now()
            if self._plan.postpone(node, "retry", now):
                work.prior = attempt
                attempt.ticket, is_first = self._agenda.add(now + retry_in, node)
                if is_first:
                    self._requests.ring()
                return True
        # The retry that was announced is not to be: the run has been stopped.
        attempt.cancel(self._stop_reason, message=self._stop_message)
        return False

    def _end(self, node: int, work: Work, status: TaskStatus) -> TaskStatus:
        """A node has its outcome; returns it, for the plan."""
        if work.on_end is not None:
            work.on_end(status, self.errors.get(work.task.id))
        return status

    def _release(self, node: int) -> None:
        """Give back the place of a node in its group."""
        if self._grouped:
            group = self._plan.group_of(node)
            if group is not None:
                self._scheduler.give_back(self._places, group)

    # Tasks that somebody else runs

    def _was_run_elsewhere(self, work: Work) -> bool:
        """True if another run has run the task, without success, since this one began."""
        task = work.task
        if task.status is not TaskStatus.FAILED or work.prior is not None:
            return False
        if lifecycle_of(task).owner is not None:
            return False  # it may be tried again there
        if not self._is_shared or (work.is_tried_again and not work.awaited):
            return False
        self.errors.setdefault(task.id, TaskExecutionError(task.error or "Task failed"))
        return True

    def _refused(self, node: int, work: Work, *, again: bool = False) -> TaskStatus:
        """A task could not start; RUNNING means that it may later.

        ``again``: it starts as soon as nobody owns it, if its status allows that.
        """
        self._release(node)
        task = work.task
        if self._await_owner(node, work, again=again):
            return TaskStatus.RUNNING
        status = task.status
        if status.is_active or not self._is_shared:
            refusal = InvalidTransitionError(
                task.id, task.title, status.value, TaskStatus.RUNNING.value
            )
            self.errors.setdefault(
                task.id, TaskCancelled() if status is TaskStatus.CANCELLED else refusal
            )
            return self._end(node, work, TaskStatus.FAILED if status.is_active else status)
        if task.status is TaskStatus.FAILED and work.is_required:
            self._on_failure(work)
        return self._end(node, work, task.status)

    def _await_owner(self, node: int, work: Work, *, again: bool = False) -> bool:
        """Put a node aside until whoever owns its task lets go of it; False if nobody does."""
        life = lifecycle_of(work.task)
        if not self._is_shared and life.status.is_active:
            return False
        if life.owner is None and not (again and not life.status.is_sink):
            return False
        with self._lock:
            if not self._plan.postpone(node, "duplicate", self._clock.now()):
                return False
        work.awaited = self._is_shared
        if not life.on_release(lambda: self._retake(node)):
            self._retake(node)
        return True

    def _retake(self, node: int) -> None:
        with self._lock:
            self._plan.resume(node, self._clock.now())
        self.provide_worker()

    # Decisions, and ends that no worker waits for

    def ended(self, attempt: Attempt) -> None:
        """See `ttasks.engine.attempt.Keeper`."""
        self._go_on(attempt.node, self._after(attempt))

    def retry_cancelled(self, attempt: Attempt) -> None:
        """See `ttasks.engine.attempt.Keeper`."""
        node = attempt.node
        with self._lock:
            work = self._works[node]
            is_waiting = work is not _NOTHING and work.prior is attempt
            is_mine = is_waiting and self._plan.retract(node)
            if is_mine and attempt.ticket is not None:
                self._agenda.drop(attempt.ticket)
        if is_waiting and attempt.error is not None:
            self.errors[work.task.id] = attempt.error
        if is_mine:
            work.prior = None
            if attempt.trouble is not None:
                self._on_trouble(work, attempt.trouble)
            self._go_on(node, self._end(node, work, TaskStatus.CANCELLED))

    def _go_on(self, node: int, outcome: TaskStatus) -> None:
        """Tell the plan of an outcome that no worker waits for."""
        if outcome is not TaskStatus.RUNNING:
            with self._lock:
                decisions = self._finish(node, outcome)
            self._carry_out_all(decisions)

    def _finish(self, node: int, outcome: TaskStatus) -> list[Decision]:
        """Tell the plan of an outcome; with the lock held."""
        decisions = self._plan.finish(node, outcome, self._clock.now())
        if self._is_open:
            self._forget(node)
        return decisions

    def _forget(self, node: int) -> None:
        """Forget a task of an open run that has ended; with the lock held."""
        self.errors.pop(self._works[node].task.id, None)
        self._works[node] = _NOTHING
        self._plan.forget(node)

    def _carry_out_all(self, decisions: Iterable[Decision]) -> None:
        """Carry out decisions and what follows from them, then see to the rest of the work."""
        left = deque(decisions)
        while left:
            decision = left.popleft()
            outcome = self._carry_out(decision)
            if outcome is not TaskStatus.RUNNING:
                with self._lock:
                    left.extend(self._finish(decision.node, outcome))
        if not self._plan.unfinished:
            self._requests.ring()
        self.provide_worker()

    def _carry_out(self, decision: Decision) -> TaskStatus:
        """End a task that will not run; returns its outcome, RUNNING if that is not known yet."""
        self.has_decided = True
        node, status = decision.node, decision.status
        work = self._works[node]
        work.decision = decision
        task, recorder = work.task, self._services.recorder
        try:
            if status is TaskStatus.CANCELLED:
                error = self._stop_error
                assert error is not None
                if work.prior is not None:
                    work.prior.cancel(self._stop_reason, message=self._stop_message)
                elif settle(recorder, task, status, error, reason=self._stop_reason):
                    self.errors[task.id] = error
                elif self._plan.is_cleaned_up(node) and self._await_owner(node, work):
                    return TaskStatus.RUNNING
                elif not self._is_shared:
                    self.errors.setdefault(task.id, error)  # it runs elsewhere
            elif not settle(
                recorder,
                task,
                status,
                because=self._reason(decision),
                blocked_by=self._blocker(decision),
            ) and self._await_owner(node, work):
                return TaskStatus.RUNNING
        except BaseException as error:
            self._on_trouble(work, error)
        # It may have been cancelled before, or be in the hands of somebody else.
        return self._end(node, work, task.status if task.is_terminal else status)

    def _blocker(self, decision: Decision) -> str | None:
        if decision.status is not TaskStatus.BLOCKED or decision.because is None:
            return None
        return self._works[decision.because].task.id

    def _reason(self, decision: Decision) -> str:
        """Why a task is BLOCKED or SKIPPED."""
        if decision.because is None:
            return "skipped: nothing that it stands in for has failed"
        upstream = self._works[decision.because].task
        title = self._services.recorder.shown(upstream).title
        if decision.status is TaskStatus.BLOCKED:
            return f"blocked by {title!r}"
        return f"skipped: {title!r} was {upstream.status.value}"

    # Workers

    def add(self, work: Work, *, start: bool = True) -> bool:
        """Add a task to an open run, or to one that has not begun (``start=False``).

        Returns:
            False if the run has just ended.
        """
        task = work.task
        group = task.group if task.group in self._places else None
        with self._lock:
            if self._closed:
                return False
            node = self._plan.add((task.priority, task.deadline), group, self._clock.now())
            if node == len(self._works):
                self._works.append(work)
            else:
                self._works[node] = work
            self._grouped = self._plan.grouped
        if start:
            self.provide_worker()
        return True

    def provide_worker(self) -> None:
        """See to it that somebody takes what is queued."""
        with self._lock:
            helper = self._crew.helper() if self._plan.queue else None
        if helper is not None:
            self._begin(helper)

    def _begin(self, helper: sync.Lock | sync.Thread) -> None:
        """Wake or start a helper; where no thread can be had, do with those there are."""
        if Crew.begin(helper):
            return
        assert isinstance(helper, sync.Thread)
        with self._lock:
            self._crew.drop(helper)
            alone = not self._crew.size
        if alone and self._is_open:
            self._must_work = True
            self._requests.ring()
        elif alone and not self._stop_all:
            error = RuntimeError("no thread could be started for the run")
            self.error = self.error or error
            self._cancel_rest("cancelled", None, str(error), also_finally=True)


_NOTHING: Any = None
"""Stands in an open run for a task that has ended."""
