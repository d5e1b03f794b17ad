"""Gather: make the facts of a run from what memory or a ledger knows of its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ttasks.model.call import Call, name_of
from ttasks.model.facts import AttemptFacts, RunFacts, Span, TaskFacts, WaitReason
from ttasks.model.frames import short_repr
from ttasks.model.frozen import fast_maker
from ttasks.model.groups import groups_of
from ttasks.model.notes import Notes
from ttasks.model.status import TaskStatus
from ttasks.model.task import is_service
from ttasks.model.timeline import Piece, Try, pieces, tries, up

if TYPE_CHECKING:
    from ttasks.model.redact import Redactor
    from ttasks.model.result import TaskResult
    from ttasks.model.run import Reason
    from ttasks.model.task import Task


# A run may have 100,000 tasks.
_make_task = fast_maker(TaskFacts)
_make_attempt = fast_maker(AttemptFacts)
_make_span = fast_maker(Span)


class Seen(NamedTuple):
    """What is known about a node.

    Attributes:
        task: its task, without secrets.
        after: numbers of its direct dependencies.
        notes: what the plan noted.
        is_finally, is_required: its flags.
        status, error, blocked_by, result: as of this run.
        had_ended: whether it ended before this run.
        reason: why its earlier result was not reused; None if the run did not resume.
        progress: percentage and message.
    """

    task: Task
    after: Sequence[int]
    notes: Notes
    is_finally: bool
    is_required: bool
    status: TaskStatus
    error: str | None
    blocked_by: str | None
    result: TaskResult | None
    had_ended: bool = False
    reason: Reason | None = None
    progress: tuple[float | None, str | None] = (None, None)


class Child(NamedTuple):
    """A nested run: the task that ran it, when it started, and its facts."""

    task_id: str
    start: float
    facts: RunFacts


def gather(
    head: RunFacts,
    nodes: Sequence[Seen],
    children: Iterable[Child] = (),
    redactor: Redactor | None = None,
) -> RunFacts:
    """The facts of a run: ``head`` with its tasks and those of the runs inside of it."""
    inside: dict[str, list[Child]] = {}
    for child in children:
        inside.setdefault(child.task_id, []).append(child)
    ids = [seen.task.id for seen in nodes]
    ends = [_went_on(seen.notes) for seen in nodes]
    path = (head.title,) if head.title and ids != [head.graph_id] else ()
    tasks: dict[str, TaskFacts] = {}
    for item in nodes:
        seen = item._replace(**_FRESH) if _is_to_come(item) else item
        task = seen.task
        tasks[task.id] = _task_facts(seen, ids, ends, path, redactor)
        for child in inside.get(task.id, ()):
            tasks.update(_moved(child, path))
    return replace(head, tasks=tasks)


def _went_on(notes: Notes) -> float | None:
    """When a node let its dependents go on: when it ended, or a service was ready."""
    ready = up(notes) if notes.waits else None
    return notes.ended if ready is None else ready


def with_waits(nodes: Sequence[Seen], workers: int) -> list[Seen]:
    """Add what the ready tasks of a run in another process seem to wait for.

    A ledger learns of a task only when the task starts. A task whose upstreams have all SUCCEEDED,
    or are services that are ready, waits for its group if a worker is free and another task of the
    group is running. Otherwise it waits for a worker.
    """
    running = [seen for seen in nodes if seen.status is TaskStatus.RUNNING]
    busy = {group for seen in running for group in groups_of(seen.task)}
    is_free = len(running) < workers
    found = []
    for seen in nodes:
        ends = [nodes[end] for end in seen.after]
        is_ready = all(
            end.status is TaskStatus.SUCCEEDED or up(end.notes) is not None for end in ends
        )
        if seen.notes == _NOTHING and is_ready and not seen.had_ended and _may_run(seen):
            last = max(seen.after, key=lambda end: _went_on(nodes[end].notes) or 0.0, default=None)
            moment = 0.0 if last is None else _went_on(nodes[last].notes) or 0.0
            full = next((group for group in groups_of(seen.task) if group in busy), None)
            waits = ((moment, "group", full),) if is_free and full is not None else ()
            found.append(seen._replace(notes=Notes(moment, last, waits=waits)))
        else:
            found.append(seen)
    return found


_NOTHING = Notes()


def _may_run(seen: Seen) -> bool:
    return seen.status.is_active or _is_to_come(seen)


_FRESH: dict[str, Any] = {
    "status": TaskStatus.PENDING,
    "error": None,
    "blocked_by": None,
    "result": None,
}


def _is_to_come(seen: Seen) -> bool:
    """True if a task that ended without success before this run has not been tried again yet."""
    notes = seen.notes
    return (
        notes.ended is None
        and notes.started is None
        and not seen.had_ended
        and not seen.status.is_active
        and not seen.status.is_sink
    )


def _task_facts(
    seen: Seen,
    ids: Sequence[str],
    ends: Sequence[float | None],
    path: tuple[str, ...],
    redactor: Redactor | None,
) -> TaskFacts:
    task, notes, result = seen.task, seen.notes, seen.result
    attempts, ready_at = _attempts(seen), up(notes)
    function, arguments = _call(task.payload, redactor)
    not_reused, changed = seen.reason or (None, ())
    percent, message = seen.progress
    facts = _outcome(result, redactor) if result is not None else {}
    return _make_task(
        id=task.id,
        title=task.title,
        path=path,
        type=task.type.value,
        key=task.key,
        groups=groups_of(task),
        status=seen.status,
        required=seen.is_required,
        is_finally=seen.is_finally,
        after=tuple([ids[end] for end in seen.after]),
        function=function,
        arguments=arguments,
        attempts=attempts,
        spans=() if seen.had_ended else _spans(seen, ids, ends),
        ready=notes.ready,
        started=attempts[0].started if attempts else None,
        ended=notes.ended,
        slot=attempts[0].slot if attempts else None,
        blocked_by=seen.blocked_by,
        error=seen.error,
        progress_percent=percent,
        progress_message=message,
        not_reused=not_reused,
        changed=changed,
        is_service=ready_at is not None or is_service(task),
        up=ready_at,
        **facts,
    )


def _outcome(result: TaskResult, redactor: Redactor | None) -> dict[str, Any]:
    """The facts of a task that are in its result."""
    value = result.value
    is_shown = value is not None and not (type(value) is str and value == result.output)
    files = result.output_files or {}
    return {
        "duration": result.duration,
        "failure": result.failure,
        "value": (result.shown_value or short_repr(value, redactor)) if is_shown else None,
        "output": result.output,
        "output_truncated": result.output_truncated,
        "returncode": result.returncode,
        "termination_reason": result.termination_reason,
        "reused": result.reused,
        "downstream": () if result.failure is None else result.failure.downstream,
        "log_file": files.get("stdout"),
    }


def _attempts(seen: Seen) -> tuple[AttemptFacts, ...]:
    if seen.notes.started is None:
        return ()
    found = tries(seen.notes)
    count = len(found)
    return tuple([_attempt(at, item, seen, at == count) for at, item in enumerate(found, 1)])


def _attempt(number: int, item: Try, seen: Seen, is_last: bool) -> AttemptFacts:
    """The facts of an attempt; the last one ended as the task did."""
    ready, started, ended, slot, outcome = item
    status, error, reason = TaskStatus.RUNNING, None, None
    if outcome is not None:
        status, (error, reason) = TaskStatus.FAILED, outcome
    elif is_last and not seen.status.is_active:
        status, error = seen.status, seen.error
        reason = None if seen.result is None else seen.result.termination_reason
    worker = None if is_service(seen.task) else slot
    return _make_attempt(number, ready, started, ended, status, worker, error, reason)


def _spans(seen: Seen, ids: Sequence[str], ends: Sequence[float | None]) -> tuple[Span, ...]:
    return tuple(
        [
            _make_span(piece.start, piece.end, piece.reason, _because(piece, seen, ids, ends))
            for piece in pieces(seen.notes)
        ]
    )


def _because(
    piece: Piece, seen: Seen, ids: Sequence[str], ends: Sequence[float | None]
) -> tuple[str, ...]:
    """The ids or names of what the task waited for; see `Span`."""
    match piece.reason:
        case WaitReason.GROUP:
            return (piece.detail,)
        case WaitReason.DUPLICATE:
            return (piece.detail or seen.task.id,)
        case WaitReason.DEPENDENCY:
            if seen.notes.unlocked_by is not None:
                return (ids[seen.notes.unlocked_by],)
            end = seen.notes.ended
            return tuple([ids[at] for at in seen.after if _is_missing(ends[at], end)])
    return ()


def _is_missing(upstream: float | None, end: float | None) -> bool:
    """True if an upstream had not ended when its dependent ended, or has not ended yet."""
    return upstream is None or (end is not None and upstream >= end)


def _call(payload: object, redactor: Redactor | None) -> tuple[str | None, str | None]:
    """The function of a Python task, and its arguments as written in a call."""
    if type(payload) is not Call:
        return None, None
    args, kwargs = payload.bind(_Named, late=False)
    given = [short_repr(value, redactor) for value in args]
    given += [f"{name}={short_repr(value, redactor)}" for name, value in kwargs.items()]
    return name_of(payload.func), ", ".join(given)


class _Named:
    """Stands for a task among arguments; its repr has the title."""

    def __init__(self, task: Any) -> None:
        self._title = task.title

    def __repr__(self) -> str:
        return f"<{self._title}>"


def _moved(child: Child, path: tuple[str, ...]) -> dict[str, TaskFacts]:
    """The tasks of a nested run, with the moments and the path of the outer run."""
    shift = child.start
    before = Span(0.0, shift, WaitReason.DEPENDENCY, (child.task_id,))
    return {
        key: replace(
            task,
            path=(*path, *task.path),
            attempts=tuple(_moved_attempt(item, shift) for item in task.attempts),
            spans=(
                (before, *(_moved_span(item, shift) for item in task.spans))
                if task.spans and shift > 0.0
                else task.spans
            ),
            ready=_plus(task.ready, shift),
            started=_plus(task.started, shift),
            ended=_plus(task.ended, shift),
            up=_plus(task.up, shift),
        )
        for key, task in child.facts.tasks.items()
    }


def _moved_attempt(item: AttemptFacts, shift: float) -> AttemptFacts:
    return replace(
        item,
        ready=item.ready + shift,
        started=_plus(item.started, shift),
        ended=_plus(item.ended, shift),
    )


def _moved_span(item: Span, shift: float) -> Span:
    return replace(item, start=item.start + shift, end=_plus(item.end, shift))


def _plus(moment: float | None, shift: float) -> float | None:
    return None if moment is None else moment + shift
