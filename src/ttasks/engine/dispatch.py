"""Dispatch: runs the nodes of a plan on threads.

Workers take nodes from the plan, run them and report the outcome. The worker that finishes a node
takes the next one itself, so a chain of tasks needs no hand-off between threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from contextvars import Context
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ttasks import sync
from ttasks.engine.agenda import Agenda
from ttasks.engine.aside import Aside, SideThread
from ttasks.engine.attempt import Attempt, Handler, Work
from ttasks.engine.crew import Crew
from ttasks.engine.deadlock import Deadlock, Parked, refusal_of
from ttasks.engine.ending import settle
from ttasks.engine.equals import announce_reused
from ttasks.engine.pace import LOOK_SECONDS, Pace
from ttasks.engine.retry import RetryBudget, Tries
from ttasks.engine.service import STOP_PATIENCE, Readiness
from ttasks.engine.twins import Twins
from ttasks.errors import (
    DeclarationError,
    GraphError,
    HandlerNotFoundError,
    InvalidTransitionError,
    TaskCancelled,
    TaskExecutionError,
)
from ttasks.model.clock import SYSTEM_CLOCK
from ttasks.model.plan import Decision, Plan
from ttasks.model.running import CACHE_ON, CACHE_VERIFY
from ttasks.model.snapshot import declares
from ttasks.model.status import (
    BLOCKED,
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    TaskStatus,
)
from ttasks.model.task import lifecycle_of

if TYPE_CHECKING:
    from ttasks.backends.base import Backend
    from ttasks.engine.limits import RunPlaces
    from ttasks.engine.scheduler import Scheduler
    from ttasks.model.notes import Notes
    from ttasks.model.running import RunOptions
    from ttasks.model.task import Task

SUPERVISOR = 0
"""The slot of a supervisor that runs tasks itself, because no thread could be started."""

LEFT_BEHIND = PENDING
"""In place of an outcome: the worker of this node was left behind."""

_NOTHING: Any = None
"""In an open run, in place of a task that has ended."""


class Assignment(NamedTuple):
    """What a run is to do, and how.

    Attributes:
        works: the tasks, by node.
        plan: what may run; belongs to the run from now on.
        places: in groups.
        options: how to run it.
        context: context variables that handlers see.
        name: prefix for the names of the threads.
        outer: the attempt that the run is part of; None if there is none.
        label: the subject of messages such as "The graph run was cancelled"; None for a run of
            single tasks.
        is_shared: wait for a task that somebody else is running; otherwise that is an error.
        is_open: accept more tasks until all have ended (see `Dispatch.add`).
    """

    works: list[Work]
    plan: Plan
    places: RunPlaces
    options: RunOptions
    context: Context
    name: str
    outer: Attempt | None = None
    label: str | None = None
    is_shared: bool = True
    is_open: bool = False


class _Worker:
    """The state of a worker thread."""

    __slots__ = ("handler_seconds", "thread")

    def __init__(self, thread: sync.Thread) -> None:
        self.thread = thread
        self.handler_seconds = inf  # that the handler took which it ran last


class Watcher(Protocol):
    """The supervisor of a dispatch. Called on any thread, with no lock held."""

    def ring(self) -> None:
        """Something has become due, or everything has ended."""

    def failed(self, work: Work) -> None:
        """A required task has FAILED for good."""

    def troubled(self, error: BaseException) -> None:
        """The engine, or the store of a strict executor, has failed; nothing new must start."""

    def helpless(self, error: BaseException) -> None:
        """No thread could be started; nothing can run any more, not even finally tasks."""


class Dispatch:
    """Carries out a plan.

    The lock of the scheduler owns the plan, the crew, the agenda and the places in groups; it is
    never held while handlers, subscribers, guards or stores run. An entry of ``_live`` is set by
    the worker of the node and removed by whoever ends the attempt, each in one atomic operation.

    Args:
        scheduler: of the executor.
        assignment: what to do.
        budget: of retries.
        watcher: the supervisor.

    Attributes:
        errors: exception by task id.
        has_decided: some tasks did not run, because of others or of a stop.
        must_work: no thread could be started, so the supervisor has to call ``work_here``.
        elsewhere: nodes whose end this run has not announced.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        assignment: Assignment,
        budget: RetryBudget,
        watcher: Watcher,
    ) -> None:
        works, plan, places, options, context, name, outer, _, is_shared, is_open = assignment
        self._scheduler = scheduler
        self.services = scheduler.services  # see `ttasks.engine.attempt.Keeper`
        self._handlers = scheduler.handlers
        self._clock = scheduler.services.clock
        self._lock = scheduler.lock
        self._works = works
        self._plan = plan
        self._places = places
        self._context = context
        self._budget = budget
        self._watcher = watcher
        self.ring = watcher.ring
        self.outer = outer
        self._is_shared = is_shared
        self._is_open = is_open
        self._closed = False
        self._grouped = plan.grouped
        self._held = places.held_by(())
        self._crew = Crew(self._serve, options.max_workers, name)
        self._agenda: Agenda[int | Attempt] = Agenda()
        self._deadlocks: dict[int, Deadlock] = {}  # by the node that was refused
        # Whether others would have to wait is told by real time only.
        is_paced = options.max_workers > 1 and self._clock is SYSTEM_CLOCK
        self._pace = Pace() if is_paced else None
        self._live: dict[int, tuple[Attempt, sync.Thread]] = {}
        self._stop_error: BaseException | None = None
        self._stop_reason = "cancelled"
        self._stop_message: str | None = None
        self._stop_all = False
        self._twins: Twins | None = None
        if any(work.task.reuse for work in works):
            self._twins = self._new_twins()
        # Their fingerprints, and those of what comes after them, are known only when they start.
        self._has_declared = self._twins is not None and any(declares(work.task) for work in works)
        self._cache = options.cache
        self.errors: dict[str, BaseException] = {}
        self.has_decided = False
        self.must_work = False
        self.elsewhere: set[int] = set()
        self._sides: list[SideThread] = []  # of services; the scheduler's lock owns it

    # For the supervisor

    def begin(self) -> None:
        """Start the work."""
        self._carry_out_all(self._plan.begin())

    def is_over(self) -> bool:
        """True once every node is finished; nothing can be added then."""
        with self._lock:
            self._closed = not self._plan.unfinished
            return self._closed

    @property
    def unfinished(self) -> int:
        """Nodes that are not finished."""
        return self._plan.unfinished

    @property
    def waiting(self) -> int:
        """Tasks that wait for a retry, or for another run that is executing them."""
        return self._plan.delayed

    def work_here(self) -> None:
        """Work on this thread until nothing may start."""
        self.must_work = False
        self._work(SUPERVISOR)

    def next_moment(self) -> float | None:
        """When the next thing is due, by the clock; None if nothing is.

        The supervisor then waits until that moment, or until it is rung, and calls ``attend``.
        """
        pace = self._pace
        with self._lock:
            moment = self._agenda.next()
            if pace is None:
                return moment
            pace.is_watched = True
            if pace.runner is None:
                return moment
            look = self._clock.now() + LOOK_SECONDS
            return look if moment is None else min(moment, look)

    def attend(self, now: float) -> None:
        """Let all workers go on if the one that works alone is stuck.

        The supervisor calls this when it has waited. It may be busy from now on.
        """
        pace = self._pace
        if pace is None:
            return
        with self._lock:
            pace.is_watched = False
            is_stuck = pace.is_stuck(now)
            if is_stuck:
                pace.reset()
        if is_stuck:
            self.provide_worker()

    def take_due(self, now: float) -> Attempt | None:
        """Queue the retries that are due; return an attempt that has timed out, if any."""
        item: int | Attempt | None = 0
        while isinstance(item, int):
            with self._lock:
                item = self._agenda.take(now)
                if isinstance(item, int):
                    self._plan.resume(item, now)
        if item is not None:
            item.ticket = None
        self.provide_worker()
        return item

    def alive(self) -> list[Attempt]:
        """The attempts that are under way."""
        return [attempt for attempt, _thread in self._live.copy().values()]

    def leave(self, attempt: Attempt) -> bool:
        """End an attempt whose handler has not returned; False if the caller has to wait for it."""
        if not attempt.is_started:
            return True  # its worker will find it cancelled
        if not attempt.leave():
            return attempt.status is not None or not attempt.ends_itself
        if isinstance(attempt.backend, Aside):
            attempt.backend.leave()
        if attempt.left:
            with self._lock:
                entry = self._live.get(attempt.node)
                if entry is not None and entry[0] is attempt:
                    self._crew.drop(entry[1])
                self._scheduler.abandoned += 1
            self._go_on(attempt.node, self._after(attempt))
        return True

    def stop(self, reason: str, message: str | None, *, also_finally: bool = False) -> None:
        """Cancel what is running and what has not started.

        Args:
            reason: "cancelled" or "interrupted".
            message: why, for people; None stands for "Task was cancelled".
            also_finally: cancel finally tasks too.
        """
        with self._lock:
            self._stop_reason, self._stop_message = reason, message
            self._stop_error = TaskCancelled() if message is None else TaskCancelled(message)
            self._stop_all = self._stop_all or also_finally
            decisions = self._plan.stop(also_finally=also_finally)
        for attempt in self.alive():
            # An open run has no finally tasks, and may have forgotten the task by now.
            if also_finally or self._is_open or not self._outlives_stop(attempt):
                attempt.cancel(reason, message=message)
        self._carry_out_all(decisions)

    def _outlives_stop(self, attempt: Attempt) -> bool:
        """True for a finally task, and for a service until all that uses it has ended."""
        if self._works[attempt.node].is_finally:
            return True
        readiness = attempt.readiness
        if readiness is None or not self._plan.is_needed(attempt.node):
            return False
        return not readiness.deny()

    def join(self) -> None:
        """Wait until all workers that are not left behind have ended."""
        with self._lock:
            resting, threads = self._crew.close()
        for wake in resting:
            wake.release()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        for side in self._sides:
            side.join()

    # For the scheduler, and for those who add tasks

    def unpark(self, group: str) -> bool:
        """A place has become free; with the lock held. True if a node may take it."""
        return self._plan.unpark(group, self._clock.now())

    def add(self, work: Work, *, start: bool = True) -> bool:
        """Add a task to an open run, or to one that has not begun (``start=False``).

        Returns:
            False if the run has just ended, or has been stopped.
        """
        task = work.task
        groups = self._places.limited(task)
        with self._lock:
            if self._closed or (start and self._stop_error is not None):
                return False
            order, is_service = (task.priority, task.deadline), work.service is not None
            node = self._plan.add(order, groups, self._clock.now(), service=is_service)
            if node == len(self._works):
                self._works.append(work)
            else:
                self._works[node] = work
            self._grouped = self._plan.grouped
            if work.history is not None:
                work.history.begin(self._plan, node)
        if start:
            self.provide_worker()
        return True

    def groups_held_by(self, attempt: Attempt) -> list[str]:
        """See `ttasks.engine.scheduler.Sharer`."""
        if attempt.readiness is not None and not attempt.readiness.has_places:
            return []
        groups = self._plan.groups_of(attempt.node)
        return [group for group in groups if self._places.shared_limit_of(group) is not None]

    def parked(self, awaited: Collection[str] = ()) -> list[Parked]:
        """See `ttasks.engine.scheduler.Sharer`."""
        also: set[int] = set()
        if awaited and self._is_open:  # only submitted tasks have futures
            works = enumerate(self._works)
            also = {at for at, work in works if work is not _NOTHING and work.task.id in awaited}
        return [
            Parked(node, self._works[node].task, group, limit)
            for node, group in self._plan.parked(also)
            if (limit := self._places.shared_limit_of(group)) is not None
        ]

    def refuse_deadlock(self) -> None:
        """See `ttasks.engine.scheduler.Sharer`."""
        with self._lock:
            decisions = self._refuse_deadlock()
        if decisions:
            self._carry_out_all(decisions)

    def provide_worker(self) -> None:
        """Wake or start a worker if anything is queued."""
        with self._lock:
            is_alone = self._pace is not None and self._pace.runner is not None
            helper = self._crew.helper() if self._plan.queue and not is_alone else None
        if helper is not None:
            self._begin(helper)

    def _begin(self, helper: sync.Lock | sync.Thread) -> None:
        """Wake or start a helper; if no thread can be started, go on with the existing ones."""
        if Crew.begin(helper):
            return
        assert isinstance(helper, sync.Thread)
        with self._lock:
            self._crew.drop(helper)
            alone = not self._crew.size
        if alone and self._is_open:
            self.must_work = True
            self.ring()
        elif alone and not self._stop_all:
            self._watcher.helpless(RuntimeError("no thread could be started for the run"))

    # On the workers' threads

    def _serve(self, slot: int) -> None:
        with self._scheduler.working:
            self._work(slot)

    def _work(self, slot: int) -> None:
        """Take nodes and run them until none is left."""
        lock, plan, crew, now = self._lock, self._plan, self._crew, self._clock.now
        take_place, is_open, held = self._places.take, self._is_open, self._held
        pace, taken, awaits = self._pace, now(), self._scheduler.awaits
        me = _Worker(sync.current_thread())
        wake = sync.Lock()
        wake.acquire()
        decisions: deque[Decision] = deque()
        finished: int | None = None
        outcome = LEFT_BEHIND
        while True:
            helper = None
            unneeded: Iterable[int] = ()
            # By trying and yielding, never by queueing for it: a thread that queued would be handed
            # the lock while it still waits for the interpreter lock, and the thread that runs would
            # then run into it, so that every task costs a context switch (a lock convoy).
            while not lock.acquire(False):
                sync.sleep(0)
            try:
                moment, unlocked = now(), None
                if finished is not None:
                    unlocked = plan.finish(finished, outcome, moment)
                    if unlocked:
                        decisions.extend(unlocked)
                    if plan.unneeded:
                        unneeded = plan.take_unneeded()
                    if is_open:
                        self._forget(finished)
                    finished = None
                rests = False
                if pace is not None:
                    if unlocked is not None:
                        pace.note(me.handler_seconds, (moment - taken) / (crew.busy or 1))
                        me.handler_seconds = inf
                    if pace.begins(slot):
                        self.ring()
                    rests = pace.holds(slot)
                    taken = moment
                node = None if decisions or rests else plan.take(take_place, moment, slot)
                if node is None and (held or awaits) and not (decisions or rests):
                    decisions.extend(self._refuse_deadlock())
                if plan.queue and not crew.all_work and (pace is None or pace.runner is None):
                    helper = crew.helper()
                if node is None and not decisions:
                    if pace is not None:
                        pace.leave(slot)
                    if not plan.unfinished:
                        self.ring()
                    if crew.closing or slot == SUPERVISOR:
                        break
                    crew.rest(wake)
            finally:
                lock.release()
            if helper is not None:
                self._begin(helper)
            for service in unneeded:
                self._dismiss(service)
            if decisions:
                decision = decisions.popleft()
                node, outcome = decision.node, self._carry_out(decision)
            elif node is None:
                wake.acquire()
                taken = now()
                continue
            else:
                outcome = self._run(node, me)
                if outcome is LEFT_BEHIND:
                    with lock:
                        self._scheduler.abandoned -= 1
                    return
            if outcome is not RUNNING:
                finished = node

    def _run(self, node: int, me: _Worker) -> TaskStatus:
        """Run one attempt of a node; RUNNING means that it has no outcome yet."""
        work = self._works[node]
        task = work.task
        try:
            if lifecycle_of(task).status is FAILED and self._was_run_elsewhere(work):
                self._refuse(node)
                self.elsewhere.add(node)
                return self._end(work, FAILED)
            if self._stop_error is not None and self._is_stopped(work):
                work.decision = Decision(node, CANCELLED)
            if work.decision is not None:
                self._refuse(node)
                return self._carry_out(work.decision)
            if task.reuse and work.prior is None:
                shared = self._share(node, work)
                if shared is not None:
                    return shared
            elif self._has_declared and not task.reuse:
                self._scheduler.watch(task, work.upstream, False)
            found = self._handlers.get(task.type)
            if found is None:
                return self._without_handler(node, work)
            attempt = self._attempt(node, work, *found)
            if attempt is None:
                return self._refused(node, work)
            self._live[node] = (attempt, me.thread)
            if self._stop_error is not None and self._is_stopped(work):
                # The stop came between taking the node and here.
                attempt.cancel(self._stop_reason, message=self._stop_message)
            if attempt.readiness is not None:
                self._watch_service(attempt)
            else:
                timeout = task.timeout or self.services.timeout
                if timeout is not None:
                    self._watch(attempt, timeout)
            if not attempt.start():
                self._live.pop(node, None)
                self._forget_moment(attempt)
                return self._refused(node, work, again=not self._is_shared)
            if attempt.readiness is not None:
                self._keep_sides(attempt, attempt.readiness)
            if not attempt.has_ended and attempt.detach():
                return RUNNING
            attempt.context = attempt.variables = _NOTHING  # see `Attempt.context`
            me.handler_seconds = attempt.handler_seconds
            return LEFT_BEHIND if attempt.left else self._after(attempt)
        except BaseException as error:  # the engine has a bug: nothing may hang
            self._live.pop(node, None)
            self.errors[task.id] = error
            self._trouble(work, error)
            return self._end(work, FAILED)

    def _share(self, node: int, work: Work) -> TaskStatus | None:
        """Let a task take over the result of an equal one or wait for it; None if it has to run."""
        task, asks = work.task, False
        if declares(task) or self._has_declared or self._cache != CACHE_ON:
            try:
                before, is_verified = task.fingerprint, self._cache == CACHE_VERIFY
                work.watch = self._scheduler.watch(task, work.upstream, is_verified)
            except DeclarationError as error:
                return self._fail(node, work, error)
            if self._cache != CACHE_ON:
                return None
            # What has run before it may have changed its inputs since the store was asked.
            asks = task.fingerprint != before or not all(map(_is_reused, work.upstream))
        with self._lock:
            if self._twins is None:
                self._twins = self._new_twins()
            twins = self._twins
        asks = asks or (declares(task) and twins.has_ended(node, task))
        taken, is_leader = twins.take_over(node, task), False
        if not taken:
            is_leader = twins.lead(work)
            asks = asks or twins.has_news
            taken = is_leader and asks and self._scheduler.take_over_saved(task)
        if taken:
            self._refuse(node)
            self.elsewhere.add(node)  # what is noted of it is saved at the end of the run
            self.services.recorder.resave(task)
            announce_reused([task], work.run, self.services.recorder)
            return self._end(work, SUCCEEDED)
        if is_leader:
            return None
        self._release(node)
        leader = twins.leader_beside(work)
        with self._lock:
            is_waiting = self._plan.postpone(node, "duplicate", self._clock.now(), leader)
        if not is_waiting:
            work.decision = Decision(node, CANCELLED)
            return self._carry_out(work.decision)
        if not twins.wait(node, task, partial(self._wake, node, work)):
            self._retake(node)
        return RUNNING

    def _new_twins(self) -> Twins:
        scope = None if self.outer is None else self
        return Twins(self._scheduler.claims, scope, keeps=self._is_shared)

    def _wake(self, node: int, work: Work) -> None:
        """A twin of a task has ended."""
        if self._works[node] is work:  # an open run may have given the number to another one
            self._retake(node)

    def _attempt(
        self, node: int, work: Work, backend: Backend | None, handler: Handler
    ) -> Attempt | None:
        """Make the next attempt of a node; None if the task has been cancelled."""
        task = work.task
        if work.may_start is not None:
            may_start, work.may_start = work.may_start, None
            if not may_start():
                # Ctrl-C may have kept whoever cancelled the future from cancelling the task.
                self._settle(node, work, CANCELLED, TaskCancelled())
                return None
        if backend is None:
            backend = self._scheduler.backend_of(task.payload)
        if work.retry is not None and work.tries is None:
            work.tries = Tries(work.retry, self._clock, self._budget)
        held = self._held
        if self._grouped:
            held = self._places.held_by(self._plan.groups_of(node))
        variables = (self._context if work.context is None else work.context).copy()
        if work.service is not None:
            return self._service_attempt(node, work, backend, handler, variables, held)
        return Attempt(self, work, backend, handler, variables, held, node)

    def _without_handler(self, node: int, work: Work) -> TaskStatus:
        """End a task whose type has no handler."""
        known = sorted(type.value for type in list(self._handlers))
        return self._fail(node, work, HandlerNotFoundError(work.task.type.value, known))

    def _fail(self, node: int, work: Work, error: BaseException) -> TaskStatus:
        """End a task that cannot start."""
        self._refuse(node)
        if not self._settle(node, work, FAILED, error, owner=work.prior):
            return self._refused(node, work, is_released=True)
        self.errors[work.task.id] = error
        if work.is_required:
            self._watcher.failed(work)
        return self._end(work, FAILED)

    def _watch(self, attempt: Attempt, timeout: float) -> None:
        """Have the supervisor enforce the timeout, unless the backend does."""
        attempt.deadline = self._clock.now() + timeout
        if attempt.backend.kills:
            return
        with self._lock:
            attempt.ticket, is_first = self._agenda.add(attempt.deadline, attempt)
        if is_first:
            self.ring()

    def _forget_moment(self, attempt: Attempt) -> None:
        if attempt.ticket is not None:
            with self._lock:
                self._agenda.drop(attempt.ticket)

    def _after(self, attempt: Attempt) -> TaskStatus:
        """Do what follows the end of an attempt; RUNNING means that another one comes later."""
        node = attempt.node
        work = self._works[node]
        self._live.pop(node, None)
        if attempt.ticket is not None:
            self._forget_moment(attempt)
        if self._grouped and (attempt.readiness is None or attempt.readiness.give_places()):
            self._release(node)
        if attempt.trouble is not None:
            self._trouble(work, attempt.trouble)
        if attempt.retry_in is not None and self._postpone(work, attempt):
            return RUNNING
        self._plan.ended[node] = attempt.ended_at
        assert attempt.status is not None
        if attempt.error is not None:
            self.errors[work.task.id] = attempt.error
        if attempt.status is FAILED and work.is_required:
            self._watcher.failed(work)
        return attempt.status if work.on_end is None else self._end(work, attempt.status)

    def _postpone(self, work: Work, attempt: Attempt) -> bool:
        """Put a node aside until its next attempt; False if there is none after all."""
        node = attempt.node
        with self._lock:
            retry_in = attempt.retry_in
            if retry_in is None:
                return False  # cancelled just now
            now = self._clock.now()
            if self._plan.postpone(node, "retry", attempt.ended_at, attempt.told):
                work.prior = attempt
                # The attempt of a service that nothing needs any more will end as it starts.
                wait = retry_in if self._plan.is_needed(node) else 0.0
                attempt.ticket, is_first = self._agenda.add(now + wait, node)
                if is_first:
                    self.ring()
                return True
        # The run has been stopped, so the announced retry does not take place.
        attempt.cancel(self._stop_reason, message=self._stop_message)
        return False

    def _end(self, work: Work, status: TaskStatus) -> TaskStatus:
        """Report the outcome of a task, and return it for the plan."""
        if work.on_end is not None:
            work.on_end(status, self.errors.get(work.task.id))
        return status

    def _release(self, node: int) -> None:
        """Give back the places of a node in its groups."""
        if self._grouped:
            groups = self._plan.groups_of(node)
            if groups:
                self._scheduler.give_back(self._places, groups)

    def _refuse(self, node: int) -> None:
        """Note that a node that was taken does not run, and give back its place."""
        with self._lock:
            self._plan.refuse(node, self._clock.now())
        self._release(node)

    def _settle(
        self,
        node: int,
        work: Work,
        status: TaskStatus,
        error: BaseException | None = None,
        **how: Any,
    ) -> bool:
        """End a task that does not run, now; False if somebody else owns or has ended it."""
        recorder, moment = self.services.recorder, self._clock.now()
        notes = self.notes(node, moment) if recorder.keeps_notes else None
        if not settle(recorder, work.task, status, error, run=work.run, notes=notes, **how):
            return False
        self._plan.ended[node] = moment
        return True

    def _note_end_elsewhere(self, node: int, work: Work) -> None:
        """Deal with a task that this run did not end: announce it if nobody else does."""
        is_cancelled = self._is_shared and work.task.status is CANCELLED
        how = {"previous": PENDING, "by_hand": True}
        if not (is_cancelled and self._settle(node, work, CANCELLED, TaskCancelled(), **how)):
            self.elsewhere.add(node)

    def notes(self, node: int, ended: float | None = None) -> Notes:
        """See `ttasks.engine.attempt.Keeper`."""
        history = self._works[node].history
        return self._plan.notes(node, ended) if history is None else history.notes(ended)

    # Tasks that somebody else runs

    def _was_run_elsewhere(self, work: Work) -> bool:
        """True if the task has failed in another run since this one began."""
        task = work.task
        if task.status is not FAILED or work.prior is not None:
            return False
        if lifecycle_of(task).owner is not None:
            return False  # it may be tried again there
        if not self._is_shared or (work.is_tried_again and not work.awaited):
            return False
        self.errors.setdefault(task.id, TaskExecutionError(task.error or "Task failed"))
        return True

    def _refused(
        self, node: int, work: Work, *, again: bool = False, is_released: bool = False
    ) -> TaskStatus:
        """A task could not start; RUNNING means that it may later.

        ``again``: it starts as soon as nobody owns it, if its status allows that.
        """
        if not is_released:
            self._refuse(node)
        task = work.task
        if work.service is not None and task.is_running:
            return self._without_service(work)
        if self._await_owner(node, work, again=again):
            return RUNNING
        self._note_end_elsewhere(node, work)
        status = task.status
        if status.is_active or not self._is_shared:
            refusal = InvalidTransitionError(task.id, task.title, status.value, RUNNING.value)
            self.errors.setdefault(task.id, TaskCancelled() if status is CANCELLED else refusal)
            return self._end(work, FAILED if status.is_active else status)
        if status is FAILED and work.is_required:
            self._watcher.failed(work)
        return self._end(work, status)  # the one from above: it may run elsewhere by now

    def _await_owner(self, node: int, work: Work, *, again: bool = False) -> bool:
        """Put a node aside until the owner of its task releases it; False if it has no owner."""
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

    # Services

    def _service_attempt(
        self,
        node: int,
        work: Work,
        backend: Backend,
        handler: Handler,
        variables: Context,
        held: frozenset[str],
    ) -> Attempt:
        """The next attempt of a service, which holds no worker."""
        assert work.service is not None
        working, count = self._scheduler.working, self._scheduler.count_abandoned
        if not backend.frees_worker:
            backend = Aside(backend, working, count)
        attempt = Attempt(self, work, backend, handler, variables, held, node)
        attempt.readiness = Readiness(work.service, attempt.token, self._clock, working, count)
        return attempt

    def _watch_service(self, attempt: Attempt) -> None:
        """Have the supervisor look after the times of a service that is about to start."""
        work = self._works[attempt.node]
        assert work.service is not None
        now = self._clock.now()
        if work.task.timeout is not None:
            attempt.deadline = now + work.task.timeout
        moments = [] if work.service.ready is None else [now + work.service.ready_timeout]
        if attempt.deadline is not None and not attempt.backend.kills:
            moments.append(attempt.deadline)
        self._set_moment(attempt, min(moments, default=None))
        if not self._plan.is_needed(attempt.node):
            self._dismiss(attempt.node)  # the last that needed it has just ended

    def _keep_sides(self, attempt: Attempt, readiness: Readiness) -> None:
        """Remember the threads of a service, which `join` waits for."""
        sides = [
            readiness.side,
            attempt.backend.side if isinstance(attempt.backend, Aside) else None,
        ]
        with self._lock:
            left = [side for side in self._sides if not side.is_over]
            self._sides = [*left, *(side for side in sides if side is not None)]

    def _set_moment(self, attempt: Attempt, moment: float | None) -> None:
        """Replace the moment at which the supervisor looks at an attempt."""
        is_first = False
        with self._lock:
            if attempt.ticket is not None:
                self._agenda.drop(attempt.ticket)
                attempt.ticket = None
            if moment is not None and not attempt.has_ended:
                attempt.ticket, is_first = self._agenda.add(moment, attempt)
        if is_first:
            self.ring()

    def note_ready(self, node: int) -> None:
        """See `ttasks.engine.attempt.Keeper`."""
        with self._lock:
            self._plan.note_up(node, self._clock.now())

    def ready(self, attempt: Attempt) -> None:
        """See `ttasks.engine.attempt.Keeper`."""
        node, readiness = attempt.node, attempt.readiness
        assert readiness is not None
        work = self._works[node]
        if attempt.trouble is not None:
            self._trouble(work, attempt.trouble)
        with self._lock:
            entry = self._live.get(node)
            if entry is None or entry[0] is not attempt or attempt.token.cancelled:
                return  # it is about to end
            decisions = self._plan.unlock(node, self._clock.now())
        self._set_moment(attempt, None if attempt.backend.kills else attempt.deadline)
        if self._grouped and readiness.give_places():
            attempt.held = self._held
            self._release(node)
        if work.on_ready is not None:
            work.on_ready()
        self._carry_out_all(decisions)

    def dismiss(self, work: Work) -> None:
        """End a service of an open run: whoever needed it needs it no more."""
        with self._lock:
            if work not in self._works:
                return  # it has ended
            decisions = self._plan.dismiss(self._works.index(work))
            unneeded = self._plan.take_unneeded()
        for node in unneeded:
            self._dismiss(node)
        self._carry_out_all(decisions)

    def _dismiss(self, node: int) -> None:
        """End a service that nothing needs any more."""
        entry, work = self._live.get(node), self._works[node]
        if entry is None:
            self._resume_dismissed(node, work)
            return
        attempt = entry[0]
        if self._stop_error is not None and self._is_stopped(work):
            attempt.cancel(self._stop_reason, message=self._stop_message)
            self.ring()
            return
        attempt.token.cancel("stopped")
        if not attempt.backend.kills:
            self._set_moment(attempt, self._clock.now() + STOP_PATIENCE)

    def _resume_dismissed(self, node: int, work: Work) -> None:
        """Do not wait for the next attempt of a service, which will end as soon as it starts."""
        with self._lock:
            if work is _NOTHING or not self._plan.resume(node, self._clock.now()):
                return  # its attempt is about to begin
            if work.prior is not None and work.prior.ticket is not None:
                self._agenda.drop(work.prior.ticket)
        self.provide_worker()

    def _without_service(self, work: Work) -> TaskStatus:
        """A service runs in another run, which will end it when it pleases."""
        task = work.task
        title = self.services.recorder.shown(task).title
        self.errors[task.id] = GraphError(
            f"Service {title!r} is running in another run; make a service of its own for each graph"
        )
        if work.is_required:
            self._watcher.failed(work)
        return self._end(work, FAILED)

    # Decisions, and attempts that end without a worker

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
            self._plan.ended[node] = attempt.ended_at
            if attempt.trouble is not None:
                self._trouble(work, attempt.trouble)
            self._go_on(node, self._end(work, CANCELLED))

    def _go_on(self, node: int, outcome: TaskStatus) -> None:
        """Tell the plan of an outcome that no worker will report."""
        if outcome is not RUNNING:
            with self._lock:
                decisions = self._finish(node, outcome)
                unneeded = self._plan.take_unneeded()
            self._carry_out_all(decisions)
            for service in unneeded:
                self._dismiss(service)

    def _finish(self, node: int, outcome: TaskStatus) -> list[Decision]:
        """Tell the plan of an outcome; with the lock held."""
        decisions = self._plan.finish(node, outcome, self._clock.now())
        if self._is_open:
            self._forget(node)
        return decisions

    def _forget(self, node: int) -> None:
        """Forget a task of an open run that has ended; with the lock held."""
        work = self._works[node]
        self.errors.pop(work.task.id, None)
        if work.history is not None:
            work.history.keep()
        self._works[node] = _NOTHING
        self._plan.forget(node)

    def _carry_out_all(self, decisions: Iterable[Decision]) -> None:
        """Carry out decisions and those that follow from them, then have the work go on."""
        left = deque(decisions)
        while left:
            decision = left.popleft()
            outcome = self._carry_out(decision)
            if outcome is not RUNNING:
                with self._lock:
                    left.extend(self._finish(decision.node, outcome))
                    unneeded = self._plan.take_unneeded()
                for service in unneeded:
                    self._dismiss(service)
        if not self._plan.unfinished:
            self.ring()
        self.provide_worker()

    def _carry_out(self, decision: Decision) -> TaskStatus:
        """End a task that will not run; returns its outcome, RUNNING if that is not known yet."""
        self.has_decided = True
        node, status = decision.node, decision.status
        work = self._works[node]
        work.decision = decision
        task = work.task
        try:
            if status is CANCELLED:
                error = self._stop_error
                assert error is not None
                if work.prior is not None:
                    work.prior.cancel(self._stop_reason, message=self._stop_message)
                    # Another thread may have cancelled it, and be announcing that.
                    if lifecycle_of(task).owner is not None and self._await_owner(node, work):
                        return RUNNING
                    if work.awaited:  # more was noted of it since it ended
                        self.elsewhere.add(node)
                    else:
                        self._plan.ended[node] = work.prior.ended_at
                elif self._settle(node, work, status, error, reason=self._stop_reason):
                    self.errors[task.id] = error
                elif self._plan.is_cleaned_up(node) and self._await_owner(node, work):
                    return RUNNING
                else:
                    self._note_end_elsewhere(node, work)
                    if not self._is_shared:
                        self.errors.setdefault(task.id, error)
            elif status is FAILED:
                error = refusal_of(self._deadlocks.pop(node), self.services.redactor)
                self.errors[task.id] = error
                self._settle(node, work, status, error, owner=work.prior)
                if work.is_required:
                    self._watcher.failed(work)
            elif not self._settle(
                node,
                work,
                status,
                because=self._reason(decision),
                blocked_by=self._blocker(decision),
            ):
                if self._await_owner(node, work):
                    return RUNNING
                self._note_end_elsewhere(node, work)
        except BaseException as error:
            self._trouble(work, error)
        # It may have been cancelled before, or somebody else may be running it.
        now = task.status
        return self._end(work, status if now.is_active else now)

    def _refuse_deadlock(self) -> list[Decision]:
        """Decide that a deadlocked node fails, if there is one; with the lock held."""
        found = self._scheduler.find_deadlock(self)
        if found is None:
            return []
        self._deadlocks[found.parked.node] = found
        return [self._plan.fail_parked(found.parked.node)]

    def _blocker(self, decision: Decision) -> str | None:
        if decision.status is not BLOCKED or decision.because is None:
            return None
        return self._works[decision.because].task.id

    def _reason(self, decision: Decision) -> str:
        """Why a task is BLOCKED or SKIPPED."""
        if decision.because is None and self._works[decision.node].service is not None:
            return "skipped: nothing needs it"
        if decision.because is None:
            return "skipped: nothing that it stands in for has failed"
        upstream = self._works[decision.because].task
        title = self.services.recorder.shown(upstream).title
        if decision.status is BLOCKED:
            return f"blocked by {title!r}"
        was = "" if upstream.status in (FAILED, SUCCEEDED) else "was "
        return f"skipped: {title!r} {was}{upstream.status.value}"

    def _is_stopped(self, work: Work) -> bool:
        return self._stop_all or not work.is_finally

    def _trouble(self, work: Work, error: BaseException) -> None:
        """The engine, or the store of a strict executor, has failed: end the run."""
        if self._is_shared:
            self._watcher.troubled(error)
        else:  # of a single task only that task has failed
            self.errors.setdefault(work.task.id, error)


def _is_reused(task: Task) -> bool:
    """True if a task took over an earlier result."""
    return task.result is not None and task.result.reused
