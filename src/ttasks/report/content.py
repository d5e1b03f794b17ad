"""Content: what every format shows, so that all of them agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ttasks.model.facts import RunFacts, Span, WaitReason
from ttasks.model.status import TaskStatus
from ttasks.report.entries import ReportEntry, entries_of
from ttasks.report.labels import OUTCOMES, count, joined, one_line, percent, plain, seconds
from ttasks.report.numbers import RunNumbers, depth_of, numbers_of

STATUS_ORDER = (
    TaskStatus.FAILED,
    TaskStatus.CANCELLED,
    TaskStatus.BLOCKED,
    TaskStatus.SKIPPED,
    TaskStatus.RUNNING,
    TaskStatus.PENDING,
    TaskStatus.SUCCEEDED,
)
"""The order in which statuses are counted and sorted: problems come first."""

UNNAMED = "(no longer there)"


@dataclass(frozen=True, slots=True)
class Content:
    """One run, ready to be written down.

    Attributes:
        facts: of the run.
        entries: by id, in the order of the graph; some may have been left out.
        numbers: of the whole run.
        titles: of each task of the run, in one line and never empty.
        depth: number of titles in the path of a task that is not in a nested graph.
    """

    facts: RunFacts
    entries: Mapping[str, ReportEntry]
    numbers: RunNumbers
    titles: Mapping[str, str]
    depth: int

    @property
    def title(self) -> str:
        """Title of the run, never empty."""
        return one_line(self.facts.title) or "run"

    @property
    def headline(self) -> str:
        """One line that says what became of the run."""
        return f"{self.title} {OUTCOMES.get(self.facts.outcome, self.facts.outcome)}"

    @property
    def started(self) -> str:
        """When the run started, for people."""
        return f"{self.facts.started_at:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def origin(self) -> str | None:
        """Which moment of which schedule the run is for, for people; None without a schedule."""
        name, slot = self.facts.schedule, self.facts.slot
        if name is None or slot is None:
            return None
        return f"schedule {one_line(name)}, slot {slot:%Y-%m-%d %H:%M:%S} UTC"

    @property
    def until(self) -> float:
        """The moment up to which there are facts."""
        return self.numbers.wall

    def counts(self) -> list[tuple[TaskStatus, int]]:
        """Numbers of tasks by status, without zeros."""
        counts = self.numbers.counts
        return [(status, counts[status]) for status in STATUS_ORDER if counts.get(status)]

    def counts_text(self) -> str:
        """The same as one line: ``1 failed (optional), 2 blocked, 8 succeeded, 1 reused``."""
        tasks = self.facts.tasks.values()
        optional = sum(task.status is TaskStatus.FAILED and not task.required for task in tasks)
        apart = {
            TaskStatus.FAILED: (optional, "failed (optional)"),
            TaskStatus.SUCCEEDED: (self.numbers.reused, "reused"),
        }
        parts = []
        for status, number in self.counts():
            of_these, word = apart.get(status, (0, ""))
            parts += [(number - of_these, status.value), (of_these, word)]
        return ", ".join(f"{number:,} {word}" for number, word in parts if number) or "no tasks"

    def left_out(self) -> str:
        """A line for a report of some tasks only, else an empty str."""
        shown, all_tasks = len(self.entries), len(self.facts.tasks)
        return "" if shown == all_tasks else f"{shown:,} of {count(all_tasks, 'task')} shown"

    def failures(self) -> list[ReportEntry]:
        """Entries that FAILED or were CANCELLED after they had started, required ones first."""
        found = [entry for entry in self.entries.values() if _needs_a_look(entry)]
        return sorted(found, key=lambda entry: not entry.required)

    def name(self, task_id: str) -> str:
        """Title of a task of the run, in one line."""
        return self.titles.get(task_id, UNNAMED)

    def full_name(self, entry: ReportEntry) -> str:
        """Title of an entry, after the titles of the nested graphs around it."""
        return " / ".join((*entry.path[self.depth :], self.name(entry.id)))

    def graphs(self) -> Iterable[tuple[tuple[str, ...], list[ReportEntry]]]:
        """The entries of each graph, with the titles of the nested ones that lead to it."""
        found: dict[tuple[str, ...], list[ReportEntry]] = {}
        for entry in self.entries.values():
            found.setdefault(entry.path[self.depth :], []).append(entry)
        return found.items()

    def edges(self) -> Iterator[tuple[str, ReportEntry]]:
        """Each dependency between entries: the id of the upstream, and what depends on it."""
        for entry in self.entries.values():
            for upstream in entry.after:
                if upstream in self.entries:
                    yield upstream, entry

    def names(self, ids: Iterable[str], most: int = 4) -> str:
        """Titles of tasks for a sentence: ``'a', 'b' and 3 more``."""
        return joined([repr(self.name(task_id)) for task_id in ids], most)

    def reason(self, span: Span) -> str:
        """What a task waited for in a span, with names; ``running`` if it ran."""
        if span.reason is None:
            return "running"
        if not span.because:
            return span.reason.value
        if span.reason is WaitReason.GROUP:
            return f"group {', '.join(plain(name) for name in span.because)}"
        return f"{span.reason.value} {self.names(span.because)}"

    def note(self, entry: ReportEntry) -> str:
        """One line for a table: why the task did not succeed, or that its result was reused."""
        if entry.status is TaskStatus.BLOCKED and entry.blocked_by is not None:
            return f"blocked by {self.name(entry.blocked_by)!r}"
        if entry.error:
            return one_line(entry.error)
        if entry.reused:
            return "reused"
        if len(entry.attempts) > 1:
            return f"{len(entry.attempts)} attempts"
        return ""

    def flags(self, entry: ReportEntry) -> str:
        """What the title of a task does not say: ``optional``, ``finally``."""
        flags = [] if entry.required else ["optional"]
        if entry.is_finally:
            flags.append("finally")
        return ", ".join(flags)

    def blocked(self, entry: ReportEntry) -> str:
        """Titles of the tasks that did not run because of this one."""
        return ", ".join(one_line(title) for title, _ in entry.downstream)

    def insights(self) -> list[str]:
        """What the numbers say, a sentence each."""
        numbers, facts = self.numbers, self.facts
        workers = count(facts.workers, "worker")
        lines = [
            f"{seconds(numbers.work)} of work in {seconds(numbers.wall)} on {workers}, "
            f"{percent(numbers.utilisation)} in use."
        ]
        if numbers.critical_path:
            path = " → ".join(self.name(task_id) for task_id in numbers.critical_path[:8])
            more = len(numbers.critical_path) - 8
            lines.append(
                f"The critical path takes {seconds(numbers.bound)}, "
                f"{percent(numbers.critical_share)} of the run: {path}"
                + (f" and {more:,} more." if more > 0 else ".")
            )
        lines += [
            f"Halving {self.name(item.task_id)!r} would save {seconds(item.seconds)}."
            for item in numbers.savings[:3]
        ]
        lines += [
            f"{self.name(item.task_id)!r} took {seconds(item.seconds)}; "
            f"its median is {seconds(item.median)}."
            for item in numbers.slower[:5]
        ]
        return lines


def content_of(facts: RunFacts, history: Iterable[RunFacts] = ()) -> Content:
    """The content of a report on all tasks of a run."""
    titles = {task.id: one_line(task.title) or task.id for task in facts.tasks.values()}
    numbers = numbers_of(facts, history)
    return Content(facts, entries_of(facts), numbers, titles, depth_of(facts))


def _needs_a_look(entry: ReportEntry) -> bool:
    if entry.status is TaskStatus.CANCELLED:
        return bool(entry.attempts)
    return entry.status is TaskStatus.FAILED
