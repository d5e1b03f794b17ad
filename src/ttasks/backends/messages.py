"""The pickled messages between a worker process and its parent.

- to the worker: ``(Order, bytes of [func, args, kwargs])``;
- from the worker: ``(READY, 0)`` once, then ``(kind, number of the call, ...)``, with the kinds
  PROGRESS, OUTPUT and LOG while the call runs and one DONE or FAILED at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ttasks.backends.worker_log import Levels
    from ttasks.model.frames import Frames
    from ttasks.model.redact import Redactor

READY, PROGRESS, OUTPUT, LOG, DONE, FAILED = range(6)


class Order(NamedTuple):
    """What a worker needs to know of an attempt.

    Attributes:
        number: of the call, unique in the worker.
        id, title, description, type, timeout, options: of the task.
        attempt: its number.
        remaining: seconds left, None without a timeout.
        name: of the function, for messages.
        capture: the redactor for local variables, and which frame's are kept.
        log_levels: None if the parent does not use ``logging``.
    """

    number: int
    id: str
    title: str
    description: str
    type: str
    timeout: float | None
    options: dict[str, Any]
    attempt: int
    remaining: float | None
    name: str
    capture: tuple[Redactor | None, Frames]
    log_levels: Levels | None


def call_method(kind: Any, state: dict[str, Any], name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Rebuild an object from its state and call one of its methods."""
    made = kind.__new__(kind)
    made.__setstate__(state)
    return getattr(made, name)(*args, **kwargs)
