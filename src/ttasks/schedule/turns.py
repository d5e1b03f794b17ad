"""Turns: what is due is claimed, and run; the inside of a scheduler."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextvars import copy_context
from heapq import heappop, heappush
from types import TracebackType
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.errors import ScheduleError, text_of
from ttasks.model.context import CURRENT
from ttasks.model.running import RunOptions
from ttasks.model.slots import Claim, Refusal, SlotLog, SlotRequest
from ttasks.schedule.course import Course, Policy, Taken
from ttasks.schedule.job import Job, SlotFuture
from ttasks.schedule.local_slots import LocalSlots
from ttasks.schedule.rules import SECOND, At, Rule, from_micros
from ttasks.schedule.runners import Runners
from ttasks.schedule.unfinished import Interrupted, Unfinished

if TYPE_CHECKING:
    from ttasks.engine.executor import TaskExecutor
    from ttasks.model.run import Run
    from ttasks.model.store import Store
    from ttasks.schedule.recipe import Recipe

LOOK_SECONDS = 1.0
"""How often to look at slots that other processes have, and to try again to claim one."""
SET_BACK_SECONDS = 3 * 3600.0
"""A clock that is set back by more starts the schedules anew."""

_LONG_AGO = -(2**62)
_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_log = logging.getLogger("ttasks.schedule")


class Turns:
    """All schedules of a scheduler, and the runs of their slots. Thread-safe.

    Args:
        executor: runs the graphs.
        store: see `Scheduler`.
        most: number of runs at a time.
        tell: called with what goes wrong with a slot, and its cause; on any thread.
        ring: called when it is time for another turn; on any thread.
    """

    def __init__(
        self,
        executor: TaskExecutor,
        store: Store | None,
        most: int,
        tell: Callable[[ScheduleError, BaseException | None], None],
        ring: Callable[[], None],
    ) -> None:
        self._executor = executor
        self._clock = executor.clock
        self._tell = tell
        self._ring = ring
        slots = getattr(executor.store if store is None else store, "slots", None)
        self._has_ledger = slots is not None
        self._slots: SlotLog = LocalSlots() if slots is None else slots
        self._unfinished = Unfinished(executor, self._slots, store)
        self._runners: Runners[Job] = Runners(most, self._run)
        # Protects all courses and the following. Nothing slow is done with it.
        self._lock = sync.Lock()
        self._recipes: dict[str, Recipe] = {}
        self._courses: dict[str, Course] = {}
        self._unread: dict[str, Course] = {}  # whose latest slot is to be read from the ledger
        self._heap: list[tuple[int, int, str]] = []  # when due, version of the course, its name
        self._waiting: dict[str, None] = {}  # names of courses with slots to claim, in order
        self._jobs: dict[int, Job] = {}  # by number of the claim
        self._look_at: int | None = 0 if self._has_ledger else None
        self._offset: float | None = None  # of the wall clock

    def add(self, name: str, rule: Rule, policy: Policy, recipe: Recipe) -> Course:
        """Make the course of a schedule.

        Raises:
            ValueError: there is one of this name.
        """
        course = Course(name, rule, policy, self._now())
        with self._lock:
            if name in self._courses:
                raise ValueError(
                    f"there is a schedule {name!r} already; give this one a name of its own, by "
                    "name=... in front of do()"
                )
            self._recipes[name] = recipe
            self._courses[name] = course
            if self._has_ledger:
                self._unread[name] = course
            elif course.is_over:
                course.missed += 1
                _log.warning("Schedule %r is in the past (%s), so it does not run", name, rule)
            self._push(course)
        self._ring()
        return course

    def upcoming(self, course: Course, number: int) -> list[int]:
        """The next slots of a schedule."""
        now = self._now()
        with self._lock:
            return course.upcoming(number, now)

    def pause(self, course: Course) -> None:
        """Leave out the slots of a schedule."""
        with self._lock:
            course.pause()
            self._push(course)

    def resume(self, course: Course) -> None:
        """Go on with a schedule."""
        now = self._now()
        with self._lock:
            if course.is_paused:
                course.is_paused = False
                course.restart(now)
                self._push(course)
        self._ring()

    def cancel(self) -> None:
        """Cancel all runs; see `Job.cancel`."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()

    def join(self) -> None:
        """Wait until all runs have ended; on the thread of one, return at once."""
        self._runners.join()

    @property
    def are_over(self) -> bool:
        """True if nothing is left to do."""
        with self._lock:
            return (
                not self._jobs
                and self._look_at is None
                and not self._unread
                and all(course.is_over for course in self._courses.values())
            )

    def next_moment(self) -> int | None:
        """When there is something to do next, in microseconds since 1970; None if never."""
        with self._lock:
            moments = [item[0] for item in self._heap[:1]]
            moments += [] if self._look_at is None else [self._look_at]
            return min(moments, default=None)

    def _now(self) -> int:
        return round(self._clock.wall() * SECOND)

    # One turn

    def turn(self) -> list[SlotFuture]:
        """Claim what is due, and begin its runs.

        Raises:
            StoreError: the ledger cannot be read or written; the slots wait for the next turn.
        """
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
            self._look_at = now + round(LOOK_SECONDS * SECOND)  # unless this goes well
        claims = self._slots.take_over(names)
        held = self._slots.held_elsewhere(names)
        latest = {course.name: self._slots.latest(course.name) for course in unread}
        with self._lock:
            for course in unread:
                self._read(course, latest[course.name], now)
            for course in self._courses.values():
                course.is_blocked = False
                self._push(course)
            if not held:
                self._look_at = None
        jobs = [job for claim in claims if (job := self._continue(claim, now)) is not None]
        self._start(jobs)
        return [job.future for job in jobs]

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
        return self._new_job(course, claim)

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
        jobs, busy = list[Job](), []
        for request, answer in zip(requests, answers, strict=True):
            course = self._courses[request.schedule]
            if isinstance(answer, Claim):
                jobs.append(self._new_job(course, answer))
                continue
            with self._lock:
                self._heed(course, request, answer, now)
            if answer is not Refusal.TAKEN:
                busy.append((course, answer))
        self._start(jobs)
        for course, answer in busy:
            if answer is Refusal.SKIPPED:
                _log.info("Schedule %r skipped a slot: an earlier one is running", course.name)
            elif course.policy.overlap == "cancel":
                for claim in self._slots.held_elsewhere([course.name]):
                    self._unfinished.cancel(claim)
        return [job.future for job in jobs]

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

    def _new_job(self, course: Course, claim: Claim) -> Job:
        context = copy_context()
        context.run(CURRENT.set, None)  # it is not part of the task that calls `tick`
        waits = course.policy.overlap in ("queue", "cancel")
        job = Job(claim, self._recipes[claim.schedule].make, waits, context)
        with self._lock:
            self._jobs[claim.number] = job
            course.is_asked = False
            course.running += 1
            course.started += 1
            self._push(course)
        return job

    def _start(self, jobs: list[Job]) -> None:
        try:
            self._runners.add(jobs)
        except RuntimeError as error:  # no thread can be started
            for job in jobs:
                self._end(job, "error", None, error)

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
            raised.__traceback__ = _without_ours(raised.__traceback__)
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
        try:
            if run is not None:
                job.future.set_result(run)
            elif not job.future.cancelled():
                why = "it was cancelled before it began"
                job.future.set_exception(error or ScheduleError(claim.schedule, slot, why))
        except BaseException as problem:  # SystemExit of a callback; the thread has more to run
            _log.error("A callback of a slot of %r raised %s", claim.schedule, text_of(problem))
        self._ring()


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The traceback of what was raised, without the frames of this package before it."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace


def _tell_taken(name: str, taken: Taken) -> None:
    if taken.missed:
        _log.warning("Schedule %r missed slots: they were noticed too late", name)
    if taken.skipped:
        _log.info("Schedule %r skipped %d slots: earlier ones are running", name, taken.skipped)
