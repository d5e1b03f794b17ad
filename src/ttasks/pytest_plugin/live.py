"""LiveGraph: a graph that runs while tests use what it has set up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.console.logfiles import LogFiles
from ttasks.errors import GraphFailedError
from ttasks.model.context import current_context
from ttasks.model.policy import DependencyPolicy
from ttasks.model.task import Task
from ttasks.pytest_plugin.roster import Roster

if TYPE_CHECKING:
    from ttasks.engine.executor import TaskExecutor
    from ttasks.model.graph import TaskGraph
    from ttasks.model.run import Run

TESTS = "the tests"
"""Title of the task that stands for the tests."""

FINALLY_SECONDS = 60.0
"""How long finally tasks may take after Ctrl-C."""

_POLL_SECONDS = 0.05
_FOREVER = 1e9  # seconds; an executor's own limit is not for the tests


class SetUpFailed(Exception):
    """A graph did not get as far as the tests; the message says why."""


class LiveGraph:
    """Runs a graph on threads of its own, with the tests as one more task of it.

    That task comes after all that is not finally, and before what is: so services stay up and
    finally tasks wait until `stop`. Used by one thread.

    Args:
        graph: nobody else runs it; the task for the tests is added to it.
        executor: is shut down at the end.
        roster: is removed at the end.
        logs: folder for what the tasks print.
    """

    def __init__(
        self, graph: TaskGraph, executor: TaskExecutor, roster: Roster, logs: Path
    ) -> None:
        self.graph = graph
        self.logs = logs
        self._executor = executor
        self._roster = roster
        self._run: Run | None = None
        self._is_up = sync.Event()
        self._is_over = sync.Event()

    def start(self) -> None:
        """Run it up to the tests.

        Raises:
            SetUpFailed: something in it did not succeed; all of it has ended.
            GraphError: it is not valid; nothing has started.
        """
        try:
            self._begin()
            assert self._run is not None
            while not self._is_up.wait(_POLL_SECONDS):
                if self._run.wait(_POLL_SECONDS):
                    break
            if not self._is_up.is_set():
                raise SetUpFailed(self._problem() or "the run was cancelled")
        except BaseException:
            self._end(cancel=True)
            raise

    def stop(self) -> str | None:
        """Let it end: services are stopped, and finally tasks run. Idempotent.

        Returns:
            What went wrong since the tests began; None if nothing did.
        """
        self._end(cancel=False)
        return self._problem()

    def running(self) -> list[Task]:
        """The tasks that stay up: the services."""
        return [task for task in self.graph if task.is_running and task.title != TESTS]

    def _begin(self) -> None:
        graph, events = self.graph, self._executor.events
        graph.validate()
        events.subscribe(self._roster, types=Roster.TYPES)
        events.subscribe(LogFiles(self.logs), types=LogFiles.TYPES)
        before = [task for task in graph if not graph.is_finally(task)]
        tests = Task.python(
            self._wait_for_tests, title=TESTS, backend="thread", timeout=_FOREVER, retry=1
        )
        after = graph.finally_tasks
        # After all that has to be there, whatever became of what is optional.
        graph.add(tests, after=before, on_dep_failure=DependencyPolicy.RUN_ANYWAY)
        for task in after:
            graph.add_dependency(task, tests)
        self._run = graph.start(self._executor, finally_timeout=FINALLY_SECONDS)

    def _wait_for_tests(self) -> None:
        """The task that stands for the tests."""
        context = current_context()
        assert context is not None
        context.cancel_token.add_callback(self._is_over.set)
        if not (self.graph.required_failed or self.graph.required_blocked):
            self._is_up.set()
            self._is_over.wait()

    def _problem(self) -> str | None:
        try:
            self.graph.raise_for_failure()
        except GraphFailedError as error:
            return str(error)
        return None

    def _end(self, *, cancel: bool) -> None:
        self._is_over.set()
        try:
            self._wait_for_end(cancel)
        except KeyboardInterrupt:
            self._wait_for_end(cancel=True)
            raise
        finally:
            self._executor.shutdown(cancel=True)
            self._roster.remove()

    def _wait_for_end(self, cancel: bool) -> None:
        if self._run is not None:
            if cancel:
                self._run.cancel()
            self._run.wait()
