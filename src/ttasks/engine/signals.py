"""Signals: Ctrl-C, SIGTERM and SIGHUP as a request to stop, not as an exception anywhere."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from ttasks import sync

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_TERMINATION = (signal.SIGTERM,) if _HANGUP is None else (signal.SIGTERM, _HANGUP)
"""What ``handle_sigterm`` is about: somebody ends the program, or its terminal is closed."""


def _nothing() -> None:
    """Request nothing: the signal only waits."""


class Signals:
    """In a ``with`` block in the main thread, delay what SIGINT, SIGTERM and SIGHUP raise.

    So no KeyboardInterrupt can strike in the middle of a state change. A handler that the program
    has installed is still called at once; if it raises (SystemExit, say), that is delayed until the
    end of the block as well. At the end the old handlers are restored, and then the first of the
    exceptions is raised. In other threads nothing happens.

    Args:
        request: called in the main thread, between any two of its bytecodes, for each signal
            whose handler raises; it must not take a lock that this thread may hold.
        handle_sigterm: treat SIGTERM as Ctrl-C, whoever handles it now; SIGHUP too, unless it is
            ignored, as below ``nohup``.
    """

    def __init__(
        self, request: Callable[[], None] = _nothing, *, handle_sigterm: bool = False
    ) -> None:
        self._request = request
        self._handle_sigterm = handle_sigterm
        self._old: dict[int, Any] = {}
        self._error: BaseException | None = None
        self.is_over = False

    def __enter__(self) -> None:
        if sync.current_thread() is sync.main_thread():
            for number in (signal.SIGINT, *_TERMINATION):
                old = signal.getsignal(number)
                if callable(old) or self._is_asked_for(number, old):
                    self._old[number] = signal.SIG_DFL if old is None else old
                    signal.signal(number, self._receive)

    def _is_asked_for(self, number: int, old: Any) -> bool:
        is_ignored = number != signal.SIGTERM and old is signal.SIG_IGN
        return self._handle_sigterm and number in _TERMINATION and not is_ignored

    def __exit__(self, *_error: object) -> None:
        self.is_over = True
        # SIGINT last: from then on it may raise, even before the next line.
        for number in reversed(list(self._old)):
            if signal.getsignal(number) == self._receive:  # else somebody set another meanwhile
                signal.signal(number, self.handler_before(number))
        if self._error is not None:
            raise self._error

    def handler_before(self, number: int) -> Any:
        """The handler before this block, and before those that were entered earlier and are over.

        The blocks of two coroutines need not be left in the order in which they were entered.
        """
        handler = self._old.get(number, signal.SIG_DFL)
        outer = getattr(handler, "__self__", None)
        if isinstance(outer, Signals) and outer.is_over:
            return outer.handler_before(number)
        return handler

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == _HANGUP and self._handle_sigterm and self._error is not None:
            return  # a terminal that is closed sends it twice: it is no second Ctrl-C
        handler = self._old[number]
        if self._handle_sigterm and number in _TERMINATION:
            handler = signal.default_int_handler
        try:
            handler(number, frame)
        except BaseException as error:
            self._error = self._error or error
            self._request()
        else:
            # An outer run in this thread has kept the exception, and waits for this one.
            if isinstance(getattr(handler, "__self__", None), Signals):
                self._request()
