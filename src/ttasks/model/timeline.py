"""Timeline: what a node of a plan waited for and when it ran, from what the plan noted of it.

Pure. The same function serves a plan in memory and the rows of a ledger, so both say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ttasks.model.facts import WaitReason
from ttasks.model.notes import Notes, Wait


class Piece(NamedTuple):
    """A stretch of a node's time: what it waited for, or None if it ran, and a detail."""

    start: float
    end: float | None
    reason: WaitReason | None
    detail: Any = None


class Try(NamedTuple):
    """One attempt of a node.

    ``outcome`` is what the plan was told of an attempt that another one follows.
    """

    ready: float
    started: float
    ended: float | None
    slot: int
    outcome: Any = None


_STATES = {
    "worker": WaitReason.WORKER,
    "group": WaitReason.GROUP,
    "retry": WaitReason.RETRY,
    "duplicate": WaitReason.DUPLICATE,
    "running": None,
}


def pieces(notes: Notes) -> list[Piece]:
    """The time of a node from the start of the run to its end, without gap or overlap.

    The last piece has no end if the node has none. Pieces of no length are left out.
    """
    found: list[Piece] = []
    start, reason, detail = 0.0, WaitReason.DEPENDENCY, None
    state: tuple[WaitReason | None, Any] = (reason, detail)
    for moment, what, told in _changes(notes):
        following = (_STATES[what], told if what in ("group", "duplicate") else None)
        if following == state:
            continue
        if moment > start:
            found.append(Piece(start, moment, *state))
            start = moment
        state = following
    if notes.ended is None or notes.ended > start:
        found.append(Piece(start, notes.ended, *state))
    return _joined(found)


def tries(notes: Notes) -> list[Try]:
    """The attempts of a node, the first one first."""
    found: list[Try] = []
    ready = 0.0 if notes.ready is None else notes.ready
    is_put_aside = False
    for moment, what, detail in _changes(notes):
        if what == "running":
            found.append(Try(ready, moment, notes.ended, detail))
        elif what == "retry":
            found[-1] = found[-1]._replace(ended=moment, outcome=detail)
            is_put_aside = True
        elif what == "worker" and is_put_aside:
            ready, is_put_aside = moment, False
    return found


def up(notes: Notes) -> float | None:
    """When a service was ready; None for any other node."""
    return next((at for at, what, _ in reversed(notes.waits) if what == "up"), None)


def _changes(notes: Notes) -> Iterator[Wait]:
    """The changes of a node's state in order; only attempts are "running"."""
    if notes.ready is not None:
        yield notes.ready, "worker", None
    waits: Sequence[Wait] = notes.waits
    if waits and waits[-1][1] == "up":
        waits = waits[:-1]  # nothing is noted after that
    # Where other waits came first, the plan noted the start among them.
    is_first = not waits or waits[0][1] in ("retry", "refused")
    if notes.started is not None and is_first:
        waits = ((notes.started, "running", notes.slot), *waits)
    taken: Wait | None = None
    for wait in waits:
        if taken is not None and wait[1] != "refused":
            yield taken
        taken = wait if wait[1] == "running" else None
        if taken is None and wait[1] != "refused":
            yield wait
    if taken is not None:
        yield taken


def _joined(found: list[Piece]) -> list[Piece]:
    """The pieces, with neighbours merged that waited for the same."""
    joined: list[Piece] = []
    for piece in found:
        last = joined[-1] if joined else None
        if last is not None and piece.reason is not None and last[2:] == piece[2:]:
            joined[-1] = last._replace(end=piece.end)
        else:
            joined.append(piece)
    return joined
