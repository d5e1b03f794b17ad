"""Log files: the whole output of every attempt, and the log records of every task, in files."""

from __future__ import annotations

import logging
import os
import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ttasks import sync
from ttasks.model.checks import wrong_type, wrong_value
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.log_filter import TaskLogFilter

if TYPE_CHECKING:
    from logging import LogRecord

_UNSAFE = re.compile(r"[^\w.+-]+")
_LONGEST = 80  # characters of a title in a file's name; four bytes each are still allowed


def file_name(title: str) -> str:
    """A title as the name of a file, on every system."""
    return _UNSAFE.sub("_", title)[:_LONGEST].strip("._") or "task"


def check_folder(name: str, folder: object) -> None:
    """Refuse what cannot be the path of a folder."""
    if not isinstance(folder, (str, PathLike)):
        raise wrong_type(name, folder, "a path")
    path = os.fspath(folder)
    if not isinstance(path, str):
        raise wrong_type(name, folder, "a path of str")
    if path == "" or "\0" in path:
        raise wrong_value(name, folder, "the path of a folder, without null characters")


class Names:
    """A file's name for each task, no two alike, whatever their titles. Not thread-safe."""

    def __init__(self) -> None:
        self._of_task: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, task_id: str, title: str) -> str:
        """The name for a task."""
        name = self._of_task.get(task_id)
        if name is None:
            base = name = file_name(title)
            number = 1
            while name.lower() in self._taken:  # some file systems do not tell A from a
                number += 1
                name = f"{base}-{number}"
            self._taken.add(name.lower())
            self._of_task[task_id] = name
        return name


class LogFiles:
    """Writes ``folder/<run>/<task>.<attempt>.log`` for every attempt that prints or fails.

    A subscriber. It writes on the thread that reads the output, so that nothing is left out. No
    file stays open, because thousands of tasks may run at once. If writing fails, it stops and
    keeps the error. Thread-safe.

    Attributes:
        error: why it stopped; None if it has not.
    """

    TYPES = (TaskEventType.OUTPUT, TaskEventType.FAILED)

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.error: OSError | None = None
        # Protects what is kept of each run: the names of its tasks, the files of their attempts.
        # Not held while a file is written: the events of an attempt come one after the other.
        self._lock = sync.Lock()
        self._runs: dict[str, tuple[Names, dict[tuple[str, int], Path]]] = {}

    def __call__(self, event: TaskEvent) -> None:
        """Take an event."""
        if self.error is not None or not event.attempt:
            return
        text = _last_words(event) if event.output_chunk is None else event.output_chunk
        try:
            with open(self._path(event), "ab") as file:
                file.write(text.encode("utf-8", "replace"))
        except OSError as error:
            self.error = error

    def _path(self, event: TaskEvent) -> Path:
        """The file of an attempt, which is empty at first."""
        attempt = (event.task_id, event.attempt)
        run = event.run_id or "tasks"
        with self._lock:
            names, paths = self._runs.setdefault(run, (Names(), {}))
            path = paths.get(attempt)
            if path is None:
                name = names.of(event.task_id, event.task.title)
                path = self.folder / run / f"{name}.{event.attempt}.log"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(b"")
                paths[attempt] = path
        return path

    def path_of(self, event: TaskEvent) -> str | None:
        """The file of an attempt, relative if it lies below the working folder; None without."""
        with self._lock:
            _, paths = self._runs.get(event.run_id or "tasks", (None, {}))
            path = paths.get((event.task_id, event.attempt))
        if path is None:
            return None
        try:
            return str(path.relative_to(Path.cwd()))
        except (OSError, ValueError):  # it lies elsewhere, or there is no working folder
            return str(path)

    def forget(self, run_id: str) -> None:
        """Forget a run that has ended; its files stay."""
        with self._lock:
            self._runs.pop(run_id, None)


def _last_words(event: TaskEvent) -> str:
    result = event.task.result
    failure = None if result is None else result.failure
    trace = "" if failure is None or event.retry_in is not None else failure.traceback
    return f"\n[ttasks] attempt {event.attempt} failed: {event.error}\n{trace}"


class TaskLogHandler(logging.Handler):
    """A handler for ``logging`` that writes the records of each task to a file of its own.

    The files are ``folder/<task>.log``; of two tasks with one title the second gets ``<task>-2``.
    Records from outside of any task are not written. Log records of handlers, of subscribers and
    of worker processes find their task as they do with `TaskLogFilter`. Thread-safe; at most
    64 files are open at a time.

    Args:
        folder: made if need be; files in it are appended to.
        level: see `logging.Handler`.

    Raises:
        TypeError, ValueError: the folder is no path.
        OSError: the folder cannot be made.

    Example:
        >>> import logging, tempfile
        >>> handler = TaskLogHandler(tempfile.mkdtemp())
        >>> logging.getLogger("example").addHandler(handler)
        >>> logging.getLogger("example").removeHandler(handler)
        >>> handler.close()
    """

    _MOST_OPEN = 64

    def __init__(self, folder: str | PathLike[str], level: int | str = logging.NOTSET) -> None:
        check_folder("folder", folder)
        super().__init__(level)
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._names = Names()
        self._files: dict[str, TextIO] = {}
        self.addFilter(TaskLogFilter())
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: LogRecord) -> None:
        """Write a record; ``logging`` calls this, holding the handler's lock."""
        task_id = getattr(record, "task_id", "")
        if not task_id:
            return
        try:
            file = self._files.pop(task_id, None) or self._file_of(task_id, record)
            self._files[task_id] = file  # the latest last
            file.write(self.format(record) + "\n")
            file.flush()
        except Exception:
            self.handleError(record)

    def _file_of(self, task_id: str, record: LogRecord) -> TextIO:
        while len(self._files) >= self._MOST_OPEN:
            self._files.pop(next(iter(self._files))).close()
        name = self._names.of(task_id, getattr(record, "task_title", ""))
        return open(self.folder / f"{name}.log", "a", encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Close the files."""
        self.acquire()
        try:
            files, self._files = list(self._files.values()), {}
        finally:
            self.release()
        for file in files:
            file.close()
        super().close()
