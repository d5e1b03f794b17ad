"""Plugin: what ttasks does in one process of pytest."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from pytest_ttasks.folders import home_of
from ttasks import sync
from ttasks.console.logfiles import LogFiles
from ttasks.engine.executor import TaskExecutor
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
        self._graphs: dict[LiveGraph, str] = {}  # and what tests get of each
        self._keeps = False  # True once a graph is to be kept
        self._has_waited = False
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
        executor.events.subscribe(roster, types=Roster.TYPES)
        executor.events.subscribe(logs, types=LogFiles.TYPES)
        try:
            yield executor
        finally:
            executor.shutdown(cancel=True)
            roster.remove()
            logs.forget()

    def begin(
        self, graph: TaskGraph, make_executor: Callable[[], TaskExecutor], logs: Path, what: str
    ) -> LiveGraph:
        """Run a graph up to the tests.

        Args:
            graph: the graph.
            make_executor: makes its executor.
            logs: folder for what its tasks print.
            what: the fixture and its value, for people.

        Raises:
            SetUpFailed, GraphError: see `LiveGraph.start`.
        """
        self.sweep()  # what a killed process has left may hold a port or a file
        self.logs.watch(logs)
        live = LiveGraph(graph, make_executor(), Roster(self._rosters), logs)
        live.start()
        self._graphs[live] = what
        return live

    def finish(self, live: LiveGraph, request: pytest.FixtureRequest) -> str | None:
        """End a graph after its tests, or keep it; return what went wrong in it."""
        if self._config.option.ttasks_keep == "failed" and request.session.testsfailed:
            self._keeps = True
            if request.scope != "session":  # other tests follow
                return None
            # Now, as the fixtures that the graph uses, such as its folders, are still there.
            self._keep()
        del self._graphs[live]
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
            self._keep()
        finally:
            while self._graphs:
                self._graphs.popitem()[0].stop()
            if self._membership is not None:
                self._membership.leave()
            self.sweep()  # what a killed worker has left
            for folder in (self._rosters, self._home / "runs", self._home):
                with suppress(OSError):  # another process uses it
                    folder.rmdir()

    def _keep(self) -> None:
        """Say what is kept, and wait for SIGINT or SIGTERM; once, and only if a test has failed."""
        if not (self._keeps and self._graphs) or self._has_waited:
            return
        self._has_waited = True
        over = sync.Event()
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, lambda *_: over.set()) for number in numbers]
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        try:
            with nullcontext() if capture is None else capture.global_and_fixture_disabled():
                self._tell()
            while not over.wait(0.1):  # in slices: a signal just before a wait does not end it
                pass
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _tell(self) -> None:
        """Write which tests have failed, and what is kept."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:
            return
        reporter.write_line("")
        reporter.section("ttasks: kept up because a test has failed")
        for report in (*reporter.stats.get("failed", ()), *reporter.stats.get("error", ())):
            reporter.write_line(f"{report.nodeid}\n{report.longreprtext}\n")
        for live, what in self._graphs.items():
            reporter.write_line(what)
            for task in live.running():
                reporter.write_line(f"  {task.title}: {task.payload}")
            reporter.write_line(f"  logs: {live.logs}")
        reporter.write_line(f"Press Ctrl-C to end it, or: kill {os.getpid()}")
        reporter.flush()
