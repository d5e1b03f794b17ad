"""Crew: the worker threads of one run."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread


class Crew:
    """Threads that are started when there is work for them and wait, idle, when there is none.

    Its state is owned by the lock of the run, which every method but ``begin`` and ``join`` is
    called with.

    Args:
        work: what each thread runs.
        size: threads at most.
        name: beginning of their names.
    """

    def __init__(self, work: Callable[[], None], size: int, name: str) -> None:
        self._work = work
        self._size = size
        self._name = name
        self._idle: list[Lock] = []
        self._threads: set[Thread] = set()
        self._spawned = 0
        self.closing = False

    def helper(self) -> Lock | Thread | None:
        """One more to do work: an idle one, a new one, or None if all are busy; for ``begin``."""
        if self._idle:
            return self._idle.pop()
        if len(self._threads) >= self._size:
            return None
        self._spawned += 1
        # Daemons, so that one that is left behind cannot keep the interpreter from exiting.
        thread = Thread(target=self._work, name=f"{self._name}-{self._spawned}", daemon=True)
        self._threads.add(thread)
        return thread

    @staticmethod
    def begin(helper: Lock | Thread) -> bool:
        """Wake or start a helper; False if no thread could be started."""
        if isinstance(helper, Thread):
            try:
                helper.start()
            except RuntimeError:
                return False
        else:
            helper.release()
        return True

    def rest(self, wake: Lock) -> None:
        """The caller is idle; it then waits for ``wake``."""
        self._idle.append(wake)

    def drop(self, thread: Thread) -> None:
        """A thread could not be started or is left behind."""
        self._threads.discard(thread)

    @property
    def size(self) -> int:
        """Threads there are."""
        return len(self._threads)

    @property
    def busy(self) -> int:
        """Threads that are at work, at least 1."""
        return max(1, len(self._threads) - len(self._idle))

    def close(self) -> tuple[list[Lock], list[Thread]]:
        """Let all threads end; returns those to wake and those to join."""
        self.closing = True
        idle, self._idle = self._idle, []
        return idle, list(self._threads)
