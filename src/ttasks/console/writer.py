"""Writer: the thread of a console, and the queue from the tasks to it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ParamSpec

from ttasks import sync
from ttasks.console.board import ENDS
from ttasks.engine.history import GraphHistory
from ttasks.model.clock import SYSTEM_CLOCK
from ttasks.model.event import RUN_EVENTS, TaskEvent, TaskEventType
from ttasks.model.run import source_of

if TYPE_CHECKING:
    from ttasks.console.board import Board
    from ttasks.console.logfiles import LogFiles
    from ttasks.console.screen import Screen
    from ttasks.console.views import View
    from ttasks.model.run import Run
    from ttasks.model.store import Store

P = ParamSpec("P")

QUEUE_LIMIT = 64 * 1024 * 1024
"""Characters of output that may wait to be written; further output is not shown."""

PATIENCE = 2.0
"""Seconds that the end of a console waits for a reader that takes nothing."""

_TICK = 0.05  # seconds between two looks at the queue
_FRAME = 0.1  # seconds between two drawings of a footer
_BATCH = 500  # events between two writes


@dataclass(frozen=True, slots=True)
class Printed:
    """Lines that the program printed itself; ``task_id`` is that of the task that did, or None."""

    lines: tuple[str, ...]
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Stopping:
    """A RUN_STOPPING event, and whether it came on the main thread."""

    event: TaskEvent
    on_main: bool


Item = TaskEvent | Printed | Stopping


class Writer:
    """Takes events from any thread, and draws and writes on a thread of its own.

    Taking never waits. Once ``QUEUE_LIMIT`` characters of output wait for a slow reader, further
    output is dropped, and the view says how many lines. Other events are never dropped. The thread
    looks at the queue twenty times a second, so that no task has to wake it.

    The cursor always stands at the beginning of the footer. So the next drawing erases all of it,
    even if the width of the window has changed, and the shell continues there if the program dies.

    If a view raises an exception, only what it was about to show is lost. The first exception is
    printed on ``sys.stderr``, and the thread goes on.
    """

    def __init__(
        self,
        screen: Screen,
        board: Board,
        view: View,
        store: Store | None = None,
        logs: LogFiles | None = None,
    ) -> None:
        self._screen = screen
        self._board = board
        self._view = view
        self._store = store
        self._logs = logs
        # Appended to and taken from in single operations; needs no lock.
        self._items: deque[Item] = deque()
        # Protects the two below it.
        self._lock = sync.Lock()
        self._queued = 0  # characters of output
        self._missed: dict[str, int] = {}  # lines by task
        self._closing = sync.Event()
        self._thread = sync.Thread(target=self._run, name="ttasks-console", daemon=True)
        # These belong to the thread.
        self._handled = 0
        self._footer: list[str] = []
        self._size = (0, 0)
        self._drawn_at = 0.0
        self._has_told = False

    @property
    def take(self) -> Callable[[Item], None]:
        """A function that takes an event that is no OUTPUT, or printed lines. It never waits."""
        return self._items.append

    def take_stop(self, event: TaskEvent) -> None:
        """Take a RUN_STOPPING event, on the thread that waits for the end of the run."""
        on_main = sync.current_thread() is sync.main_thread()
        self._items.append(Stopping(event, on_main))

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def take_output(self, event: TaskEvent) -> None:
        """Take an OUTPUT event, unless too much of that waits already."""
        if self._screen.gone:
            return
        chunk = event.output_chunk or ""
        with self._lock:
            fits = self._queued + len(chunk) <= QUEUE_LIMIT
            if fits:
                self._queued += len(chunk)
            else:
                number = chunk.count("\n") or 1
                self._missed[event.task_id] = self._missed.get(event.task_id, 0) + number
        if fits:
            self._items.append(event)

    def close(self) -> None:
        """Write what was taken and end the thread, unless the reader stops reading before that."""
        self._closing.set()
        if self._thread.ident is None:  # an interrupt came before its start
            self._screen.close()
            return
        before, since = (-1, -1), SYSTEM_CLOCK.now()
        while True:
            self._thread.join(_TICK)
            if not self._thread.is_alive():
                return
            state = (self._screen.written, self._handled)
            if state != before:
                before, since = state, SYSTEM_CLOCK.now()
            elif SYSTEM_CLOCK.now() > since + PATIENCE:
                self._screen.stop()
                self._thread.join(PATIENCE)
                return

    # On its own thread

    def _run(self) -> None:
        try:
            while True:
                is_last = self._closing.is_set()  # before the look at the queue
                self._drain()
                if is_last:
                    break
                self._closing.wait(_TICK)
            self._end()
        finally:
            self._guard(self._view.let_go)
            self._guard(self._screen.close)

    def _guard(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a function, and go on whatever it raises."""
        try:
            function(*args, **kwargs)
        except BaseException as error:
            self.tell(error)

    def tell(self, error: BaseException) -> None:
        """Print the first error on ``sys.stderr``. By the thread of this writer."""
        if self._has_told:
            return
        self._has_told = True
        import traceback  # only where something is wrong

        try:
            if sys.stderr is not None:
                trace = "".join(traceback.format_exception(error))
                sys.stderr.write(f"ttasks: the console goes on after its first error:\n{trace}")
                sys.stderr.flush()
        except BaseException:  # nobody can be told
            pass

    def _drain(self) -> None:
        """Show what is in the queue."""
        while True:
            items = [self._items.popleft() for _ in range(min(len(self._items), _BATCH))]
            for item in _stops_first(items):
                self._guard(self._handle, item)
            self._guard(self._note_missed)
            self._guard(self._show)
            if not self._items:
                return

    def _handle(self, item: Item) -> None:
        self._handled += 1
        if isinstance(item, Printed):
            self._print(item)
            return
        if isinstance(item, Stopping):
            self._handle_stop(item)
            return
        if item.output_chunk is not None:
            with self._lock:
                self._queued -= len(item.output_chunk)
        now = SYSTEM_CLOCK.now()
        if item.type in RUN_EVENTS:
            self._handle_run(item, now)
            return
        if item.run is not None and item.task_id not in self._board.rows:
            self._guard(self._join, item.run, now)
        row = self._board.apply(item, now)
        if self._logs is not None and item.type is TaskEventType.FAILED:
            row.log_file = self._logs.path_of(item)
        if item.type not in ENDS:
            self._view.event(row, item)
            return
        self._guard(self._note_missed)  # while the row is there, and above its last line
        self._guard(self._view.event, row, item)
        self._board.forget_alone(row)
        is_alone = item.run is not None and source_of(item.run).is_single
        if self._logs is not None and is_alone and item.retry_in is None:
            self._logs.forget(item.run_id or "")

    def _handle_run(self, event: TaskEvent, now: float) -> None:
        run, board, view = event.run, self._board, self._view
        if run is None:  # somebody has made this event
            return
        if event.type is TaskEventType.RUN_STARTED:
            self._begin(run, event.timestamp, now)
            return
        self._guard(self._join, run, now)
        ended = board.end(run, now)
        if ended is not None:
            self._guard(view.end, ended, (event.timestamp - ended.moment).total_seconds())
            self._guard(self._show)  # made now, from rows that are forgotten next
            board.forget(ended)
        if self._logs is not None:
            self._logs.forget(run.id)

    def _begin(self, run: Run, moment: datetime, now: float) -> None:
        source = source_of(run)
        if isinstance(source, GraphHistory):  # else somebody has made this event
            head = source.head()
            section = self._board.begin(head, source.planned(), moment, now)
            if section.run_id == head.id:
                section.run = run
                self._view.begin(section, head, self._store)

    def _join(self, run: Run, now: float) -> None:
        """Begin a run that was there before this console, with all that it has done."""
        source = source_of(run)
        if not isinstance(source, GraphHistory) or not self._board.is_new(run):
            return
        if source.parent is not None:
            self._join(source.parent[0], now)
        self._begin(run, run.started_at, now)
        self._board.catch_up(source.facts(), now)

    def _handle_stop(self, item: Stopping) -> None:
        event = item.event
        if event.run is None:  # somebody has made this event
            return
        self._guard(self._join, event.run, SYSTEM_CLOCK.now())
        message = event.error or ""
        stopped = self._board.stop(event.run, message, takes_interrupts=item.on_main)
        if stopped is not None:
            self._view.stopping(stopped)

    def _print(self, item: Printed) -> None:
        row = self._board.running.get(item.task_id or "")
        if row is not None and self._view.wants_lines:
            self._view.lines(row, list(item.lines))
        else:
            lines = self._view.cleaned(item.lines)
            self._view.printed(lines, by_task=item.task_id is not None)

    def _note_missed(self) -> None:
        if not self._missed:
            return
        with self._lock:
            missed, self._missed = self._missed, {}
        for task_id, number in missed.items():
            row = self._board.rows.get(task_id)
            if row is not None:
                row.missed += number
                self._view.missed(row)

    def _show(self) -> None:
        """Write what there is to write, and draw the footer if it is time for that."""
        view, screen = self._view, self._screen
        if not view.has_footer:
            for piece in self._taken():
                screen.write(piece)
            return
        text = "".join(self._taken())
        now = SYSTEM_CLOCK.now()
        if not text and now < self._drawn_at + _FRAME:
            return
        self._drawn_at = now
        size = screen.size()
        footer = self._footer_of(*size, now)
        if not text and footer == self._footer and size == self._size:
            return
        # A terminal has folded the lines of the footer before, if it got narrower.
        erased = "" if size == self._size else "\r\x1b[J"
        self._footer, self._size = footer, size
        screen.write(erased + _frame(text, footer))

    def _footer_of(self, columns: int, rows: int, now: float) -> list[str]:
        try:
            return self._view.footer(columns, rows, now)
        except BaseException as error:  # what is above it is shown nevertheless
            self.tell(error)
            return []

    def _taken(self) -> Iterator[str]:
        """Take what the view wants to be printed, in pieces that fit in memory."""
        out, self._view.out = self._view.out, []
        texts: list[str] = []
        for part in out:
            if isinstance(part, str):
                texts.append(part)
                continue
            yield "".join(texts)
            texts.clear()
            try:
                yield from part
            except Exception as error:
                self.tell(error)
        yield "".join(texts)

    def _end(self) -> None:
        """The last lines, also of what ran outside of a graph or did not end."""
        view = self._view
        self._guard(view.close)
        for section in self._board.sections.values():
            if section.ended is None and section.total:
                section.ended = SYSTEM_CLOCK.now()
                duration = (datetime.now(UTC) - section.moment).total_seconds()
                self._guard(view.end, section, duration)
        if self._logs is not None and self._logs.error is not None:
            view.print(f"  the log files are incomplete: {self._logs.error}")
        if view.has_footer:
            self._screen.write(_frame("".join(self._taken()), []))
        else:
            self._guard(self._show)


def _stops_first(items: list[Item]) -> list[Item]:
    """The items, with each stop before the cancellations that it leads to.

    These are announced by other threads, and may come a moment before it.
    """
    for at, item in enumerate(items):
        if isinstance(item, Stopping):
            run_id = item.event.run_id
            for first, other in enumerate(items[:at]):
                if (
                    isinstance(other, TaskEvent)
                    and other.type is TaskEventType.CANCELLED
                    and other.run_id == run_id
                ):
                    items.insert(first, items.pop(at))
                    break
    return items


def _frame(text: str, footer: list[str]) -> str:
    """Text and the footer below it, over the footer before, and the way back to its beginning.

    Lines are erased only as others are written in their place: to erase all first would flicker,
    and tmux keeps a screen that is erased from its first cell on in its history.
    """
    lines = [*text.expandtabs().split("\n")[:-1], *footer]
    if not lines:
        return "\r\x1b[J"
    written = "\x1b[K\r\n".join(lines) + "\x1b[K"
    if not footer:
        return f"\r{written}\r\n\x1b[J"
    back = f"\x1b[{len(footer) - 1}A" if len(footer) > 1 else ""
    return f"\r{written}\x1b[J\r{back}"
