"""RunFacts: what a run did and why, as plain data; the one read model.

Made from a live graph, a finished one or a ledger. Reports, the console and the command line are
made from nothing else. All moments are float seconds since the start of the run, by the clock of
the executor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ttasks.model.result import Failure
from ttasks.model.status import TaskStatus


class WaitReason(StrEnum):
    """What a task waited for. Values are the lower-case names."""

    DEPENDENCY = "dependency"
    WORKER = "worker"
    GROUP = "group"
    RETRY = "retry"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of the time of a task, in which it ran or waited for one thing.

    Attributes:
        start: a moment.
        end: a moment; None while it goes on.
        reason: what the task waited for; None if it ran.
        because: ids of tasks for DEPENDENCY (those that were missing last) and DUPLICATE, names
            of groups for GROUP, else empty.
    """

    start: float
    end: float | None
    reason: WaitReason | None = None
    because: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One try of a task.

    Attributes:
        number: from 1.
        ready: when it could have started.
        started: when a worker took it.
        ended: when its outcome was known; None while it runs.
        status: RUNNING, SUCCEEDED, FAILED or CANCELLED.
        slot: number of the worker, from 1; 0 for the supervisor.
        error: message of a failure or cancellation.
        termination_reason: see `TaskResult`.
    """

    number: int
    ready: float
    started: float | None = None
    ended: float | None = None
    status: TaskStatus = TaskStatus.RUNNING
    slot: int | None = None
    error: str | None = None
    termination_reason: str | None = None


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What became of a task in a run.

    Attributes:
        id, title, type, key, status, error, blocked_by: see `Task`.
        path: titles of the graphs around it, outermost first.
        groups: its concurrency groups.
        required, is_finally: its flags in the graph.
        after: ids of its direct dependencies.
        function: qualified name of the function of a Python task, else None.
        arguments: arguments of a Python task as in a call; None for other tasks.
        attempts: oldest first; none if it never started.
        spans: without gap or overlap from the start of the run to the end of the task, or to the
            moment of these facts. Empty if the task had ended before the run.
        ready: when it could first have started; None if it could not yet.
        started, slot: of the first attempt.
        ended: when its end was known; None before, or if it had ended before the run.
        duration: seconds of the last attempt; None if it never ended one.
        failure, output, output_truncated, returncode, termination_reason, reused: see `TaskResult`.
        value: repr of the value of a Python or custom task, cut if it is long; None without one.
        progress_percent, progress_message: latest report of an attempt that runs in this process.
        downstream: title and id of each task that did not run because of this one.
        log_file: path of a file with all of its output; None if there is none.
        not_reused: why a run with ``resume=True`` did not take over an earlier result: "first",
            "unsuccessful", "changed", "upstream" or "value"; None where it was not asked to.
        changed: for "changed" the parts of the fingerprint that differ, for "upstream" the titles
            of the upstreams that ran again.
    """

    id: str
    title: str
    path: tuple[str, ...] = ()
    type: str = "bash"
    key: str | None = None
    groups: tuple[str, ...] = ()
    status: TaskStatus = TaskStatus.PENDING
    required: bool = True
    is_finally: bool = False
    after: tuple[str, ...] = ()
    function: str | None = None
    arguments: str | None = None
    attempts: tuple[AttemptFacts, ...] = ()
    spans: tuple[Span, ...] = ()
    ready: float | None = None
    started: float | None = None
    ended: float | None = None
    slot: int | None = None
    duration: float | None = None
    blocked_by: str | None = None
    error: str | None = None
    failure: Failure | None = None
    value: str | None = None
    output: str = ""
    output_truncated: bool = False
    returncode: int | None = None
    termination_reason: str | None = None
    reused: bool = False
    progress_percent: float | None = None
    progress_message: str | None = None
    downstream: tuple[tuple[str, str], ...] = ()
    log_file: str | None = None
    not_reused: str | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run did.

    Attributes:
        id: of the run, a uuid4 as str.
        number: of the run among those of its graph key (or graph, or task, without one), from 1.
        graph_id: id of the graph; of the task for a run of one.
        graph_key: key of the graph.
        title: of the graph, or the task.
        started_at: aware UTC; moment 0.0.
        ended_at: aware UTC; None while the run goes on.
        duration: seconds; None while it goes on.
        outcome: "running", "ok", "failed", "cancelled", "timeout" or "interrupted".
        error: what ended the run as a whole before its time; None if nothing did.
        host, pid: where it ran.
        workers: threads at most.
        options: the other arguments of `TaskGraph.run`.
        tasks: by id, in insertion order; tasks of nested graphs come after the task that runs them.
        schedule, slot: of the schedule that started it; None if there was none.
        elapsed: ``duration``, or seconds so far.
        parent_id: id of the run that this one is part of; None if there is none.
    """

    id: str
    number: int
    graph_id: str
    graph_key: str | None
    title: str
    started_at: datetime
    ended_at: datetime | None = None
    duration: float | None = None
    outcome: str = "running"
    error: str | None = None
    host: str = ""
    pid: int = 0
    workers: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, TaskFacts] = field(default_factory=dict)
    schedule: str | None = None
    slot: datetime | None = None
    elapsed: float = 0.0
    parent_id: str | None = None
