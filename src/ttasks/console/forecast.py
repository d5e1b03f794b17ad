"""Forecast: how long a run will still take, from how long its tasks took before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from ttasks.console.text import one_line
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from ttasks.console.board import Board, Row, Section
    from ttasks.model.facts import RunFacts
    from ttasks.model.run import Run
    from ttasks.model.store import Store

RUNS = 5
"""How many earlier runs are looked at."""

_MOST_TASKS = 2000  # of a graph whose earlier runs are looked at: they are read as a whole


class Forecast:
    """Estimates the time left, from the medians of earlier runs. Used by one thread.

    The estimate is the larger of two bounds: the work that is left over all workers, and the
    longest path through what is left. A task without a median counts nothing, and there is no
    estimate while more than half of the tasks have none.
    """

    def __init__(self) -> None:
        self._usual: dict[str, float] = {}  # seconds by task
        self._path: dict[str, float] = {}  # from the start of a task to the end of the run
        self._workers = 1

    def begin(self, rows: Mapping[str, Row], medians: Mapping[str, float], workers: int) -> None:
        """A run begins.

        Args:
            rows: its tasks, by id.
            medians: seconds by id of the task, of those that ran before.
            workers: how many run at once.
        """
        self._usual = {task_id: medians[task_id] for task_id in rows if task_id in medians}
        self._workers = max(1, workers)
        self._path = {}
        if len(self._usual) * 2 < len(rows):
            self._usual = {}
            return
        order, dependents = _in_order(rows)
        for task_id in reversed(order):
            after = [self._path[name] for name in dependents.get(task_id, ())]
            self._path[task_id] = self._usual.get(task_id, 0.0) + max(after, default=0.0)

    def left(self, board: Board, section: Section, now: float) -> float | None:
        """Seconds that the run will still take; None if nobody knows."""
        if not self._usual or section.stopped:
            return None
        work = sum([self._usual.get(task_id, 0.0) for task_id in board.waiting])
        longest = max([self._path.get(task_id, 0.0) for task_id in board.waiting], default=0.0)
        for row in board.running.values():
            elapsed = min(now - row.since, self._usual.get(row.task_id, 0.0))
            work += self._usual.get(row.task_id, 0.0) - elapsed
            longest = max(longest, self._path.get(row.task_id, 0.0) - elapsed)
        return max(work / self._workers, longest)


def medians(store: Store | None, head: RunFacts, rows: Mapping[str, Row]) -> dict[str, float]:
    """Seconds that the tasks of a run took in the latest runs of its graph, by their id.

    Tasks are known by their key, or else by their title. Whatever goes wrong with the store, there
    is just no estimate.
    """
    runs: Any = getattr(store, "runs", None)
    if runs is None or len(rows) > _MOST_TASKS:
        return {}
    try:
        which = {"key": head.graph_key} if head.graph_key else {"graph": head.graph_id}
        latest = runs.list(**which, limit=RUNS + 1)
        usual = usual_seconds(run for run in latest if run.id != head.id)
    except Exception:
        return {}
    names = {row.task_id: row.key or row.name for row in rows.values()}
    return {task_id: usual[name] for task_id, name in names.items() if name in usual}


def usual_seconds(runs: Iterable[Run]) -> dict[str, float]:
    """Medians of how long tasks took in some runs, by their key, or else by their title."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for task in run.facts().tasks.values():
            if task.status is TaskStatus.SUCCEEDED and task.duration and not task.reused:
                found.setdefault(task.key or one_line(task.title), []).append(task.duration)
    return {name: median(values) for name, values in found.items()}


def _in_order(rows: Mapping[str, Row]) -> tuple[list[str], dict[str, list[str]]]:
    """Ids, each after those that it depends on; and the ids of those that depend on each."""
    missing: dict[str, int] = {}
    dependents: dict[str, list[str]] = {}
    for row in rows.values():
        upstreams = [name for name in row.after if name in rows]
        missing[row.task_id] = len(upstreams)
        for name in upstreams:
            dependents.setdefault(name, []).append(row.task_id)
    order = [task_id for task_id, number in missing.items() if not number]
    for task_id in order:  # grows meanwhile
        for name in dependents.get(task_id, ()):
            missing[name] -= 1
            if not missing[name]:
                order.append(name)
    return order, dependents
