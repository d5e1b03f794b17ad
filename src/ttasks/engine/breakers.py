"""Breakers: the circuit breakers of an executor, by group and by type of task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.errors import CircuitOpenError
from ttasks.model.breaker import BreakerStatus, Circuit, CircuitBreaker, CircuitState
from ttasks.model.checks import check_str, wrong_type
from ttasks.model.clock import Clock
from ttasks.model.groups import groups_of
from ttasks.model.task_type import TaskType

if TYPE_CHECKING:
    from ttasks.model.task import Task

Key = str | TaskType
"""What a circuit is for: a group, by its name, or a type of task."""

Entry = tuple[Key, int]
"""A circuit that let a call through, and the ticket that it gave."""

# Three of them, because a mapping from str is no mapping from str or TaskType.
GivenBreakers = (
    Mapping[str, CircuitBreaker] | Mapping[TaskType, CircuitBreaker] | Mapping[Key, CircuitBreaker]
)
"""Circuit breakers as users give them."""

EACH_GROUP = "*"
"""Stands for every group that is not named."""


class Breakers:
    """The circuits of all groups and types that have one. Thread-safe; its lock owns them.

    Args:
        breakers: by group or type. That of "*" gives each other group, once a task of it runs, a
            circuit of its own.
        clock: what they go by.
    """

    def __init__(self, breakers: GivenBreakers | None, clock: Clock) -> None:
        given: Mapping[Any, CircuitBreaker] = {} if breakers is None else breakers
        if not isinstance(given, Mapping):
            expected = "a mapping from group name or TaskType to CircuitBreaker"
            raise wrong_type("breakers", given, expected)
        for key, breaker in given.items():
            if not isinstance(key, TaskType):
                check_str("a group name in breakers", key, empty=False)
            if not isinstance(breaker, CircuitBreaker):
                raise wrong_type(f"breakers[{key!r}]", breaker, "a CircuitBreaker")
        self._clock = clock
        self._lock = sync.Lock()
        self._of_each_group = given.get(EACH_GROUP)
        self._circuits: dict[Key, Circuit] = {
            key: Circuit(breaker) for key, breaker in given.items() if key != EACH_GROUP
        }

    def __bool__(self) -> bool:
        return bool(self._circuits) or self._of_each_group is not None

    def enter(self, task: Task) -> tuple[Entry, ...]:
        """Ask for permission to call the handler of a task.

        Returns:
            The arguments of `leave`, for each circuit that the call goes through.

        Raises:
            CircuitOpenError: one of them is open.
        """
        entered: list[Entry] = []
        with self._lock:
            now = self._clock.now()
            for key, circuit in self._circuits_of(task):
                ticket = circuit.allow(now)
                if ticket is None:
                    for before, given in entered:
                        self._circuits[before].forget(given)
                    left = circuit.status(now).retry_after
                    break
                entered.append((key, ticket))
            else:
                return tuple(entered)
        if isinstance(key, TaskType):
            raise CircuitOpenError(key.value, left, "task type")
        raise CircuitOpenError(key, left)

    def _circuits_of(self, task: Task) -> list[tuple[Key, Circuit]]:
        """The circuits that a call of a task goes through; with the lock held."""
        keys: list[Key] = [*groups_of(task)]
        if self._of_each_group is not None:
            for key in keys:
                if key not in self._circuits:
                    self._circuits[key] = Circuit(self._of_each_group)
        keys.append(task.type)
        return [(key, self._circuits[key]) for key in keys if key in self._circuits]

    def leave(self, entry: Entry, failed: bool | None) -> CircuitState | None:
        """Record whether the call failed, None if unknown; return the new state if it changed."""
        key, ticket = entry
        with self._lock:
            if failed is None:
                self._circuits[key].forget(ticket)
                return None
            return self._circuits[key].record(ticket, failed, self._clock.now())

    def states(self) -> dict[Key, BreakerStatus]:
        """A look at every circuit, by group or type."""
        with self._lock:
            now = self._clock.now()
            return {key: circuit.status(now) for key, circuit in self._circuits.items()}


def name_of_circuit(key: Key) -> str:
    """How to call a circuit in messages."""
    return f"task type {key.value!r}" if isinstance(key, TaskType) else f"group {key!r}"
