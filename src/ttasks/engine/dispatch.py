"""Dispatch: the loop between the plan of a run and the threads that do the work.

Workers take nodes from the plan, run them and report the outcome. The worker that finishes a node
takes the next one itself, so a chain of tasks needs no hand-off between threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from math import inf
from threading import Lock, Thread, current_thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from ttasks.engine.agenda import Agenda
from ttasks.engine.crew import Crew
from ttasks.engine.limits import RunLimits
from ttasks.engine.pace import LOOK_SECONDS, Pace
from ttasks.engine.retry import Tries
from ttasks.errors import HandlerNotFoundError, InvalidTransitionError, StoreError, TaskCancelled
from ttasks.model.clock import SYSTEM_CLOCK
from ttasks.model.plan import Decision, Plan
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ttasks.engine.attempt import Attempt
    from ttasks.engine.core import Core
    from ttasks.engine.retry import RetryBudget
    from ttasks.model.graph import Node
    from ttasks.model.task import Task

LEFT_BEHIND = TaskStatus.PENDING
"""Stands for the outcome of a node whose attempt somebody else has ended."""


class Dispatch:
    """Takes nodes from a plan to their outcomes, on threads.

    ``_lock`` owns the plan, the crew, the pace and the agenda; it is never held while
    handlers, subscribers or stores run. An entry of ``live`` is set and removed by the worker that
    runs the node, or removed by ``leave_behind``. ``errors`` is written once per ended node.

    Args:
        core: what runs single tasks.
        nodes: the tasks.
        plan: what may run; belongs to the dispatch from now on.
        limits: places in groups.
        max_workers: threads at most.
        budget: of retries of the run.
        context: context variables that handlers see.
        working: marks a thread as working for the executor.
        name: beginning of the names of the threads.
        errors: exception by task id, filled here.
        on_trouble: told of a required node that has failed for good, or (with None) of an error
            of the run as a whole; called on the thread where it happened, without the lock.
        ring: wakes the supervisor.
    """

    def __init__(
        self,
        core: Core,
        nodes: list[Node],
        plan: Plan,
        limits: RunLimits,
        max_workers: int,
        budget: RetryBudget,
        context: Context,
        working: Callable[[], AbstractContextManager[None]],
        name: str,
        errors: dict[str, BaseException],
        on_trouble: Callable[[int | None, BaseException], None],
        ring: Callable[[], None],
    ) -> None:
        self._core = core
        self._nodes = nodes
        self._plan = plan
        self._limits = limits
        self._grouped = plan.grouped
        self._budget = budget
        self._context = context
        self._working = working
        self._errors = errors
        self._on_trouble = on_trouble
        self._ring = ring
        self._lock = Lock()
        self._crew = Crew(self._serve, max_workers, name)
        # Commits are what makes threads wait for each other. And only the system's clock goes on by
        # itself, so that the runner is looked after.
        paced = core.recorder.has_ledger and max_workers > 1 and core.clock is SYSTEM_CLOCK
        self._pace = Pace(ring) if paced else None
        self._tries: dict[int, Tries] = {}  # of the nodes that have a retry policy
        self._agenda = Agenda()
        self._stop: tuple[BaseException, str] | None = None
        self._stop_all = False
        self.live: dict[int, tuple[Attempt, Thread]] = {}
        self.because: dict[int, int] = {}  # node that did not run: the node because of which

    # For the supervisor

    def begin(self) -> None:
        """Start the work."""
        self.carry_out_all(self._plan.begin())

    @property
    def ended(self) -> bool:
        """True once every node is finished."""
        return not self._plan.unfinished

    @property
    def waiting(self) -> int:
        """Nodes that wait for another attempt."""
        return self._plan.delayed

    def next_due(self) -> float | None:
        """When something is to be done next, by the clock; None for never.

        The supervisor then waits until then, or until ``ring``, and tells with ``attend``.
        """
        with self._lock:
            moment = self._agenda.next()
            if self._pace is None:
                return moment
            self._pace.is_watched = True
            if self._pace.runner is not None:
                look = self._core.clock.now() + LOOK_SECONDS
                moment = look if moment is None else min(moment, look)
        return moment

    def attend(self) -> None:
        """The supervisor has waited, and may be busy now; a runner that is stuck is not alone."""
        pace = self._pace
        if pace is None:
            return
        with self._lock:
            pace.is_watched = False
            is_stuck = pace.is_stuck(self._core.clock.now())
        if is_stuck:
            self._let_all_go_on()

    def _let_all_go_on(self) -> None:
        """Wake those who rest beside a runner."""
        with self._lock:
            if self._pace is None or self._pace.runner is None:
                return
            self._pace.reset()
        self.provide_worker()

    def resume_due(self, now: float) -> None:
        """Queue the nodes whose time for another attempt has come."""
        with self._lock:
            for number in self._agenda.retries(now):
                self._plan.resume(number)
        self.provide_worker()

    def expire_due(self, now: float) -> None:
        """End coroutines whose time is up."""
        while True:
            with self._lock:
                expired = self._agenda.expiry(now)
            if expired is None:
                return
            number, attempt = expired
            entry = self.live.get(number)
            if entry is not None and entry[0] is attempt:
                self._conclude(number, attempt, attempt.expire)

    def hurry(self, task_id: str) -> None:
        """Do not let a task that waits for another attempt wait any longer."""
        with self._lock:
            hurried = self._agenda.retry_at_once(task_id)
        if hurried:
            self._ring()

    def unpark(self, group: str) -> None:
        """A place in a group has become free."""
        with self._lock:
            found = self._plan.unpark(group)
        if found:
            self.provide_worker()

    def stop(self, error: BaseException, reason: str, *, also_finally: bool = False) -> None:
        """Cancel what has not started, and what is running; finally tasks only if asked to."""
        self._let_all_go_on()  # what follows may take long
        with self._lock:
            self._stop = (error, reason)
            self._stop_all = self._stop_all or also_finally
            decisions = self._plan.stop(also_finally=also_finally)
        for node, (attempt, _thread) in list(self.live.items()):
            if also_finally or not self._nodes[node].finally_:
                attempt.token.cancel(reason)
        self.carry_out_all(decisions)

    def kill(self) -> None:
        """End every running attempt without any grace."""
        for attempt, _thread in list(self.live.values()):
            attempt.token.cancel("interrupted", kill=True)

    def leave_behind(self, node: int) -> None:
        """End a running node whose handler does not, and go on without its thread."""
        entry = self.live.get(node)
        if entry is None:
            return  # it has just ended after all
        attempt, thread = entry
        error = TaskCancelled("Task was cancelled; its handler would not end")
        if not self._conclude(node, attempt, lambda: attempt.abandon(error)):
            return
        if not attempt.in_flight:
            self._core.abandoned.add(1)
            with self._lock:
                self._crew.drop(thread)
            self.provide_worker()

    def _conclude(self, node: int, attempt: Attempt, end: Callable[[], TaskStatus | None]) -> bool:
        """End an attempt on another thread than its own; False if it has ended already."""
        self._let_all_go_on()  # subscribers may take long
        try:
            status = end()
        except StoreError as failure:  # the task has ended, but could not be saved
            self._on_trouble(None, failure)
            status = self._nodes[node].task.status
        if status is None:
            return False
        self._go_on(node, self._after(node, attempt, status))
        return True

    def _go_on(self, node: int, outcome: TaskStatus) -> None:
        """Tell the plan of the end of an attempt that no worker waits for."""
        if outcome is TaskStatus.RUNNING:
            return
        with self._lock:
            decisions = self._plan.finish(node, outcome)
        self.carry_out_all(decisions)

    def carry_out_all(self, decisions: Iterable[Decision]) -> None:
        """Carry out decisions and what follows from them, then see to the rest of the work."""
        left = deque(decisions)
        while left:
            decision = left.popleft()
            outcome = self._carry_out(decision)
            with self._lock:
                left.extend(self._plan.finish(decision.node, outcome))
        if self.ended:
            self._ring()
        self.provide_worker()

    def provide_worker(self) -> None:
        """See to it that somebody takes what is queued."""
        with self._lock:
            is_alone = self._pace is not None and self._pace.runner is not None
            helper = self._crew.helper() if self._plan.queue and not is_alone else None
        if helper is not None:
            self._begin(helper)

    def join(self) -> None:
        """Wait for the end of all workers that are not left behind."""
        with self._lock:
            idle, threads = self._crew.close()
        for wake in idle:
            wake.release()
        for thread in threads:
            if thread.ident is not None:
                thread.join()

    # On the workers' threads

    def _serve(self) -> None:
        with self._working():
            self._work()

    def _work(self) -> None:
        """Take nodes and run them until none is left."""
        lock, plan, crew, acquire = self._lock, self._plan, self._crew, self._limits.acquire
        pace, seconds, begin = self._pace, inf, monotonic()
        me = current_thread()
        wake = Lock()
        wake.acquire()
        decisions: deque[Decision] = deque()
        finished: int | None = None
        outcome = TaskStatus.PENDING
        while True:
            helper = None
            while not lock.acquire(False):
                sleep(0)
            try:
                if finished is not None:
                    decisions.extend(plan.finish(finished, outcome))
                    finished = None
                    if pace is not None:
                        now = monotonic()
                        pace.note(seconds, (now - begin) / crew.busy)
                        begin = now
                rests = pace is not None and pace.holds(me)
                node = None if decisions or rests else plan.take(acquire)
                if plan.queue and (pace is None or pace.runner is None):
                    helper = crew.helper()
                if node is None and not decisions:
                    if pace is not None:
                        pace.leave(me)
                    if crew.closing or not plan.unfinished:
                        break
                    crew.rest(wake)
            finally:
                lock.release()
            if helper is not None:
                self._begin(helper)
            if decisions:
                decision = decisions.popleft()
                finished, outcome, seconds = decision.node, self._carry_out(decision), inf
            elif node is None:
                wake.acquire()
                begin = monotonic()
            else:
                outcome, seconds = self._run(node, me)
                if outcome is LEFT_BEHIND:
                    self._core.abandoned.add(-1)
                    return
                if outcome is not TaskStatus.RUNNING:
                    finished = node
        self._ring()

    def _run(self, number: int, me: Thread) -> tuple[TaskStatus, float]:
        """Run one attempt of a node; RUNNING means that it goes on, or that there is another.

        Returns:
            The outcome, and how many seconds the handler took, if that matters.
        """
        node = self._nodes[number]
        task = node.task
        attempt = None
        try:
            attempt = self._attempt(number, node)
            self.live[number] = (attempt, me)
            if self._stop is not None and (self._stop_all or not node.finally_):
                # The stop came between taking the node and here.
                attempt.token.cancel(self._stop[1])
            attempt.node = number
            status = attempt.run(self._context.copy(), self._end_later)
            if status is TaskStatus.RUNNING:
                self._watch(number, attempt)
                return status, inf
            if status is None:
                return LEFT_BEHIND, inf
            if status is TaskStatus.SUCCEEDED and not self._grouped:  # what `_after` would do
                del self.live[number]
                return status, attempt.handler_seconds
        except (HandlerNotFoundError, InvalidTransitionError) as error:
            # The second: cancelled, or taken by somebody else, since the plan was made.
            status = task.status
            if not status.is_sink:
                self._errors[task.id] = error
                status = TaskStatus.FAILED
        except BaseException as error:
            # A store that has to work does not, or the engine has a bug: nothing may hang.
            status = TaskStatus.FAILED if task.is_running else task.status
            self._errors[task.id] = error
            self._on_trouble(None, error)
        return self._after(number, attempt, status), inf

    def _after(self, number: int, attempt: Attempt | None, status: TaskStatus) -> TaskStatus:
        """What follows from the end of an attempt; RUNNING means another one, later."""
        node = self._nodes[number]
        self.live.pop(number, None)
        if self._grouped:
            self._release(number)
        if attempt is not None and attempt.error is not None:
            if attempt.retry_in is not None:
                if self._postpone(number, attempt.retry_in):
                    return TaskStatus.RUNNING
                # The retry that was announced is not to be: the run has been stopped.
                return self._carry_out(Decision(number, TaskStatus.CANCELLED))
            self._errors[node.task.id] = attempt.error
        if status is TaskStatus.FAILED and node.required:
            self._on_trouble(number, self._errors[node.task.id])
        return status

    def _end_later(
        self, attempt: Attempt, status: TaskStatus | None, error: BaseException | None
    ) -> None:
        """A coroutine has ended; on the loop's thread, perhaps before `run` has returned."""
        if error is not None:
            self._on_trouble(None, error)
        if status is not None:
            self._go_on(attempt.node, self._after(attempt.node, attempt, status))

    def _watch(self, number: int, attempt: Attempt) -> None:
        """Let the supervisor end a coroutine in time."""
        if attempt.deadline is not None:
            with self._lock:
                first = self._agenda.add_expiry(attempt.deadline, number, attempt)
            if first:
                self._ring()

    def _attempt(self, number: int, node: Node) -> Attempt:
        """The next attempt of a node."""
        task = node.task
        tries = None
        if task.retry is not None:
            tries = self._tries.get(number)
            if tries is None:
                tries = self._tries[number] = Tries(task.retry, self._core.clock, self._budget)
        held = self._limits.held
        if self._grouped:
            held = self._limits.held_by(self._plan.group_of(number))
        return self._core.attempt(task, node.after, tries, held)

    def _postpone(self, number: int, seconds: float) -> bool:
        task = self._nodes[number].task
        with self._lock:
            if not self._plan.postpone(number):
                return False
            if task.is_cancelled:  # since it failed; later `hurry` will tell
                seconds = 0.0
            first = self._agenda.add_retry(self._core.clock.now() + seconds, number, task.id)
        if first:
            self._ring()
        return True

    def _carry_out(self, decision: Decision) -> TaskStatus:
        """End a task that will not run; returns its outcome for the plan."""
        task = self._nodes[decision.node].task
        status = decision.status
        if decision.because is not None:
            self.because[decision.node] = decision.because
        try:
            if status is TaskStatus.CANCELLED:
                assert self._stop is not None
                error, reason = self._stop
                settled = self._core.settle(task, status, error, reason=reason)
                if settled:
                    self._errors[task.id] = error
            else:
                blocker = self._blocker(decision)
                settled = self._core.settle(task, status, blocker=blocker)
        except BaseException as error:
            self._on_trouble(None, error)
            settled = True
        # Not settled: it was cancelled before, or somebody else is running it.
        return status if settled or not task.is_terminal else task.status

    def _blocker(self, decision: Decision) -> Task | None:
        if decision.status is not TaskStatus.BLOCKED or decision.because is None:
            return None
        return self._nodes[decision.because].task

    def _release(self, number: int) -> None:
        group = self._plan.group_of(number)
        if group is not None and self._limits.release(group):
            self.unpark(group)

    def _begin(self, helper: Lock | Thread) -> None:
        """Wake or start a helper; where no thread can be had, do with those there are."""
        if Crew.begin(helper):
            return
        assert isinstance(helper, Thread)
        with self._lock:
            self._crew.drop(helper)
            alone = not self._crew.size
        if alone and not self._stop_all:
            self._on_trouble(None, RuntimeError("no thread could be started for the run"))
            error = TaskCancelled("No thread could be started for the run")
            self.stop(error, "cancelled", also_finally=True)
