"""The view for CI: groups in order, annotations at the end, the summary of the step."""

from __future__ import annotations

import os
import re
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

from ttasks.console.ci.azure import Azure
from ttasks.console.ci.buildkite import Buildkite
from ttasks.console.ci.form import Form, Problem
from ttasks.console.ci.github import GitHub
from ttasks.console.ci.gitlab import GitLab
from ttasks.console.ci.teamcity import TeamCity
from ttasks.console.grouped import Grouped
from ttasks.console.text import clean
from ttasks.console.wording import reason

if TYPE_CHECKING:
    from ttasks.console.board import Board
    from ttasks.console.rows import Row, Section
    from ttasks.console.wording import Wording
    from ttasks.model.run import Run

FORMS: dict[str, type[Form]] = {
    form.__name__.lower(): form for form in (GitHub, GitLab, Azure, Buildkite, TeamCity)
}
"""Mode to form."""

_LOCATION = re.compile(r"(.+):(\d+) in ")
_MESSAGE_LINES = 10


class CiView(Grouped):
    """Prints a run in the form of a CI system.

    A group is printed in one piece when its attempt has ended, so that it is always closed, and
    nothing of another task gets into it.
    """

    def __init__(self, board: Board, wording: Wording, form: Form) -> None:
        super().__init__(board, wording)
        self._form = form
        self._groups = 0
        self._errors = form.limits.errors  # that are left
        self._warnings = form.limits.warnings

    def print(self, *lines: str) -> None:
        """See `View`. Nothing that is printed here is a command."""
        super().print(*map(self.safe, lines))

    def safe(self, line: str) -> str:
        """See `Grouped`."""
        return self._form.harmless(line)

    def _command(self, *lines: str) -> None:
        super().print(*lines)

    def _failure_lines(self, row: Row) -> list[str]:
        return list(map(self.safe, super()._failure_lines(row)))

    def group(self, row: Row, line: str, *, failed: bool) -> None:
        """See `Grouped`."""
        form = self._form
        if not (form.groups_everything or self.has_output(row)):
            self.print(line)
            return
        self._groups += 1
        number, title, now = self._groups, self.safe(line), time()
        result = None if row.task is None else row.task.result
        began = now if result is None else now - result.duration
        self._command(*form.open(title, number, began, failed=failed))
        self.print_output(row)
        self._command(*form.close(title, number, now, failed=failed))

    def printed(self, lines: list[str], *, by_task: bool = False) -> None:
        """See `View`. The program itself may give commands; its tasks may not."""
        if by_task:
            self.print(*[f"  {line}" for line in lines])
        else:
            self._command(*lines)

    def end(self, section: Section, duration: float) -> None:
        """See `View`."""
        self._command(*self._form.heading(section.title or "summary"))
        super().end(section, duration)
        self._annotate(section)
        room = self._form.room_for_summary()
        if room and section.run is not None:
            self._summarize(section.run, room)

    def _summarize(self, run: Run, room: int) -> None:
        """Put the report of a run where the system shows it."""
        try:
            self._command(*self._form.summary(run.report().to_markdown(limit_bytes=room)))
        except Exception as error:  # a full disk; the run is not worse for it
            self.print(f"  the summary could not be written: {error}")

    def _annotate(self, section: Section) -> None:
        """Annotations for root causes: first what counts and has kept most from running."""
        rows = sorted(section.failures, key=lambda row: (row.is_optional_failure, -len(row.blocks)))
        errors = [row for row in rows if not row.is_optional_failure]
        warnings = [row for row in rows if row.is_optional_failure]
        self._errors -= self._put(errors, self._errors)
        self._warnings -= self._put(warnings, self._warnings)

    def _put(self, rows: list[Row], room: int) -> int:
        """Annotate as many rows as there is room for, and say how many are left out."""
        shown = rows if len(rows) <= room else rows[: max(0, room - 1)]
        lines = [self._form.problem(self._problem(row)) for row in shown]
        if len(shown) < len(rows) and room > 0:
            rest = rows[len(shown) :]
            names = "\n".join(row.name for row in rest[:_MESSAGE_LINES])
            more = Problem(f"{len(rest)} more failed", names, rest[0].is_optional_failure)
            lines.append(self._form.problem(more))
        found = [line for line in lines if line is not None]
        self._command(*found)
        return len(found)

    def _problem(self, row: Row) -> Problem:
        result = None if row.task is None else row.task.result
        lines = [clean(line) for line in self.wording.tail(row)[-_MESSAGE_LINES:]]
        message = "\n".join([reason(row, result), *lines])
        limit = self._form.limits.message
        if len(message) > limit:
            message = f"{message[: limit - 1]}…"
        failure = None if result is None else result.failure
        file, line = place_of("" if failure is None else failure.location)
        return Problem(row.name, message, row.is_optional_failure, file, line)


def place_of(location: str) -> tuple[str | None, int | None]:
    """File and line of the location of a failure, if it lies in the checkout, and in no library."""
    found = _LOCATION.match(location)
    if found is None:
        return None, None
    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    path = Path(found[1])
    if not path.is_relative_to(root) or "site-packages" in path.parts:
        return None, None
    return path.relative_to(root).as_posix(), int(found[2])
