"""Scheduler: runs what its schedules make, when it is due.

Rule ─→ Course ─→ requests ─→ SlotLog ─→ claims ─→ Job ─→ Runners ─→ a run of the executor
when    due now               once                  make   threads         │
          ↑                                                                 │
          └──────────────────────────── the slot has ended ────────────────┘
"""

from __future__ import annotations

import logging
from contextvars import copy_context
from datetime import datetime, tzinfo
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ttasks import sync
from ttasks.backends.loop import CALLER_LOOP
from ttasks.engine.executor import TaskExecutor
from ttasks.engine.signals import Signals
from ttasks.errors import ScheduleError, StoreError, text_of
from ttasks.model.checks import check_bool, check_int, check_seconds, wrong_type, wrong_value
from ttasks.model.clock import SIGNAL_SECONDS, Bell
from ttasks.model.context import CURRENT, current_context
from ttasks.schedule.course import Policy
from ttasks.schedule.job import SlotFuture
from ttasks.schedule.rules import SECOND, At, Cron, Every, Rule
from ttasks.schedule.schedule import Schedule
from ttasks.schedule.turns import LOOK_SECONDS, Turns

if TYPE_CHECKING:
    from ttasks.model.store import Store
    from ttasks.schedule.course import Course
    from ttasks.schedule.recipe import Recipe

ON_ERROR = ("log", "raise", "continue")

_log = logging.getLogger("ttasks.schedule")


