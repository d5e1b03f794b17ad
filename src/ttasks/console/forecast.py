"""Forecast: estimates the time left of a run from earlier durations of its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ttasks.model.topology import in_order
from ttasks.report.history import earlier_runs
from ttasks.report.numbers import edges_of, longest, medians_of, name_of

if TYPE_CHECKING:
    from ttasks.console.board import Board
    from ttasks.console.rows import Row, Section
    from ttasks.model.facts import RunFacts
    from ttasks.model.store import Store

_RUNS = 5  # earlier ones that are looked at
_MOST_TASKS = 2000  # of a graph whose earlier runs are looked at: they are read as a whole


class Forecast:
    """Estimates the time left, from the medians of earlier runs. Used by one thread.

    The estimate is the larger of two bounds: the work that is left over all workers, and the
    longest path through what is left. A task without a median counts as zero. There is no estimate
    if more than half of the tasks have none.
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
        edges = edges_of({task_id: row.after for task_id, row in rows.items()})
        seconds = [self._usual.get(task_id, 0.0) for task_id in rows]
        paths = longest(list(in_order(edges))[::-1], edges.dependents, seconds)
        self._path = dict(zip(rows, paths, strict=True))

    def left(self, board: Board, section: Section, now: float) -> float | None:
        """Estimated seconds until the end of the run; None without an estimate."""
        if not self._usual or section.stopped:
            return None
        work = sum([self._usual.get(task_id, 0.0) for task_id in board.waiting])
        longest = max([self._path.get(task_id, 0.0) for task_id in board.waiting], default=0.0)
        for row in board.running.values():
            if row.is_up:
                continue  # it ends when the others have
            elapsed = min(now - row.since, self._usual.get(row.task_id, 0.0))
            work += self._usual.get(row.task_id, 0.0) - elapsed
            longest = max(longest, self._path.get(row.task_id, 0.0) - elapsed)
        return max(work / self._workers, longest)


def medians(store: Store | None, head: RunFacts, rows: Mapping[str, Row]) -> dict[str, float]:
    """Seconds that the tasks of a run took in the latest runs of its graph, by their id.

    If the store raises an error, there is no estimate.

    Args:
        store: with runs, or else there is no estimate.
        head: facts of the run.
        rows: its tasks, without those of nested graphs.
    """
    if getattr(store, "runs", None) is None or len(rows) > _MOST_TASKS:
        return {}
    try:
        usual = medians_of(earlier_runs(store, head, _RUNS))
    except Exception:
        return {}
    path = (head.title,) if head.title else ()
    names = {row.task_id: name_of(row.key, path, row.title) for row in rows.values()}
    return {task_id: usual[name] for task_id, name in names.items() if name in usual}
