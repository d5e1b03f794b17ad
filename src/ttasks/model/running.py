"""What a run of a graph and the graph itself know of each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from ttasks import sync
from ttasks.model.breaker import BreakerStatus
from ttasks.model.checks import (
    check_bool,
    check_int,
    check_seconds,
    check_str,
    wrong_type,
    wrong_value,
)
from ttasks.model.groups import check_name
from ttasks.model.status import TaskStatus
from ttasks.model.task_type import TaskType

# Three of them, because a mapping from str is no mapping from str or TaskType.
Limits = Mapping[str, int] | Mapping[TaskType, int] | Mapping[str | TaskType, int]
"""How many tasks of a group or of a type may run at once."""

if TYPE_CHECKING:
    from ttasks.model.run import Run


CACHE_ON, CACHE_OFF, CACHE_VERIFY = CACHES = ("on", "off", "verify")
"""What becomes of tasks with ``reuse`` that need not run: they do not; do; or do, and must give the
same again."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Checked arguments of `TaskGraph.run`; see there.

    ``schedule`` and ``slot`` say for which moment of which schedule it runs; see `RunFacts`.
    """

    max_workers: int = 4
    fail_fast: bool = False
    timeout: float | None = None
    finally_timeout: float | None = None
    retry_budget: int | None = None
    limits: Limits | None = None
    handle_sigterm: bool = False
    resume: bool = False
    wait: bool = False
    cache: str = CACHE_ON
    schedule: str | None = None
    slot: datetime | None = None

    def __post_init__(self) -> None:
        check_int("max_workers", self.max_workers, least=1)
        check_bool("fail_fast", self.fail_fast)
        check_seconds("timeout", self.timeout)
        check_seconds("finally_timeout", self.finally_timeout)
        if self.retry_budget is not None:
            check_int("retry_budget", self.retry_budget, least=0)
        check_limits(self.limits)
        check_bool("handle_sigterm", self.handle_sigterm)
        check_bool("resume", self.resume)
        check_bool("wait", self.wait)
        if check_str("cache", self.cache) not in CACHES:
            raise wrong_value("cache", self.cache, f"one of {', '.join(map(repr, CACHES))}")
        if self.resume and self.cache != CACHE_ON:
            raise ValueError(
                f"cache={self.cache!r} runs tasks again, so it cannot go with resume=True"
            )


def check_limits(limits: object) -> None:
    """Check a mapping from group name or TaskType to how many of it may run at once."""
    if limits is None:
        return
    if not isinstance(limits, Mapping):
        raise wrong_type("limits", limits, "a mapping from group name or TaskType to int")
    for group, limit in limits.items():
        if not isinstance(group, TaskType):
            check_name("a group name in limits", group)
        check_int(f"limits[{group!r}]", limit, least=1)


@dataclass(frozen=True, slots=True)
class GraphStatistics:
    """The state of a graph at one moment, during a run or after it.

    Attributes:
        counts: number of tasks by status; a status without tasks counts 0. A task that waits for
            another attempt is PENDING (see `Task.is_retrying`).
        running: titles of the tasks that are running, in insertion order.
        waiting: tasks that wait for another attempt, or for another run that executes them.
        elapsed: seconds since the run began, or the duration of the latest one; 0.0 before the
            first.
        retries: attempts after the first of their task that the run has started.
        retry_budget: how many of them the run may start; None means any number.
        reasons: number of tasks by why they did not succeed: the ``termination_reason`` of their
            results, such as "exit_code", "timeout", "cancelled" and "rejected".
        started_at, ended_at: of the run, aware UTC; None before.
        breakers: state of each circuit breaker of the executor, by group or type.
    """

    counts: Mapping[TaskStatus, int]
    running: tuple[str, ...]
    waiting: int = 0
    elapsed: float = 0.0
    retries: int = 0
    retry_budget: int | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None
    breakers: Mapping[str | TaskType, BreakerStatus] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of tasks."""
        return sum(self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values; times in ISO 8601.

        The key of the breaker of a type is "type " and its name.
        """
        return {
            "total": self.total,
            "counts": {status.value: number for status, number in self.counts.items()},
            "reasons": dict(self.reasons),
            "running": list(self.running),
            "waiting": self.waiting,
            "elapsed": self.elapsed,
            "started_at": None if self.started_at is None else self.started_at.isoformat(),
            "ended_at": None if self.ended_at is None else self.ended_at.isoformat(),
            "retries": self.retries,
            "retry_budget": self.retry_budget,
            "breakers": {
                f"type {key.value}" if isinstance(key, TaskType) else key: {
                    "state": status.state.value,
                    "failures": status.failures,
                    "calls": status.calls,
                    "retry_after": status.retry_after,
                }
                for key, status in self.breakers.items()
            },
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return ``to_dict()`` as JSON text.

        Args:
            indent: spaces per level; None means one line.

        Example:
            >>> from ttasks import TaskGraph
            >>> TaskGraph().statistics().to_json()[:35]
            '{"total": 0, "counts": {"pending": '
        """
        import json

        return json.dumps(self.to_dict(), indent=indent)


class RunHandle(Protocol):
    """A run of a graph, as its graph knows it. Thread-safe."""

    @property
    def elapsed(self) -> float:
        """Seconds since the run began, or that it took."""

    @property
    def retries(self) -> int:
        """Attempts after the first that it has started."""

    @property
    def waiting(self) -> int:
        """Tasks that wait for another attempt, or for another run that executes them."""

    @property
    def retry_budget(self) -> int | None:
        """How many attempts after the first it may start; None means any number."""

    @property
    def started_at(self) -> datetime | None:
        """When it began, aware UTC; None before."""

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, aware UTC; None before."""

    @property
    def breakers(self) -> Mapping[str | TaskType, BreakerStatus]:
        """State of each circuit breaker of the executor."""

    def cancel(self) -> None:
        """See `TaskGraph.cancel`."""

    def request_cancel(self) -> None:
        """See `TaskGraph.request_cancel`."""


@dataclass(slots=True)
class RunState:
    """The latest run of a graph. Its ``lock`` owns ``active``; the rest belongs to the run.

    Attributes:
        active: it goes on.
        handle: how to look at it and stop it; None before the first.
        run: the same for users.
        count: how many there were, in this process.
        error: what ended it as a whole before its time.
        errors: exception by task id.
        title_of: the title of the graph or one of its tasks, without the secrets of the executor.
    """

    lock: sync.Lock = field(default_factory=lambda: sync.Lock())
    active: bool = False
    handle: RunHandle | None = None
    run: Run | None = None
    count: int = 0
    error: BaseException | None = None
    errors: dict[str, BaseException] = field(default_factory=dict)
    title_of: Callable[[Any], str] = attrgetter("title")
