"""Breakers: the circuit breakers of all groups of an executor."""

from __future__ import annotations

from collections.abc import Mapping

from ttasks import sync
from ttasks.errors import CircuitOpenError
from ttasks.model.breaker import BreakerStatus, Circuit, CircuitBreaker, CircuitState
from ttasks.model.checks import check_str, wrong_type
from ttasks.model.clock import Clock


class Breakers:
    """The circuit of each group that has one. Thread-safe; its lock owns the circuits."""

    def __init__(self, breakers: Mapping[str, CircuitBreaker] | None, clock: Clock) -> None:
        if breakers is not None and not isinstance(breakers, Mapping):
            raise wrong_type("breakers", breakers, "a mapping from group name to CircuitBreaker")
        for group, breaker in (breakers or {}).items():
            check_str("a group name in breakers", group, empty=False)
            if not isinstance(breaker, CircuitBreaker):
                raise wrong_type(f"breakers[{group!r}]", breaker, "a CircuitBreaker")
        self._clock = clock
        self._lock = sync.Lock()
        self._circuits = {group: Circuit(breaker) for group, breaker in (breakers or {}).items()}

    def __bool__(self) -> bool:
        return bool(self._circuits)

    def enter(self, group: str | None) -> tuple[str, int] | None:
        """Ask for permission to call the handler of a task.

        Returns:
            The arguments of `leave`; None for a group without a breaker.

        Raises:
            CircuitOpenError: the circuit is open.
        """
        circuit = None if group is None else self._circuits.get(group)
        if circuit is None:
            return None
        assert group is not None
        with self._lock:
            now = self._clock.now()
            ticket = circuit.allow(now)
            left = circuit.status(now).retry_after
        if ticket is None:
            raise CircuitOpenError(group, left)
        return group, ticket

    def leave(self, group: str, ticket: int, failed: bool | None) -> CircuitState | None:
        """Record whether the call failed, None if unknown; return the new state if it changed."""
        with self._lock:
            if failed is None:
                self._circuits[group].forget(ticket)
                return None
            return self._circuits[group].record(ticket, failed, self._clock.now())

    def states(self) -> dict[str, BreakerStatus]:
        """A look at every circuit, by group."""
        with self._lock:
            now = self._clock.now()
            return {group: circuit.status(now) for group, circuit in self._circuits.items()}
