"""Plugin: what ttasks does in one process of pytest."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_ttasks.folders import home_of
from ttasks import sync
from ttasks.console.logfiles import LogFiles
from ttasks.engine.executor import TaskExecutor
from ttasks.model.event import TaskEventType
from ttasks.model.graph import TaskGraph
from ttasks.model.store import Store
from ttasks.pytest_plugin.leaks import Leaks
from ttasks.pytest_plugin.live import LiveGraph
from ttasks.pytest_plugin.logs import ServiceLogs, TestLogs
from ttasks.pytest_plugin.roster import Roster, own_folder, sweep
from ttasks.pytest_plugin.shared import Membership, remove_abandoned


class Plugin:
    """What the plugin knows in this process; made when something of it is used.

    Used by the main thread only.

    Attributes:
        logs: what services print.
        leaks: what tests leave behind.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._home = own_folder(home_of(config))
        self._rosters = self._home / "rosters"
        self._graphs: list[LiveGraph] = []
        self._kept: list[str] = []
        self._membership: Membership | None = None
        self.logs = TestLogs()
        self.leaks = Leaks()

    # Executors and graphs

    @contextmanager
    def executor(self, store: Store, make_folder: Callable[[], Path]) -> Iterator[TaskExecutor]:
        """An executor for the length of a ``with`` block, at whose end nothing of it is left.

        Args:
            store: its store.
            make_folder: makes a folder for what services print.
        """
        executor, roster = TaskExecutor(store), Roster(self._rosters)
        logs = ServiceLogs(self.logs, make_folder)
        executor.events.subscribe(roster, types=TaskEventType.STARTED)
        executor.events.subscribe(logs, types=LogFiles.TYPES)
        try:
            yield executor
        finally:
            executor.shutdown(cancel=True)
            roster.remove()
            logs.forget()

    def begin(
        self, graph: TaskGraph, make_executor: Callable[[], TaskExecutor], logs: Path
    ) -> LiveGraph:
        """Run a graph up to the tests.

        Raises:
            SetUpFailed, GraphError: see `LiveGraph.start`.
        """
        self.sweep()  # what a killed process has left may hold a port or a file
        self.logs.watch(logs)
        live = LiveGraph(graph, make_executor(), Roster(self._rosters), logs)
        live.start()
        self._graphs.append(live)
        return live

    def finish(self, live: LiveGraph, request: pytest.FixtureRequest, value: Any) -> str | None:
        """End a graph after its tests, or keep it; return what went wrong in it."""
        if self._config.option.ttasks_keep == "failed" and request.session.testsfailed:
            self._kept += _how_to_reach(live, f"{request.fixturename} = {value!r}")
            return None
        self._graphs.remove(live)
        return live.stop()

    # Other processes of pytest

    def join(self) -> Membership | None:
        """Take part in what the workers of xdist share; None outside of one."""
        given = getattr(self._config, "workerinput", None)
        if given is not None and self._membership is None:
            folder = self._home / "runs" / given["testrunuid"]
            self._membership = Membership(folder, given["workerid"], self.sweep)
        return self._membership

    def sweep(self) -> None:
        """End what killed processes of pytest have left."""
        sweep(self._rosters)
        remove_abandoned(self._home / "runs")

    # The end

    def close(self) -> None:
        """End what is left; first wait for Ctrl-C if something is to be kept. Idempotent."""
        try:
            if self._kept:
                self._wait_for_signal()
        finally:
            while self._graphs:
                self._graphs.pop().stop()
            if self._membership is not None:
                self._membership.leave()
            self.sweep()  # what a killed worker has left
            for folder in (self._rosters, self._home / "runs", self._home):
                with suppress(OSError):  # another process uses it
                    folder.rmdir()

    def _wait_for_signal(self) -> None:
        """Say what is kept, and wait for SIGINT or SIGTERM."""
        over = sync.Event()
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, lambda *_: over.set()) for number in numbers]
        try:
            reporter = self._config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.section("ttasks: kept up because a test has failed")
                for line in self._kept:
                    reporter.write_line(line)
                reporter.write_line(f"Press Ctrl-C to end it, or: kill {os.getpid()}")
                reporter.flush()
            while not over.wait(0.1):  # in slices: a signal just before a wait does not end it
                pass
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _how_to_reach(live: LiveGraph, what: str) -> list[str]:
    """Lines that tell of what runs in a graph."""
    lines = [what]
    for task in live.running():
        lines += [f"  {task.title}: {task.payload}"]
    return [*lines, f"  logs: {live.logs}"]
