"""Views: what each mode shows. The other modes are in files of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ttasks.console.board import ENDS
from ttasks.console.output import Lines
from ttasks.console.style import Style, colour_of
from ttasks.console.text import cells, clean, fit, padded
from ttasks.model.event import TaskEvent, TaskEventType

if TYPE_CHECKING:
    from ttasks.console.board import Board
    from ttasks.console.rows import Row, Section
    from ttasks.console.wording import Wording
    from ttasks.model.facts import RunFacts
    from ttasks.model.store import Store

_NAME_COLUMNS = (6, 24)  # least and most, before the lines of a task
_COMMANDS = ("::", "##", "---", "+++", "~~~", "^^^")  # how lines begin that a CI system obeys
_MOST_BLOCKS = 100  # failures that are shown in full once more at the end


class View:
    """Mode ``plain``: a line per change, and the output of what failed.

    Used by one thread. What is to be printed goes to ``out``: text, or an iterator that makes it in
    pieces when it is printed, a moment later.

    Attributes:
        wants_lines: whether ``lines`` is to be called with all output.
        has_footer: whether there is a part that is drawn again and again; see `Live`.
    """

    wants_lines = False
    has_footer = False
    shows_starts = True
    shows_tails = True  # of failures, at once

    def __init__(self, board: Board, wording: Wording) -> None:
        self.board = board
        self.wording = wording
        self.style: Style = wording.style
        self.out: list[str | Iterator[str]] = []
        self._since_failure = 0  # how much was printed after the latest failure

    def print(self, *lines: str) -> None:
        """Print lines."""
        for line in lines:
            self.out.append(line + "\n")
            self._since_failure += 1

    # What happens

    def begin(self, section: Section, head: RunFacts, store: Store | None) -> None:
        """The run of a graph has begun that is not inside of another one."""

    def event(self, row: Row, event: TaskEvent) -> None:
        """An event of a task, which the board knows already."""
        if event.output_chunk is not None:
            if row.lines is None:
                row.lines = Lines()
            stream = event.output_stream or "stdout"
            if self.wants_lines:
                self.lines(row, row.lines.feed(stream, event.output_chunk))
            else:
                row.lines.skim(stream, event.output_chunk)
        elif event.type is not TaskEventType.PROGRESS:
            if event.type in ENDS and row.lines is not None:
                rest = row.lines.finish()
                if rest and self.wants_lines:
                    self.lines(row, rest)
            self.change(row, event)

    def change(self, row: Row, event: TaskEvent) -> None:
        """A task has started or ended, or something else than output is known of it."""
        if event.type is TaskEventType.STARTED and not self.shows_starts:
            return
        line = self.wording.change(row, event)
        if line is not None:
            self.print(line)
        if event.type is TaskEventType.FAILED and event.retry_in is None:
            self.failure(row)

    def failure(self, row: Row) -> None:
        """A task has FAILED, and its line is printed."""
        # Made when it is printed: what it blocks is in the next events.
        self.out.append(self._failure(row))
        self._since_failure = 0

    def _failure(self, row: Row) -> Iterator[str]:
        for line in self._failure_lines(row):
            yield f"{line}\n"

    def _failure_lines(self, row: Row) -> list[str]:
        return self.wording.block(row, output=self.shows_tails, head=False)

    def lines(self, row: Row, lines: list[str]) -> None:
        """A task has printed lines; only if ``wants_lines``."""

    def missed(self, row: Row) -> None:
        """Some lines of a task were dropped, since the reader is too slow."""
        if self.wants_lines:
            self.print(self.wording.missed(row))

    def printed(self, lines: list[str], *, by_task: bool = False) -> None:
        """The program itself has printed lines, or a task in this process that has no output."""
        self.print(*lines)

    def stopping(self, section: Section) -> None:
        """A run is being stopped."""
        self.print(*self.wording.stopping(self.board, section))

    def end(self, section: Section, duration: float) -> None:
        """A run has ended: its failures once more, and a line for all of it."""
        failures = sorted(section.failures, key=lambda row: row.is_optional_failure)
        repeat = self._since_failure > 0 or len(failures) > 1 or not self.shows_tails
        if failures and repeat:
            self.print("", self._rule("Failures" if len(failures) > 1 else "Failure"))
            for row in failures[:_MOST_BLOCKS]:
                self.print("", *self.wording.block(row))
            if failures[_MOST_BLOCKS:]:
                self.print("", *[self.wording.end(row) for row in failures[_MOST_BLOCKS:]])
        self.print("", self.wording.summary(section, duration))

    def _rule(self, title: str) -> str:
        sign = self.style.sign("rule")
        return self.style.paint(f"{sign * 2} {title} {sign * (56 - len(title))}", "dim")

    def close(self) -> None:
        """The console ends: print what is left."""

    def let_go(self) -> None:
        """Nothing more is printed: close what is open."""

    def footer(self, columns: int, rows: int, now: float) -> list[str]:
        """The lines of the footer, each shorter than ``columns``; see `Live`."""
        return []

    # For those who show output

    def cleaned(self, lines: Iterable[str]) -> list[str]:
        """Lines of a task, safe to be printed."""
        colour = self.style.colour
        return [line if line.isprintable() else clean(line, colour=colour) for line in lines]


class Quiet(View):
    """Mode ``quiet``: failures, once, and the last line."""

    def change(self, row: Row, event: TaskEvent) -> None:
        """Nothing until the end."""

    def stopping(self, section: Section) -> None:
        """Nothing until the end."""

    def end(self, section: Section, duration: float) -> None:
        """Failures, and the last line."""
        for row in section.failures:
            self.print(*self.wording.block(row), "")
        self.print(self.wording.summary(section, duration))


class Stream(View):
    """Mode ``stream``: each line at once, after the name of its task."""

    wants_lines = True
    shows_tails = False

    def __init__(self, board: Board, wording: Wording) -> None:
        super().__init__(board, wording)
        self._width = _NAME_COLUMNS[0]

    def begin(self, section: Section, head: RunFacts, store: Store | None) -> None:
        """See `View`. The longest name says how much room all of them have."""
        names = [row.name for row in self.board.rows.values() if row.section is section]
        self._width = min(max([self._width, *map(cells, names)]), _NAME_COLUMNS[1])

    def lines(self, row: Row, lines: list[str]) -> None:
        """See `View`."""
        name = row.name
        self._width = max(self._width, min(cells(name), _NAME_COLUMNS[1]))
        name = padded(fit(name, self._width, self.style.sign("ellipsis")), self._width)
        bar = self.style.sign("bar")
        prefix = f"{self.style.paint(name, colour_of(row.name))} {bar} "
        if name.lstrip().startswith(_COMMANDS):
            prefix = f"{bar} {prefix}"
        self.print(*[prefix + line for line in self.cleaned(lines)])
