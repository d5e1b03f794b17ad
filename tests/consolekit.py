"""What tests of the console share: a terminal that is looked at, and scripted tasks."""

from __future__ import annotations

import io
import logging
import os
import re
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from struct import pack
from termios import TIOCSWINSZ
from typing import Any, TextIO

import pyte

from support import CUSTOM, WAIT
from ttasks import Task, TaskContext, TaskExecutor, TaskGraph
from ttasks.console import console

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMES = re.compile(r" *\b\d+\.\d+m?s| *\b\d+m \d\ds")
MARK = b"\x1b[?9%06dh"
"""Turns on a mode of the terminal that does not exist: changes nothing."""

LOGGER = "ttasks-test-console"


def log_a_warning() -> None:
    """What a worker process can import and call."""
    logging.getLogger(LOGGER).warning("from a process")


def plain(text: str) -> str:
    """Text without colours and other codes."""
    return CODES.sub("", text)


def timeless(text: str) -> str:
    """Text with the same time everywhere."""
    return TIMES.sub("   0.00s", text)


class Text(io.StringIO):
    """A file in memory that claims to be what a test needs."""

    def __init__(self, *, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__()
        self._terminal = terminal
        self._encoding = encoding

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


def shown(
    graph: TaskGraph,
    mode: str,
    executor: TaskExecutor | None = None,
    *,
    workers: int = 1,
    color: bool | None = None,
    **options: Any,
) -> str:
    """What a console prints for the run of a graph."""
    file = Text()
    with (
        executor or TaskExecutor() as running,
        console(running, mode, file=file, color=color, **options),
    ):
        graph.run(running, workers)
    return file.getvalue()


def script(*lines: str, fails: BaseException | None = None) -> Callable[[TaskContext], None]:
    """A handler that prints these lines, and then raises an exception or not."""

    def run(context: TaskContext) -> None:
        for line in lines:
            context.emit_output(line)
        if fails is not None:
            raise fails

    return run


class Scripts:
    """A handler for tasks whose payload is a handler of their own."""

    def __call__(self, context: TaskContext) -> Any:
        return context.payload(context)


def scripted(title: str, handler: Callable[[TaskContext], Any], **options: Any) -> Task:
    """A task of the type that `Scripts` is registered for."""
    return Task(title, handler, CUSTOM, **options)


def executor(**options: Any) -> TaskExecutor:
    """An executor that runs scripted tasks."""
    made = TaskExecutor(**options)
    made.register(CUSTOM, Scripts())
    return made


class Terminal:
    """A pseudo-terminal that a terminal emulator reads and shows, with all that has scrolled away.

    Attributes:
        file: what programs write to.
        most_below: the largest number of lines that were ever below the cursor.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._master, self.slave = os.openpty()
        self.file: TextIO = open(self.slave, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        # Protects the screen.
        self._lock = threading.Condition()
        self._screen = pyte.HistoryScreen(columns, rows, history=1_000_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self._set_size(columns, rows)
        self._reads = True
        self._closing = False
        self.raw = bytearray()
        self._marks = 0
        self.most_below = 0
        self._thread = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._thread.start()

    def _set_size(self, columns: int, rows: int) -> None:
        ioctl(self.slave, TIOCSWINSZ, pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size, as a person does with the mouse."""
        with self._lock:
            self._screen.resize(rows, columns)
            self._set_size(columns, rows)

    def pause(self) -> None:
        """Stop reading, as Ctrl-S does."""
        self._reads = False

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._master], [], [], 0.02)
            if not ready or not self._reads:
                if self._closing:
                    return
                continue
            with self._lock:
                try:
                    data = os.read(self._master, 65536)
                except OSError:
                    return
                self.raw += data
                self._stream.feed(data)
                below = [line for line in self._lines_below() if line]
                self.most_below = max(self.most_below, len(below))
                self._lock.notify_all()

    def _lines_below(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display[self._screen.cursor.y :]]

    def settle(self) -> None:
        """Wait until everything that was written has been read.

        It may be on its way still when there is nothing to read, so a mark follows it.
        """
        if not self._reads or self._master < 0:
            return
        with self._lock:
            self._marks += 1
            mark, before = MARK % self._marks, len(self.raw)
        os.write(self.slave, mark)
        with self._lock:
            assert self._lock.wait_for(lambda: self.raw.find(mark, before) >= 0, WAIT), "never read"

    def below(self) -> list[str]:
        """The lines from the cursor on that are not blank."""
        with self._lock:
            return list(filter(None, self._lines_below()))

    def wait_for_footer(self, least: int, most: int) -> None:
        """Wait until so many lines are below the cursor: what is read may be half a drawing."""
        with self._lock:
            found = self._lock.wait_for(
                lambda: least <= len(list(filter(None, self._lines_below()))) <= most, WAIT
            )
        assert found, "\n".join(self.display())

    def display(self) -> list[str]:
        """The lines of the window, as they are now, without blank ones at the end."""
        with self._lock:
            lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def everything(self) -> list[str]:
        """All lines: those that have scrolled away, and the window."""
        self.settle()
        with self._lock:
            gone = [
                "".join(line[x].data for x in range(max(line, default=-1) + 1)).rstrip()
                for line in self._screen.history.top
            ]
        return gone + self.display()

    def wait_for(self, text: str) -> list[str]:
        """Wait until the window shows a text; returns its lines."""
        with self._lock:
            found = self._lock.wait_for(
                lambda: any(text in row for row in self._screen.display), WAIT
            )
        assert found, f"never shown: {text!r}\n" + "\n".join(self.display())
        return self.display()

    def hang_up(self) -> None:
        """Go away, as a closed window does."""
        self._closing = True
        self._thread.join(WAIT)
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        """Read what is there, and close both ends."""
        self._closing = True
        self._thread.join(WAIT)
        self.file.close()
        os.close(self.slave)
        if self._master >= 0:
            os.close(self._master)


@contextmanager
def terminal(columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    """A terminal of this size."""
    made = Terminal(columns, rows)
    try:
        yield made
    finally:
        made.close()
