"""Rows and sections: what the board knows of one task, and of one run."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from datetime import datetime

    from ttasks.console.output import Lines
    from ttasks.model.run import Run
    from ttasks.model.task import Task


class Row:
    """One task.

    Attributes:
        name: its title, in a nested graph after the titles around it; clean, one line.
        section: the run that it belongs to.
        key, title, after, groups, required, is_finally: see `Planned`; without meaning for a task
            without a graph.
        since: when its attempt started.
        retry_at: when the next attempt is due; None if none is.
        status, attempt, error, percent, message: of the latest event that told them.
        lines: output of its latest attempt; None before there is any.
        reused: it was taken over, or had SUCCEEDED before.
        missed: lines of output that were dropped, because they came too fast.
        blocks: names, by id, of the tasks that do not run because of this one.
        blocked_by: the row whose ``blocks`` has this one, or None.
        is_blockable: it is blocked at once if a task fails that it depends on.
        dependents: rows of the tasks that depend on it directly.
        log_file: where all its output is; None if nowhere.
    """

    __slots__ = (
        "after",
        "attempt",
        "blocked_by",
        "blocks",
        "dependents",
        "error",
        "groups",
        "is_blockable",
        "is_finally",
        "is_up",
        "key",
        "lines",
        "log_file",
        "message",
        "missed",
        "name",
        "percent",
        "required",
        "retry_at",
        "reused",
        "section",
        "since",
        "status",
        "task",
        "task_id",
        "title",
    )

    def __init__(self, task_id: str, name: str, section: Section) -> None:
        self.task_id = task_id
        self.name = name
        self.section = section
        self.key: str | None = None
        self.title = ""
        self.after: tuple[str, ...] = ()
        self.groups: tuple[str, ...] = ()
        self.required = True
        self.is_finally = False
        self.is_up = False
        self.task: Task | None = None
        self.status = TaskStatus.PENDING
        self.attempt = 0
        self.error: str | None = None
        self.since = 0.0
        self.retry_at: float | None = None
        self.percent: float | None = None
        self.message: str | None = None
        self.lines: Lines | None = None
        self.missed = 0
        self.reused = False
        self.blocks: dict[str, str] = {}
        self.blocked_by: Row | None = None
        self.is_blockable = False
        self.dependents: list[Row] = []
        self.log_file: str | None = None

    @property
    def is_flaky(self) -> bool:
        """True if it succeeded after a failed attempt."""
        return self.status is TaskStatus.SUCCEEDED and self.attempt > 1

    @property
    def is_optional_failure(self) -> bool:
        """True if it failed and nothing depends on that."""
        return self.status is TaskStatus.FAILED and not self.required


class Section:
    """One run with all that it has started, or all tasks that are not part of a graph.

    Attributes:
        run_id, title, run: of the run; empty, and None, for tasks without a graph.
        total: how many tasks it has.
        running: how many of them run.
        counts: ended tasks by status.
        reused: how many of them were taken over from an earlier run.
        flaky: how many succeeded after a failed attempt.
        failures: rows that FAILED, in the order of their ends.
        began, ended: moments; ``ended`` is None until it is shown as ended.
        moment: when it began, by the clock of the events.
        outcome: see `RunFacts`; None before its end, and without a graph.
        stopped: why it is being stopped; None if it is not.
        takes_interrupts: Ctrl-C reaches it, since the main thread waits for it; known once it is
            being stopped.
        is_interrupted: one of its tasks was; of tasks without a graph.
        fails_fast: a failure cancels what is left, and blocks nothing.
    """

    def __init__(self, run_id: str, title: str, began: float, moment: datetime) -> None:
        self.run_id = run_id
        self.run: Run | None = None
        self.title = title
        self.total = 0
        self.running = 0
        self.counts: Counter[TaskStatus] = Counter()
        self.reused = 0
        self.flaky = 0
        self.failures: list[Row] = []
        self.began = began
        self.moment = moment
        self.ended: float | None = None
        self.outcome: str | None = None
        self.error: str | None = None
        self.stopped: str | None = None
        self.takes_interrupts = False
        self.is_interrupted = False
        self.fails_fast = False

    @property
    def done(self) -> int:
        """How many tasks have ended."""
        return self.counts.total()

    @property
    def goes_on(self) -> bool:
        """True until its end is known; without a graph, while a task has not ended."""
        if self.run is not None:
            return self.outcome is None
        return self.done < self.total

    @property
    def has_failed(self) -> bool:
        """True if something required did not succeed."""
        if self.outcome is not None:
            return self.outcome != "ok"
        bad = self.counts[TaskStatus.CANCELLED] + self.counts[TaskStatus.BLOCKED]
        return bool(bad or any(row.required for row in self.failures))
