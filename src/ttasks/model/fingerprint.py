"""Fingerprints: whether two tasks stand for the same work."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

from ttasks.model.checks import plain
from ttasks.model.command import with_variables

if TYPE_CHECKING:
    from ttasks.model.task import Task


def fingerprint_of(task: Task, upstream: Iterable[str | None] = ()) -> str | None:
    """A digest of what a task does, equal for equal work in any process.

    It covers type, payload, options, version and the fingerprints of the direct dependencies in
    their order; not the title, nor how the task is treated (timeout, retry, priority, group). A
    payload that is no JSON takes part if it has a method ``identity()`` that returns JSON.

    Returns:
        None if the payload, or a dependency, has no fingerprint: then nothing is known to be equal.
    """
    ends = list(upstream)
    if None in ends:
        return None
    payload = task.payload
    identity = getattr(payload, "identity", None)
    if callable(identity):
        payload = identity()
    options = with_variables(task.options) if "env_from" in task.options else task.options
    facts = [task.type.value, payload, plain(options), task.version, ends]
    try:
        text = _to_json(facts)
    except (TypeError, ValueError, RecursionError):
        return None
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


# One encoder, made once: `json.dumps` with options makes a new one for every call.
_to_json = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
