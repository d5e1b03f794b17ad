"""Mode ``live``: what has ended scrolls away above, what goes on is drawn below."""

from __future__ import annotations

from io import StringIO
from itertools import islice
from typing import TYPE_CHECKING

from ttasks.console.forecast import Forecast, medians
from ttasks.console.text import clean, ticking
from ttasks.console.views import View
from ttasks.errors import MissingExtraError
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.status import TaskStatus

try:
    from rich.console import Console as RichConsole
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise MissingExtraError("rich", "The live console") from error

if TYPE_CHECKING:
    from ttasks.console.board import Board
    from ttasks.console.rows import Row, Section
    from ttasks.console.wording import Wording
    from ttasks.model.facts import RunFacts
    from ttasks.model.store import Store

MOST_LINES = 8
_KEPT_ROWS = 3  # of the window, for what is above
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_SPINNER_ASCII = "|/-\\"
_SPINS = 10  # a second
_BAR = 16  # columns
_NAMES = 40  # columns at most


class Live(View):
    """Draws a footer of at most ``min(8, rows - 3)`` lines, none wider than the window."""

    has_footer = True
    shows_starts = False

    def __init__(self, board: Board, wording: Wording, forecast: Forecast) -> None:
        super().__init__(board, wording)
        self._forecast = forecast
        self._rich = RichConsole(
            file=StringIO(),
            force_terminal=True,
            color_system="standard" if self.style.colour else None,
            no_color=not self.style.colour,
            markup=False,
            highlight=False,
            emoji=False,
            legacy_windows=False,
            _environ={},
        )

    def begin(self, section: Section, head: RunFacts, store: Store | None) -> None:
        """See `View`."""
        rows = {key: row for key, row in self.board.rows.items() if row.section is section}
        self._forecast.begin(rows, medians(store, head, rows), head.workers)

    def change(self, row: Row, event: TaskEvent) -> None:
        """See `View`. What is blocked stands below the failure that blocks it."""
        if event.type is not TaskEventType.BLOCKED:
            super().change(row, event)

    def footer(self, columns: int, rows: int, now: float) -> list[str]:
        """See `View`: what runs, the longest first; what waits and for what; how far it is."""
        room = min(MOST_LINES, rows - _KEPT_ROWS)
        board, section = self.board, self.board.current
        if room < 1 or section is None or not (board.running or board.waiting):
            return []
        width = max(1, columns - 1)  # a line as wide as the window would make some of them wrap
        last = [self._progress(section, width, now)]
        how = self.wording.how_to_kill(section) if section.stopped else None
        if how is not None and room > 1:
            last.insert(0, self._line(f"  {how}", width, "yellow"))
        room -= len(last)
        is_full = len(board.running) + 2 > room
        waits = self._waits(now, 1 if is_full else 2) if room > 3 else []
        room -= len(waits)
        shown = list(islice(board.running.values(), room))
        more = len(board.running) - len(shown)
        if more and room > 1:
            shown.pop()
            waits.insert(0, f"+{more + 1:,} running")
        elif more:
            waits = []
        return [
            *self._running(shown, width, now),
            *[self._line(f"  {wait}", width, "dim") for wait in waits],
            *last,
        ]

    # Parts

    def _running(self, rows: list[Row], width: int, now: float) -> list[str]:
        if not rows:
            return []
        with_bars = width >= 60 and any(row.percent is not None for row in rows)
        with_details = width >= 40
        table = Table.grid(padding=(0, 2, 0, 0), expand=with_details)
        # Mark and time stand where they do in the lines above.
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, max_width=max(8, min(_NAMES, width // 2)))
        if with_bars:
            table.add_column(no_wrap=True, width=_BAR + 5)
        if with_details:
            table.add_column(no_wrap=True, ratio=1)
        frames = _SPINNER if self.style.symbols else _SPINNER_ASCII
        spin = frames[int(now * _SPINS) % len(frames)]
        for row in rows:
            mark = self._text(spin if self.style.symbols else f"{spin}    ", "cyan")
            mark.append(f" {ticking(now - row.since):>{7 if width >= 30 else 0}}")
            cells = [mark, self._text(row.name, "bold")]
            if with_bars:
                cells.append(self._percent(row))
            if with_details:
                cells.append(self._text(self._detail(row, with_bars), "dim"))
            table.add_row(*cells)
        return self._rendered(table, width)

    def _percent(self, row: Row) -> Text:
        if row.percent is None:
            return self._text("")
        bar = self._bar(row.percent / 100, _BAR)
        bar.append(f" {row.percent:3.0f}%")
        return bar

    def _bar(self, share: float, width: int) -> Text:
        full = min(width, round(share * width))
        bar = self._text("")
        bar.append(self.style.sign("full") * full, style="green")
        bar.append(self.style.sign("rule") * (width - full), style="bright_black")
        return bar

    def _detail(self, row: Row, with_bars: bool) -> str:
        """The latest that a task has said of itself."""
        found = row.message or ("" if row.lines is None else row.lines.last())
        if row.percent is not None and not with_bars:
            found = f"{row.percent:.0f}% {found}"
        if row.attempt > 1:
            found = f"attempt {row.attempt} {found}"
        return " ".join(clean(found).split())

    def _waits(self, now: float, most: int) -> list[str]:
        """What waits, and for what; the rest is counted."""
        board = self.board
        rows = list(islice(board.waiting.values(), most))
        lines = [f"{row.name} waits {board.why_waiting(row, now)}" for row in rows]
        rest = len(board.waiting) - len(rows)
        if rest and lines:
            lines[-1] += f"; {rest:,} more"
        return lines

    def _progress(self, section: Section, width: int, now: float) -> str:
        counts = section.counts
        line = self._bar(section.done / section.total, min(30, width // 3))
        line.append(f" {section.done:,}/{section.total:,}", style="bold")
        failed = sum(row.required for row in section.failures)
        if failed:
            line.append(f"  {failed:,} failed", style="red")
        blocked = counts[TaskStatus.BLOCKED]
        if blocked and width >= 50:
            line.append(f"  {blocked:,} blocked", style="yellow")
        line.append(f"  {ticking(now - section.began)}", style="cyan")
        left = self._forecast.left(self.board, section, now)
        if left is not None:
            line.append(f"  about {ticking(left, whole=True)} left", style="dim")
        return self._rendered(line, width)[0]

    # Rendering

    def _text(self, text: str, style: str = "") -> Text:
        return Text(text, style=style, no_wrap=True, overflow="ellipsis", end="")

    def _line(self, text: str, width: int, style: str = "") -> str:
        return self._rendered(self._text(clean(text), style), width)[0]

    def _rendered(self, content: Table | Text, width: int) -> list[str]:
        """What rich makes of it, cut to a width, as lines for the terminal."""
        self._rich.width = width
        with self._rich.capture() as captured:
            self._rich.print(content, end="", no_wrap=True, overflow="ellipsis", crop=True)
        text = captured.get().rstrip("\n")
        return [self.style.tell(line.rstrip()) for line in text.split("\n")]
