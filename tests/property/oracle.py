"""The naive oracle of the scheduler: what SPEC says about one run, in the plainest words.

Nothing is remembered but what happened: after each step everything is worked out anew from the
outcomes so far, by looking at every node and every upstream. Slow, and easy to check by reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ttasks import DependencyPolicy, TaskStatus

SUCCEEDED = TaskStatus.SUCCEEDED
FAILED = TaskStatus.FAILED
CANCELLED = TaskStatus.CANCELLED
BLOCKED = TaskStatus.BLOCKED
SKIPPED = TaskStatus.SKIPPED

Fate = tuple[str, int | None]
"""What is to become of a node that has not started: a verb, and the node that blocks it."""

WAIT: Fate = ("wait", None)
RUN: Fate = ("run", None)
SKIP: Fate = ("skip", None)
CANCEL: Fate = ("cancel", None)


def block(because: int) -> Fate:
    return ("block", because)


@dataclass(frozen=True, slots=True)
class Case:
    """A graph to run. Nodes are numbers in insertion order; later ones may be added."""

    upstreams: list[tuple[int, ...]]
    policies: list[DependencyPolicy]
    finally_: frozenset[int] = frozenset()
    orders: dict[int, tuple[float, datetime | None]] = field(default_factory=dict)
    groups: dict[int, tuple[str, ...]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    finished: Mapping[int, TaskStatus] = field(default_factory=dict)
    services: frozenset[int] = frozenset()

    @property
    def nodes(self) -> range:
        return range(len(self.upstreams))


class Oracle:
    """What must be true of one run of a case, given what has happened so far."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.ended: dict[int, TaskStatus] = dict(case.finished)
        # What dependents are told of a node, in the order in which they are: how it has ended, or
        # that it SUCCEEDED where it let them go on before its end.
        self.told: dict[int, TaskStatus] = dict(case.finished)
        self.running: set[int] = set()
        self.delayed: set[int] = set()
        self.retried: set[int] = set()  # ready again after a delay
        self.awaited: set[int] = set()  # put aside since the stop, for somebody else runs them
        self.decided: dict[int, Fate] = {}  # will not run, and have not ended
        self.up: set[int] = set()  # services that are ready
        self.lost: dict[int, int] = {}  # comes after this service, which was ready and ended
        self.strangers: dict[str, int] = dict.fromkeys(case.limits, 0)  # places that others hold
        self.stopped = False
        self.stopped_all = False

    # What happened

    def start(self, node: int) -> None:
        self.running.add(node)
        self.retried.discard(node)

    def end(self, node: int, outcome: TaskStatus) -> None:
        self.running.discard(node)
        self.decided.pop(node, None)
        self.ended[node] = outcome
        if node in self.up and outcome is not SUCCEEDED:
            del self.told[node]
            self.lost |= dict.fromkeys(self.losers(node), node)
        self.told.setdefault(node, outcome)
        self.up.discard(node)

    def unlock(self, node: int) -> None:
        self.told.setdefault(node, SUCCEEDED)
        self.up.add(node)

    def delay(self, node: int) -> None:
        self.running.discard(node)
        self.decided.pop(node, None)
        self.delayed.add(node)
        if self.stopped:
            self.awaited.add(node)

    def retry(self, node: int) -> None:
        self.delayed.remove(node)
        self.retried.add(node)

    def decide(self, node: int, fate: Fate) -> None:
        self.delayed.discard(node)
        self.retried.discard(node)
        self.decided[node] = fate

    def stop(self, also_finally: bool) -> None:
        self.stopped = True
        self.awaited.clear()
        self.stopped_all = self.stopped_all or also_finally

    # Services

    def dependents(self, node: int) -> list[int]:
        return [other for other in self.case.nodes if node in self.case.upstreams[other]]

    def is_closed(self, node: int) -> bool:
        """True if neither the node nor anything after it is still to run or running."""
        return node in self.ended and all(map(self.is_closed, self.dependents(node)))

    def is_needed(self, node: int) -> bool:
        """True unless the node is a service that nothing needs."""
        return node not in self.case.services or not all(map(self.is_closed, self.dependents(node)))

    def has_begun(self, node: int) -> bool:
        return any(
            node in those for those in (self.running, self.delayed, self.retried, self.ended)
        )

    def losers(self, service: int) -> set[int]:
        """What comes after a service through tasks that have begun, and has not begun itself."""
        found = {service}
        while True:
            begun = {node for node in found if node == service or self.has_begun(node)}
            more = {other for node in begun for other in self.dependents(node)}
            if more <= found:
                direct = self.dependents(service)
                rest = found - {service} - set(direct) - self.case.finally_ - set(self.decided)
                return {node for node in rest if not self.has_begun(node)}
            found |= more

    # What follows from it

    def fate(self, node: int) -> Fate:
        """What is to become of a node that has neither started nor ended nor been decided."""
        case = self.case
        stopped = self.stopped_all or (self.stopped and node not in case.finally_)
        if stopped and node not in self.awaited:
            return CANCEL
        if node in self.delayed:
            return WAIT
        if node in self.retried:
            return RUN
        fate = self.fate_by_upstreams(node)
        return SKIP if fate == RUN and not self.is_needed(node) else fate

    def fate_by_upstreams(self, node: int) -> Fate:
        case = self.case
        if node in self.lost and case.policies[node] is DependencyPolicy.BLOCK:
            return block(self.lost[node])
        if node in self.lost and case.policies[node] is DependencyPolicy.SKIP:
            return SKIP
        upstreams = case.upstreams[node]
        in_time = [other for other in self.told if other in upstreams]
        outcomes = [self.told[other] for other in in_time]
        all_ended = len(in_time) == len(upstreams)
        broken = [other for other in in_time if self.told[other] in (FAILED, CANCELLED, BLOCKED)]
        policy = case.policies[node]
        if node in case.finally_ or policy is DependencyPolicy.RUN_ANYWAY:
            return RUN if all_ended else WAIT
        if policy is DependencyPolicy.BLOCK:
            if broken:
                return block(broken[0])
            if not all_ended:
                return WAIT
            return SKIP if SKIPPED in outcomes else RUN
        if policy is DependencyPolicy.SKIP:
            if any(outcome is not SUCCEEDED for outcome in outcomes):
                return SKIP
            return RUN if all_ended else WAIT
        if not all_ended:
            return WAIT
        if policy is DependencyPolicy.ON_FAILURE:
            return RUN if FAILED in outcomes or BLOCKED in outcomes else SKIP
        assert policy is DependencyPolicy.CONTINUE_IF_ANY
        if not upstreams or SUCCEEDED in outcomes:
            return RUN
        return block(broken[0]) if broken else SKIP

    def undecided(self) -> list[int]:
        """Nodes that have neither started nor ended nor been decided."""
        return [
            node
            for node in self.case.nodes
            if node not in self.ended and node not in self.running and node not in self.decided
        ]

    def fates(self) -> dict[int, Fate]:
        """Nodes that must not run and have not been told so yet."""
        fates = {node: self.fate(node) for node in self.undecided()}
        return {node: fate for node, fate in fates.items() if fate not in (WAIT, RUN)}

    def ready(self) -> list[int]:
        """Nodes that may start as far as their upstreams go, the first to start first."""
        return sorted(
            (node for node in self.undecided() if self.fate(node) == RUN), key=self._order
        )

    def next(self) -> int | None:
        """The node that has to start next if somebody has time for it."""
        return next((node for node in self.ready() if self.has_place(node)), None)

    def has_place(self, node: int) -> bool:
        """True if no group of the node is full."""
        groups = self.case.groups.get(node, ())
        return all(self.used(group) < self.case.limits[group] for group in groups)

    def used(self, group: str) -> int:
        """Places of a group that are taken."""
        own = [
            node
            for node in self.running - (self.up & self.case.services)
            if group in self.case.groups.get(node, ())
        ]
        return len(own) + self.strangers[group]

    def may_be_delayed(self, node: int, why: str) -> bool:
        """True if a node may be tried again ("retry"), or wait for who runs it ("duplicate")."""
        if why == "duplicate":
            return not self.stopped_all
        return not (self.stopped_all or (self.stopped and node not in self.case.finally_))

    def _order(self, node: int) -> tuple[float, bool, datetime | None, int]:
        priority, deadline = self.case.orders.get(node, (0.0, None))
        return -priority, deadline is None, deadline, node


