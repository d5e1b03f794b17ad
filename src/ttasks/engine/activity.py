"""Activity: what an executor is doing, and whether it still takes on more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, local


class Activity:
    """Counts executions and runs that are under way. Thread-safe; its condition owns the state.

    It also knows which threads are at work here, for these must not wait for the end of it all.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._here = local()
        self._count = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once nothing new is accepted."""
        return self._closed

    def close(self) -> None:
        """Accept nothing new from now on."""
        with self._changed:
            self._closed = True

    @contextmanager
    def entered(self, *, nested: bool) -> Iterator[None]:
        """Count one more for the length of a ``with`` block.

        Args:
            nested: it is part of something that was accepted before, so it may still begin.

        Raises:
            RuntimeError: nothing new is accepted.
        """
        with self._changed:
            if self._closed and not nested:
                raise RuntimeError("the executor is shut down and takes no new work")
            self._count += 1
        try:
            with self.working():
                yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark the calling thread as being at work here, for a ``with`` block."""
        here = self._here
        here.depth = getattr(here, "depth", 0) + 1
        try:
            yield
        finally:
            here.depth -= 1

    @property
    def is_mine(self) -> bool:
        """True if the calling thread is at work here."""
        return getattr(self._here, "depth", 0) > 0

    def wait_idle(self) -> None:
        """Wait until nothing is under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0)
