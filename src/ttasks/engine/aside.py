"""Aside: work on a thread of its own, which may be left behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ttasks import sync

if TYPE_CHECKING:
    from ttasks.backends.base import Backend, Job

Count = Callable[[int], object]
Working = AbstractContextManager[object]


class SideThread:
    """A daemon thread that may be left behind, and is counted from then on until it ends.

    Args:
        target: what it does.
        name: its name.
        working: it spends its life in this context.
        abandoned: called with +1 when it is left behind, and with -1 at its end.
        patience: seconds that `join` waits; None means without a limit.
    """

    def __init__(
        self,
        target: Callable[[], None],
        name: str,
        working: Working,
        abandoned: Count,
        patience: float | None = None,
    ) -> None:
        self._target = target
        self._patience = patience
        self._working = working
        self._abandoned = abandoned
        self._lock = sync.Lock()  # protects the two below
        self._is_over = False
        self._is_left = False
        self._thread = sync.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start it; raises RuntimeError if no thread can be started."""
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._working:
                self._target()
        finally:
            with self._lock:
                self._is_over = True
                is_left = self._is_left
            if is_left:
                self._abandoned(-1)

    @property
    def is_over(self) -> bool:
        """True if it has ended, or is left behind."""
        return self._is_over or self._is_left

    def leave(self) -> None:
        """Wait for it no longer."""
        with self._lock:
            if self._is_over or self._is_left:
                return
            self._is_left = True
        self._abandoned(+1)

    def join(self) -> None:
        """Wait until it has ended, unless it is left behind; leave it behind if it takes long."""
        if self._is_left or self._thread.ident is None:
            return
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self.leave()


class Aside:
    """A backend that runs one job through another, on a thread that is not the worker's.

    Attributes:
        side: the thread; None before `start`.
    """

    frees_worker = True

    def __init__(self, inner: Backend, working: Working, abandoned: Count) -> None:
        self._inner = inner
        self._working = working
        self._abandoned = abandoned
        self.kills = inner.kills
        self.side: SideThread | None = None

    def start(self, job: Job) -> None:
        """See `Backend`."""
        self.side = SideThread(
            lambda: self._inner.start(job), "ttasks-service", self._working, self._abandoned
        )
        try:
            self.side.start()
        except BaseException as error:
            self.side = None
            job.end(None, error)

    def leave(self) -> None:
        """Its job has been left behind."""
        if self.side is not None:
            self.side.leave()

    def close(self) -> None:
        """See `Backend`; the other one is closed by the executor."""
