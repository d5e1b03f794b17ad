"""Views that keep the output of tasks apart: one after the other, never mixed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ttasks.console.output import Shelf
from ttasks.console.views import View
from ttasks.model.event import TaskEvent, TaskEventType

if TYPE_CHECKING:
    from ttasks.console.board import Board
    from ttasks.console.rows import Row
    from ttasks.console.wording import Wording


class Grouped(View):
    """Mode ``grouped``: all output of an attempt when that ends, below its line."""

    wants_lines = True
    shows_tails = False
    shows_starts = False

    def __init__(self, board: Board, wording: Wording) -> None:
        super().__init__(board, wording)
        self._shelf = Shelf()

    def lines(self, row: Row, lines: list[str]) -> None:
        """See `View`."""
        self._shelf.put(row.task_id, lines)

    def missed(self, row: Row) -> None:
        """See `View`."""
        self._shelf.put(row.task_id, [self.wording.missed(row)])

    def change(self, row: Row, event: TaskEvent) -> None:
        """See `View`."""
        if event.type is TaskEventType.STARTED:
            return
        line = self.wording.change(row, event)
        if line is None:
            return
        failed = event.type is TaskEventType.FAILED and event.retry_in is None
        self.group(row, line, failed=failed)
        if failed:
            self.failure(row)

    def group(self, row: Row, line: str, *, failed: bool) -> None:
        """Print the line of an attempt that has ended, and all its output below."""
        self.print(line)
        self.print_output(row)

    def print_output(self, row: Row) -> None:
        """Print what is kept of the output of a task."""
        self.out.append(self._pieces(self._shelf.take(row.task_id)))

    def _pieces(self, kept: Iterator[list[str]]) -> Iterator[str]:
        bar = f"  {self.style.paint(self.style.sign('bar'), 'dim')} "
        for lines in kept:
            yield "".join([f"{self.safe(bar + line).rstrip()}\n" for line in self.cleaned(lines)])

    def safe(self, line: str) -> str:
        """The line, without what is more than text in this mode."""
        return line

    def has_output(self, row: Row) -> bool:
        """True if something is kept of the output of a task."""
        return self._shelf.has(row.task_id)

    def let_go(self) -> None:
        """See `View`."""
        self._shelf.close()

    def close(self) -> None:
        """See `View`. What did not end is shown all the same."""
        for row in self.board.rows.values():
            if self.has_output(row):
                self.print(f"{row.name}:")
                self.print_output(row)


class KeepOrder(Grouped):
    """Mode ``keep-order``: one task live, the others when it is their turn, as they started."""

    def __init__(self, board: Board, wording: Wording) -> None:
        super().__init__(board, wording)
        self._turns: dict[str, Row] = {}  # those that have started, the live one first
        self._ended: dict[str, tuple[str, bool]] = {}  # line, and whether it failed
        self._has_heading: str | None = None

    def lines(self, row: Row, lines: list[str]) -> None:
        """See `View`."""
        super().lines(row, lines)
        if self._is_live(row):
            self._print_live(row)

    def _is_live(self, row: Row) -> bool:
        return next(iter(self._turns), None) == row.task_id

    def _print_live(self, row: Row) -> None:
        if self._has_heading != row.task_id:
            self._has_heading = row.task_id
            self.print(f"{self.style.mark('started')} {'':7}  {row.name}")
        self.print_output(row)

    def change(self, row: Row, event: TaskEvent) -> None:
        """See `View`."""
        if event.type is TaskEventType.STARTED:
            self._turns.setdefault(row.task_id, row)
            return
        line = self.wording.change(row, event)
        if line is None:
            return
        is_last = event.retry_in is None
        if row.task_id not in self._turns:
            self.print(line)
            return
        is_failure = event.type is TaskEventType.FAILED and is_last
        if not self._is_live(row):
            if not is_last:
                self._shelf.put(row.task_id, [line])
                return
            self._ended[row.task_id] = (line, is_failure)
            return
        self._finish(row, line, is_failure, is_last=is_last)

    def _finish(self, row: Row, line: str, is_failure: bool, *, is_last: bool) -> None:
        if self.has_output(row):
            self._print_live(row)
        self.print(line)
        if is_failure:
            self.failure(row)
        if is_last:
            self._next_turn(row)

    def close(self) -> None:
        """See `View`. The live task has not ended, so the others come now."""
        for row in self._turns.values():
            if self.has_output(row):
                self.print(f"{row.name}:")
                self.print_output(row)
            line, is_failure = self._ended.get(row.task_id, ("", False))
            if line:
                self.print(line)
            if is_failure:
                self.failure(row)
        super().close()

    def _next_turn(self, row: Row) -> None:
        """The live task has ended: it is the turn of those that started after it."""
        self._turns.pop(row.task_id, None)
        while self._turns:
            following = next(iter(self._turns.values()))
            if self.has_output(following):
                self._print_live(following)
            ended = self._ended.pop(following.task_id, None)
            if ended is None:
                return
            line, is_failure = ended
            self.print(line)
            if is_failure:
                self.failure(following)
            del self._turns[following.task_id]
