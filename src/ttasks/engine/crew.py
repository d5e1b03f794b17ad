"""Crew: the worker threads of one run."""

from __future__ import annotations

from collections.abc import Callable

from ttasks import sync


class Crew:
    """Threads that are started when there is work for them and rest when there is none.

    Protected by the lock of the scheduler: call every method but ``begin`` with it held. Each
    thread has a slot, from 1 to ``size``, which is used again after its end.

    Args:
        work: what each thread runs, given its slot.
        size: maximum number of threads.
        name: prefix for their names.

    Attributes:
        closing: `close` was called.
        all_work: none rests and no more can be started, so ``helper`` would return None.
    """

    def __init__(self, work: Callable[[int], None], size: int, name: str) -> None:
        self._work = work
        self._size = size
        self._name = name
        self._resting: list[sync.Lock] = []
        self._slots: dict[sync.Thread, int] = {}
        self._free: list[int] = []  # slots of threads that are gone
        self._started = 0
        self.closing = False
        self.all_work = False

    def helper(self) -> sync.Lock | sync.Thread | None:
        """One more to do work, for ``begin``: a resting or a new thread; None if all work."""
        if self._resting:
            wake = self._resting.pop()
            self._count()
            return wake
        if len(self._slots) >= self._size or self.closing:
            return None
        self._started += 1
        slot = self._free.pop() if self._free else len(self._slots) + 1
        # Daemons, so that those left behind do not keep the interpreter from exiting.
        thread = sync.Thread(
            target=self._work, args=(slot,), name=f"{self._name}-{self._started}", daemon=True
        )
        self._slots[thread] = slot
        self._count()
        return thread

    @staticmethod
    def begin(helper: sync.Lock | sync.Thread) -> bool:
        """Wake or start a helper; False if no thread could be started."""
        if not isinstance(helper, sync.Thread):
            helper.release()
            return True
        try:
            helper.start()
        except RuntimeError:
            return False
        return True

    def rest(self, wake: sync.Lock) -> None:
        """Note that the caller has nothing to do; it waits for ``wake`` next."""
        self._resting.append(wake)
        self.all_work = False

    def drop(self, thread: sync.Thread) -> None:
        """Forget a thread that could not be started, or is left behind."""
        slot = self._slots.pop(thread, None)
        if slot is not None:
            self._free.append(slot)
            self._count()

    @property
    def size(self) -> int:
        """Number of threads."""
        return len(self._slots)

    @property
    def busy(self) -> int:
        """Number of threads that do not rest."""
        return len(self._slots) - len(self._resting)

    def close(self) -> tuple[list[sync.Lock], list[sync.Thread]]:
        """Let all threads end; return those to wake and those to join."""
        self.closing = True
        resting, self._resting = self._resting, []
        return resting, list(self._slots)

    def _count(self) -> None:
        self.all_work = not self._resting and len(self._slots) >= self._size
