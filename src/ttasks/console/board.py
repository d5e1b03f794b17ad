"""Board: what events say about the tasks; pure, and used by one thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from weakref import WeakSet

from ttasks.console.rows import Row, Section
from ttasks.console.text import ticking
from ttasks.model.event import EVENT_OF_STATUS, TaskEvent, TaskEventType
from ttasks.model.policy import DependencyPolicy
from ttasks.model.status import TaskStatus
from ttasks.model.task import is_service
from ttasks.report.labels import joined, one_line

if TYPE_CHECKING:
    from datetime import datetime

    from ttasks.engine.history import Planned
    from ttasks.model.facts import RunFacts
    from ttasks.model.run import Run

ENDS = frozenset({*EVENT_OF_STATUS.values(), TaskEventType.REUSED}) - {TaskEventType.STARTED}
"""Events that end an attempt, or a task that never started."""


class Board:
    """All tasks that events have named.

    Attributes:
        rows: by id of the task.
        running: those that run, the longest first.
        waiting: those that have not started, or wait for their next attempt, in insertion order.
        sections: by id of the run; nested runs stand for the run around them.
        current: what the footer shows; the latest section that has begun.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.running: dict[str, Row] = {}
        self.waiting: dict[str, Row] = {}
        self.sections: dict[str, Section] = {}
        self.current: Section | None = None
        self._over: WeakSet[Run] = WeakSet()  # so that what comes late begins none of them again
        self._around: dict[str, str] = {}  # what stands before the names of tasks, by run

    def begin(
        self, head: RunFacts, planned: Iterable[Planned], moment: datetime, now: float
    ) -> Section:
        """Add the run of a graph when it begins; later changes come as events.

        Args:
            head: its facts, without those of tasks.
            planned: its tasks.
            moment: when it began.
            now: by the clock of this board.
        """
        section = self.sections.get(head.parent_id or "")
        title = one_line(head.title)
        if section is None:
            section = self.current = Section(head.id, title, now, moment)
            section.fails_fast = bool(head.options.get("fail_fast"))
            self._around[head.id] = ""
        else:  # a nested run: its tasks are named after the graphs around them
            around = self._around.get(head.parent_id or "", "")
            self._around[head.id] = f"{around}{title} / " if title else around
        self.sections[head.id] = section
        rows = [self._expect(task, section, self._around[head.id]) for task in planned]
        for row in rows:
            for upstream in row.after:
                if upstream in self.rows:
                    self.rows[upstream].dependents.append(row)
        return section

    def _expect(self, planned: Planned, section: Section, around: str) -> Row:
        row = Row(planned.task_id, around + one_line(planned.title), section)
        row.key, row.title = planned.key, planned.title
        row.after, row.groups = planned.after, planned.groups
        row.required, row.is_finally = planned.required, planned.is_finally
        row.is_blockable = planned.policy is DependencyPolicy.BLOCK and not planned.is_finally
        section.total += 1
        if planned.had_ended:
            row.status = TaskStatus.SUCCEEDED
            self._count(row, reused=True)
        else:
            self.waiting[planned.task_id] = row
        self.rows[planned.task_id] = row
        return row

    def is_new(self, run: Run) -> bool:
        """True if a run has not begun here; nor ended, as far as somebody keeps it."""
        return run.id not in self.sections and run not in self._over

    def catch_up(self, facts: RunFacts, now: float) -> None:
        """Learn what a run had done before this board knew of it.

        Events of it that are still to come may tell the same again.
        """
        section = self.sections[facts.id]
        if section.run_id == facts.id:
            section.began = now - facts.elapsed
        for task in facts.tasks.values():
            row = self.rows.get(task.id)
            if row is None or not row.status.is_active:
                continue
            row.attempt, row.error = len(task.attempts), task.error
            if task.status is TaskStatus.RUNNING:
                started = task.attempts[-1].started if task.attempts else None
                self._run(row, now if started is None else now - (facts.elapsed - started))
            elif not task.status.is_active:
                self.waiting.pop(task.id, None)
                row.status = task.status
                self._count(row, reused=task.reused)
                section.flaky += row.is_flaky
                if task.status is TaskStatus.FAILED:
                    section.failures.append(row)

    def stop(self, run: Run, message: str, *, takes_interrupts: bool = False) -> Section | None:
        """Learn that a run is being stopped; returns its section, unless it is a nested run."""
        section = self.sections.get(run.id)
        if section is None or section.run_id != run.id:
            return None
        section.stopped, section.takes_interrupts = message, takes_interrupts
        return section

    def end(self, run: Run, now: float) -> Section | None:
        """Learn of the end of a run; returns its section, unless that goes on around it."""
        self._over.add(run)
        section = self.sections.get(run.id)
        if section is None or section.run_id != run.id:
            self.sections.pop(run.id, None)
            self._around.pop(run.id, None)
            return None
        section.ended, section.outcome, section.error = now, run.outcome, run.error
        return section

    def forget(self, section: Section) -> None:
        """Forget a run that has ended, so that memory does not grow."""
        for rows in (self.rows, self.waiting, self.running):
            for task_id in [key for key, row in rows.items() if row.section is section]:
                del rows[task_id]
        self.sections = {key: kept for key, kept in self.sections.items() if kept is not section}
        self._around = {key: around for key, around in self._around.items() if key in self.sections}
        if self.current is section:
            self.current = next(iter(self.sections.values()), None)

    def forget_alone(self, row: Row) -> None:
        """Forget a task without a graph that has ended well.

        Others are kept for the summary. If one of them runs again, it has the same row.
        """
        if row.section.run_id == "" and row.status.is_sink and not row.status.is_bad:
            self.rows.pop(row.task_id, None)

    def row_of(self, event: TaskEvent, now: float) -> Row:
        """The row of a task, which is made if it is new."""
        row = self.rows.get(event.task_id)
        if row is None:
            section = self.sections.get(event.run_id or "") or self.sections.get("")
            if section is None:
                section = self.sections[""] = Section("", "", now, event.timestamp)
                self.current = self.current or section
            row = self.rows[event.task_id] = Row(event.task_id, one_line(event.task.title), section)
            section.total += 1
            if event.type not in ENDS and event.status is TaskStatus.RUNNING:
                row.attempt = event.attempt
                self._run(row, now)  # since then at the latest
        return row

    def apply(self, event: TaskEvent, now: float) -> Row:
        """Learn of an event of a task; returns its row."""
        row = self.row_of(event, now)
        kind = event.type
        if kind is TaskEventType.PROGRESS:
            if event.progress_percent is not None:
                row.percent = event.progress_percent
            if event.progress_message is not None:
                row.message = event.progress_message
        elif kind is TaskEventType.STARTED:
            self._start(row, event, now)
        elif kind is TaskEventType.READY:
            row.is_up, row.message = True, "ready"
            if self.running.pop(row.task_id, None) is not None:
                self.running[row.task_id] = row  # behind the tasks that somebody waits for
        elif kind in ENDS:
            self._end(row, event, now)
        return row

    def _start(self, row: Row, event: TaskEvent, now: float) -> None:
        if not row.status.is_active:  # it is run again
            self._uncount(row)
        row.task = event.task
        row.attempt, row.error = event.attempt, None
        row.percent = row.message = None
        row.is_up = False
        row.lines = None
        row.blocks.clear()
        self._clear(row)
        self._run(row, now)

    def _run(self, row: Row, since: float) -> None:
        row.status, row.since, row.retry_at = TaskStatus.RUNNING, since, None
        self.waiting.pop(row.task_id, None)
        if row.task_id not in self.running:
            row.section.running += 1
        self.running[row.task_id] = row

    @staticmethod
    def _count(row: Row, *, reused: bool) -> None:
        row.reused = reused
        row.section.counts[row.status] += 1
        row.section.reused += reused

    @staticmethod
    def _uncount(row: Row) -> None:
        """It had ended before, and that does not count any more."""
        section = row.section
        if section.counts[row.status]:
            section.counts[row.status] -= 1
            section.reused -= row.reused
            section.flaky -= row.is_flaky
        if row.status is TaskStatus.FAILED and row in section.failures:
            section.failures.remove(row)

    def _end(self, row: Row, event: TaskEvent, now: float) -> None:
        if not row.status.is_active:
            self._uncount(row)
        row.task, row.error = event.task, event.error
        if self.running.pop(row.task_id, None) is not None:
            row.section.running -= 1
        if event.retry_in is not None:
            row.status, row.retry_at = TaskStatus.PENDING, now + event.retry_in
            self.waiting[row.task_id] = row
            return
        self.waiting.pop(row.task_id, None)
        row.status, row.retry_at = event.status, None
        self._count(row, reused=event.type is TaskEventType.REUSED)
        section = row.section
        if event.status is not TaskStatus.BLOCKED:
            self._clear(row)
        if event.status is TaskStatus.FAILED:
            section.failures.append(row)
            self._expect_blocked(row)
        elif event.status is TaskStatus.SUCCEEDED:
            row.attempt = event.attempt
            section.flaky += row.is_flaky
        elif event.status is TaskStatus.CANCELLED:
            result = event.task.result
            if result is not None and result.termination_reason == "interrupted":
                section.is_interrupted = True
        elif event.status is TaskStatus.BLOCKED:
            self._blame(row, event.task.blocked_by)

    def _expect_blocked(self, culprit: Row) -> None:
        """Note what a failure is about to block: it is shown before the events of those come."""
        left = [] if culprit.section.fails_fast else [culprit]
        while left:
            for row in left.pop().dependents:
                is_left = row.status is TaskStatus.PENDING and row.blocked_by is None
                if is_left and row.is_blockable and row.task_id not in self.running:
                    self._note_blocked(row, culprit)
                    left.append(row)

    def _blame(self, row: Row, culprit_id: str | None) -> None:
        """Note what is blocked with the task that failed first."""
        self._clear(row)
        seen = set()
        while culprit_id is not None and culprit_id not in seen:
            seen.add(culprit_id)
            culprit = self.rows.get(culprit_id)
            if culprit is None:
                return
            if culprit.status is not TaskStatus.BLOCKED or culprit.task is None:
                self._note_blocked(row, culprit)
                return
            culprit_id = culprit.task.blocked_by

    @staticmethod
    def _note_blocked(row: Row, culprit: Row) -> None:
        row.blocked_by = culprit
        culprit.blocks[row.task_id] = row.name

    @staticmethod
    def _clear(row: Row) -> None:
        """It is not blocked, or not by what was expected."""
        if row.blocked_by is not None:
            row.blocked_by.blocks.pop(row.task_id, None)
            row.blocked_by = None

    @staticmethod
    def _awaited(row: Row) -> str:
        """What is waited for of an upstream."""
        is_starting = row.task is not None and is_service(row.task)
        return f"{row.name} to be ready" if is_starting else row.name

    def why_waiting(self, row: Row, now: float) -> str:
        """What a row that has not started waits for, in a few words."""
        if row.retry_at is not None:
            return f"for attempt {row.attempt + 1} in {ticking(max(0.0, row.retry_at - now))}"
        missing = [
            self._awaited(self.rows[upstream])
            for upstream in row.after
            if upstream in self.waiting
            or (upstream in self.running and not self.running[upstream].is_up)
        ]
        if missing:
            return f"for {joined(missing, 2)}"
        for group in row.groups:
            if any(group in other.groups for other in self.running.values()):
                return f"for a place in {group}"
        return "for a worker"
