"""Backlog: what a store could not save, to be saved later."""

from __future__ import annotations

from collections.abc import Callable

from ttasks import sync

_WAIT_SECONDS = 0.001
_MOST_SKIPPED = 64


class Backlog:
    """Calls that have failed, by what they are about, to be made again in their order. Thread-safe.

    Attributes:
        calls: by the id of a task or graph; empty if nothing is missing.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[Callable[[], object]]] = {}
        # Protects ``calls`` and ``_busy``; it is not held while calls are made.
        self._lock = sync.Lock()
        self._busy: set[str] = set()  # ids whose calls are being made
        self._skipped = self._to_skip = 0

    def add(self, key: str, call: Callable[[], object]) -> None:
        """Remember a call that has failed."""
        with self._lock:
            self.calls.setdefault(key, []).append(call)

    def catch_up(self, key: str | None = None, *, at_once: bool = False) -> None:
        """Make the calls again, those of ``key`` first.

        What fails again stays. The others are then tried less and less often, but at least at every
        64th call of this method, or ``at_once``.

        Raises:
            BaseException: what a call of ``key`` has raised.
        """
        if key is not None:
            self._make(key)
        self._skipped += 1
        if self._skipped <= self._to_skip and not at_once:
            return
        self._skipped = 0
        has_failed = False
        for other in list(self.calls):
            try:
                self._make(other)
            except BaseException:  # it was kept and announced the first time
                has_failed = True
        self._to_skip = min(2 * self._to_skip + 1, _MOST_SKIPPED - 1) if has_failed else 0

    def _make(self, key: str) -> None:
        while True:
            with self._lock:
                if key not in self._busy:
                    calls = self.calls.get(key)
                    if calls is None:
                        return
                    self._busy.add(key)
                    break
            sync.sleep(_WAIT_SECONDS)  # another thread makes them
        try:
            while calls:
                calls[0]()
                del calls[0]
        finally:
            with self._lock:
                self._busy.discard(key)
                if not calls:
                    self.calls.pop(key, None)
