"""The report as text for a terminal or a log."""

from __future__ import annotations

import os
import shutil
import sys

from ttasks.model.checks import check_bool, check_int
from ttasks.model.status import TaskStatus
from ttasks.report.content import Content
from ttasks.report.entries import ReportEntry
from ttasks.report.labels import SYMBOLS, seconds, shortened, tail_of
from ttasks.report.terminal import wants_color

LEAST_WIDTH = 40
WIDE = 70
"""The least width, in columns, that has a column for the time waited."""

TAIL_LINES = 40
_TAIL_CHARACTERS = 8_000

_COLORS = {
    TaskStatus.SUCCEEDED: "32",
    TaskStatus.FAILED: "1;31",
    TaskStatus.CANCELLED: "35",
    TaskStatus.BLOCKED: "33",
    TaskStatus.SKIPPED: "36",
    TaskStatus.RUNNING: "34",
    TaskStatus.PENDING: "2",
}
_OUTCOME_COLORS = {"ok": "1;32", "running": "1;34"}


def to_text(content: Content, width: int | None = None, color: bool | None = None) -> str:
    """See `RunReport.to_text`."""
    if width is None:
        width = max(shutil.get_terminal_size((100, 24)).columns, LEAST_WIDTH)
    else:
        check_int("width", width, least=LEAST_WIDTH)
    if color is not None:
        check_bool("color", color)
    painted = wants_color(color, sys.stdout, os.environ)
    return "\n".join(_Page(content, width, painted).lines()) + "\n"


class _Page:
    def __init__(self, content: Content, width: int, color: bool) -> None:
        self._content = content
        self._width = width
        self._color = color

    def lines(self) -> list[str]:
        content = self._content
        facts = content.facts
        head = f"{content.headline} in {seconds(content.until)}"
        lines = [
            self._painted(shortened(head, self._width), _OUTCOME_COLORS.get(facts.outcome, "1;31")),
            f"run {facts.number}, started {content.started} on {facts.host or 'this host'}",
            *([content.origin] if content.origin else []),
            content.counts_text(),
        ]
        lines += [left_out] if (left_out := content.left_out()) else []
        lines += [f"error: {facts.error}"] if facts.error else []
        if content.entries:
            lines += ["", *self._table()]
        for entry in content.failures():
            lines += ["", *self._failure(entry)]
        return [*lines, "", *content.insights()]

    def _table(self) -> list[str]:
        is_wide = self._width >= WIDE
        lines = [f"  Status    {'Duration':>11}{'      Waited' if is_wide else ''}  Task"]
        room = self._width - len(lines[0]) + len("Task")
        for entry in self._content.entries.values():
            status = f"{SYMBOLS[entry.status]} {entry.status.value:<9}"
            times = f"{'-' if entry.duration is None else seconds(entry.duration):>11}"
            if is_wide:
                times += f" {seconds(entry.waited) if entry.spans else '-':>11}"
            painted = self._painted(status, _COLORS[entry.status])
            lines.append(f"{painted} {times}  {self._about(entry, room)}")
        return lines

    def _about(self, entry: ReportEntry, room: int) -> str:
        content = self._content
        title = content.full_name(entry)
        notes = [text for text in (content.flags(entry), content.note(entry)) if text]
        if notes:
            title = shortened(title, max(room // 2, 12)) + f"  ({'; '.join(notes)})"
        return shortened(title, room)

    def _failure(self, entry: ReportEntry) -> list[str]:
        content = self._content
        title = f"{SYMBOLS[entry.status]} {content.name(entry.id)}"
        lines = [self._painted(shortened(title, self._width), _COLORS[entry.status])]
        tail = tail_of(entry.output, TAIL_LINES, _TAIL_CHARACTERS)
        error = tail_of(entry.message, TAIL_LINES, _TAIL_CHARACTERS)
        lines += [f"  {line}" for line in error.text.splitlines()]
        if blocked := content.blocked(entry):
            lines.append(f"  did not run because of it: {blocked}")
        if entry.log_file is not None:
            lines.append(f"  all of its output: {entry.log_file}")
        if tail.text.strip():
            cut = " (its end)" if tail.is_cut or entry.output_is_cut else ""
            lines.append(f"  output{cut}:")
            lines += [f"  | {line}" for line in tail.text.splitlines()]
        return lines

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text