def final_statuses(
    upstreams: Sequence[Iterable[int]],
    policies: Sequence[DependencyPolicy],
    finally_: frozenset[int],
    results: Mapping[int, TaskStatus],
    finished: Mapping[int, TaskStatus],
) -> dict[int, TaskStatus]:
    """What everything ends as, whatever the order, if nobody stops the run.

    Args:
        results: for each node what comes of it if it runs.
    """
    final: dict[int, TaskStatus] = dict(finished)
    while len(final) < len(policies):
        for node, policy in enumerate(policies):
            if node in final or any(other not in final for other in upstreams[node]):
                continue
            outcomes = {final[other] for other in upstreams[node]}
            broken = outcomes & {FAILED, CANCELLED, BLOCKED}
            run = results[node]
            if node in finally_ or policy is DependencyPolicy.RUN_ANYWAY:
                final[node] = run
            elif policy is DependencyPolicy.ON_FAILURE:
                final[node] = run if outcomes & {FAILED, BLOCKED} else SKIPPED
            elif outcomes <= {SUCCEEDED}:
                final[node] = run
            elif policy is DependencyPolicy.SKIP:
                final[node] = SKIPPED
            elif policy is DependencyPolicy.CONTINUE_IF_ANY and SUCCEEDED in outcomes:
                final[node] = run
            else:
                final[node] = BLOCKED if broken else SKIPPED
    return final
