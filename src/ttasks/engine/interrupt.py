"""Signals: Ctrl-C and SIGTERM as a request to stop, instead of an exception anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Signals:
    """For a ``with`` block in the main thread: SIGINT (and SIGTERM) call a function.

    So no KeyboardInterrupt can strike in the middle of a state change. A handler for SIGINT that
    the program has set itself stays in place: what it does is up to the program. In other threads
    nothing is installed. The old handlers are restored at the end.

    Args:
        request: called in the main thread, between any two of its bytecodes: it must not take
            a lock that this thread may hold.
        handle_sigterm: also take SIGTERM, whoever handles it now.

    Attributes:
        count: signals that have been received.
    """

    def __init__(self, request: Callable[[], None], *, handle_sigterm: bool) -> None:
        self._request = request
        self._handle_sigterm = handle_sigterm
        self._old: dict[signal.Signals, Any] = {}
        self.count = 0

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._take(signal.SIGINT)
            if self._handle_sigterm:
                self._take(signal.SIGTERM)
        return self

    def __exit__(self, *_error: object) -> None:
        # SIGINT last: from then on it raises, perhaps before the next line.
        for number, handler in reversed(self._old.items()):
            signal.signal(number, handler)

    def _take(self, number: signal.Signals) -> None:
        old = signal.getsignal(number)
        self._old[number] = signal.SIG_DFL if old is None else old
        signal.signal(number, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self._request()
