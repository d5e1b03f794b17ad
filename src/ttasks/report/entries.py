"""ReportEntry: one task of a report, made from its facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ttasks.model.facts import RunFacts, Span, TaskFacts
from ttasks.model.result import Failure
from ttasks.model.status import TaskStatus
from ttasks.report.labels import plain, tail_of

TAIL_LINES = 200
"""Lines of output that a report keeps of a task at most."""

TAIL_CHARACTERS = 16_000
"""Characters of output that a report keeps of a task at most."""

WHY_CHARACTERS = 1_000
"""Characters that a report keeps of the sentence that says why."""

TITLE_CHARACTERS = 300
"""Characters that a report keeps of a title at most."""


@dataclass(frozen=True, slots=True)
class ReportAttempt:
    """One try of a task.

    Attributes:
        number: from 1.
        status: what became of it.
        started, ended: seconds since the start of the run; None if it has not come to that.
        duration: seconds from its start to its end; None if it has not ended.
        slot: number of the worker that ran it; None if it needed no worker.
        waits: what it waited for before it started, in order.
        error: message of a failure.
        termination_reason: why it ended, as in `TaskResult`.
    """

    number: int
    status: TaskStatus
    started: float | None
    ended: float | None
    duration: float | None
    slot: int | None
    waits: tuple[Span, ...]
    error: str | None
    termination_reason: str | None


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """What a report says of one task.

    Moments are seconds since the start of the run. All text is free of escape sequences and control
    characters.

    Attributes:
        id: of the task.
        title: of the task; only its beginning if it is very long.
        path: titles of the graphs around the task, outermost first.
        type: name of its kind.
        key: its key, or None.
        groups: names of its concurrency groups.
        function: qualified name of the function of a Python task, or None.
        arguments: repr of the arguments of a Python task, or None.
        status: of the task.
        required: whether its failure makes the run fail.
        is_finally: whether it runs whatever became of the others.
        after: ids of its direct dependencies.
        attempts: its tries, in order; empty if it never started.
        spans: what it waited for or that it was running, from the start of the run to its end.
        started: when its first attempt started, or None.
        ended: when it ended, or None.
        duration: seconds of its last attempt, or None.
        waited: seconds in which it was not running, before its end.
        value: repr of the value, or None.
        error: why it did not succeed, or None.
        failure: details of a failure, or None.
        output: the end of its output.
        output_is_cut: True if ``output`` leaves something out.
        returncode: exit code of a command, or None.
        termination_reason: as in `TaskResult`.
        reused: True if the result was taken over from an earlier task.
        blocked_by: id of the task that kept it from running, or None.
        downstream: titles and ids of the tasks that did not run because of this one.
        log_file: path of the file with all of its output, or None.
        why: one sentence: why it waits, ran, did not run, or failed.
        is_service: whether it stays until nothing needs it.
        up: when a service was ready, or None.
    """

    id: str
    title: str
    path: tuple[str, ...]
    type: str
    key: str | None
    groups: tuple[str, ...]
    function: str | None
    arguments: str | None
    status: TaskStatus
    required: bool
    is_finally: bool
    after: tuple[str, ...]
    attempts: tuple[ReportAttempt, ...]
    spans: tuple[Span, ...]
    started: float | None
    ended: float | None
    duration: float | None
    waited: float
    value: str | None
    error: str | None
    failure: Failure | None
    output: str
    output_is_cut: bool
    returncode: int | None
    termination_reason: str | None
    reused: bool
    blocked_by: str | None
    downstream: tuple[tuple[str, str], ...]
    log_file: str | None
    why: str
    is_service: bool = False
    up: float | None = None

    @property
    def is_failure(self) -> bool:
        """True if the task is FAILED, CANCELLED or BLOCKED."""
        return self.status.is_bad

    @property
    def message(self) -> str:
        """What went wrong: the traceback of a Python task, else the error, else ``why``."""
        if self.type == "python" and self.failure is not None and self.failure.traceback:
            return self.failure.traceback
        return self.error or self.why


def entries_of(facts: RunFacts) -> dict[str, ReportEntry]:
    """An entry for each task of a run by its id, in their order."""
    whys = facts.whys()
    return {task.id: _entry(task, facts, whys[task.id]) for task in facts.tasks.values()}


def waits_of(spans: Iterable[Span], until: float) -> Iterator[tuple[Span, float]]:
    """Each wait that took any time, with its seconds; one that goes on ends ``until``."""
    for span in spans:
        if span.reason is not None:
            length = (until if span.end is None else span.end) - span.start
            if length > 0:
                yield span, length


def _entry(task: TaskFacts, facts: RunFacts, why: str) -> ReportEntry:
    tail = tail_of(task.output, TAIL_LINES, TAIL_CHARACTERS)
    function, arguments = _call(task)
    return ReportEntry(
        task.id,
        plain(task.title[:TITLE_CHARACTERS]) if task.title else task.id,
        tuple([plain(title) for title in task.path]),
        plain(task.type),
        None if task.key is None else plain(task.key),
        tuple([plain(name) for name in task.groups]),
        None if function is None else plain(function),
        None if arguments is None else plain(arguments),
        task.status,
        task.required,
        task.is_finally,
        task.after,
        _attempts(task),
        task.spans,
        task.started,
        task.ended,
        task.duration,
        sum([length for _, length in waits_of(task.spans, facts.elapsed)]),
        None if task.value is None else plain(task.value),
        None if task.error is None else plain(task.error),
        None if task.failure is None else _failure(task.failure),
        tail.text,
        tail.is_cut or task.output_truncated,
        task.returncode,
        task.termination_reason,
        task.reused,
        task.blocked_by,
        tuple([(plain(title), key) for title, key in task.downstream]),
        None if task.log_file is None else plain(task.log_file),
        plain(why[:WHY_CHARACTERS]),
        task.is_service,
        task.up,
    )


def _call(task: TaskFacts) -> tuple[str | None, str | None]:
    """Function and arguments; a ledger may know them only by what the task failed of."""
    failure = task.failure
    if task.function is not None or failure is None or not failure.function:
        return task.function, task.arguments
    named = [f"{name}={text}" for name, text in failure.kwargs.items()]
    return failure.function, ", ".join([*failure.args, *named])


def _failure(failure: Failure) -> Failure:
    variables = {plain(name): plain(text) for name, text in failure.locals.items()}
    return replace(
        failure,
        message=plain(failure.message),
        traceback=plain(failure.traceback),
        locals=variables,
        args=tuple([plain(text) for text in failure.args]),
        kwargs={plain(name): plain(text) for name, text in failure.kwargs.items()},
    )


def _attempts(task: TaskFacts) -> tuple[ReportAttempt, ...]:
    attempts = []
    begin = 0.0
    for attempt in task.attempts:
        end = attempt.ready if attempt.started is None else attempt.started
        waits = tuple([s for s in task.spans if s.reason is not None and begin <= s.start < end])
        duration = None
        if attempt.started is not None and attempt.ended is not None:
            duration = attempt.ended - attempt.started
            begin = attempt.ended
        attempts.append(
            ReportAttempt(
                attempt.number,
                attempt.status,
                attempt.started,
                attempt.ended,
                duration,
                attempt.slot or None,
                waits,
                None if attempt.error is None else plain(attempt.error),
                attempt.termination_reason,
            )
        )
    return tuple(attempts)
