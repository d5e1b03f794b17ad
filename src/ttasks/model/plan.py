"""Plan: what may start now, and what a finished task unlocks.

A pure state machine over node numbers: no I/O, threads, locks or clock. Whoever drives it

1. calls ``take`` for a node to run, as often as there is capacity;
2. calls ``finish`` with the outcome of a node that ran, after it has told the world about it;
3. carries out each ``Decision`` that comes back (a node that will not run), and then calls
   ``finish`` for that node too. So the dependents of a node are never unlocked before its own end
   has been announced.

A whole run costs O((V + E) log V).

A node is *closed* once it is finished and all its dependents are closed. A service is needed until
all its dependents are closed. It is RUNNING when the driver calls ``unlock``, because it is ready,
and the driver ends it when it is among ``unneeded``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from heapq import heappop, heappush
from math import inf
from typing import Any, NamedTuple

from ttasks.model.notes import Notes, Wait
from ttasks.model.policy import DependencyPolicy
from ttasks.model.status import BLOCKED, CANCELLED, SKIPPED, SUCCEEDED, TaskStatus
from ttasks.model.topology import Topology, in_order

Groups = tuple[str, ...]

Order = tuple[float, datetime | None]
"""Priority (higher first) and deadline (earlier first, None last) of a node."""


class State(IntEnum):
    """Where a node is in the plan."""

    WAITING = 0  # for upstreams
    READY = 1  # may start, in the queue or parked by a full group
    RUNNING = 2  # taken, not finished
    DELAYED = 3  # will be tried again when the driver says so
    DECIDED = 4  # will not run; handed out as a Decision, not finished
    FINISHED = 5


# See `ttasks.model.status` for the reason.
WAITING, READY, RUNNING, DELAYED, DECIDED, FINISHED = State
BLOCK, SKIP, CONTINUE_IF_ANY, RUN_ANYWAY, ON_FAILURE = DependencyPolicy


class Decision(NamedTuple):
    """A node that will not run: BLOCKED, SKIPPED or CANCELLED; FAILED after `Plan.refuse`.

    ``because`` is the first upstream that made it so, None where no upstream did.
    """

    node: int
    status: TaskStatus
    because: int | None = None


class _Tally:
    """The outcomes of the upstreams of a node, if not all succeeded."""

    __slots__ = ("broken", "failures", "first", "first_bad", "skipped")

    def __init__(self) -> None:
        self.broken = 0  # FAILED, CANCELLED or BLOCKED
        self.failures = 0  # of these FAILED or BLOCKED
        self.skipped = 0
        self.first: int | None = None
        self.first_bad: int | None = None  # the first broken one


class Plan:
    """The state of one run of a graph.

    Not thread-safe: its driver serialises the calls. Moments are whatever the driver passes as
    ``now``; the plan only notes them.

    Args:
        topology: the checked edges.
        policies: for each node, what it does if an upstream does not succeed.
        finally_: nodes that run once all their upstreams are finished, whatever their outcome,
            even after ``stop``.
        orders: priority and deadline of nodes that have any.
        groups: limited groups of each node that is in any.
        finished: outcome of nodes that ended before this run and are not tried again.
        now: the moment at which the run begins.
        services: nodes that run until nothing needs them.

    Attributes:
        unfinished: nodes that are not FINISHED.
        active: nodes that are RUNNING or DECIDED, that is, in the hands of the driver.
        delayed: nodes that are DELAYED.
        queue: not empty if ``take`` may find a node; excludes those parked by a full group.
        ready: for each node when it could first have run; None before.
        began: the moment at which the run began.
        unlocked_by: for each node the upstream that was finished last, or that decided that the
            node does not run; None where there was none.
        started: for each node when it was first taken; None before.
        ended: for each node when it was finished; None before. The driver may set it earlier, to
            when the outcome was known.
        slots: for each node the slot of the worker that took it first.
        waits: what else happened to a node, as (moment, what, detail), in order: "group" and its
            name when a full group holds it back, "retry" or "duplicate" when it is put aside,
            "worker" when it could run again, "running" and its slot when it is taken again (or for
            the first time, if something else came before), "refused" when it was taken but does
            not run, "up" when a service is ready.
        unneeded: services that have been taken and that nothing needs any more. The driver ends
            them, when they are RUNNING, and empties the list.
    """

    def __init__(
        self,
        topology: Topology,
        policies: Sequence[DependencyPolicy],
        finally_: frozenset[int] = frozenset(),
        orders: Mapping[int, Order] | None = None,
        groups: Mapping[int, Groups] | None = None,
        finished: Mapping[int, TaskStatus] | None = None,
        now: float = 0.0,
        services: Collection[int] = (),
    ) -> None:
        count = len(policies)
        self._edges = topology.dependencies
        self._dependents = topology.dependents
        self._policies = list(policies)
        self._finally = finally_
        self._groups = dict(groups or {})
        # Keys of the nodes that have an order, for `_entry`; None where no node has any.
        self._keys: dict[int, tuple[float, ...]] | None = (
            {node: _key(order) for node, order in orders.items()} if orders else None
        )
        self._state = [WAITING] * count
        self._waiting = [len(ends) for ends in self._edges]
        self._tallies: dict[int, _Tally] = {}
        # A heap of entries (see `_entry`). It may hold nodes that are no longer READY.
        self.queue: list[Any] = []
        self._parked: dict[str, list[Any]] = {}  # by group that was full: such a heap
        self._unlocked: set[int] = set()  # RUNNING, but their dependents go on already
        self.began = now
        self._stopped = False
        self._stopped_all = False  # the finally nodes as well
        self.unfinished = count
        self.active = 0
        self.delayed = 0
        self.ready: list[float | None] = [None] * count
        self.unlocked_by: list[int | None] = [None] * count
        self.started: list[float | None] = [None] * count
        self.ended: list[float | None] = [None] * count
        self.slots: list[int] = [0] * count
        self.waits: dict[int, list[Wait]] = {}
        self._last_key = count  # of the added nodes
        self._free: list[int] = []  # numbers of added nodes that were forgotten
        self._initial: list[Decision] = []
        # Nodes that ended before come first, so that none becomes ready by mistake.
        finished = finished or {}
        for node in finished:
            self._state[node] = FINISHED
            self.unfinished -= 1
        self.unneeded: list[int] = []
        self._services = set(services)
        # For each node how many of its dependents are not closed; empty without services.
        self._open: list[int] = self._count_open(topology) if services else []
        for node in range(count):
            if not self._waiting[node] and self._state[node] is WAITING:
                self._settle(node, self._initial, now)
        for node, outcome in finished.items():
            self._unlock(node, outcome, self._initial, now)

    def begin(self) -> list[Decision]:
        """Decisions made before anything has run; carry them out like any others."""
        decisions, self._initial = self._initial, []
        return decisions

    def add(
        self,
        order: Order = (0.0, None),
        groups: Groups = (),
        now: float = 0.0,
        *,
        service: bool = False,
    ) -> int:
        """Add a node without edges, which may start at once, to a plan that has begun.

        It is queued behind all present nodes of the same order. Numbers given to `forget` are used
        again. A service is needed until `dismiss`.

        Returns:
            Its number.
        """
        if self._keys is None:
            self._keys = {}
            self.queue = [self._entry(node) for node in self.queue]
            for name, parked in self._parked.items():
                self._parked[name] = [self._entry(node) for node in parked]
        if self._free:
            node = self._free.pop()
            self._state[node] = WAITING
            self.started[node] = self.ended[node] = None
        else:
            node = len(self._state)
            self._state.append(WAITING)
            self._edges.append(())
            self._dependents.append([])
            self._waiting.append(0)
            self._policies.append(BLOCK)
            for moments in (self.ready, self.unlocked_by, self.started, self.ended):
                moments.append(None)
            self.slots.append(0)
        if service or self._open:
            self._open += [0] * (len(self._state) - len(self._open))
            self._open[node] = int(service)
        if service:
            self._services.add(node)
        self._last_key += 1
        self._keys[node] = (*_key(order), self._last_key)
        if groups:
            self._groups[node] = groups
        self.unfinished += 1
        self.ready[node] = now
        self._enqueue(node)
        return node

    def forget(self, node: int) -> None:
        """Let `add` use the number of an added node again, which is FINISHED."""
        self.waits.pop(node, None)
        self._unlocked.discard(node)
        self._services.discard(node)
        self.unlocked_by[node] = None
        self._groups.pop(node, None)
        self._free.append(node)

    def take(
        self,
        acquire: Callable[[Groups], Groups] | None = None,
        now: float = 0.0,
        slot: int = 0,
    ) -> int | None:
        """Take the first node that may start, or None.

        Args:
            acquire: takes a place in each group of a node, and returns nothing; or takes none, and
                returns one that is full and then the others that are not. The node is parked then
                until the full one is unparked, and the next node is tried. The driver gives the
                places back.
            now: the moment.
            slot: of the worker that will run it.
        """
        queue, state = self.queue, self._state
        while queue:
            entry = heappop(queue)
            node: int = entry if self._keys is None else entry[-1]
            if state[node] is not READY:
                continue
            groups = self._groups.get(node) if self._groups else None
            if groups is not None and acquire is not None:
                full, *free = acquire(groups) or (None,)
                if full is not None:
                    heappush(self._parked.setdefault(full, []), entry)
                    self._note(node, now, "group", full)
                    # It may have been unparked for a place that it leaves free now.
                    for group in free:
                        self.unpark(group, now)
                    continue
            state[node] = RUNNING
            self.active += 1
            if self.started[node] is None:
                self.started[node] = now
                self.slots[node] = slot
                if node not in self.waits:
                    return node
            self._note(node, now, "running", slot)
            return node
        return None

    def unpark(self, group: str, now: float = 0.0) -> bool:
        """Queue the first node that a full group held back; True if there was one."""
        parked = self._parked.get(group)
        while parked:
            entry = heappop(parked)
            node = entry if self._keys is None else entry[-1]
            if self._state[node] is State.READY:
                self._note(node, now, "worker", None)
                heappush(self.queue, entry)
                return True
        return False

    def parked(self, also: Collection[int] = ()) -> list[tuple[int, str]]:
        """For each group that is full, a node that it holds back, and those of ``also``."""
        found = []
        for group, entries in self._parked.items():
            nodes = entries if self._keys is None else [entry[-1] for entry in entries]
            ready = next((node for node in nodes if self._state[node] is READY), None)
            if ready is not None:
                found.append((ready, group))
            if also:
                wanted = (node for node in nodes if node in also and self._state[node] is READY)
                found += [(node, group) for node in wanted if node != ready]
        return found

    def fail_parked(self, node: int) -> Decision:
        """Decide that a node which a full group holds back has FAILED."""
        return self._decide(node, TaskStatus.FAILED)

    @property
    def grouped(self) -> bool:
        """True if any node is in a limited group."""
        return bool(self._groups)

    def groups_of(self, node: int) -> Groups:
        """The limited groups of a node."""
        return self._groups.get(node, ())

    def is_cleaned_up(self, node: int) -> bool:
        """True if a finally node waits for this one."""
        return any(dependent in self._finally for dependent in self._dependents[node])

    def note_up(self, node: int, now: float = 0.0) -> None:
        """Note that a service is ready; `unlock` follows when that has been announced."""
        self._note(node, now, "up", None)

    def is_needed(self, node: int) -> bool:
        """True unless the node is a service that nothing needs any more."""
        return node not in self._services or self._open[node] > 0

    def is_in_use(self, node: int) -> bool:
        """True for a service that is ready and that something needs."""
        return node in self._unlocked and self.is_needed(node)

    def take_unneeded(self) -> list[int]:
        """Empty ``unneeded``, and return what was in it."""
        found = self.unneeded
        if found:
            self.unneeded = []
        return found

    def dismiss(self, node: int) -> list[Decision]:
        """Note that an added service is no longer needed."""
        decisions: list[Decision] = []
        self._open[node] = 0
        self._let_go(node, decisions)
        return decisions

    def unlock(self, node: int, now: float = 0.0) -> list[Decision]:
        """Let the dependents of a RUNNING node go on before it ends, as if it had SUCCEEDED.

        If it is a service, and ends otherwise than as SUCCEEDED, `finish` decides which of the
        nodes after it that have not started do not run.
        """
        decisions: list[Decision] = []
        if self._state[node] is RUNNING and node not in self._unlocked:
            self._unlocked.add(node)
            self._unlock(node, SUCCEEDED, decisions, now)
        return decisions

    def finish(self, node: int, outcome: TaskStatus, now: float = 0.0) -> list[Decision]:
        """Note the outcome of a node that is RUNNING or DECIDED.

        Returns:
            The nodes that will not run because of it, in the order of the decisions.
        """
        decisions: list[Decision] = []
        self._state[node] = FINISHED
        if self.ended[node] is None:
            self.ended[node] = now
        self.active -= 1
        self.unfinished -= 1
        if self._dependents[node]:
            if node not in self._unlocked:
                self._unlock(node, outcome, decisions, now)
            elif outcome is not SUCCEEDED and node in self._services:
                self._lose(node, outcome, decisions)
        if self._open and not self._open[node]:
            self._close(node, decisions)
        return decisions

    def refuse(self, node: int, now: float = 0.0) -> None:
        """Note that a node that was taken does not run now."""
        self._note(node, now, "refused", None)

    def postpone(
        self, node: int, why: str = "retry", now: float = 0.0, detail: object = None
    ) -> bool:
        """Put a RUNNING or DECIDED node aside until ``resume``; False if ``stop`` forbids that.

        ``why`` is "retry", which any ``stop`` of the node forbids, or "duplicate" (somebody else
        runs the same task), which only the stop of the finally nodes forbids. ``detail`` is noted.
        """
        if self._stopped_all or (why == "retry" and self._stopped and node not in self._finally):
            return False
        if why == "duplicate" and self._state[node] is RUNNING:
            self.refuse(node, now)
        self._state[node] = DELAYED
        self.active -= 1
        self.delayed += 1
        self._note(node, now, why, detail)
        return True

    def resume(self, node: int, now: float = 0.0) -> bool:
        """Queue a DELAYED node again; False if it was decided meanwhile."""
        if self._state[node] is not DELAYED:
            return False
        self.delayed -= 1
        self._note(node, now, "worker", None)
        self._enqueue(node)
        return True

    def retract(self, node: int) -> bool:
        """Take a DELAYED node in order to finish it; False if it is no longer DELAYED."""
        if self._state[node] is not DELAYED:
            return False
        self.delayed -= 1
        self.active += 1
        self._state[node] = RUNNING
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
                if state is DELAYED:
                    self.delayed -= 1
                decisions.append(self._decide(node, CANCELLED))
        self._unpark_all()
        return decisions

    def _unpark_all(self) -> None:
        """Queue all parked nodes, after a READY node was decided.

        It may have been unparked for a place that is free now, and nobody else would unpark them.
        """
        for parked in self._parked.values():
            for entry in parked:
                heappush(self.queue, entry)
        self._parked.clear()

    def notes(self, node: int, ended: float | None = None, began: float | None = None) -> Notes:
        """What was noted of a node.

        Args:
            node: the node.
            ended: when it ended, if that has not been noted yet.
            began: the moment from which to count; None means that of the run.
        """
        if began is None:
            began = self.began
        if ended is None:
            ended = self.ended[node]
        ready, started, waits = self.ready[node], self.started[node], self.waits.get(node)
        return Notes(
            None if ready is None else ready - began,
            self.unlocked_by[node],
            None if started is None else started - began,
            self.slots[node],
            tuple([(at - began, what, detail) for at, what, detail in waits]) if waits else (),
            None if ended is None else ended - began,
        )

    def state(self, node: int) -> State:
        """Where the node is."""
        return self._state[node]

    def _entry(self, node: int) -> Any:
        """The entry of a node in a heap: its number, or a tuple if any node has an order."""
        return node if self._keys is None else (*self._keys.get(node, _NO_ORDER), node)

    def _note(self, node: int, now: float, what: str, detail: object) -> None:
        self.waits.setdefault(node, []).append((now, what, detail))

    def _enqueue(self, node: int) -> None:
        self._state[node] = READY
        heappush(self.queue, node if self._keys is None else self._entry(node))

    def _decide(self, node: int, status: TaskStatus, because: int | None = None) -> Decision:
        self._state[node] = DECIDED
        self.active += 1
        if because is not None:
            self.unlocked_by[node] = because
        return Decision(node, status, because)

    def _unlock(
        self, node: int, outcome: TaskStatus, decisions: list[Decision], now: float
    ) -> None:
        """Tell the dependents of a finished node its outcome."""
        waiting, state = self._waiting, self._state
        succeeded = outcome is SUCCEEDED
        for dependent in self._dependents[node]:
            waiting[dependent] -= 1
            if state[dependent] is not WAITING:
                continue
            if not succeeded:
                self._count(dependent, node, outcome)
                early = self._decide_early(dependent)
                if early is not None:
                    decisions.append(early)
                    continue
            if not waiting[dependent]:
                self.unlocked_by[dependent] = node
                self._settle(dependent, decisions, now)

    def _count(self, dependent: int, node: int, outcome: TaskStatus) -> None:
        tally = self._tallies.get(dependent)
        if tally is None:
            tally = self._tallies[dependent] = _Tally()
        if tally.first is None:
            tally.first = node
        if outcome is SKIPPED:
            tally.skipped += 1
            return
        tally.broken += 1
        if outcome is not CANCELLED:
            tally.failures += 1
        if tally.first_bad is None:
            tally.first_bad = node

    def _decide_early(self, node: int) -> Decision | None:
        """What an upstream that did not succeed decides while others may still be running."""
        if node in self._finally:
            return None
        tally = self._tallies[node]
        policy = self._policies[node]
        if policy is SKIP:
            return self._decide(node, SKIPPED, tally.first)
        if policy is BLOCK and tally.broken:
            return self._decide(node, BLOCKED, tally.first_bad)
        return None

    # Services

    def _count_open(self, topology: Topology) -> list[int]:
        """For each node how many of its dependents are not closed."""
        counts = [len(ends) for ends in topology.dependents]
        for node in reversed([*in_order(topology)]):
            if self._state[node] is FINISHED and not counts[node]:
                for end in topology.dependencies[node]:
                    counts[end] -= 1
        return counts

    def _close(self, node: int, decisions: list[Decision]) -> None:
        """A node is closed: so may be those before it."""
        left = [node]
        while left:
            for end in self._edges[left.pop()]:
                self._open[end] -= 1
                if self._open[end]:
                    continue
                if self._state[end] is FINISHED:
                    left.append(end)
                elif end in self._services:
                    self._let_go(end, decisions)

    def _let_go(self, node: int, decisions: list[Decision]) -> None:
        """Nothing needs a service any more. What is WAITING is decided when its turn comes."""
        state = self._state[node]
        if state is READY and self._is_fresh(node):
            decisions.append(self._decide(node, SKIPPED))
            self._unpark_all()
        elif state in (READY, RUNNING, DELAYED):
            self.unneeded.append(node)

    def _is_fresh(self, node: int) -> bool:
        """True for a READY node that has not been taken, or decided, before."""
        waits = self.waits.get(node, ())
        was_put_aside = any(what in ("retry", "duplicate") for _, what, _ in waits)
        return self.started[node] is None and not was_put_aside

    def _lose(self, node: int, outcome: TaskStatus, decisions: list[Decision]) -> None:
        """A service that was ready has ended: decide what of those after it does not run.

        Its dependents take its outcome as that of any upstream. Those that come after it through
        tasks that have started do not run either, unless their policy lets them run after a
        failure. What has started goes on.
        """
        seen, left = {node}, [node]
        while left:
            at = left.pop()
            for dependent in self._dependents[at]:
                if dependent in seen:
                    continue
                seen.add(dependent)
                state = self._state[dependent]
                is_new = state is WAITING or (state is READY and self._is_fresh(dependent))
                if state is not DECIDED and not is_new:
                    left.append(dependent)
                elif is_new and dependent not in self._finally:
                    found = (
                        self._decide_after(dependent, node, outcome)
                        if node in self._edges[dependent]
                        else self._decide_without(dependent, node)
                    )
                    if found is not None:
                        decisions.append(found)
                        if state is READY:
                            self._unpark_all()

    def _decide_after(self, node: int, service: int, outcome: TaskStatus) -> Decision | None:
        """What becomes of a dependent of a service that was ready."""
        self._count(node, service, outcome)
        early = self._decide_early(node)
        if early is not None or self._state[node] is WAITING:
            return early
        tally = self._tallies[node]
        is_any = self._policies[node] is CONTINUE_IF_ANY
        if is_any and tally.skipped + tally.broken == len(self._edges[node]):
            return self._decide(node, BLOCKED, tally.first_bad)
        return None

    def _decide_without(self, node: int, service: int) -> Decision | None:
        """What becomes of a node that comes after a service over several steps."""
        policy = self._policies[node]
        if policy is BLOCK:
            return self._decide(node, BLOCKED, service)
        return self._decide(node, SKIPPED, service) if policy is SKIP else None

    def _settle(self, node: int, decisions: list[Decision], now: float) -> None:
        """Queue or decide a node whose upstreams are all finished."""
        tally = self._tallies.get(node) if self._tallies else None
        policy = self._policies[node]
        if node in self._finally:
            self._enqueue(node)
        elif policy is ON_FAILURE:
            if tally is not None and tally.failures:
                self._enqueue(node)
            else:
                decisions.append(self._decide(node, SKIPPED))
        elif tally is None or policy is RUN_ANYWAY:
            self._enqueue(node)
        elif policy is CONTINUE_IF_ANY:
            if tally.skipped + tally.broken < len(self._edges[node]):
                self._enqueue(node)
            elif tally.broken:
                decisions.append(self._decide(node, BLOCKED, tally.first_bad))
            else:
                decisions.append(self._decide(node, SKIPPED, tally.first))
        else:
            # BLOCK with skipped upstreams only; any other was decided early.
            decisions.append(self._decide(node, SKIPPED, tally.first))
        if self._state[node] is READY:
            if self._open and not self.is_needed(node):
                decisions.append(self._decide(node, SKIPPED))
            else:
                self.ready[node] = now


_STOPPABLE = (WAITING, READY, DELAYED)


_NO_ORDER = (0.0, inf)


def _key(order: Order) -> tuple[float, float]:
    priority, deadline = order
    return -priority, inf if deadline is None else deadline.timestamp()
