"""Plan: what may start now, and what a finished task unlocks.

A pure state machine over node numbers: no I/O, threads, locks or clock. Whoever drives it

1. calls ``take`` for a node to run, as often as there is capacity;
2. calls ``finish`` with the outcome of a node that ran, after it has told the world about it;
3. carries out each ``Decision`` that comes back (a node that will not run), and then calls
   ``finish`` for that node too. So a node's dependents are never unlocked before its own end has
   been announced.

A whole run costs O((V + E) log V).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from heapq import heappop, heappush
from typing import NamedTuple

from ttasks.model.policy import DependencyPolicy
from ttasks.model.status import TaskStatus
from ttasks.model.topology import Topology

SUCCEEDED = TaskStatus.SUCCEEDED
SKIPPED = TaskStatus.SKIPPED
BLOCKED = TaskStatus.BLOCKED
CANCELLED = TaskStatus.CANCELLED
FAILED = TaskStatus.FAILED

Order = tuple[float, datetime | None]
"""Priority (higher first) and deadline (earlier first, None last) of a node."""


class State(IntEnum):
    """Where a node is in the plan."""

    WAITING = 0  # for upstreams
    READY = 1  # may start, in the queue or parked by a full group
    RUNNING = 2  # taken, not finished
    DELAYED = 3  # will be tried again at a later time, which the driver knows
    DECIDED = 4  # will not run; handed out as a Decision, not finished
    FINISHED = 5


class Decision(NamedTuple):
    """A node that will not run: BLOCKED, SKIPPED or CANCELLED.

    ``because`` is the node that blocks it, None for the other two.
    """

    node: int
    status: TaskStatus
    because: int | None = None


class _Tally:
    """What became of the upstreams of a node that did not all succeed."""

    __slots__ = ("broken", "failures", "first_bad", "skipped")

    def __init__(self) -> None:
        self.broken = 0  # FAILED, CANCELLED or BLOCKED
        self.failures = 0  # of these FAILED or BLOCKED
        self.skipped = 0
        self.first_bad: int | None = None  # the first broken one


class Plan:
    """The state of one run of a graph.

    Not thread-safe: its driver serialises the calls.

    Args:
        topology: the checked edges.
        policies: for each node what it does when an upstream did not succeed.
        finally_: nodes that run once all their upstreams are finished, whatever became of them,
            also after ``stop``.
        orders: priority and deadline of nodes that have any; None where no node has.
        groups: group of each node that has one with a limit.
        finished: outcome of nodes that have ended before this run and are not tried again.

    Attributes:
        unfinished: nodes that are not FINISHED.
        active: nodes that are RUNNING or DECIDED, that is, in the hands of the driver.
        delayed: nodes that are DELAYED.
        queue: not empty if ``take`` may find something, nodes that no full group holds back.
    """

    def __init__(
        self,
        topology: Topology,
        policies: Sequence[DependencyPolicy],
        finally_: frozenset[int] = frozenset(),
        orders: Mapping[int, Order] | None = None,
        groups: Mapping[int, str] | None = None,
        finished: Mapping[int, TaskStatus] | None = None,
    ) -> None:
        self._edges = topology.dependencies
        self._dependents = topology.dependents
        self._policies = policies
        self._finally = finally_
        self._groups = groups or {}
        self._rank, self._by_rank = _ranks(len(policies), orders or {})
        self._state = [State.WAITING] * len(policies)
        self._waiting = [len(ends) for ends in self._edges]
        self._tallies: dict[int, _Tally] = {}
        self.queue: list[int] = []  # a heap of ranks; may hold nodes that are no longer READY
        self._parked: dict[str, list[int]] = {}  # by group that was full: a heap of ranks
        self._stopped = False
        self._stopped_all = False  # the finally nodes as well
        self.unfinished = len(policies)
        self.active = 0
        self.delayed = 0
        self._initial: list[Decision] = []
        # What had ended before is settled first, so that nothing becomes ready by mistake.
        finished = finished or {}
        for node in finished:
            self._state[node] = State.FINISHED
            self.unfinished -= 1
        for node in range(len(policies)):
            if not self._waiting[node] and self._state[node] is State.WAITING:
                self._settle(node, self._initial)
        for node, outcome in finished.items():
            self._unlock(node, outcome, self._initial)

    def begin(self) -> list[Decision]:
        """Decisions that stand before anything has run; to be carried out like any other."""
        decisions, self._initial = self._initial, []
        return decisions

    def take(self, acquire: Callable[[str], bool] | None = None) -> int | None:
        """Take the first node that may start, or None.

        Args:
            acquire: asked for a place in a group; where it says no, the node is parked until
                ``unpark`` and the next one is tried. The driver gives the place back.
        """
        queue, state = self.queue, self._state
        while queue:
            rank = heappop(queue)
            node = rank if self._by_rank is None else self._by_rank[rank]
            if state[node] is not State.READY:
                continue
            group = self._groups.get(node) if self._groups else None
            if group is not None and acquire is not None and not acquire(group):
                heappush(self._parked.setdefault(group, []), rank)
                continue
            state[node] = State.RUNNING
            self.active += 1
            return node
        return None

    def unpark(self, group: str) -> bool:
        """Queue the first node that a full group held back; True if there was one."""
        parked = self._parked.get(group)
        while parked:
            rank = heappop(parked)
            node = rank if self._by_rank is None else self._by_rank[rank]
            if self._state[node] is State.READY:
                heappush(self.queue, rank)
                return True
        return False

    @property
    def grouped(self) -> bool:
        """True if any node is in a limited group."""
        return bool(self._groups)

    def group_of(self, node: int) -> str | None:
        """The limited group of a node, or None."""
        return self._groups.get(node)

    def finish(self, node: int, outcome: TaskStatus) -> list[Decision]:
        """Note the outcome of a node that is RUNNING or DECIDED.

        Returns:
            The nodes whose fate that decides without running them, in the order of the decision.
        """
        decisions: list[Decision] = []
        self._state[node] = State.FINISHED
        self.active -= 1
        self.unfinished -= 1
        dependents = self._dependents[node]
        if dependents:
            self._unlock(node, outcome, decisions)
        return decisions

    def postpone(self, node: int) -> bool:
        """Put a RUNNING node aside for another attempt; False if ``stop`` has ruled that out."""
        if self._stopped_all or (self._stopped and node not in self._finally):
            return False
        self._state[node] = State.DELAYED
        self.active -= 1
        self.delayed += 1
        return True

    def resume(self, node: int) -> bool:
        """Queue a DELAYED node again; False if it was decided meanwhile."""
        if self._state[node] is not State.DELAYED:
            return False
        self.delayed -= 1
        self._enqueue(node)
        return True

    def stop(self, *, also_finally: bool = False) -> list[Decision]:
        """Cancel every node that has not started; finally nodes only if asked to.

        Nodes that are RUNNING or DECIDED are not touched. Idempotent.
        """
        self._stopped = True
        self._stopped_all = self._stopped_all or also_finally
        decisions = []
        for node, state in enumerate(self._state):
            if state in _STOPPABLE and (also_finally or node not in self._finally):
                if state is State.DELAYED:
                    self.delayed -= 1
                decisions.append(self._decide(node, CANCELLED))
        # The node that was unparked for a free place may be among them. What still waits for a
        # place asks again, or nobody would ever unpark it.
        for parked in self._parked.values():
            for rank in parked:
                heappush(self.queue, rank)
        self._parked.clear()
        return decisions

    def is_running(self, node: int) -> bool:
        """True if the node was taken and has not finished."""
        return self._state[node] is State.RUNNING

    def state(self, node: int) -> State:
        """Where the node is."""
        return self._state[node]

    def _enqueue(self, node: int) -> None:
        self._state[node] = State.READY
        heappush(self.queue, node if self._rank is None else self._rank[node])

    def _decide(self, node: int, status: TaskStatus, because: int | None = None) -> Decision:
        self._state[node] = State.DECIDED
        self.active += 1
        return Decision(node, status, because)

    def _unlock(self, node: int, outcome: TaskStatus, decisions: list[Decision]) -> None:
        """Tell the dependents of a finished node what became of it."""
        waiting, state = self._waiting, self._state
        succeeded = outcome is SUCCEEDED
        for dependent in self._dependents[node]:
            waiting[dependent] -= 1
            if state[dependent] is not State.WAITING:
                continue
            if not succeeded:
                self._count(dependent, node, outcome)
                early = self._decide_early(dependent)
                if early is not None:
                    decisions.append(early)
                    continue
            if not waiting[dependent]:
                self._settle(dependent, decisions)

    def _count(self, dependent: int, node: int, outcome: TaskStatus) -> None:
        tally = self._tallies.get(dependent)
        if tally is None:
            tally = self._tallies[dependent] = _Tally()
        if outcome is SKIPPED:
            tally.skipped += 1
            return
        tally.broken += 1
        if outcome is not CANCELLED:
            tally.failures += 1
        if tally.first_bad is None:
            tally.first_bad = node

    def _decide_early(self, node: int) -> Decision | None:
        """What an upstream that did not succeed settles while others may still be running."""
        if node in self._finally:
            return None
        tally = self._tallies[node]
        policy = self._policies[node]
        if policy is DependencyPolicy.SKIP:
            return self._decide(node, SKIPPED)
        if policy is DependencyPolicy.BLOCK and tally.broken:
            return self._decide(node, BLOCKED, tally.first_bad)
        return None

    def _settle(self, node: int, decisions: list[Decision]) -> None:
        """Queue or decide a node whose upstreams are all finished."""
        if node in self._finally:
            self._enqueue(node)
            return
        tally = self._tallies.get(node) if self._tallies else None
        policy = self._policies[node]
        if policy is DependencyPolicy.ON_FAILURE:
            if tally is not None and tally.failures:
                self._enqueue(node)
            else:
                decisions.append(self._decide(node, SKIPPED))
        elif tally is None or policy is DependencyPolicy.RUN_ANYWAY:
            self._enqueue(node)
        elif policy is DependencyPolicy.CONTINUE_IF_ANY:
            if tally.skipped + tally.broken < len(self._edges[node]):
                self._enqueue(node)
            elif tally.broken:
                decisions.append(self._decide(node, BLOCKED, tally.first_bad))
            else:
                decisions.append(self._decide(node, SKIPPED))
        else:
            # BLOCK with skipped upstreams only; any other was decided early.
            decisions.append(self._decide(node, SKIPPED))


_STOPPABLE = (State.WAITING, State.READY, State.DELAYED)


def _ranks(count: int, orders: Mapping[int, Order]) -> tuple[list[int] | None, list[int] | None]:
    """Rank of each node and node of each rank; (None, None) where both are the number itself."""
    if not orders:
        return None, None

    def key(node: int) -> tuple[float, float, int]:
        priority, deadline = orders.get(node, (0.0, None))
        moment = float("inf") if deadline is None else deadline.timestamp()
        return -priority, moment, node

    by_rank = sorted(range(count), key=key)
    rank = [0] * count
    for position, node in enumerate(by_rank):
        rank[node] = position
    return rank, by_rank
