"""The data that the scripts of the HTML page work on, as small as it can be.

Tasks are known by their place in the list, statuses and reasons by theirs in the enumerations,
which `page/base.js` repeats. A path has the titles of nested graphs only. What most tasks lack is
in ``more``.
"""

from __future__ import annotations

from typing import Any

from ttasks.model.facts import WaitReason
from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportEntry
from ttasks.report.labels import one_line, plain, rounded, shortened, tail_of
from ttasks.report.lanes import Lane, lanes_of

_PLACES = {status: place for place, status in enumerate(TaskStatus)}
_REASONS = {reason: place for place, reason in enumerate(WaitReason)}

OUTPUT_BUDGET = 1_400_000
"""Characters of output that all tasks of a page have together."""

MESSAGE_BUDGET = 400_000
"""Characters of errors and tracebacks that all tasks of a page have together."""


def page_data(content: Content) -> dict[str, Any]:
    """What `page/base.js` reads."""
    place = {task_id: index for index, task_id in enumerate(content.entries)}
    paths: dict[tuple[str, ...], int] = {}
    types: dict[str, int] = {}
    critical = set(content.numbers.critical_path)
    room = _Room(content)
    tasks = []
    for entry in content.entries.values():
        flags = (
            (not entry.required)
            + 2 * entry.is_finally
            + 4 * entry.reused
            + 8 * (entry.id in critical)
        )
        tasks.append(
            [
                content.name(entry.id),
                paths.setdefault(entry.path[content.depth :], len(paths)),
                types.setdefault(entry.type, len(types)),
                _PLACES[entry.status],
                flags,
                [place[key] for key in entry.after if key in place],
                rounded(entry.started),
                rounded(entry.ended),
                rounded(entry.duration),
                rounded(entry.waited),
                _spans(entry, content, place),
                content.note(entry),
                _more(entry, content, place, room),
            ]
        )
    return {
        "wall": rounded(content.until),
        "workers": content.facts.workers,
        "paths": [list(path) for path in paths],
        "types": list(types),
        "tasks": tasks,
        "lanes": [_lane(lane, place) for lane in lanes_of(content)],
    }


class _Room:
    """How many characters of output and of messages each task may have."""

    def __init__(self, content: Content) -> None:
        failures = sum(entry.is_failure for entry in content.entries.values())
        others = len(content.entries) - failures
        self.message = max(MESSAGE_BUDGET // max(failures, 1), 200)
        self.failed_output = min(OUTPUT_BUDGET // max(failures, 1), 16_000)
        used = sum(
            min(len(entry.output), self.failed_output)
            for entry in content.entries.values()
            if entry.is_failure
        )
        self.output = min((OUTPUT_BUDGET - used) // max(others, 1), 4_000)


def _spans(entry: ReportEntry, content: Content, place: dict[str, int]) -> list[list[Any]]:
    """Each span as reason (-1 if running), end, and what it waited for.

    It begins where the one before ended.
    """
    spans = []
    for span in entry.spans:
        end = content.until if span.end is None else span.end
        if end <= span.start:
            continue
        part: list[Any] = [-1 if span.reason is None else _REASONS[span.reason], rounded(end)]
        if span.because:
            part.append([place.get(name, plain(name)) for name in span.because[:5]])
        spans.append(part)
    return spans


def _more(
    entry: ReportEntry, content: Content, place: dict[str, int], room: _Room
) -> dict[str, Any]:
    more: dict[str, Any] = {"why": shortened(entry.why, 600)}
    size = room.failed_output if entry.is_failure else room.output
    tail = tail_of(entry.output, 200, size) if size >= 40 else None
    if tail is not None and tail.text:
        more["output"] = tail.text
        more["cut"] = tail.is_cut or entry.output_is_cut
    if entry.status is not TaskStatus.SUCCEEDED and (entry.error or entry.failure):
        more["error"] = tail_of(entry.message, 60, min(room.message, 8_000)).text
    for name, text in (
        ("key", entry.key),
        ("function", entry.function),
        ("arguments", entry.arguments),
        ("value", entry.value),
        ("log", entry.log_file),
    ):
        if text is not None:
            more[name] = shortened(plain(text), 400)
    if entry.groups:
        more["groups"] = list(entry.groups)
    if entry.returncode is not None:
        more["returncode"] = entry.returncode
    if len(entry.attempts) > 1:
        more["attempts"] = [
            [
                _PLACES[attempt.status],
                rounded(attempt.started),
                rounded(attempt.ended),
                one_line(attempt.error or ""),
            ]
            for attempt in entry.attempts
        ]
    if entry.downstream:
        more["downstream"] = [place[key] for _, key in entry.downstream[:200] if key in place]
    if entry.blocked_by is not None and entry.blocked_by in place:
        more["blocker"] = place[entry.blocked_by]
    return more


def _lane(lane: Lane, place: dict[str, int]) -> list[Any]:
    """Name and bars: the task, the status of the attempt, start and end."""
    return [
        lane.name,
        [
            [
                place[bar.entry.id],
                _PLACES[bar.attempt.status],
                rounded(bar.start),
                rounded(bar.end),
            ]
            for bar in lane.bars
        ],
    ]
