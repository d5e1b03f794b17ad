"""Lanes: who ran what when, without overlap."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush

from ttasks.report.content import Content
from ttasks.report.entries import ReportAttempt, ReportEntry

_Worker = tuple[int, tuple[str, ...], int]
"""How deep a run is nested, its path, and the number of a worker."""

_NO_WORKER = 1_000_000


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt in its lane, from ``start`` to ``end``, which is not before ``start``."""

    entry: ReportEntry
    attempt: ReportAttempt
    start: float
    end: float


@dataclass(slots=True)
class Lane:
    """A worker of a run or of a nested one, or one of the lines for what needs no worker.

    Attributes:
        name: for people.
        bars: in order, none before the end of the one before.
    """

    name: str
    bars: list[Bar] = field(default_factory=list)


def lanes_of(content: Content) -> list[Lane]:
    """Lanes for all attempts: the workers of the run, those of nested runs, then the others.

    Attempts that overlap on one worker (coroutines, which a worker only starts, and handlers that
    were left behind) get further lanes of that worker.
    """
    until = content.until
    bars: list[tuple[float, int, _Worker, Bar]] = []
    for entry in content.entries.values():
        for attempt in entry.attempts:
            start = attempt.started
            if start is None:
                continue
            end = max(until if attempt.ended is None else attempt.ended, start)
            worker = (len(entry.path) - content.depth, entry.path, attempt.slot or _NO_WORKER)
            bars.append((start, len(bars), worker, Bar(entry, attempt, start, end)))
    bars.sort(key=lambda item: item[:2])
    lanes: dict[_Worker, list[Lane]] = {}
    ends: dict[_Worker, list[tuple[float, int]]] = {}  # a heap: end and number of each lane
    for start, _, worker, bar in bars:
        of_worker, free = lanes.setdefault(worker, []), ends.setdefault(worker, [])
        if free and free[0][0] <= start:
            number = heappop(free)[1]
        else:
            number = len(of_worker)
            of_worker.append(Lane(_name(worker, number + 1)))
        of_worker[number].bars.append(bar)
        heappush(free, (bar.end, number))
    return [lane for worker in sorted(lanes) for lane in lanes[worker]]


def _name(worker: _Worker, number: int) -> str:
    nesting, path, slot = worker
    name = f"worker {slot}" if slot < _NO_WORKER else "no worker"
    if number > 1:
        name += f" ({number})"
    return f"{path[-1]}: {name}" if nesting else name
