"""Runners: the threads on which the runs of schedules are carried out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ttasks import sync

Job = TypeVar("Job")


class Runners(Generic[Job]):
    """Threads that take jobs in their order, and end when there are none. Thread-safe.

    They are no daemons, so the interpreter waits for what they do before it exits.

    Args:
        most: number of threads at most.
        carry_out: what to do with a job; never raises.
    """

    def __init__(self, most: int, carry_out: Callable[[Job], None]) -> None:
        self._most = most
        self._carry_out = carry_out
        self._lock = sync.Lock()  # protects the following
        self._jobs: deque[Job] = deque()
        self._threads: set[sync.Thread] = set()

    def add(self, jobs: Sequence[Job]) -> None:
        """Have threads carry out jobs.

        Raises:
            RuntimeError: there is no thread, and none can be started; the jobs are not carried out.
        """
        with self._lock:
            self._jobs.extend(jobs)
            for _ in range(min(len(jobs), self._most - len(self._threads))):
                thread = sync.Thread(target=self._work, name="ttasks-schedule-run", daemon=False)
                try:
                    thread.start()  # within the lock, as `join` must not see it before
                except RuntimeError:
                    if self._threads:  # they take the jobs
                        return
                    self._jobs.clear()
                    raise
                self._threads.add(thread)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._threads.discard(sync.current_thread())
                    return
                job = self._jobs.popleft()
            self._carry_out(job)

    def join(self) -> None:
        """Wait until all jobs are done; on one of the threads, return at once."""
        while True:
            with self._lock:
                threads = list(self._threads)
            if not threads or sync.current_thread() in threads:
                return
            for thread in threads:
                thread.join()
