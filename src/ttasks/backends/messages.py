"""What goes through the pipe between a worker process and its parent, each message pickled.

- to the worker: ``(Order, bytes of [func, args, kwargs])``;
- from the worker: ``(READY, 0)`` once, then ``(kind, number of the call, ...)``, with the kinds
  PROGRESS, OUTPUT and LOG while the call runs and one DONE or FAILED at its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ttasks.backends.worker_log import Levels
    from ttasks.model.redact import Redactor

READY, PROGRESS, OUTPUT, LOG, DONE, FAILED = range(6)


class Order(NamedTuple):
    """What a worker has to know of the attempt that it works for.

    Attributes:
        number: of the call, unique in the worker.
        id, title, description, type, timeout, options: of the task.
        attempt: its number.
        remaining: seconds left, None without a timeout.
        name: of the function, for messages.
        capture: None, or what hides secrets in the local variables that are to be kept.
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
    capture: tuple[Redactor | None] | None
    log_levels: Levels | None


def call_method(kind: Any, state: dict[str, Any], name: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a method of an object that is made anew from its state."""
    made = kind.__new__(kind)
    made.__setstate__(state)
    return getattr(made, name)(*args, **kwargs)
