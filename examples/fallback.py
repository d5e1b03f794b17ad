"""Fallback: a circuit breaker stops calling what keeps failing, and another task steps in.

A service is down for a while. Each round asks it, and takes the answer of a cache if that fails.
After two failures the circuit of the group "service" opens: the service is left in peace, and the
rounds are answered by the cache at once. When its time is up one trial call goes through, and the
circuit closes.

The clock is a fake one, so that minutes pass in no time.
"""

from __future__ import annotations

from ttasks import (
    CircuitBreaker,
    DependencyPolicy,
    Task,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskType,
)
from ttasks.testing import FakeClock

ASK = TaskType("ask")
CACHE = TaskType("cache")
REPAIRED_AFTER_SECONDS = 100.0


def one_round(executor: TaskExecutor) -> tuple[TaskGraph, str]:
    """Ask the service, or else the cache; the graph and whose answer it was."""
    graph = TaskGraph("round")
    service = graph.add(Task("service", None, ASK, group="service"), required=False)
    cache = graph.add(
        Task("cache", None, CACHE),
        after=service,
        on_dep_failure=DependencyPolicy.ON_FAILURE,
    )
    graph.run(executor)
    assert graph.ok
    return graph, service.result.value if service.is_succeeded else cache.result.value


def main() -> None:
    clock = FakeClock()
    calls: list[float] = []

    def ask(context: TaskContext) -> str:
        calls.append(clock.now())
        if clock.now() < REPAIRED_AFTER_SECONDS:
            raise ConnectionError("the service is down")
        return "fresh"

    def tell(event: TaskEvent) -> None:
        print(f"{clock.now():5.0f} s  ** {event.error}")

    breaker = CircuitBreaker(window=2, failure_rate=1.0, reset_after=60.0)
    answers = []
    with TaskExecutor(breakers={"service": breaker}, clock=clock) as executor:
        executor.register(ASK, ask)
        executor.register(CACHE, lambda context: "from the cache")
        kinds = (TaskEventType.CIRCUIT_OPENED, TaskEventType.CIRCUIT_CLOSED)
        executor.events.subscribe(tell, types=kinds)
        for _ in range(9):
            graph, answer = one_round(executor)
            answers.append(answer)
            status = executor.breaker_states["service"]
            print(f"{clock.now():5.0f} s  {answer:<15} circuit {status.state.value}", end="")
            print(f", next trial in {status.retry_after:.0f} s" if status.retry_after else "")
            for error in graph.errors.values():
                print(f"         {error}")
            clock.advance(20)

    assert answers == ["from the cache"] * 7 + ["fresh"] * 2
    # Two failures, one trial too early, and one that finds the service repaired.
    assert calls == [0.0, 20.0, 80.0, 140.0, 160.0]
    print(f"9 rounds, {len(calls)} calls of the service")


if __name__ == "__main__":
    main()
