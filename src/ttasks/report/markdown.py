"""The report as Markdown, for the summary of a job on GitHub, a comment or a chat.

If the report exceeds the limit, parts are left out step by step: first passed tasks, then tails of
output, then the graph, then other rows of the tables. What is left out is counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ttasks.model.checks import check_int
from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportEntry
from ttasks.report.labels import OUTCOMES, SYMBOLS, count, one_line, seconds, shortened, tail_of
from ttasks.report.mermaid import to_mermaid

LIMIT_BYTES = 900_000
"""GitHub takes a summary of a mebibyte."""

LEAST_BYTES = 1_000
GRAPH_TASKS = 60
TAIL_LINES = 60
_TAIL_CHARACTERS = 8_000

_ICONS = {
    TaskStatus.SUCCEEDED: "✅",
    TaskStatus.FAILED: "❌",
    TaskStatus.CANCELLED: "🚫",
    TaskStatus.BLOCKED: "⛔",
    TaskStatus.SKIPPED: "⏭️",
    TaskStatus.RUNNING: "▶️",
    TaskStatus.PENDING: "⏳",
}
_OUTCOME_ICONS = {"ok": "✅", "running": "▶️", "timeout": "⏰", "cancelled": "🚫"}
# What Markdown or HTML reads; with an @ GitHub would notify people.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&@$])")
_FENCES = re.compile("`{3,}")


@dataclass(frozen=True, slots=True)
class _Room:
    """How much of each part may be written."""

    passed: int  # rows of tasks that succeeded
    tail_lines: int
    graph: bool
    others: int  # rows and sections of tasks that did not succeed


def to_markdown(content: Content, limit_bytes: int = LIMIT_BYTES) -> str:
    """See `RunReport.to_markdown`."""
    check_int("limit_bytes", limit_bytes, least=LEAST_BYTES)
    rows = [_row(entry, content) for entry in content.entries.values()]
    passed = sum(entry.status is TaskStatus.SUCCEEDED for entry in content.entries.values())
    others = len(rows) - passed

    def written(room: _Room) -> str:
        return _page(content, rows, room)

    def fits_with(room_of: Callable[[int], _Room], number: int) -> bool:
        return len(written(room_of(number)).encode("utf-8", "replace")) <= limit_bytes

    steps: tuple[tuple[Callable[[int], _Room], int], ...] = (
        (lambda n: _Room(n, TAIL_LINES, True, others), passed),
        (lambda n: _Room(0, n, True, others), TAIL_LINES),
        (lambda n: _Room(0, 0, False, n), others),
    )
    for room_of, most in steps:
        best = _greatest(most, partial(fits_with, room_of))
        if best is not None:
            return written(room_of(best))
    # Only titles can be as long as that.
    return shortened(f"# {content.headline}", limit_bytes // 4) + "\n"


def _greatest(most: int, fits: Callable[[int], bool]) -> int | None:
    """The greatest number up to ``most`` that fits, or None."""
    if fits(most):
        return most
    low, high = -1, most  # low fits (or is -1), high does not
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return None if low < 0 else low


def _page(content: Content, rows: Sequence[str], room: _Room) -> str:
    facts = content.facts
    icon = _OUTCOME_ICONS.get(facts.outcome, "❌")
    outcome = OUTCOMES.get(facts.outcome, facts.outcome)
    lines = [
        f"# {icon} {escaped(content.title)} {outcome} in {seconds(content.until)}",
        "",
        f"{content.counts_text()}. Run {facts.number}, started {content.started}.",
    ]
    if content.origin:
        lines += ["", f"For {escaped(content.origin)}."]
    if left_out := content.left_out():
        lines += ["", f"{left_out}."]
    if facts.error:
        lines += ["", f"**{escaped(one_line(facts.error))}**"]
    failures = content.failures()
    for entry in failures[: room.others]:
        lines += ["", *_failure(entry, content, room)]
    if len(failures) > room.others:
        lines += ["", f"… and {count(len(failures) - room.others, 'more failure')}."]
    lines += ["", *_table(content, rows, room)]
    lines += ["", *[f"- {escaped(line)}" for line in content.insights()]]
    if room.graph and 1 < len(content.entries) <= GRAPH_TASKS:
        lines += ["", "```mermaid", to_mermaid(content).rstrip("\n"), "```"]
    return "\n".join(lines) + "\n"


def _table(content: Content, rows: Sequence[str], room: _Room) -> list[str]:
    if not rows:
        return []
    shown, passed, others = [], 0, 0
    for entry, row in zip(content.entries.values(), rows, strict=True):
        if entry.status is TaskStatus.SUCCEEDED:
            passed += 1
            if passed <= room.passed:
                shown.append(row)
        else:
            others += 1
            if others <= room.others:
                shown.append(row)
    lines = ["|  | Task | Duration | Waited | |", "| - | - | -: | -: | - |", *shown]
    if not shown:
        lines = []
    missing = []
    if others > room.others:
        missing.append(f"{others - room.others:,} that did not pass")
    if passed > room.passed:
        missing.append(f"{passed - room.passed:,} that passed")
    if missing:
        lines += ["", f"Left out to save space: {' and '.join(missing)}."]
    return lines


def _row(entry: ReportEntry, content: Content) -> str:
    title = one_line(content.full_name(entry))
    notes = [text for text in (content.flags(entry), content.note(entry)) if text]
    duration = "" if entry.duration is None else seconds(entry.duration)
    waited = "" if not entry.spans else seconds(entry.waited)
    return (
        f"| {_ICONS[entry.status]} | {escaped(title)} | {duration} | {waited} "
        f"| {escaped('; '.join(notes))} |"
    )


def _failure(entry: ReportEntry, content: Content, room: _Room) -> list[str]:
    title = f"{SYMBOLS[entry.status]} {content.name(entry.id)}"
    flags = content.flags(entry)
    lines = [f"## {escaped(title)}" + (f" ({flags})" if flags else ""), ""]
    if not room.tail_lines:
        return [*lines, escaped(one_line(entry.error or entry.why))]
    lines += _fenced(tail_of(entry.message, room.tail_lines, _TAIL_CHARACTERS).text)
    if blocked := content.blocked(entry):
        lines += ["", f"Did not run because of it: {escaped(one_line(blocked, 1_000))}"]
    if entry.log_file is not None:
        lines += ["", f"All of its output: {escaped(entry.log_file)}"]
    if entry.output:
        tail = tail_of(entry.output, room.tail_lines, _TAIL_CHARACTERS)
        cut = ", its end" if tail.is_cut or entry.output_is_cut else ""
        lines += ["", f"<details><summary>Output{cut}</summary>", ""]
        lines += [*_fenced(tail.text), "", "</details>"]
    return lines


def _fenced(text: str) -> list[str]:
    """A code block whose fence is longer than any inside of it."""
    longest = max((len(found) for found in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}text", text, fence]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    text = _SPECIAL.sub(r"\\\1", text.replace("\n", " "))
    return text.replace("\\<", "&lt;").replace("\\@", "&#64;")
