"""Notes: what a plan has noted of a node. Pure, and quick to import."""

from __future__ import annotations

from typing import Any, NamedTuple

Wait = tuple[float, str, Any]
"""Moment, what happened to a node, and a detail; see `ttasks.model.plan.Plan.waits`."""


class Notes(NamedTuple):
    """What a plan has noted of a node, in seconds since its run began.

    Attributes:
        ready: when it could first have started.
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
