"""Fingerprints: whether two tasks stand for the same work."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from ttasks.model.call import Call
from ttasks.model.checks import plain
from ttasks.model.command import with_variables
from ttasks.model.identity import as_text, call_identity, value_identity
from ttasks.model.snapshot import declares

if TYPE_CHECKING:
    from ttasks.model.snapshot import Snapshot
    from ttasks.model.task import Task

_VERSION = 2
"""Of what is digested. Fingerprints of another version match none of these."""


def fingerprint_of(
    task: Task, upstream: Iterable[str | None] = (), snapshot: Snapshot | None = None
) -> str | None:
    """A digest of what a task does, equal for equal work in any process.

    It covers type, payload, options, version and the fingerprints of the direct dependencies in
    their order; not the title, nor how the task is treated (timeout, retry, priority, group). Of a
    call it covers the function with its code, and the arguments by the names of its parameters.
    Any other payload may have a method ``identity()`` that returns what to take in its place. Of a
    task that declares what it depends on, ``snapshot`` has how that is now.

    Returns:
        None if the payload, or a dependency, has no fingerprint, or if the snapshot is missing:
        then nothing is known to be equal.
    """
    ends = list(upstream)
    is_declared = task.reuse and declares(task)
    if None in ends or (is_declared and snapshot is None):
        return None
    try:
        payload = _payload(task.payload)
        options = with_variables(task.options) if "env_from" in task.options else task.options
        # Each by itself, as a str needs no encoder; together they would take twice as long.
        facts: tuple[str, ...] = (
            *(as_text(task.type.value), as_text(payload)),
            as_text(plain(options)) if options else "{}",
            "null" if task.version is None else as_text(task.version),
            as_text(ends) if ends else "[]",
        )
        if is_declared and snapshot is not None:
            declared = [task.inputs, task.outputs, snapshot.inputs, snapshot.env, snapshot.tools]
            facts += (as_text(declared),)
        text = f"[{_VERSION},{','.join(facts)}]"
    except Exception:  # there is none, or whatever an attribute of the user's raises
        return None
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _payload(payload: Any) -> Any:
    if type(payload) is str:
        return payload
    if type(payload) is Call:
        return call_identity(payload)
    identity = getattr(payload, "identity", None)
    return value_identity(identity() if callable(identity) else payload)
