"""RunFacts: what a run did and why, as plain data; the one read model.

Made from a live graph, a finished one or a ledger. Reports, the console and the command line are
made from nothing else. All moments are float seconds since the start of the run, by the clock of
the executor.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ttasks.model.checks import wrong_type
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
    """A stretch of time in which a task ran, or waited for one thing.

    Attributes:
        start: a moment.
        end: a moment; None while it goes on.
        reason: what the task waited for; None if it ran.
        because: ids of tasks for DEPENDENCY (the last that it waited for) and DUPLICATE, names
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
        slot: number of the worker, from 1; 0 for the supervisor; None for a service.
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
        progress_percent, progress_message: latest report, if an attempt runs in this process.
        downstream: title and id of each task that did not run because of this one.
        log_file: path of a file with all of its output; None if there is none.
        not_reused: why it did not take over an earlier result: "first", "unsuccessful", "changed",
            "inputs", "outputs", "unrecorded" (an input changed while it last ran), "upstream" or
            "value"; None where it was not asked to. It is asked in a run with ``resume=True``; a
            task that declares inputs, in every run of a graph with a key.
        changed: for "changed" the parts of the fingerprint that differ; for "inputs" what has
            changed of what the task declares, such as "changed src/a.c", "new b.c" or "env CC"; for
            "outputs" which files are not as it left them; for "upstream" the titles of the
            upstreams that ran again.
        is_service: whether it stays until nothing needs it.
        up: when a service was ready; None before, and for any other task.
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
    is_service: bool = False
    up: float | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a run did.

    Attributes:
        id: of the run, a uuid4 as str.
        number: from 1, among the runs of the graph key; without a key, of the graph or task.
        graph_id: id of the graph, or of the only task.
        graph_key: key of the graph.
        title: of the graph, or the task.
        started_at: aware UTC; moment 0.0.
        ended_at: aware UTC; None while the run goes on.
        duration: seconds; None while it goes on.
        outcome: "running", "ok", "failed", "cancelled", "timeout" or "interrupted".
        error: what ended the run as a whole before its time; None if nothing did.
        host, pid: where it ran.
        workers: the maximum number of worker threads.
        options: the other arguments of `TaskGraph.run`.
        tasks: by id, in insertion order; tasks of nested graphs come after the task that runs them.
        elapsed: ``duration``, or seconds so far.
        parent_id: id of the run that this one is part of; None if there is none.
        waiting_for: what the run waits for before it begins, in words: another run that has the key
            of its graph. None once it has begun.
        counts: the number of tasks of its graph, not of nested ones, by the value of their status;
            empty until the run has ended, and for the run of a single task.
        failed: ids of the first 20 of these that FAILED, in insertion order.
        schedule: name of the schedule that started it; None if none did.
        slot: the moment of that schedule which it is for, aware UTC; None without a schedule.
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
    elapsed: float = 0.0
    parent_id: str | None = None
    waiting_for: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    schedule: str | None = None
    slot: datetime | None = None

    @property
    def ok(self) -> bool:
        """True if the outcome is "ok"."""
        return self.outcome == "ok"

    def find(self, task: object) -> TaskFacts:
        """Return the facts of a task, given by itself or by its id, key or title.

        Raises:
            TypeError: it is neither a task nor a str.
            LookupError: the run has no such task (the message suggests similar names), or several
                with that title.
        """
        name = task if isinstance(task, str) else getattr(task, "id", None)
        if not isinstance(name, str):
            raise wrong_type("task", task, "a task, or its id, key or title")
        if name in self.tasks:
            return self.tasks[name]
        keyed = [item for item in self.tasks.values() if item.key == name]
        found = keyed or [item for item in self.tasks.values() if item.title == name]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(item.id for item in found[:5])
            raise LookupError(f"{len(found)} tasks of the run are called {name!r}: {ids}")
        from difflib import get_close_matches

        names = {item.key or item.title: None for item in self.tasks.values()}
        near = get_close_matches(name, list(names))
        hint = f"; did you mean {_and(map(repr, near), 'or')}?" if near else ""
        raise LookupError(f"the run has no task {name!r}{hint}")

    def why(self, task: object) -> str:
        """Say in one sentence why a task waits, ran, did not run or failed.

        Args:
            task: as for `find`.

        Raises:
            TypeError, LookupError: as for `find`.
        """
        return _Why(self, self.find(task), {}).sentence()

    def whys(self) -> dict[str, str]:
        """Return the sentence of `why` for every task, by id, in linear time."""
        causes: _Causes = {}
        return {task.id: _Why(self, task, causes).sentence() for task in self.tasks.values()}


