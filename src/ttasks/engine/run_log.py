"""RunRecord: the entry of a graph's run in the store, from its claim of the key to its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ttasks.engine.key_waits import KEY_WAITS
from ttasks.errors import GraphError, StoreError, TaskCancelled
from ttasks.model.run import Holder, Run, source_of

if TYPE_CHECKING:
    from ttasks.engine.history import GraphHistory
    from ttasks.engine.recorder import Recorder
    from ttasks.engine.requests import Requests
    from ttasks.model.cancel import CancelToken
    from ttasks.model.clock import Clock
    from ttasks.model.run import Reason, RunLog

WAIT_SECONDS = 0.1
"""How often to look whether the key of a graph is free, by the executor's clock."""


class RunRecord:
    """What the store remembers of one run of a graph.

    A write that fails is noted by the recorder, and the run goes on; with a strict recorder it
    raises.

    Args:
        log: the ``runs`` of the store; None if it has none.
        recorder: of the executor.
        run, history: the run.
    """

    def __init__(
        self, log: RunLog | None, recorder: Recorder, run: Run, history: GraphHistory
    ) -> None:
        self._log = log
        self._recorder = recorder
        self._run = run
        self._history = history

    def claim(
        self,
        requests: Requests,
        clock: Clock,
        wait: Callable[[], None] | None,
        tokens: Sequence[CancelToken] = (),
    ) -> None:
        """Begin the entry; only one graph with a key runs at a time.

        Args:
            requests: of the run; a request to stop ends the wait.
            clock: of the executor.
            wait: called before waiting for the end of another run; None forbids to wait.
            tokens: that cancel the run; one that is cancelled ends the wait too.

        Raises:
            GraphError: another run has the key.
            TaskCancelled: the run, or what it is part of, was cancelled while it waited.
            StoreError: the entry cannot be written, and the executor is strict.
        """
        self._recorder.catch_up()  # the end of an earlier run may be missing
        try:
            self._claim(requests, clock, wait, tokens)
        finally:
            KEY_WAITS.end(self._run.id)
            self._history.waiting_for = None

    def _claim(
        self,
        requests: Requests,
        clock: Clock,
        wait: Callable[[], None] | None,
        tokens: Sequence[CancelToken],
    ) -> None:
        outer = self._outer_runs()
        while (holder := self._begin()) is not None:
            if wait is None or any(run.graph_key == self._run.graph_key for run in outer):
                raise GraphError(self._refusal(holder))
            if not KEY_WAITS.begin(self._run.id, [run.id for run in outer], holder.run_id):
                raise GraphError(self._refusal(holder, is_circle=True))
            self._history.waiting_for = self._awaited(holder)
            wait()
            stops = [token.add_callback(requests.ring) for token in tokens]
            try:
                requests.wait_until(clock.now() + WAIT_SECONDS)
            finally:
                for remove in stops:
                    remove()
            for token in tokens:
                if token.cancelled:
                    raise token.error()
            if requests.cancel:
                raise TaskCancelled(
                    f"The graph run was {requests.reason} while it waited for another run of the "
                    f"key {self._run.graph_key!r}"
                )

    def _begin(self) -> Holder | None:
        if self._log is None:
            return None
        self._history.start()
        try:
            found = self._log.begin(self._run, self._history.opening(), self._history.parent)
        except Exception as error:
            self._fail(error)
            self._log = None
            return None
        if isinstance(found, Holder):
            return found
        self._history.number = found
        return None

    def _awaited(self, holder: Holder) -> str:
        """What a run waits for that waits for its key."""
        return (
            f"another run of the key {self._run.graph_key!r}, which has been running "
            f"{_since(holder)}"
        )

    def _outer_runs(self) -> list[Run]:
        """The runs that this one is part of, the innermost first."""
        found: list[Run] = []
        parent = self._history.parent
        while parent is not None:
            found.append(parent[0])
            parent = source_of(parent[0]).parent
        return found

    def _refusal(self, holder: Holder, *, is_circle: bool = False) -> str:
        """Why the graph cannot run now."""
        head = self._history.head()
        text = (
            f"Graph {head.title!r} cannot run: a graph of its key {head.graph_key!r} has been "
            f"running {_since(holder)}"
        )
        if is_circle:
            return (
                f"{text}, which waits for a run that this one is part of; both "
                "would wait for ever, so do not run graphs of these keys inside of each other"
            )
        if any(run.graph_key == head.graph_key for run in self._outer_runs()):
            return f"{text}, which this run is part of; give it another key"
        if holder.is_certain:
            return f"{text}; wait for its end, or run this graph with wait=True"
        return (
            f"{text}, which cannot be seen from here (unknown); if it is gone, call "
            f"store.runs.mark_interrupted({holder.run_id!r})"
        )

    @property
    def asked(self) -> Callable[[], bool] | None:
        """What says whether another process has asked to stop the run; None if none can."""
        look = getattr(self._log, "is_cancelled", None)
        if look is None:
            return None

        def asked() -> bool:
            try:
                return bool(look(self._run))
            except Exception:  # a store that cannot be read now may be asked again later
                return False

        return asked

    def describe(self, before: frozenset[int], reasons: dict[int, Reason]) -> None:
        """Add which tasks had ended before, and why the others were not reused."""
        if self._log is not None:
            try:
                self._log.describe(self._run, before, reasons)
            except Exception as error:
                self._fail(error)

    def discard(self) -> None:
        """Remove the entry of a run that could not begin."""
        if self._log is not None:
            try:
                self._log.discard(self._run)
            except Exception as error:  # what kept the run from beginning matters more
                self._recorder.graph_errors[self._run.graph_id] = error

    def end(self) -> None:
        """Complete the entry."""
        if self._log is not None:
            elsewhere = self._history.left_over()
            end = partial(self._log.end, self._run, self._history.head(), elsewhere)
            try:
                end()
            except Exception as error:
                self._recorder.graph_errors[self._run.graph_id] = error
                self._recorder.save_later(self._run.id, end)

    def _fail(self, error: Exception) -> None:
        self._recorder.graph_errors[self._run.graph_id] = error
        if self._recorder.strict:
            raise StoreError(f"The run could not be saved: {error}") from error


def _since(holder: Holder) -> str:
    """Since when and where a run goes on."""
    return f"since {holder.since:%Y-%m-%d %H:%M:%S} UTC in process {holder.pid} on {holder.host!r}"
