"""What services print during a test, for the report of that test."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ttasks import sync
from ttasks.console.logfiles import LogFiles
from ttasks.model.event import TaskEvent
from ttasks.model.task import is_service

MOST_BYTES = 64 * 1024
"""The most that a section shows of a log: its end."""

SETTLE_SECONDS = 0.05
"""How long a report waits for lines that services have written but nobody has read yet."""


class TestLogs:
    """The log files of all graphs that tests use, and where they stood when a test began.

    The files belong to `ttasks.console.logfiles.LogFiles`, perhaps of another process. Used by the
    main thread only, except for `watch`.
    """

    __test__ = False  # no class of tests

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._before: dict[Path, int] = {}

    def watch(self, folder: Path) -> None:
        """Show the logs of this folder from now on."""
        if folder not in self._folders:
            self._folders.append(folder)

    def forget(self, folder: Path) -> None:
        """Show the logs of this folder no more."""
        self._folders.remove(folder)

    def begin_test(self) -> None:
        """Note where the logs stand."""
        self._before = {path: size for path, size in self._sizes() if size}

    def add_to(self, report: pytest.TestReport) -> None:
        """Add a section for each task that has printed something during this test."""
        if not self._folders:
            return
        sync.sleep(SETTLE_SECONDS)
        for path, size in self._sizes():
            begin = self._before.get(path, 0)
            if size > begin:
                title = path.name.rpartition(".")[0].rpartition(".")[0]
                report.sections.append((f"ttasks: {title}", _text(path, begin, size)))

    def _sizes(self) -> list[tuple[Path, int]]:
        found = []
        for folder in self._folders:
            for path in sorted(folder.glob("*/*.log")):
                try:
                    found.append((path, path.stat().st_size))
                except OSError:  # removed by the last worker that used it
                    continue
        return found


class ServiceLogs:
    """A subscriber that writes what services print to log files. Thread-safe.

    Args:
        tests: is told of the folder.
        make_folder: makes it, when the first line is printed.
    """

    def __init__(self, tests: TestLogs, make_folder: Callable[[], Path]) -> None:
        self._tests = tests
        self._make_folder = make_folder
        self._lock = sync.Lock()  # protects the making of the files
        self._files: LogFiles | None = None

    def __call__(self, event: TaskEvent) -> None:
        """Take an event of `LogFiles.TYPES`."""
        if not is_service(event.task):
            return
        with self._lock:
            if self._files is None:
                self._files = LogFiles(self._make_folder())
                self._tests.watch(self._files.folder)
        self._files(event)

    def forget(self) -> None:
        """Leave the logs out of the reports of later tests."""
        if self._files is not None:
            self._tests.forget(self._files.folder)


def _text(path: Path, begin: int, end: int) -> str:
    left_out = max(0, end - begin - MOST_BYTES)
    with open(path, "rb") as file:
        file.seek(begin + left_out)
        text = file.read(end - begin - left_out).decode("utf-8", "replace")
    if left_out:
        return f"[... {left_out} bytes left out; the whole is in {os.fspath(path)} ...]\n{text}"
    return text
