"""SingleHistory: what the run of a single task did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from os import getpid
from typing import TYPE_CHECKING

from ttasks.engine.history import History, host
from ttasks.model.notes import Notes
from ttasks.model.run import OUTCOMES, Opening, poll_end

# As in `ttasks.engine.history`.
if TYPE_CHECKING:
    from ttasks.engine.attempt import Attempt, Services
    from ttasks.model.facts import RunFacts
    from ttasks.model.gather import Seen
    from ttasks.model.plan import Plan
    from ttasks.model.task import Task

POLL_SECONDS = 0.01
"""How often to look whether the task has ended."""


class SingleHistory(History):
    """What the run of a single task did. Thread-safe.

    Args:
        services, outer: see `History`.
        task: the task.
        workers: of the run that it shares with others.
        cancel: cancels the task.
    """

    is_single = True
    _place: tuple[Plan, int] | None = None
    _kept = Notes()

    def __init__(
        self,
        services: Services,
        task: Task,
        outer: Attempt | None,
        workers: int,
        cancel: Callable[[Task], object],
    ) -> None:
        super().__init__(services, task.id, outer)
        self._task = task
        self._workers = workers
        self._cancel = cancel

    def begin(self, plan: Plan, node: int) -> None:
        """Take down where the task is; its run begins when it is ready."""
        self._place = plan, node
        if self._outer is None:
            self.began = plan.ready[node] or 0.0
        else:
            self._begin(plan.ready[node] or 0.0)
            self.join()

    def keep(self) -> None:
        """Keep what the plan has noted, as it is about to forget."""
        if self._place is not None:
            self._kept, self._place = self.notes(), None

    def notes(self, ended: float | None = None) -> Notes:
        """What the plan has noted of the task; ``ended`` if its end is still to be noted."""
        place = self._place
        if place is not None:
            return place[0].notes(place[1], ended, self.began)
        return self._kept if ended is None else self._kept._replace(ended=ended - self.began)

    def opening(self) -> Opening:
        """See `ttasks.model.run.RunSource`."""
        title = self._services.recorder.shown(self._task).title
        return Opening(self._subject, None, title, self._started_at, self._workers, {})

    def head(self) -> RunFacts:
        """See `ttasks.model.run.RunSource`."""
        return self._head(self._seen(self._task, self.notes))

    def _head(self, seen: Seen) -> RunFacts:
        from ttasks.model.facts import RunFacts

        duration = seen.notes.ended
        # One that was cancelled by hand is over before its turn comes.
        elapsed = self._now() if duration is None else duration
        is_over = duration is not None or (seen.status.is_sink and seen.notes.started is None)
        return RunFacts(
            id=self.id,
            number=self.number,
            graph_id=self._subject,
            graph_key=None,
            title=seen.task.title,
            started_at=self._started_at,
            ended_at=self._started_at + timedelta(seconds=elapsed) if is_over else None,
            duration=elapsed if is_over else None,
            outcome=OUTCOMES[seen.status] if is_over else "running",
            host=host(),
            pid=getpid(),
            workers=self._workers,
            elapsed=elapsed,
            parent_id=None if self.parent is None else self.parent[0].id,
        )

    def facts(self) -> RunFacts:
        """See `ttasks.model.run.RunSource`."""
        seen = self._seen(self._task, self.notes)
        return self._gathered(self._head(seen), [seen])

    def wait(self, timeout: float | None) -> bool:
        """See `ttasks.model.run.RunSource`."""
        return poll_end(self, timeout, POLL_SECONDS)

    def cancel(self) -> None:
        """See `ttasks.model.run.RunSource`."""
        self._cancel(self._task)