_Causes = dict[str, tuple[TaskFacts, int]]
_NAMED = 5  # how many blockers of a longer chain are named


class _Why:
    """Makes the sentence about one task; the sentences of a run share ``causes``."""

    def __init__(self, run: RunFacts, task: TaskFacts, causes: _Causes) -> None:
        self._run = run
        self._task = task
        self._causes = causes
        self._name = repr(task.title)

    def sentence(self) -> str:
        task, status = self._task, self._task.status
        if task.reused:
            return f"{self._name} did not run: it took over the result of an equal task."
        if not task.attempts and task.ended is None and not task.spans and status.is_sink:
            became = _BECAME.get(status, status.value)
            return f"{self._name} did not run: it {became} before the run began."
        if task.ended is None and (status.is_active or self._waits()):
            return self._live()
        if status is TaskStatus.FAILED:
            return self._failed()
        if status is TaskStatus.SUCCEEDED:
            return f"{self._name} ran {self._cause()}{self._tries()}."
        if status is TaskStatus.CANCELLED and task.attempts:
            last = task.attempts[-1]
            if last.status is TaskStatus.FAILED:
                stop = "" if task.failure is None else f": {_plain(task.failure.message)}"
                return (
                    f"{self._name} was cancelled while it waited for attempt {last.number + 1}"
                    f"{stop}."
                )
            return f"{self._name} was cancelled while it ran: {_plain(task.error)}."
        return f"{self._name} did not run: {self._obstacle()}."

    def _waits(self) -> bool:
        return bool(self._task.spans) and self._task.spans[-1].end is None

    def _live(self) -> str:
        """Why it waits, or why it is running."""
        span = self._task.spans[-1] if self._task.spans else Span(0.0, None)
        if self._run.outcome != "running":
            ended = _RUN_ENDED[self._run.outcome]
            verb = "end" if self._task.attempts else "start"
            return f"{self._name} did not {verb} before the run {ended}."
        if self._run.waiting_for is not None:
            return f"{self._name} waits for {self._run.waiting_for}."
        if span.reason is None:
            number = len(self._task.attempts)
            ready = ""
            if self._task.is_service:
                ready = ", and is not ready yet" if self._task.up is None else ", and is ready"
            cause = f"{self._cause()}{self._tries()}"
            return f"{self._name} is running, attempt {number}, {cause}{ready}."
        return f"{self._name} waits for {self._wanted(span)}."

    def _wanted(self, span: Span) -> str:
        """What a span waits for."""
        match span.reason:
            case WaitReason.DEPENDENCY:
                return self._names(span.because, "to be ready") or "its dependencies"
            case WaitReason.GROUP:
                return f"a place in the group {_and(map(repr, span.because))}"
            case WaitReason.RETRY:
                last = self._task.attempts[-1]
                return f"attempt {last.number + 1}: attempt {last.number} failed ({last.error})"
            case WaitReason.DUPLICATE if span.because != (self._task.id,):
                return f"{self._names(span.because)}, which does the same work"
            case WaitReason.DUPLICATE:
                return "another run, which executes it"
        return f"a free worker (the run has {self._run.workers})"

    def _cause(self) -> str:
        """Why it ran."""
        task = self._task
        match task.not_reused:
            case "first":
                return "because there was no earlier result to reuse"
            case "unsuccessful":
                return "because it did not succeed in the previous run"
            case "changed":
                return f"because its {_and(task.changed)} changed since it last succeeded"
            case "inputs" | "outputs":
                what = ", ".join(task.changed)
                return f"because its {task.not_reused} changed since it last succeeded: {what}"
            case "unrecorded":
                return "because its inputs changed while it last ran"
            case "upstream":
                names = _and(map(repr, task.changed))
                results = "result" if len(task.changed) == 1 else "results"
                was = "was" if len(task.changed) == 1 else "were"
                return f"because the {results} of {names} {was} not reused"
            case "value":
                return "because its earlier value was not stored"
        ends = [self._run.tasks[end] for end in task.after if end in self._run.tasks]
        bad = [end for end in ends if end.status is not TaskStatus.SUCCEEDED and end.up is None]
        if bad:
            states = [f"{end.title!r} {_BECAME.get(end.status, end.status.value)}" for end in bad]
            return f"{'to clean up after' if task.is_finally else 'although'} {_and(states)}"
        if ends:
            last = self._run.tasks.get(next(iter(self._last_missing()), ""))
            if last is None:
                return "after its dependencies"
            return f"after {last.title!r} {'ended' if last.up is None else 'was ready'}"
        return "because it has no dependencies"

    def _last_missing(self) -> tuple[str, ...]:
        spans = self._task.spans
        return spans[0].because if spans and spans[0].reason is WaitReason.DEPENDENCY else ()

    def _tries(self) -> str:
        """Why there is another attempt."""
        failed = [item for item in self._task.attempts if item.status is TaskStatus.FAILED]
        if not failed:
            return ""
        last = failed[-1]
        return f", again because attempt {last.number} failed ({last.error})"

    def _failed(self) -> str:
        task = self._task
        if not task.attempts:
            return f"{self._name} failed before it started: {_plain(task.error)}."
        number = len(task.attempts)
        which = "" if number == 1 else f" in the last of {number} attempts"
        reason = task.termination_reason or "handler"
        text = _REASONS.get(reason, "")
        return f"{self._name} failed{which}{text}: {_plain(task.error)}."

    def _obstacle(self) -> str:
        """What kept it from running, back to the first cause."""
        root, steps = self._first_cause()
        if not steps:
            return _plain(self._task.error).removeprefix("skipped: ")
        chain = [self._task]
        while len(chain) <= min(steps, _NAMED):
            chain.append(self._run.tasks[chain[-1].blocked_by or ""])
        through = f"it is blocked by {chain[1].title!r}"
        if steps > 1:
            names = [repr(item.title) for item in chain[2:]]
            more = [f"{steps - _NAMED} more"] if steps > _NAMED else []
            through += f", which is blocked by {_and([*names, *more])}"
        failure = f" ({_plain(root.error)})" if root.error else ""
        return f"{through}, which {_BECAME.get(root.status, root.status.value)}{failure}"

    def _first_cause(self) -> tuple[TaskFacts, int]:
        """The task at the end of the chain of blockers, and how many steps it is away."""
        causes, task = self._causes, self._task
        walked: dict[str, None] = {}
        while task.id not in causes:
            walked[task.id] = None
            blocker = self._run.tasks.get(task.blocked_by or "")
            if blocker is None or blocker.id in walked:
                causes[task.id] = task, 0
            else:
                task = blocker
        root, steps = causes[task.id]
        for key in reversed(walked):
            if key not in causes:
                steps += 1
                causes[key] = root, steps
        return causes[self._task.id]

    def _names(self, ids: Iterable[str], of_services: str = "") -> str:
        return _and(self._named(item, of_services) for item in ids)

    def _named(self, task_id: str, of_services: str) -> str:
        task = self._run.tasks.get(task_id)
        if task is None:
            return task_id
        is_waited_for = task.is_service and of_services and task.ended is None
        return f"{task.title!r} {of_services}" if is_waited_for else repr(task.title)


_REASONS = {
    "timeout": " because it timed out",
    "interrupted": " because it was interrupted",
    "circuit_open": " because its circuit breaker was open",
    "rejected": " because a guard rejected it",
}
_RUN_ENDED = {
    "ok": "succeeded",
    "failed": "failed",
    "cancelled": "was cancelled",
    "timeout": "timed out",
    "interrupted": "was interrupted",
}
_BECAME = {
    TaskStatus.BLOCKED: "was blocked",
    TaskStatus.CANCELLED: "was cancelled",
    TaskStatus.SKIPPED: "was skipped",
}


def _plain(text: str | None) -> str:
    """The first line of a message, without the full stop."""
    lines = (text or "").strip().splitlines()
    return lines[0].rstrip(".") if lines else "no reason was given"


def _and(names: Iterable[str], word: str = "and", most: int = 5) -> str:
    """The names joined for a sentence; only the first few of many."""
    items = list(names)
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"
