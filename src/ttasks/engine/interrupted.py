"""Interrupted tasks: RUNNING according to a ledger, although their process is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ttasks.engine import outcome
from ttasks.engine.ending import Settlement
from ttasks.engine.scheduler import is_running_here
from ttasks.errors import GraphError, TaskExecutionError
from ttasks.model.event import TaskEventType, make_event
from ttasks.model.graph import state_of
from ttasks.model.status import TaskStatus
from ttasks.model.task import lifecycle_of
from ttasks.processes import ProcessIdentity

if TYPE_CHECKING:
    from ttasks.engine.recorder import Recorder
    from ttasks.model.graph import TaskGraph
    from ttasks.model.store import Store
    from ttasks.model.task import Task

INTERRUPTED = "Task was interrupted: its process is gone"


def check_not_running(graph: TaskGraph, store: Store, *, mine: bool) -> list[Task]:
    """Return the tasks of a graph that are RUNNING although nothing runs them.

    Args:
        graph: the graph that is about to run, or an earlier one.
        store: knows which process runs which task.
        mine: whether it is the graph that is about to run.

    Raises:
        GraphError: another run or process is running the graph or one of its tasks.
        StoreError: the store cannot be read.
    """
    if state_of(graph).active and not mine:
        raise GraphError(f"Graph {graph.title!r} of the same key is running; wait for its end")
    tasks = {task.id: task for task in graph if task.is_running}
    for task in tasks.values():
        if lifecycle_of(task).owner is not None:
            raise GraphError(
                f"Task {task.title!r} ({task.id}) is running elsewhere; wait for its end "
                "before you run this graph"
            )
    if not tasks:
        return []
    look = getattr(store, "running", None)
    if look is not None:
        for item in look():
            if item.task_id not in tasks or item.liveness.value == "gone":
                continue
            # If this process owns it but does not run it any more, its end could not be saved.
            if item.owner != ProcessIdentity.current() or is_running_here(item.task_id):
                where = f"process {item.owner.pid} on {item.owner.host!r}"
                raise GraphError(
                    f"Task {item.title!r} ({item.task_id}) is running in {where} "
                    f"({item.liveness.value}); wait for its end or end that process. If it is "
                    "gone and cannot be seen from here, save the task as FAILED"
                )
    return list(tasks.values())


def run_inside(interrupted: list[Task], graph: TaskGraph, store: Store) -> list[Task]:
    """Return copies of the tasks that interrupted tasks were running inside themselves.

    These are tasks of graphs without a key, and tasks that were executed or submitted. A nested
    graph with a key is left to its own resume, which may be under way.
    """
    runs, look = getattr(store, "runs", None), getattr(store, "running", None)
    if not interrupted or runs is None or look is None:
        return []
    mine = {task.id for task in interrupted}
    gone = {item.task_id: item.owner for item in look() if item.liveness.value == "gone"}
    owners = [owner for task_id, owner in gone.items() if task_id in mine]
    others = [item for item, owner in gone.items() if item not in mine and owner in owners]
    if not others:
        return []
    ended = (run for run in runs.list(graph=graph.id) if run.outcome == "interrupted")
    latest = next(ended, None)
    inside = {} if latest is None else latest.facts().tasks
    alone = [item for item in others if item in inside or runs.latest(graph=item) is not None]
    return [store.tasks[item] for item in alone if item in store.tasks]


def end_interrupted(
    tasks: list[Task], before: TaskGraph | None, inside: list[Task], recorder: Recorder
) -> None:
    """End the processes of interrupted tasks, and save that the tasks FAILED.

    Tasks of the earlier graph, and those ``inside`` of them, become FAILED, which is saved but not
    announced, because they are not part of this run. Tasks of the graph itself become FAILED, and
    are announced, when it runs.

    Raises:
        StoreError: a task could not be saved.
    """
    if not tasks:
        return
    from ttasks.trees import end_orphans

    end_orphans(task.id for task in (*tasks, *inside))
    earlier = [] if before is None else [task for task in tasks if task in before]
    for task in (*earlier, *inside):
        now = datetime.now(UTC)
        error = TaskExecutionError(INTERRUPTED)
        timing = outcome.Timing(now, now, 0.0)
        result = outcome.failure(task.id, error, timing, attempt=0, reason="interrupted")
        life, owner = lifecycle_of(task), Settlement()
        previous = life.settle(owner, TaskStatus.FAILED, INTERRUPTED, result)
        if previous is None:
            continue
        try:
            recorder.write(
                task,
                make_event(
                    TaskEventType.FAILED,
                    task.id,
                    task,
                    now,
                    previous,
                    TaskStatus.FAILED,
                    INTERRUPTED,
                ),
            )
        finally:
            life.release(owner)