class Scheduler:
    """Runs tasks and graphs on schedules, with an executor. Thread-safe.

    Use it as a context manager, which calls `start` and `stop`; or call `tick` yourself. All times
    are by the wall clock of the executor.

    Args:
        executor: runs what is due; it must have a clock with a wall.
        store: the ledger that remembers which slots were run; None means the executor's store. A
            store without ``slots``, such as `InMemoryStore`, remembers none.
        on_error: what to do when a slot could not be run, or its run failed. "log" writes an error
            to the logger ``ttasks.schedule`` and goes on; "raise" stops the scheduler, and `tick`,
            `wait`, `arun` and `stop` raise it; "continue" goes on.
        max_runs: slots that are run at once, at least 1; others wait in their order.

    Raises:
        TypeError, ValueError: an argument is wrong.

    Example:
        >>> from ttasks import Task, TaskExecutor
        >>> with TaskExecutor() as executor, Scheduler(executor) as scheduler:
        ...     schedule = scheduler.every(3600).do(Task.bash("echo hello"))
        ...     len(schedule.next(3))
        3
    """

    def __init__(
        self,
        executor: TaskExecutor,
        store: Store | None = None,
        *,
        on_error: str = "log",
        max_runs: int = 100,
    ) -> None:
        if not isinstance(executor, TaskExecutor):
            raise wrong_type("executor", executor, "a TaskExecutor")
        self._clock = executor.clock
        for name in ("wall", "wait_until_wall"):
            if not callable(getattr(self._clock, name, None)):
                raise wrong_type("the clock of executor", self._clock, f"a clock with {name}()")
        if not isinstance(on_error, str) or on_error not in ON_ERROR:
            raise wrong_value("on_error", on_error, " or ".join(map(repr, ON_ERROR)))
        if store is not None and getattr(store, "slots", None) is None:
            raise wrong_type("store", store, "a store with slots, such as a SQLiteStore, or None")
        self._executor = executor
        self._on_error = on_error
        most = check_int("max_runs", max_runs, least=1)
        self._bell = Bell(self._clock)  # ends the wait of the thread
        self._turns = Turns(executor, store, most, self._tell, self._bell.ring)
        self._ended = sync.Event()
        self._ended.set()
        self._is_stopping = False
        self._thread: sync.Thread | None = None
        # Protects the following, and the change of ``_ended``.
        self._lock = sync.Lock()
        self._schedules: list[Schedule] = []
        self._idle: list[Schedule] = []  # that have nothing to do yet
        self._error: BaseException | None = None

    # Schedules

    def every(
        self,
        seconds: float,
        *,
        start: datetime | None = None,
        name: str | None = None,
        overlap: str = "skip",
        missed: str = "latest",
        grace: float | None = None,
        jitter: float = 0.0,
    ) -> Schedule:
        """A schedule with a slot every so many seconds; call `Schedule.do` on it.

        Slots are at ``start`` plus a multiple of ``seconds``, so they do not drift, and every
        process has the same ones.

        Args:
            seconds: from 0.001 to 1e9, which are 31 years.
            start: the first slot, aware. None means that slots are at multiples of ``seconds``
                since 1970 in UTC: those of ``every(60)`` are at whole minutes.
            name: by which ledgers know the schedule. None means the name of what it runs: of the
                function, or key or title of the task.
            overlap: what to do with a slot that is due while an earlier one runs. "skip" leaves it
                out; "queue" runs it afterwards; "cancel" stops the earlier one first, and leaves
                out those that wait; "allow" runs both at once.
            missed: what to do with slots that are noticed too late, because the program did not run
                or was busy. "latest" runs the latest of those that are due, "all" runs all, one
                after the other; "skip" runs the latest unless it is later than ``grace``.
            grace: seconds that a slot may be late, from 0 to 1e9; later ones are not run. None
                means 60 with "skip", and no limit otherwise.
            jitter: seconds, from 0 to 1e9: each slot is delayed by a part of them, the same in all
                processes.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        policy = Policy.checked(overlap, missed, grace, jitter)
        return self._add(Every(seconds, start), policy, name)

    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo | None = None,
        name: str | None = None,
        overlap: str = "skip",
        missed: str = "latest",
        grace: float | None = None,
        jitter: float = 0.0,
    ) -> Schedule:
        """A schedule with slots by a cron expression; call `Schedule.do` on it.

        Needs the extra ``schedule``.

        Args:
            expression: minute, hour, day of the month, month and day of the week; or ``@hourly``,
                ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.
            tz: time zone, as its name or a tzinfo; None means UTC.
            name, overlap, missed, grace, jitter: see `every`.

        Raises:
            MissingExtraError: the extra is not installed.
            TypeError, ValueError: an argument is wrong. For an expression that is wrong, the
                message names the field and the character.
        """
        from ttasks.schedule.cron import CronTimes, zone_of

        policy = Policy.checked(overlap, missed, grace, jitter)
        return self._add(Cron(CronTimes(expression, zone_of(tz))), policy, name)

    def at(
        self,
        moment: datetime,
        *,
        name: str | None = None,
        overlap: str = "skip",
        missed: str = "latest",
        grace: float | None = None,
        jitter: float = 0.0,
    ) -> Schedule:
        """A schedule with one slot; call `Schedule.do` on it.

        A moment in the past is missed: with a ledger that does not know of it, it is run now;
        without a ledger it is not run.

        Args:
            moment: aware.
            name, overlap, missed, grace, jitter: see `every`.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        policy = Policy.checked(overlap, missed, grace, jitter)
        return self._add(At(moment), policy, name)

    def _add(self, rule: Rule, policy: Policy, name: str | None) -> Schedule:
        schedule = Schedule(self, rule, policy, name)
        with self._lock:
            self._idle.append(schedule)
        return schedule

    def admit(
        self, schedule: Schedule, name: str, rule: Rule, policy: Policy, recipe: Recipe
    ) -> Course:
        """Make the course of a schedule; `Schedule.do` calls this."""
        course = self._turns.add(name, rule, policy, recipe)
        with self._lock:
            self._idle.remove(schedule)
            self._schedules.append(schedule)
        return course

    def upcoming(self, course: Course, number: int) -> list[int]:
        """The next slots of a course; `Schedule.next` calls this."""
        return self._turns.upcoming(course, number)

    def pause(self, course: Course) -> None:
        """Leave out the slots of a course; `Schedule.pause` calls this."""
        self._turns.pause(course)

    def resume(self, course: Course) -> None:
        """Go on with a course; `Schedule.resume` calls this."""
        self._turns.resume(course)

    @property
    def executor(self) -> TaskExecutor:
        """What runs the graphs."""
        return self._executor

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules that have something to do, in the order of `Schedule.do`."""
        with self._lock:
            return tuple(self._schedules)

    def next(self, number: int = 10) -> list[tuple[datetime, Schedule]]:
        """The next slots of all schedules, without their jitter and without paused ones.

        Args:
            number: how many, at least 1.

        Raises:
            RuntimeError: a schedule has nothing to do.
        """
        check_int("number", number, least=1)
        self._check_idle()
        found = [
            (slot, schedule)
            for schedule in self.schedules
            if not schedule.is_paused
            for slot in schedule.next(number)
        ]
        return sorted(found, key=lambda item: item[0])[:number]

    # Running

    def start(self) -> None:
        """Run what is due on a thread of the scheduler's, until `stop`.

        Schedules may be added before and after it. The interpreter does not wait for the thread
        before it exits, but for runs that go on.

        Raises:
            RuntimeError: it has been started, the executor is shut down, or a schedule has nothing
                to do.
        """
        self._begin()
        context = copy_context()
        context.run(CURRENT.set, None)  # it is not part of the task that starts it
        context.run(CALLER_LOOP.set, None)
        thread = sync.Thread(
            target=context.run, args=(self._loop, False), name="ttasks-schedule", daemon=True
        )
        self._thread = thread
        try:
            thread.start()
        except BaseException:
            self._thread = None
            self._ended.set()
            raise

    async def arun(self) -> None:
        """Run what is due without blocking the event loop, until `stop`, or nothing is left to do.

        Coroutines of its tasks run on the caller's loop. Cancelling the awaiting coroutine stops
        the scheduler and its runs, waits for their end, and raises ``asyncio.CancelledError``.

        Raises:
            RuntimeError: as for `start`.
            ScheduleError: with ``on_error="raise"``, the first error.
        """
        from ttasks.engine.bridge import run_off_loop

        self._begin()

        def work() -> None:
            self._loop(True)
            self._turns.join()

        await run_off_loop(work, self._stop_all)
        self._raise_error()

    def _begin(self) -> None:
        self._check_executor()
        self._check_idle()
        with self._lock:
            if not self._ended.is_set():
                raise RuntimeError("The scheduler runs already; stop it first")
            self._ended.clear()
            self._is_stopping = False
            self._error = None

    def _check_executor(self) -> None:
        """Raise RuntimeError if it cannot run anything."""
        if self._executor.is_shutdown:
            raise RuntimeError("The executor of the scheduler is shut down; it can run nothing")

    def _check_idle(self) -> None:
        """Raise RuntimeError if a schedule has nothing to do."""
        with self._lock:
            if self._idle:
                raise RuntimeError(
                    f"A schedule ({self._idle[0]}) has nothing to do; call do(...) on it"
                )

    def stop(self, wait: bool = True, cancel: bool = False) -> None:
        """Begin no more runs. Idempotent; may be called from any thread.

        Slots that were due but have not begun are left out; with a ledger they are missed, and the
        next process sees to them.

        Args:
            wait: return when all runs have ended. In a factory or a handler it never waits; in a
                subscriber it must not.
            cancel: cancel the runs; their finally tasks still run. A second call with it kills what
                is left.

        Raises:
            ScheduleError: with ``on_error="raise"``, the first error; after all has ended.
        """
        check_bool("wait", wait)
        if check_bool("cancel", cancel):
            self._stop_all()
        self._is_stopping = True
        self._bell.ring()
        thread = self._thread
        is_inside = thread is sync.current_thread() or current_context() is not None
        if wait and not is_inside:
            if thread is not None:
                thread.join()
            self._turns.join()
            self._raise_error()

    def _stop_all(self) -> None:
        """Stop, and cancel all runs."""
        self._is_stopping = True
        self._bell.ring()
        self._turns.cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the scheduler has been stopped, or nothing is left to do.

        Args:
            timeout: seconds, above 0; None waits for as long as it takes.

        Returns:
            False if the time was up.

        Raises:
            ScheduleError: with ``on_error="raise"``, the first error.
        """
        left = check_seconds("timeout", timeout)
        while not self._ended.wait(SIGNAL_SECONDS if left is None else min(left, SIGNAL_SECONDS)):
            if self._turns.are_over:
                break
            if left is not None:
                left -= SIGNAL_SECONDS
                if left <= 0:
                    return False
        self._raise_error()
        return True

    def tick(self) -> list[SlotFuture]:
        """Run what is due now, and return at once.

        Needs no `start`. Slots that waited for an earlier one are begun by the next tick after the
        end of that.

        Returns:
            A future for each slot that this scheduler runs, in the order of the slots.

        Raises:
            RuntimeError: the executor is shut down, or a schedule has nothing to do.
            ScheduleError: with ``on_error="raise"``, the first error so far; nothing has begun.
            StoreError: the ledger cannot be read or written; the slots wait for the next tick.
        """
        with Signals():
            self._raise_error()
            self._check_executor()
            self._check_idle()
            return self._turns.turn()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; after a KeyboardInterrupt, cancel the runs."""
        self.stop(cancel=isinstance(error, KeyboardInterrupt))

    # The thread

    def _loop(self, is_bounded: bool) -> None:
        """Take turns until `stop` or, if it is bounded, until nothing is left to do."""
        try:
            is_told = False
            while not self._is_stopping:
                # Not `_check_idle`: another thread may be between `every` and `do`.
                self._check_executor()
                try:
                    self._turns.turn()
                    is_told = False
                except StoreError as error:  # it may be readable again later
                    if not is_told:
                        self._tell(ScheduleError("*", None, f"the ledger: {error}"), error)
                    is_told = True
                if self._is_stopping or (is_bounded and self._turns.are_over):
                    return
                moment = self._turns.next_moment()
                until = None if moment is None else moment / SECOND
                if is_told:  # what is due stays due, and must not be tried without a pause
                    until = self._clock.wall() + LOOK_SECONDS
                self._bell.wait_until_wall(until)
        except BaseException as error:
            self._error = self._error or error
            _log.error("The scheduler stopped: %s", text_of(error), exc_info=error)
        finally:
            self._thread = None
            self._ended.set()

    # Errors

    def _tell(self, error: ScheduleError, cause: BaseException | None) -> None:
        """Do with an error what the user wants."""
        if self._on_error == "log":
            _log.error("%s", error, exc_info=cause)
        elif self._on_error == "raise":
            error.__cause__ = cause
            self._error = self._error or error
            self._is_stopping = True
            self._bell.ring()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
