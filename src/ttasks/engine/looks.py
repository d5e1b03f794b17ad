"""Looks: what the tasks of one run declare, as it is before they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ttasks.model.snapshot import Snapshot, changes, declares

if TYPE_CHECKING:
    from ttasks.engine.snapshots import Snapshots
    from ttasks.model.run import Reason
    from ttasks.model.task import Task


class Looks:
    """What the tasks of one run declare, as it was before the run.

    Args:
        snapshots: returns those of the executor; called if a task declares something.
    """

    def __init__(self, snapshots: Callable[[], Snapshots]) -> None:
        self._make = snapshots
        self._snapshots: Snapshots | None = None
        self._found: dict[str, Snapshot] = {}

    def look(self, task: Task, makers: Callable[[], Iterable[Task]] = tuple) -> Snapshot | None:
        """`Snapshots.before` of a task; None also if it declares nothing."""
        if not declares(task):
            return None
        if self._snapshots is None:
            self._snapshots = self._make()
            self._snapshots.forget_tools()
        found = self._snapshots.before(task, makers)
        if found is not None:
            self._found[task.id] = found
        return found

    def stands(self, task: Task, old: Task) -> bool:
        """True if what an earlier task of the same fingerprint has made is still there."""
        return not declares(task) or self._changed_outputs(task, old) == []

    def _changed_outputs(self, task: Task, old: Task) -> list[str] | None:
        recorded = None if old.result is None else old.result.snapshot
        if recorded is None:
            return None
        snapshots = self._make() if self._snapshots is None else self._snapshots
        return snapshots.changed_outputs(task, recorded)

    def reason(self, task: Task, old: Task, changed: tuple[str, ...]) -> Reason | None:
        """Why a task that declares something runs again; None if that is not why.

        Args:
            task: the task.
            old: it, when it last succeeded.
            changed: what differs beside what is declared.
        """
        found = self._found.get(task.id)
        if found is None:
            return None
        recorded = None if old.result is None else old.result.snapshot
        if recorded is None:
            return ("changed", changed) if changed else ("unrecorded", ())
        differs = (*changed, *changes(found, recorded))
        if differs:
            return "inputs", differs
        outputs = self._changed_outputs(task, old)
        return ("outputs", tuple(outputs)) if outputs else None

    def keep(self) -> None:
        """Keep what is known of files for later processes."""
        if self._snapshots is not None:
            self._snapshots.keep()
