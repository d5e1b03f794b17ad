"""What services print during a test, for the report of that test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ttasks import sync

MOST_BYTES = 64 * 1024
"""The most that a section shows of a log: its end."""

SETTLE_SECONDS = 0.05
"""How long a report waits for lines that services have written but nobody has read yet."""


class TestLogs:
    """The log files of all graphs that tests use, and where they stood when a test began.

    The files belong to `ttasks.console.logfiles.LogFiles`, perhaps of another process. Used by the
    main thread only.
    """

    __test__ = False  # no class of tests

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._before: dict[Path, int] = {}

    def watch(self, folder: Path) -> None:
        """Show the logs of this folder from now on."""
        if folder not in self._folders:
            self._folders.append(folder)

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


def _text(path: Path, begin: int, end: int) -> str:
    left_out = max(0, end - begin - MOST_BYTES)
    with open(path, "rb") as file:
        file.seek(begin + left_out)
        text = file.read(end - begin - left_out).decode("utf-8", "replace")
    if left_out:
        return f"[... {left_out} bytes left out; the whole is in {os.fspath(path)} ...]\n{text}"
    return text
