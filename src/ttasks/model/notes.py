"""Notes: what a plan has noted of a node. Pure, and quick to import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Wait = tuple[float, str, Any]
"""Moment, what happened to a node, and a detail; see `ttasks.model.plan.Plan.waits`."""


class Notes(NamedTuple):
    """What a plan has noted of a node, in seconds since its run began.

    Attributes:
        ready: when it could first have run.
        unlocked_by: the upstream that let it run, or decided that it does not.
        started: when it was first taken.
        slot: of the worker that took it first.
        waits: what else happened to it, in order.
        ended: when it was finished.
    """

    ready: float | None = None
    unlocked_by: int | None = None
    started: float | None = None
    slot: int = 0
    waits: tuple[Wait, ...] = ()
    ended: float | None = None


def notes_since(
    began: float,
    ready: float | None,
    unlocked_by: int | None,
    started: float | None,
    slot: int,
    waits: Sequence[Wait] | None,
    ended: float | None,
) -> Notes:
    """Notes in seconds since ``began``, from moments by the clock."""
    return Notes(
        None if ready is None else ready - began,
        unlocked_by,
        None if started is None else started - began,
        slot,
        tuple([(at - began, what, detail) for at, what, detail in waits]) if waits else (),
        None if ended is None else ended - began,
    )
