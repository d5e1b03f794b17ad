"""The report in Chrome's trace format, which Perfetto and chrome://tracing open.

Each lane of the run is a thread with one slice per attempt. Arrows lead from the last task that an
attempt waited for, and a counter shows how many workers were in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ttasks.model.facts import WaitReason
from ttasks.report.content import Content
from ttasks.report.entries import waits_of
from ttasks.report.labels import encodable
from ttasks.report.lanes import Bar, lanes_of

PID = 1


def to_trace(content: Content) -> str:
    """See `RunReport.to_trace`."""
    document = {
        "traceEvents": list(_events(content)),
        "displayTimeUnit": "ms",
        "otherData": {
            "run": content.facts.id,
            "title": content.title,
            "started_at": content.facts.started_at.isoformat(),
            "outcome": content.facts.outcome,
            **({"origin": content.origin} if content.origin else {}),
        },
    }
    return encodable(json.dumps(document, ensure_ascii=False)) + "\n"


def _events(content: Content) -> Iterator[dict[str, Any]]:
    yield _metadata("process_name", 0, {"name": f"{content.title} (run {content.facts.number})"})
    last: dict[str, tuple[int, Bar]] = {}
    lanes = lanes_of(content)
    for tid, lane in enumerate(lanes, start=1):
        yield _metadata("thread_name", tid, {"name": lane.name})
        yield _metadata("thread_sort_index", tid, {"sort_index": tid})
        for bar in lane.bars:
            yield _slice(bar, tid, content)
            last[bar.entry.id] = (tid, bar)
    number = 0
    for tid, lane in enumerate(lanes, start=1):
        for bar in lane.bars:
            for upstream in _unlockers(bar):
                if upstream in last and last[upstream][1].end <= bar.start:
                    number += 1
                    yield from _arrow(number, last[upstream], (tid, bar))
    changes: dict[int, int] = {}
    for lane in lanes:
        for bar in lane.bars:
            for moment, change in ((bar.start, 1), (bar.end, -1)):
                changes[_nanoseconds(moment)] = changes.get(_nanoseconds(moment), 0) + change
    in_use = 0
    for moment in sorted(changes):
        in_use += changes[moment]
        yield {
            "ph": "C",
            "name": "running",
            "pid": PID,
            "tid": 0,
            "ts": moment / 1000,
            "args": {"tasks": in_use},
        }


def _slice(bar: Bar, tid: int, content: Content) -> dict[str, Any]:
    entry, attempt = bar.entry, bar.attempt
    start, end = _nanoseconds(bar.start), _nanoseconds(bar.end)
    arguments: dict[str, Any] = {
        "status": attempt.status.value,
        "attempt": attempt.number,
        "type": entry.type,
        "id": entry.id,
    }
    for span, length in waits_of(attempt.waits, content.until):
        name = f"waited for {content.reason(span)}"
        arguments[name] = arguments.get(name, 0.0) + round(length, 6)
    if attempt.error:
        arguments["error"] = attempt.error
    return {
        "ph": "X",
        "name": content.name(entry.id),
        "cat": attempt.status.value,
        "pid": PID,
        "tid": tid,
        "ts": start / 1000,
        "dur": (end - start) / 1000,
        "args": arguments,
    }


def _unlockers(bar: Bar) -> tuple[str, ...]:
    """Ids of what the attempt waited for last, if that was a dependency."""
    spans = [span for span in bar.attempt.waits if span.reason is WaitReason.DEPENDENCY]
    return spans[-1].because if spans else ()


def _arrow(
    number: int, origin: tuple[int, Bar], target: tuple[int, Bar]
) -> Iterator[dict[str, Any]]:
    common = {"name": "unlocks", "cat": "dependency", "id": number, "pid": PID}
    tid, bar = origin
    # It has to begin inside of a slice.
    start, end = _nanoseconds(bar.start), _nanoseconds(bar.end)
    yield {**common, "ph": "s", "tid": tid, "ts": max(start, end - 1) / 1000}
    tid, bar = target
    yield {**common, "ph": "f", "bp": "e", "tid": tid, "ts": _nanoseconds(bar.start) / 1000}


def _metadata(name: str, tid: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "name": name, "pid": PID, "tid": tid, "args": arguments}


def _nanoseconds(moment: float) -> int:
    """Nanoseconds, so that equal moments stay equal and no slice overlaps the next by rounding."""
    return round(moment * 1e9)
