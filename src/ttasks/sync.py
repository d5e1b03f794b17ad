"""The seam through which all threads, locks and waits of the library come.

It holds the standard library's own names, so it costs one attribute look-up. Use it as
``sync.Lock()`` and not as ``from ttasks.sync import Lock``: a test that explores interleavings puts
its own primitives in place of these, runs one thread at a time, and chooses by a seed which thread
goes on wherever two of them meet.

What handlers wait for comes through here too. Times come from `ttasks.model.clock`.
"""

from __future__ import annotations

from threading import (
    TIMEOUT_MAX,
    Condition,
    Event,
    Lock,
    Thread,
    current_thread,
    get_ident,
    local,
    main_thread,
)
from time import sleep

__all__ = [
    "TIMEOUT_MAX",
    "Condition",
    "Event",
    "Lock",
    "Thread",
    "current_thread",
    "get_ident",
    "local",
    "main_thread",
    "sleep",
]
