"""Scheduler: runs what its schedules make, when it is due.

Rule ─→ Course ─→ requests ─→ SlotLog ─→ claims ─→ Job ─→ Runners ─→ a run of the executor
when    due now               once                  make   threads         │
          ↑                                                                 │
          └──────────────────────────── the slot has ended ────────────────┘
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextvars import copy_context
from datetime import datetime, tzinfo
from heapq import heappop, heappush
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ttasks import sync
from ttasks.backends.loop import CALLER_LOOP
from ttasks.engine.executor import TaskExecutor
from ttasks.engine.signals import Signals
from ttasks.errors import ScheduleError, StoreError, text_of
from ttasks.model.checks import check_bool, check_int, check_seconds, wrong_type, wrong_value
from ttasks.model.clock import SIGNAL_SECONDS
from ttasks.model.context import CURRENT
from ttasks.model.running import RunOptions
from ttasks.model.slots import Claim, Refusal, SlotLog, SlotRequest
from ttasks.schedule.course import Course, Policy, Taken
from ttasks.schedule.job import Job, SlotFuture
from ttasks.schedule.local_slots import LocalSlots
from ttasks.schedule.rules import SECOND, At, Cron, Every, Rule, from_micros
from ttasks.schedule.runners import Runners
from ttasks.schedule.schedule import Schedule, recipe_of
from ttasks.schedule.unfinished import Interrupted, Unfinished

if TYPE_CHECKING:
    from ttasks.model.run import Run
    from ttasks.model.store import Store

LOOK_SECONDS = 1.0
"""How often to look at slots that other processes have, and to try again to claim one."""
SET_BACK_SECONDS = 3 * 3600.0
"""A clock that is set back by more starts the schedules anew; see the how-to."""
ON_ERROR = ("log", "raise", "continue")

_LONG_AGO = -(2**62)
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
        slots = getattr(executor.store if store is None else store, "slots", None)
        if store is not None and slots is None:
            raise wrong_type("store", store, "a store with slots, such as a SQLiteStore, or None")
        self._executor = executor
        self._slots: SlotLog = LocalSlots() if slots is None else slots
        self._unfinished = Unfinished(executor, self._slots, store)
        self._has_ledger = slots is not None
        self._on_error = on_error
        self._runners: Runners[Job] = Runners(check_int("max_runs", max_runs, least=1), self._run)
        self._bell = sync.Lock()  # released to end the wait of the thread
        self._bell.acquire()
        self._ended = sync.Event()
        self._ended.set()
        self._is_stopping = False
        self._thread: sync.Thread | None = None
        # Protects all courses and the following. Nothing slow is done with it.
        self._lock = sync.Lock()
        self._schedules: dict[str, Schedule] = {}
        self._idle: list[Schedule] = []  # that have nothing to do yet
        self._courses: dict[str, Course] = {}
        self._unread: dict[str, Course] = {}  # whose latest slot is to be read from the ledger
        self._heap: list[tuple[int, int, str]] = []  # when due, version of the course, its name
        self._waiting: dict[str, None] = {}  # names of courses with slots to claim, in order
        self._jobs: dict[int, Job] = {}  # by number of the claim
        self._look_at: int | None = 0 if self._has_ledger else None
        self._offset: float | None = None  # of the wall clock
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
            seconds: at least 0.001.
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
            grace: seconds that a slot may be late, at least 0; later ones are not run. None means
                60 with "skip", and no limit otherwise.
            jitter: seconds, at least 0: each slot is delayed by a part of them, the same in all
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

    def admit(self, schedule: Schedule, name: str, rule: Rule, policy: Policy) -> Course:
        """Make the course of a schedule; `Schedule.do` calls this."""
        course = Course(name, rule, policy, self._now())
        with self._lock:
            if name in self._schedules:
                raise ValueError(
                    f"there is a schedule {name!r} already; give this one a name of its own, by "
                    "name=... in front of do()"
                )
            self._idle.remove(schedule)
            self._schedules[name] = schedule
            self._courses[name] = course
            if self._has_ledger:
                self._unread[name] = course
            elif course.is_over:
                course.missed += 1
                _log.warning("Schedule %r is in the past (%s), so it does not run", name, rule)
            self._push(course)
        self._ring()
        return course

    def change(self, work: Callable[[int], Any]) -> Any:
        """Call ``work`` with the time, alone; `Schedule` calls this."""
        now = self._now()
        with self._lock:
            found = work(now)
            for course in self._courses.values():
                self._push(course)
        self._ring()
        return found

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules that have something to do, in the order of `Schedule.do`."""
        with self._lock:
            return tuple(self._schedules.values())

    def next(self, number: int = 10) -> list[tuple[datetime, Schedule]]:
        """The next slots of all schedules, without their jitter and without paused ones.

        Args:
            number: how many, at least 1.
        """
        check_int("number", number, least=1)
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

        It also ends when no schedule has anything left to do. The interpreter does not wait for the
        thread before it exits, but for runs that go on.

        Raises:
            RuntimeError: it has been started, the executor is shut down, or a schedule has nothing
                to do.
        """
        self._begin()
        context = copy_context()
        context.run(CURRENT.set, None)  # it is not part of the task that starts it
        context.run(CALLER_LOOP.set, None)
        thread = sync.Thread(
            target=context.run, args=(self._loop,), name="ttasks-schedule", daemon=True
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
            self._loop()
            self._runners.join()

        await run_off_loop(work, self._stop_all)
        self._raise_error()

    def _begin(self) -> None:
        self._check()
        with self._lock:
            if not self._ended.is_set():
                raise RuntimeError("The scheduler runs already; stop it first")
            self._ended.clear()
            self._is_stopping = False
            self._error = None

    def _check(self) -> None:
        """Raise RuntimeError if it cannot run anything."""
        if self._executor.is_shutdown:
            raise RuntimeError("The executor of the scheduler is shut down; it can run nothing")
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
            wait: return when all runs have ended. On a thread of the scheduler it never waits.
            cancel: cancel the runs; their finally tasks still run. A second call with it kills what
                is left.

        Raises:
            ScheduleError: with ``on_error="raise"``, the first error; after all has ended.
        """
        check_bool("wait", wait)
        if check_bool("cancel", cancel):
            self._stop_all()
        self._is_stopping = True
        self._ring()
        thread = self._thread
        if wait and thread is not sync.current_thread():
            if thread is not None:
                thread.join()
            self._runners.join()
            self._raise_error()

    def _stop_all(self) -> None:
        """Stop, and cancel all runs."""
        self._is_stopping = True
        self._ring()
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()

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
            self._check()
            return self._turn()

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

    def _loop(self) -> None:
        try:
            while not self._is_stopping:
                try:
                    self._check()
                    self._turn()
                except StoreError as error:  # it may be readable again later
                    self._tell(ScheduleError("*", None, f"the ledger: {error}"), error)
                if self._is_stopping or self._is_over():
                    return
                moment = self._next_moment()
                self._clock.wait_until_wall(self._bell, None if moment is None else moment / SECOND)
        except BaseException as error:
            self._error = self._error or error
            _log.error("The scheduler stopped: %s", text_of(error), exc_info=error)
        finally:
            self._thread = None
            self._ended.set()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            pass  # it rings already

    def _is_over(self) -> bool:
        with self._lock:
            return (
                not self._jobs
                and not self._look_at
                and all(course.is_over for course in self._courses.values())
            )

    def _next_moment(self) -> int | None:
        with self._lock:
            moments = [item[0] for item in self._heap[:1]]
            moments += [] if self._look_at is None else [self._look_at]
            return min(moments, default=None)

    def _now(self) -> int:
        return round(self._clock.wall() * SECOND)

    # One turn

    def _turn(self) -> list[SlotFuture]:
        """Claim what is due, and begin its runs."""
        now = self._now()
        self._heed_set_back(now)
        found = self._look(now)
        with self._lock:
            taken = self._take(now)
        for name, one in taken:
            _tell_taken(name, one)
            if one.wanted and self._courses[name].policy.overlap == "cancel":
                self._cancel_here(name)
        while True:
            with self._lock:
                requests = [
                    item for name in self._waiting for item in self._courses[name].requests()
                ]
            if not requests:
                return found
            found += self._claim(requests, now)

    def _heed_set_back(self, now: int) -> None:
        """Start the schedules anew if the wall clock was set back by hours."""
        offset = now / SECOND - self._clock.now()
        with self._lock:
            before, self._offset = self._offset, offset
            if before is None or before - offset <= SET_BACK_SECONDS:
                return
            for course in self._courses.values():
                course.restart(now)
                self._push(course)
        _log.warning("The clock was set back by %d s; schedules go on from now", before - offset)

    def _take(self, now: int) -> list[tuple[str, Taken]]:
        """Let what is due wait to be claimed; needs the lock."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            _, version, name = heappop(self._heap)
            course = self._courses[name]
            if version == course.version:
                found.append((name, course.take(now)))
                self._push(course)
        return found

    def _push(self, course: Course) -> None:
        """Note when a course is due next, and whether it has slots to claim; needs the lock."""
        course.version += 1
        if course.name not in self._unread and (due := course.due()) is not None:
            heappush(self._heap, (due, course.version, course.name))
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._courses):
            self._heap = sorted(
                item for item in self._heap if item[1] == self._courses[item[2]].version
            )
        if course.is_waiting:
            self._waiting[course.name] = None
        else:
            self._waiting.pop(course.name, None)

    def _look(self, now: int) -> list[SlotFuture]:
        """Read from the ledger how far schedules are, and what others have left unfinished."""
        with self._lock:
            unread = list(self._unread.values())
            if not unread and (self._look_at is None or now < self._look_at):
                return []
            names = list(self._courses)
        claims = self._slots.take_over(names)
        held = self._slots.held_elsewhere(names)
        latest = {course.name: self._slots.latest(course.name) for course in unread}
        with self._lock:
            for course in unread:
                self._read(course, latest[course.name], now)
            for course in self._courses.values():
                course.is_blocked = False
                self._push(course)
            self._look_at = now + round(LOOK_SECONDS * SECOND) if held else None
        return [job.future for claim in claims if (job := self._continue(claim, now)) is not None]

    def _read(self, course: Course, latest: int | None, now: int) -> None:
        """Go on after the latest slot that the ledger knows; needs the lock."""
        del self._unread[course.name]
        if latest is not None and latest <= now + round(SET_BACK_SECONDS * SECOND):
            course.restart(latest)
        elif latest is None and isinstance(course.rule, At):
            course.restart(_LONG_AGO)

    def _continue(self, claim: Claim, now: int) -> Job | None:
        """Run a slot that another process has left unfinished, or say that nobody does."""
        course = self._courses[claim.schedule]
        following = course.rule.after(claim.slot)
        is_last = following is None or following + course.delay(following) > now
        if course.is_late(claim.slot, now) or not (is_last or course.policy.missed == "all"):
            self._unfinished.give_up(claim)
            text = "another process had claimed it and is gone; it is too late to run it"
            error = ScheduleError(claim.schedule, from_micros(claim.slot), text)
            self._tell(error, None)
            return None
        return self._begin_job(course, claim)

    def _claim(self, requests: Sequence[SlotRequest], now: int) -> list[SlotFuture]:
        """Claim slots, and begin those that are ours."""
        try:
            answers = self._slots.claim(requests)
        except BaseException:
            with self._lock:
                for request in reversed(requests):
                    course = self._courses[request.schedule]
                    course.put_back([request])
                    course.is_asked = False
                self._look_at = now + round(LOOK_SECONDS * SECOND)
            raise
        found, busy = [], []
        for request, answer in zip(requests, answers, strict=True):
            course = self._courses[request.schedule]
            if isinstance(answer, Claim):
                found.append(self._begin_job(course, answer).future)
                continue
            with self._lock:
                self._heed(course, request, answer, now)
            if answer is not Refusal.TAKEN:
                busy.append((course, answer))
        for course, answer in busy:
            if answer is Refusal.SKIPPED:
                _log.info("Schedule %r skipped a slot: an earlier one is running", course.name)
            elif course.policy.overlap == "cancel":
                for claim in self._slots.held_elsewhere([course.name]):
                    self._unfinished.cancel(claim)
        return found

    def _heed(self, course: Course, request: SlotRequest, answer: Refusal, now: int) -> None:
        """Act on a slot that was not claimed; needs the lock."""
        course.is_asked = False
        if answer is Refusal.BUSY:
            course.put_back([request])
            # Without a ledger, and without a run here, the other one has ended just now.
            course.is_blocked = self._has_ledger and not course.running
        course.skipped += answer is Refusal.SKIPPED
        if self._has_ledger and not course.running:
            self._look_at = now + round(LOOK_SECONDS * SECOND)
        self._push(course)

    def _cancel_here(self, name: str) -> None:
        """Stop the runs of a schedule in this process."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.claim.schedule == name]
        for job in jobs:
            if not job.is_cancelled:
                job.cancel()

    # Jobs

    def _begin_job(self, course: Course, claim: Claim) -> Job:
        recipe = recipe_of(self._schedules[claim.schedule])
        assert recipe is not None
        context = copy_context()
        context.run(CURRENT.set, None)  # it is not part of the task that calls `tick`
        waits = course.policy.overlap in ("queue", "cancel")
        job = Job(claim, recipe.make, waits, context)
        with self._lock:
            self._jobs[claim.number] = job
            course.is_asked = False
            course.running += 1
            course.started += 1
            self._push(course)
        try:
            self._runners.add(job)
        except RuntimeError as error:  # no thread can be started
            self._end(job, "error", None, error)
        return job

    def _run(self, job: Job) -> None:
        """Run a slot to its end; on a thread of its own."""
        outcome, run, error = "cancelled", None, None
        try:
            if job.future.set_running_or_notify_cancel() and not job.is_cancelled:
                outcome, run = job.context.run(self._carry_out, job)
        except BaseException as raised:
            outcome = "interrupted" if isinstance(raised, Interrupted) else "error"
            error = raised
        self._end(job, outcome, run, error)

    def _carry_out(self, job: Job) -> tuple[str, Run | None]:
        claim = job.claim
        earlier = self._unfinished.outcome(claim)
        if earlier is not None:  # it had ended, but that was not noted
            return earlier
        graph = job.prepare()
        resume = self._unfinished.is_resumed(claim, graph)
        self._slots.begin(claim, graph.id)
        options = RunOptions(
            self._executor.max_workers,
            resume=resume,
            wait=job.waits,
            schedule=claim.schedule,
            slot=from_micros(claim.slot),
        )
        self._executor.run_graph(graph, options)
        run = graph.latest_run
        return ("error" if run is None else run.outcome), run

    def _end(self, job: Job, outcome: str, run: Run | None, raised: BaseException | None) -> None:
        """Note what became of a slot, and tell whoever waits for it."""
        claim, error = job.claim, None
        slot = from_micros(claim.slot)
        if raised is not None and not job.is_cancelled:
            error = ScheduleError(claim.schedule, slot, f"it could not run: {text_of(raised)}")
            error.__cause__ = raised
        elif run is not None and outcome in ("failed", "timeout"):
            why = "its run failed" if outcome == "failed" else "its run took too long"
            error = ScheduleError(claim.schedule, slot, f"{why} (run {run.id})")
        try:
            self._slots.end(claim, outcome)
        except Exception as problem:
            _log.error(
                "What became of slot %s of %r could not be saved: %s",
                slot,
                *(claim.schedule, text_of(problem)),
            )
        with self._lock:
            self._jobs.pop(claim.number, None)
            course = self._courses[claim.schedule]
            course.running -= 1
            self._push(course)
        if error is not None:
            self._tell(error, raised)
        if run is not None:
            job.future.set_result(run)
        elif not job.future.cancelled():
            why = "it was cancelled before it began"
            job.future.set_exception(error or ScheduleError(claim.schedule, slot, why))
        self._ring()

    # Errors

    def _tell(self, error: ScheduleError, cause: BaseException | None) -> None:
        """Do with an error what the user wants."""
        if self._on_error == "log":
            _log.error("%s", error, exc_info=cause)
        elif self._on_error == "raise":
            error.__cause__ = cause
            self._error = self._error or error
            self._is_stopping = True
            self._ring()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _tell_taken(name: str, taken: Taken) -> None:
    if taken.missed:
        _log.warning("Schedule %r missed slots: they were noticed too late", name)
    if taken.skipped:
        _log.info("Schedule %r skipped %d slots: earlier ones are running", name, taken.skipped)
