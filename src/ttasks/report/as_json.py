"""The report as JSON, as `report.schema.json` beside this file describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ttasks.model.facts import Span
from ttasks.model.result import Failure
from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportAttempt, ReportEntry, waits_of
from ttasks.report.labels import encodable, rounded

VERSION = 1
"""Of the format. It changes when something is removed or gets another meaning."""

_STATUSES = {status: status.value for status in TaskStatus}  # faster than `value`

_FAILURE = [item.name for item in fields(Failure) if item.name != "downstream"]

EXIT_CODES = {"ok": 0, "timeout": 4}
"""Exit code by outcome of a run; 1 for all others."""


def to_json(content: Content) -> str:
    """See `RunReport.to_json`."""
    return encodable(json.dumps(document(content), ensure_ascii=False, default=str)) + "\n"


def document(content: Content) -> dict[str, Any]:
    """The report as dicts, lists, strs, numbers, bools and None."""
    return {
        "format": "ttasks-report",
        "version": VERSION,
        "run": _run(content),
        "numbers": _numbers(content),
        "tasks": [_task(entry, content.until) for entry in content.entries.values()],
    }


def _run(content: Content) -> dict[str, Any]:
    facts = content.facts
    return {
        "id": facts.id,
        "number": facts.number,
        "graph_id": facts.graph_id,
        "graph_key": facts.graph_key,
        "parent_id": facts.parent_id,
        "title": facts.title,
        "outcome": facts.outcome,
        "ok": facts.outcome == "ok",
        "exit_code": EXIT_CODES.get(facts.outcome, 1),
        "error": facts.error,
        "started_at": facts.started_at.isoformat(),
        "ended_at": None if facts.ended_at is None else facts.ended_at.isoformat(),
        "duration": rounded(facts.duration),
        "elapsed": rounded(facts.elapsed),
        "host": facts.host,
        "pid": facts.pid,
        "workers": facts.workers,
        "options": dict(facts.options),
        "schedule": facts.schedule,
        "slot": None if facts.slot is None else facts.slot.isoformat(),
    }


def _numbers(content: Content) -> dict[str, Any]:
    numbers = content.numbers
    return {
        "tasks": len(content.facts.tasks),
        "counts": {status.value: number for status, number in content.counts()},
        "reused": numbers.reused,
        "wall": rounded(numbers.wall),
        "work": rounded(numbers.work),
        "utilisation": rounded(numbers.utilisation),
        "waited": {reason.value: rounded(length) for reason, length in numbers.waited.items()},
        "critical_path": list(numbers.critical_path),
        "critical_share": rounded(numbers.critical_share),
        "bound": rounded(numbers.bound),
        "savings": [
            {"task_id": item.task_id, "seconds": rounded(item.seconds)} for item in numbers.savings
        ],
        "slower": [
            {
                "task_id": item.task_id,
                "seconds": rounded(item.seconds),
                "median": rounded(item.median),
            }
            for item in numbers.slower
        ],
    }


def _task(entry: ReportEntry, until: float) -> dict[str, Any]:
    return {
        "id": entry.id,
        "title": entry.title,
        "path": list(entry.path),
        "type": entry.type,
        "key": entry.key,
        "groups": list(entry.groups),
        "function": entry.function,
        "arguments": entry.arguments,
        "status": _STATUSES[entry.status],
        "required": entry.required,
        "finally": entry.is_finally,
        "after": list(entry.after),
        "attempts": [_attempt(attempt, until) for attempt in entry.attempts],
        "spans": [_span(span) for span in entry.spans],
        "started": rounded(entry.started),
        "ended": rounded(entry.ended),
        "duration": rounded(entry.duration),
        "waited": rounded(entry.waited),
        "value": entry.value,
        "error": entry.error,
        "failure": None if entry.failure is None else _failure(entry.failure),
        "output": entry.output,
        "output_is_cut": entry.output_is_cut,
        "returncode": entry.returncode,
        "termination_reason": entry.termination_reason,
        "reused": entry.reused,
        "blocked_by": entry.blocked_by,
        "downstream": [{"title": title, "id": key} for title, key in entry.downstream],
        "log_file": entry.log_file,
        "why": entry.why,
        "service": entry.is_service,
        "up": rounded(entry.up),
    }


def _attempt(attempt: ReportAttempt, until: float) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "status": _STATUSES[attempt.status],
        "started": rounded(attempt.started),
        "ended": rounded(attempt.ended),
        "duration": rounded(attempt.duration),
        "waited": rounded(sum([length for _, length in waits_of(attempt.waits, until)])),
        "slot": attempt.slot,
        "error": attempt.error,
        "termination_reason": attempt.termination_reason,
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "start": rounded(span.start),
        "end": rounded(span.end),
        "state": span.reason or "running",
        "because": list(span.because),
    }


def _failure(failure: Failure) -> dict[str, Any]:
    """All of a failure but ``downstream``, which is a member of the task."""
    found: dict[str, Any] = {}
    for name in _FAILURE:
        value = getattr(failure, name)
        found[name] = dict(value) if isinstance(value, Mapping) else value
    return found
