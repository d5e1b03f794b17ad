"""Twins: tasks with ``reuse`` and the same fingerprint, of which one runs while the others wait.

    first ── claim ── runs ── ends ─→ SUCCEEDED: the others take over its result
    other ── wait ──────────────────→ anything else: the next one claims

Tasks of outermost runs are twins across all runs of their executor. Tasks of a run in a handler are
twins only within that run: they might otherwise wait for the handler itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ttasks import sync
from ttasks.engine.equals import is_same, take_over
from ttasks.model.snapshot import declares
from ttasks.model.status import TaskStatus

if TYPE_CHECKING:
    from ttasks.engine.attempt import Work
    from ttasks.model.task import Task

Key = tuple[object, str]
"""The run within which tasks are twins, None for all runs of the executor; and a fingerprint."""


class Claims:
    """The fingerprints of running tasks, and who waits for them. Thread-safe.

    Its lock owns its fields; callbacks are called without it.

    Attributes:
        ended: how many claims have been given up.
    """

    def __init__(self) -> None:
        self._lock = sync.Lock()
        self.ended = 0
        self._claims: dict[Key, tuple[Work, list[Callable[[Task], None]]]] = {}

    def take(self, key: Key, work: Work) -> bool:
        """Claim a fingerprint; False if somebody else has it."""
        with self._lock:
            return self._claims.setdefault(key, (work, []))[0] is work

    def wait(self, key: Key, callback: Callable[[Task], None]) -> bool:
        """Have ``callback`` called with the task at its end; False if nobody has the claim."""
        with self._lock:
            claim = self._claims.get(key)
            if claim is None:
                return False
            claim[1].append(callback)
            return True

    def leader(self, key: Key) -> Work | None:
        """Who has a fingerprint; None if nobody has."""
        with self._lock:
            claim = self._claims.get(key)
            return None if claim is None else claim[0]

    def release(self, key: Key) -> None:
        """Give up a claim, because the task has ended."""
        with self._lock:
            work, waiting = self._claims.pop(key)
            self.ended += 1
        for callback in waiting:
            callback(work.task)


class Twins:
    """The twins of one run. Thread-safe: every field is a dict with atomic operations.

    Args:
        claims: of the executor.
        scope: see `Key`.
        keeps: remember results until the run ends.
    """

    def __init__(self, claims: Claims, scope: object, *, keeps: bool) -> None:
        self._claims = claims
        self._scope = scope
        self._keeps = keeps
        self._ended: dict[str, Task] = {}  # that SUCCEEDED, by fingerprint
        self._told: dict[int, Task] = {}  # the twin that a node has waited for
        self._leading: dict[Work, Key] = {}  # what this run has claimed
        # Claims that had ended when the store was asked, and those of this run since then.
        self._asked = claims.ended if keeps else -1
        self._mine = 0

    def has_ended(self, node: int, task: Task) -> bool:
        """True if a twin of a task has ended since the store was asked, in this run."""
        return node in self._told or task.fingerprint in self._ended

    def take_over(self, node: int, task: Task) -> bool:
        """Let a task take over the result of a twin that SUCCEEDED; False if there is none."""
        fingerprint = task.fingerprint
        twin = self._told.pop(node, None)
        if fingerprint is None or declares(task):  # whether its files are there, the store tells
            return False
        if twin is None or not is_same(task, twin):
            twin = self._ended.get(fingerprint)
        return twin is not None and take_over(task, twin)

    def lead(self, work: Work) -> bool:
        """Claim the fingerprint of a task until its end; False if a twin is under way."""
        fingerprint = work.task.fingerprint
        if fingerprint is None or work in self._leading:
            return True
        key = (self._scope, fingerprint)
        if not self._claims.take(key, work):
            return False
        self._leading[work] = key
        work.on_end = partial(self._end, work, work.on_end)
        return True

    def leader_beside(self, work: Work) -> str | None:
        """Id of the twin that is under way, if that is in the same run."""
        assert work.task.fingerprint is not None
        leader = self._claims.leader((self._scope, work.task.fingerprint))
        return leader.task.id if leader is not None and leader.run is work.run else None

    def wait(self, node: int, task: Task, wake: Callable[[], None]) -> bool:
        """Have ``wake`` called when the twin has ended; False if there is none any more."""
        assert task.fingerprint is not None

        def tell(twin: Task) -> None:
            self._told[node] = twin
            wake()

        return self._claims.wait((self._scope, task.fingerprint), tell)

    def _end(
        self,
        work: Work,
        on_end: Callable[[TaskStatus, BaseException | None], None] | None,
        status: TaskStatus,
        error: BaseException | None,
    ) -> None:
        key = self._leading.pop(work)
        if self._keeps and status is TaskStatus.SUCCEEDED:
            self._ended[key[1]] = work.task
        try:
            if on_end is not None:
                on_end(status, error)
        finally:
            self._claims.release(key)
            self._mine += 1

    @property
    def has_news(self) -> bool:
        """True if the store may have the result of a twin that it had not when it was asked."""
        return self._asked < 0 or self._claims.ended != self._asked + self._mine
