"""Unfinished: slots that a process had claimed, and that it did not finish because it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttasks.errors import TTasksError

if TYPE_CHECKING:
    from ttasks.engine.executor import TaskExecutor
    from ttasks.model.graph import TaskGraph
    from ttasks.model.run import Run
    from ttasks.model.slots import Claim, SlotLog
    from ttasks.model.store import Store


class Interrupted(TTasksError):
    """A slot was begun by a process that is gone, and cannot be resumed; the message says why."""


class Unfinished:
    """What to do with a slot whose process is gone. Thread-safe.

    - Nothing of its graph had begun: it is run like any other slot.
    - Its run had ended: only that is noted.
    - Otherwise the graph is resumed if it has a key, and no other graph of this key has run since.
      If it has none, it cannot be known what would happen twice, so it is not run again.

    Args:
        executor: of the scheduler.
        slots: where the slots are.
        store: the store of the slots; None if it is that of the executor.
    """

    def __init__(self, executor: TaskExecutor, slots: SlotLog, store: Store | None) -> None:
        self._store = executor.store
        self._slots = slots
        self._is_same = store is None or store is executor.store

    def outcome(self, claim: Claim) -> tuple[str, Run] | None:
        """How the earlier run of a slot ended; None if there was none, or it did not end."""
        run = self._run_of(claim)
        if run is None or run.outcome in ("running", "interrupted"):
            return None
        return run.outcome, run

    def is_resumed(self, claim: Claim, graph: TaskGraph) -> bool:
        """Whether the graph of a slot goes on with what was done before; False if nothing was.

        Raises:
            Interrupted: it was begun, and cannot be resumed.
        """
        before = claim.graph
        if before is None:
            return False
        graphs = None if self._store is None or not self._is_same else self._store.graphs
        if graphs is not None:
            if before not in graphs:
                return False
            keyed = getattr(graphs, "keyed", None)
            if graph.key is not None and keyed is not None and before in keyed(graph.key)[:1]:
                return True
        why = "it has no key" if graph.key is None else "graphs of its key have run since"
        if graphs is None:
            why = "the executor keeps its runs elsewhere"
        raise Interrupted(
            f"the process that ran it is gone, and the graph cannot be resumed ({why}), so what "
            "was left of it did not run"
        )

    def give_up(self, claim: Claim) -> None:
        """Note that a slot is not run any more."""
        found = self.outcome(claim)
        told = "missed" if claim.graph is None else "interrupted"
        self._slots.end(claim, told if found is None else found[0])

    def cancel(self, claim: Claim) -> None:
        """Ask the process that has a slot to stop its run."""
        run = self._run_of(claim)
        if run is not None:
            run.cancel()

    def _run_of(self, claim: Claim) -> Run | None:
        if claim.graph is None or not self._is_same:
            return None
        runs = getattr(self._store, "runs", None)
        found: Run | None = None if runs is None else runs.latest(graph=claim.graph)
        return found
