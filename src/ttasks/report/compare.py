"""What has changed from one run of a graph to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ttasks.model.checks import check_number
from ttasks.model.facts import RunFacts, TaskFacts
from ttasks.model.status import TaskStatus
from ttasks.report.labels import count, one_line, seconds
from ttasks.report.numbers import SLOWER_RATIO, SLOWER_SECONDS, name_of


@dataclass(frozen=True, slots=True)
class TaskChange:
    """One task in two runs.

    Attributes:
        title: of the task.
        path: titles of the graphs around it.
        before, after: its id in the earlier and in the later run; None if it was not there.
        status_before, status_after: what became of it.
        seconds_before, seconds_after: how long its last attempt took.
    """

    title: str
    path: tuple[str, ...]
    before: str | None
    after: str | None
    status_before: TaskStatus | None
    status_after: TaskStatus | None
    seconds_before: float | None
    seconds_after: float | None

    @property
    def ratio(self) -> float | None:
        """Duration after by duration before; None if either is missing or zero."""
        if not self.seconds_before or self.seconds_after is None:
            return None
        return self.seconds_after / self.seconds_before


@dataclass(frozen=True, slots=True)
class RunComparison:
    """How a run differs from an earlier one. True if anything differs.

    Attributes:
        newly_failed: FAILED, CANCELLED or BLOCKED now, but not before.
        mended: FAILED, CANCELLED or BLOCKED before, and SUCCEEDED now.
        slower, faster: SUCCEEDED both times, with the greatest difference in seconds first.
        added: not there before.
        gone: there before, and not in this run, as when the graph has changed or only a part of it
            was run.
        seconds_before, seconds_after: how long the runs took.
        reused_before, reused_after: how many tasks of each run took over an earlier result.
    """

    newly_failed: tuple[TaskChange, ...]
    mended: tuple[TaskChange, ...]
    slower: tuple[TaskChange, ...]
    faster: tuple[TaskChange, ...]
    added: tuple[TaskChange, ...]
    gone: tuple[TaskChange, ...]
    seconds_before: float
    seconds_after: float
    reused_before: int
    reused_after: int

    def __bool__(self) -> bool:
        return any(changes for _, changes in self._sections())

    def to_text(self) -> str:
        """A section for each kind of change, a line for each task."""
        lines = [f"{seconds(self.seconds_before)} before, {seconds(self.seconds_after)} now"]
        if self.reused_before:
            lines.append(_were_reused(self.reused_before, " before"))
        if self.reused_after:
            lines.append(_were_reused(self.reused_after))
        for heading, changes in self._sections():
            if changes:
                lines += ["", f"{heading} ({len(changes)})"]
                lines += [f"  {_line(change)}" for change in changes]
        if not self:
            lines += ["", "Nothing has changed."]
        return "\n".join(lines) + "\n"

    def _sections(self) -> tuple[tuple[str, tuple[TaskChange, ...]], ...]:
        return (
            ("Newly failed", self.newly_failed),
            ("Mended", self.mended),
            ("Slower", self.slower),
            ("Faster", self.faster),
            ("Added", self.added),
            ("Gone", self.gone),
        )


def compare(
    earlier: RunFacts,
    later: RunFacts,
    ratio: float = SLOWER_RATIO,
    least_seconds: float = SLOWER_SECONDS,
) -> RunComparison:
    """See `RunReport.compare`."""
    check_number("ratio", ratio, above=1)
    check_number("least_seconds", least_seconds, least=0)
    before, after = _by_name(earlier), _by_name(later)
    both = [_change(before[name], task) for name, task in after.items() if name in before]

    def differs(change: TaskChange, sign: int) -> bool:
        old, new = change.seconds_before, change.seconds_after
        if old is None or new is None or not _succeeded_twice(change):
            return False
        low, high = (old, new) if sign > 0 else (new, old)
        return high - low >= least_seconds and high >= ratio * low and high > low

    slower = [change for change in both if differs(change, 1)]
    faster = [change for change in both if differs(change, -1)]
    return RunComparison(
        newly_failed=tuple(c for c in both if _is_bad(c.status_after) > _is_bad(c.status_before)),
        mended=tuple(
            change
            for change in both
            if _is_bad(change.status_before) and change.status_after is TaskStatus.SUCCEEDED
        ),
        slower=tuple(sorted(slower, key=_difference, reverse=True)),
        faster=tuple(sorted(faster, key=_difference, reverse=True)),
        added=tuple(_change(None, task) for name, task in after.items() if name not in before),
        gone=tuple(_change(task, None) for name, task in before.items() if name not in after),
        seconds_before=earlier.elapsed,
        seconds_after=later.elapsed,
        reused_before=_reused(earlier),
        reused_after=_reused(later),
    )


def _reused(facts: RunFacts) -> int:
    return sum(task.reused for task in facts.tasks.values())


def _were_reused(number: int, when: str = "") -> str:
    return f"{count(number, 'task')} {'was' if number == 1 else 'were'} reused{when}"


def _by_name(facts: RunFacts) -> Mapping[tuple[object, ...], TaskFacts]:
    """Tasks by what stays the same; those of one name by their order."""
    found: dict[tuple[object, ...], TaskFacts] = {}
    seen: dict[tuple[str, ...], int] = {}
    for task in facts.tasks.values():
        name = name_of(task.key, task.path, task.title)
        number = seen[name] = seen.get(name, 0) + 1
        found[(*name, number)] = task
    return found


def _change(before: TaskFacts | None, after: TaskFacts | None) -> TaskChange:
    task = after or before
    assert task is not None
    return TaskChange(
        one_line(task.title) or task.id,
        task.path,
        None if before is None else before.id,
        None if after is None else after.id,
        None if before is None else before.status,
        None if after is None else after.status,
        None if before is None or before.reused else before.duration,
        None if after is None or after.reused else after.duration,
    )


def _is_bad(status: TaskStatus | None) -> bool:
    return status is not None and status.is_bad


def _succeeded_twice(change: TaskChange) -> bool:
    return change.status_before is change.status_after is TaskStatus.SUCCEEDED


def _difference(change: TaskChange) -> float:
    return abs((change.seconds_after or 0.0) - (change.seconds_before or 0.0))


def _line(change: TaskChange) -> str:
    title = " / ".join((*change.path[1:], change.title))
    if _succeeded_twice(change) and change.ratio is not None:
        times = f"{seconds(change.seconds_before)} → {seconds(change.seconds_after)}"
        return f"{title}: {times} ({change.ratio:.2f} times)"
    statuses = [s.value for s in (change.status_before, change.status_after) if s is not None]
    return f"{title}: {' → '.join(statuses)}"
