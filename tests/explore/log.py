"""Log: what happened in a run, in the order in which it did."""

from __future__ import annotations

from typing import NamedTuple

from ttasks import TaskStatus

ENDS = frozenset({"succeeded", "failed", "cancelled", "blocked", "skipped"})
RUN_ENDS = frozenset({"succeeded", "failed", "cancelled"})
REPORTS = frozenset({"progress", "output", "ready"})


class Entry(NamedTuple):
    """One line of the log.

    Attributes:
        what: "event", "call", "return" (of a handler), "begin", "end" (of a call of the API),
            "read" (the store is asked for an earlier run).
        name: title of the task, or the action.
        kind: of the event; else how it went.
    """

    what: str
    name: str
    kind: str = ""
    attempt: int = 0
    status: TaskStatus | None = None
    retry_in: float | None = None
    blocked_by: str | None = None
    actor: int = -1
    call: int = -1
