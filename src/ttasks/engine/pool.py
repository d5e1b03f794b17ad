"""SubmitPool: the queue and the threads behind ``TaskExecutor.submit``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from threading import Condition, Thread, current_thread
from typing import NamedTuple

from ttasks.engine.limits import GroupLimits
from ttasks.model.result import TaskResult


class Job(NamedTuple):
    """Work in the queue: who waits for it, what to do, and the limited group it is in."""

    future: Future[TaskResult]
    work: Callable[[], TaskResult]
    group: str | None


class SubmitPool:
    """Runs jobs on at most ``max_workers`` threads, in the order of submission.

    A thread is started when there is work for it and ends when the queue is empty, so an idle pool
    holds none; they are no daemons, so submitted work is done before the interpreter exits. A job
    whose group is full waits without holding back others.

    Thread-safe. The condition's lock owns the queue, the parked jobs and the threads; no lock is
    held while a job runs.
    """

    def __init__(
        self,
        max_workers: int,
        limits: GroupLimits,
        working: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._max_workers = max_workers
        self._limits = limits
        self._working = working  # marks a thread as one that works for the executor
        self._changed = Condition()
        self._queue: deque[Job] = deque()
        self._parked: dict[str, deque[Job]] = {}
        self._threads: set[Thread] = set()
        self._started = 0
        if limits:
            limits.listen(self._on_free_place)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        with self._changed:
            self._queue.append(job)
            thread = self._new_thread()
        if thread is not None:
            self._start(thread)

    def cancel_queued(self) -> None:
        """Cancel every job that has not started."""
        with self._changed:
            jobs = [*self._queue, *(job for parked in self._parked.values() for job in parked)]
            self._queue.clear()
            self._parked.clear()
            self._changed.notify_all()
        for job in jobs:
            job.future.cancel()

    def join(self) -> None:
        """Wait until nothing is queued and every thread but the calling one has ended."""
        me = current_thread()
        seen: set[Thread] = set()
        with self._changed:
            while self._parked or self._threads - {me}:
                seen |= self._threads - {me}
                self._changed.wait()
        for thread in seen:
            if thread.ident is not None:  # else it could not be started
                thread.join()

    def _new_thread(self) -> Thread | None:
        if len(self._threads) >= self._max_workers:
            return None
        self._started += 1
        thread = Thread(target=self._work, name=f"ttasks-submit-{self._started}", daemon=False)
        self._threads.add(thread)
        return thread

    def _start(self, thread: Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:
            # No more threads to be had. Others will do the work, if there are any.
            with self._changed:
                self._threads.discard(thread)
                self._changed.notify_all()
                if self._threads:
                    return
                jobs = list(self._queue)
                self._queue.clear()
            for job in jobs:
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)

    def _work(self) -> None:
        with self._working():
            self._work_on()

    def _work_on(self) -> None:
        while True:
            with self._changed:
                job = self._take()
                if job is None:
                    self._threads.discard(current_thread())
                    self._changed.notify_all()
                    return
            try:
                _run(job)
            finally:
                if job.group is not None:
                    self._limits.release(job.group)

    def _take(self) -> Job | None:
        while self._queue:
            job = self._queue.popleft()
            if job.group is None or self._limits.acquire(job.group):
                return job
            self._parked.setdefault(job.group, deque()).append(job)
        return None

    def _on_free_place(self, group: str) -> None:
        with self._changed:
            parked = self._parked.get(group)
            if not parked:
                return
            self._queue.appendleft(parked.popleft())
            if not parked:
                del self._parked[group]
            thread = self._new_thread()
        if thread is not None:
            self._start(thread)


def _run(job: Job) -> None:
    if not job.future.set_running_or_notify_cancel():
        return
    try:
        result = job.work()
    except BaseException as error:
        job.future.set_exception(error)
    else:
        job.future.set_result(result)
