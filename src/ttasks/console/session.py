"""Console: opens everything that shows a run, and closes it again."""

from __future__ import annotations

import os
import sys
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from ttasks.console.board import Board
from ttasks.console.detect import (
    CI_SYSTEMS,
    MODES,
    can_draw,
    choose_mode,
    choose_symbols,
    is_binary,
)
from ttasks.console.grouped import Grouped, KeepOrder
from ttasks.console.logfiles import LogFiles, check_folder
from ttasks.console.prints import Prints
from ttasks.console.screen import Screen
from ttasks.console.style import Style
from ttasks.console.views import Quiet, Stream, View
from ttasks.console.wording import Rerun, Wording, again
from ttasks.console.writer import Writer
from ttasks.model.checks import check_bool, check_callable, wrong_type, wrong_value
from ttasks.model.event import TaskEventType
from ttasks.report.terminal import is_terminal, wants_color

if TYPE_CHECKING:
    from collections.abc import Callable

    from ttasks.engine.executor import TaskExecutor

_VIEWS: dict[str, type[View]] = {
    "plain": View,
    "stream": Stream,
    "grouped": Grouped,
    "keep-order": KeepOrder,
    "quiet": Quiet,
}


class Console:
    """Shows what an executor does, until it is closed; `console` makes it.

    Attributes:
        mode: what it shows; never "auto".
        logs: the folder of the log files, or None.
    """

    def __init__(
        self,
        executor: TaskExecutor,
        mode: str,
        stream: TextIO | None,
        logs: LogFiles | None,
        style: Style,
        rerun: Rerun,
    ) -> None:
        self.mode = mode
        self.logs = None if logs is None else logs.folder
        self._executor = executor
        self._stream = stream
        self._style = style
        self._rerun = rerun
        self._log_files = logs
        self._prints: list[Prints] = []
        self._ends: list[Callable[[], None]] = []
        self._writer: Writer | None = None
        self._view = self._make_view()

    def _make_view(self) -> View:
        self._board = Board()
        wording = Wording(self._style, self._rerun, self._tell)
        if self.mode == "live":
            from ttasks.console.forecast import Forecast
            from ttasks.console.live import Live

            return Live(self._board, wording, Forecast())
        if self.mode == "jsonl":
            from ttasks.console.jsonl import JsonLines

            return JsonLines(self._board, wording)
        if self.mode in CI_SYSTEMS.values():
            from ttasks.console.ci.view import FORMS, CiView

            return CiView(self._board, wording, FORMS[self.mode](os.environ))
        return _VIEWS[self.mode](self._board, wording)

    def _tell(self, error: BaseException) -> None:
        if self._writer is not None:
            self._writer.tell(error)

    def __enter__(self) -> Self:
        """Begin to show what happens.

        Raises:
            RuntimeError: it was opened before.
        """
        if self._writer is not None:
            raise RuntimeError("a console can be opened once only; call console() again")
        self._writer = writer = Writer(
            Screen(self._stream), self._board, self._view, self._executor.store, self._log_files
        )
        try:
            self._open(writer)
        except BaseException:  # an interrupt, which leaves nothing of this behind
            self.close()
            raise
        return self

    def _open(self, writer: Writer) -> None:
        """Take what happens from now on, and begin to write."""
        writer.start()
        events = self._executor.events
        if self._log_files is not None:  # first, so that a failure knows its file
            self._ends.append(events.subscribe(self._log_files, types=LogFiles.TYPES))
        lifecycle = set(TaskEventType) - {TaskEventType.OUTPUT, TaskEventType.RUN_STOPPING}
        self._ends.append(events.subscribe(writer.take, types=lifecycle))
        self._ends.append(events.subscribe(writer.take_stop, types=TaskEventType.RUN_STOPPING))
        self._ends.append(events.subscribe(writer.take_output, types=TaskEventType.OUTPUT))
        for name in ("stdout", "stderr"):
            file = getattr(sys, name)
            if file is None:
                continue
            if file is self._stream or (self.mode == "live" and is_terminal(file)):
                prints = Prints(name, writer.take)
                self._prints.append(prints)  # first, so that `close` finds it
                prints.install()

    def close(self) -> None:
        """Show what is left and the last lines, and let go of everything. Idempotent.

        It returns when everything is written, or when the reader has taken nothing for two seconds.
        """
        ends, self._ends = self._ends, []
        for end in ends:
            end()
        for prints in self._prints:
            prints.remove()
        self._prints.clear()
        if self._writer is not None:
            self._writer.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def console(
    executor: TaskExecutor,
    mode: str = "auto",
    *,
    logs: str | PathLike[str] | None = None,
    color: bool | None = None,
    file: TextIO | None = None,
    rerun: Rerun | None = None,
) -> Console:
    """Show what an executor does during a ``with`` block.

    Tasks never wait for it: it draws on a thread of its own. A reader that is slow, blocks or goes
    away does not delay a run. Lines that the program prints to the same file go through the
    console, so that they stay whole.

    A run that has not ended when the console closes is shown as still running. `TaskGraph.run`
    waits for the end. For `TaskGraph.start` and `TaskExecutor.submit`, write
    ``with console(executor), executor:``, so that the executor waits before the console closes.

    Args:
        executor: everything that it runs is shown.
        mode: "live" (needs the extra ``rich``; without a terminal it is "plain"), "plain" (a line
            per change, and the output of failed tasks), "stream" (each line at once, after the name
            of its task), "grouped" (the output of a task when it ends), "keep-order" (one task
            live, the others in turn), "quiet" (failures and the last line), "jsonl" (a JSON object
            per event); "github", "gitlab", "azure", "buildkite" or "teamcity" for the form of a CI
            system; or "auto": the form of the CI system, "live" on a terminal, else "plain".
        logs: a folder for the whole output of every attempt, as ``<run>/<task>.<attempt>.log``, in
            every mode. None means no log files.
        color: whether to use colours; None decides by NO_COLOR, FORCE_COLOR, CLICOLOR_FORCE and
            whether ``file`` is a terminal.
        file: where to write text; None means ``sys.stdout``. If that is None, too, nothing is
            shown. Characters that the file cannot encode become ``?``.
        rerun: called with a task that failed; returns the command that runs it again, as one line
            or several, or None. The first exception that it raises is printed on ``sys.stderr``.
            By default, the command of Bash and PowerShell tasks.

    Returns:
        The console, to be used in a ``with`` statement.

    Raises:
        TypeError, ValueError: an argument is wrong.
        MissingExtraError: "live" without the extra ``rich``.
        OSError: the folder for ``logs`` cannot be made.

    Example:
        >>> from ttasks import Task, TaskExecutor
        >>> with TaskExecutor() as executor, console(executor, "quiet"):
        ...     result = executor.execute(Task.bash("echo hello", title="greet"))
    """
    _check(executor, mode, logs, color, file, rerun)
    stream: TextIO | None = sys.stdout if file is None else file
    if mode == "auto":
        mode = choose_mode(stream, os.environ)
    elif mode == "live" and not can_draw(stream, os.environ):
        mode = "plain"
    style = Style(
        colour=mode != "jsonl" and wants_color(color, stream, os.environ),
        symbols=choose_symbols(stream, os.environ),
    )
    log_files = None if logs is None else LogFiles(logs)
    return Console(executor, mode, stream, log_files, style, rerun or again)


def _check(
    executor: object, mode: object, logs: object, color: object, file: object, rerun: object
) -> None:
    """Check the arguments of `console`."""
    for name in ("events", "store"):
        if not hasattr(executor, name):
            raise wrong_type("executor", executor, "a TaskExecutor")
    if not isinstance(mode, str):
        raise wrong_type("mode", mode, f"a str, one of {', '.join(MODES)}")
    if mode not in MODES:
        raise wrong_value("mode", mode, f"one of {', '.join(MODES)}")
    if color is not None:
        check_bool("color", color)
    if logs is not None:
        check_folder("logs", logs)
    if rerun is not None:
        check_callable("rerun", rerun)
    if file is not None and (not callable(getattr(file, "write", None)) or is_binary(file)):
        raise wrong_type("file", file, "a text file or None")
    if file is not None and not _is_writable(file):
        raise wrong_value("file", file, "a file that is open for writing, or None")


def _is_writable(file: object) -> bool:
    """False if a file says that it is closed, or open for reading only."""
    if getattr(file, "closed", False) is True:
        return False
    try:
        return getattr(file, "writable", lambda: True)() is not False
    except Exception:  # a class of the user's
        return True
