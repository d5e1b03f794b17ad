"""CircuitBreaker and its circuit: the definition, a naive oracle, and what is refused."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttasks import BreakerStatus, CircuitBreaker, CircuitState
from ttasks.model.breaker import Circuit

CLOSED, OPEN, HALF_OPEN = CircuitState


class Naive:
    """The definition, kept as a list of phases: a call only tells about the phase it began in."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.phases: list[str] = ["closed"]
        self.ends: list[bool] = []  # of the calls of the latest closed phase
        self.trial_from = -inf

    def allow(self, now: float) -> int | None:
        if self.phases[-1] == "trial" or (self.phases[-1] == "open" and now < self.trial_from):
            return None
        if self.phases[-1] == "open":
            self.phases.append("trial")
        return len(self.phases)

    def end(self, began_in: int, failed: bool | None, now: float) -> CircuitState | None:
        if began_in != len(self.phases):
            return None
        if self.phases[-1] == "trial":
            if failed is None:
                self.phases.append("open")  # and a trial may begin at once
                return None
            return self.open(now) if failed else self.close()
        if failed is None:
            return None
        self.ends.append(failed)
        least = self.breaker.min_calls or self.breaker.window
        seen = self.seen()
        if len(seen) >= least and seen.count(True) / len(seen) >= self.breaker.failure_rate:
            return self.open(now)
        return None

    def seen(self) -> list[bool]:
        return self.ends[-self.breaker.window :]

    def open(self, now: float) -> CircuitState:
        self.phases.append("open")
        self.trial_from = now + self.breaker.reset_after
        return OPEN

    def close(self) -> CircuitState:
        self.phases.append("closed")
        self.ends = []
        return CLOSED

    def status(self, now: float) -> BreakerStatus:
        state, left = CLOSED, 0.0
        if self.phases[-1] != "closed":
            left = max(0.0, self.trial_from - now)
            state = OPEN if left else HALF_OPEN
        return BreakerStatus(state, self.seen().count(True), len(self.seen()), left)


BREAKERS = st.integers(1, 6).flatmap(
    lambda window: st.builds(
        CircuitBreaker,
        window=st.just(window),
        failure_rate=st.sampled_from([0.01, 0.3, 0.5, 0.75, 1]),
        min_calls=st.none() | st.integers(1, window),
        reset_after=st.sampled_from([0.5, 2, 10.0]),
    )
)
STEPS = st.lists(
    st.one_of(
        st.just(("allow",)),
        st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from([True, True, False, None])),
        st.tuples(st.just("pass"), st.sampled_from([0.25, 0.5, 2.0, 10.0])),
    ),
    max_size=120,
)


@given(BREAKERS, STEPS)
def test_a_circuit_does_what_its_definition_says(breaker: CircuitBreaker, steps: list[Any]) -> None:
    circuit, naive = Circuit(breaker), Naive(breaker)
    now = 0.0
    calls: list[tuple[int, int]] = []
    for step in steps:
        if step[0] == "pass":
            now += step[1]
        elif step[0] == "allow":
            ticket, phase = circuit.allow(now), naive.allow(now)
            assert (ticket is None) == (phase is None)
            if ticket is not None and phase is not None:
                calls.append((ticket, phase))
        elif calls:
            ticket, phase = calls.pop(step[1] % len(calls))
            expected = naive.end(phase, step[2], now)
            if step[2] is None:
                circuit.forget(ticket)
            else:
                assert circuit.record(ticket, step[2], now) is expected
        assert circuit.status(now) == naive.status(now)


def ticket(circuit: Circuit, now: float = 0.0) -> int:
    found = circuit.allow(now)
    assert found is not None
    return found


def record(circuit: Circuit, *ends: bool, now: float = 0.0) -> list[CircuitState | None]:
    return [circuit.record(ticket(circuit, now), failed, now) for failed in ends]


def test_it_opens_at_the_rate_of_the_latest_calls() -> None:
    circuit = Circuit(CircuitBreaker(window=4, failure_rate=0.5, reset_after=30))
    assert record(circuit, True, False, False, False, True) == [None] * 5
    assert circuit.status(0.0) == BreakerStatus(CLOSED, 1, 4, 0.0)
    assert record(circuit, True) == [OPEN]
    assert circuit.status(1.0) == BreakerStatus(OPEN, 2, 4, 29.0)
    assert circuit.allow(29.9) is None


def test_it_does_not_open_before_so_many_calls_have_ended() -> None:
    assert record(Circuit(CircuitBreaker(window=3)), True, True, True) == [None, None, OPEN]
    assert record(Circuit(CircuitBreaker(3, min_calls=2)), True, True) == [None, OPEN]


@pytest.mark.parametrize("failures", [7, 14, 29, 57, 58])
def test_a_share_that_is_met_exactly_opens_it(failures: int) -> None:
    circuit = Circuit(CircuitBreaker(window=100, failure_rate=failures / 100))
    changes = record(circuit, *[False] * (100 - failures), *[True] * failures)
    assert changes == [None] * 99 + [OPEN]


def test_a_trial_that_succeeds_closes_it_and_forgets() -> None:
    circuit = Circuit(CircuitBreaker(window=1, reset_after=5))
    record(circuit, True)
    trial = ticket(circuit, 5.0)
    assert circuit.allow(100.0) is None
    assert circuit.status(100.0).state is HALF_OPEN
    assert circuit.record(trial, False, 101.0) is CLOSED
    assert circuit.status(101.0) == BreakerStatus(CLOSED, 0, 0, 0.0)


def test_a_trial_that_fails_opens_it_for_as_long_again() -> None:
    circuit = Circuit(CircuitBreaker(window=1, reset_after=5))
    record(circuit, True)
    assert circuit.record(ticket(circuit, 5.0), True, 7.0) is OPEN
    assert circuit.status(7.0).retry_after == 5.0
    assert circuit.allow(11.9) is None
    assert circuit.allow(12.0) is not None


def test_a_cancelled_trial_leaves_the_next_call_to_be_one() -> None:
    circuit = Circuit(CircuitBreaker(window=1, reset_after=5))
    record(circuit, True)
    first = ticket(circuit, 5.0)
    circuit.forget(first)
    second = ticket(circuit, 5.0)
    assert circuit.allow(5.0) is None
    assert circuit.record(first, True, 5.0) is None  # has told already that it tells nothing
    assert circuit.record(second, False, 5.0) is CLOSED


def test_calls_of_an_earlier_phase_say_nothing() -> None:
    circuit = Circuit(CircuitBreaker(window=1, reset_after=5))
    early = [ticket(circuit) for _ in range(3)]
    assert circuit.record(early[0], True, 0.0) is OPEN
    assert circuit.record(early[1], True, 4.0) is None
    assert circuit.status(4.0).retry_after == 1.0
    trial = ticket(circuit, 5.0)
    assert circuit.record(early[2], False, 5.0) is None
    assert circuit.record(trial, False, 5.0) is CLOSED


NUMBERS = [(value, TypeError) for value in (None, "1", True, [1])] + [
    (value, ValueError) for value in (nan, inf, -inf, 0, -1)
]
BAD: dict[str, list[tuple[Any, type[Exception]]]] = {
    "window": [
        *((value, TypeError) for value in ("3", 2.0, None, True)),
        *((value, ValueError) for value in (0, -1)),
    ],
    "failure_rate": [*NUMBERS, (1.01, ValueError)],
    "min_calls": [("3", TypeError), (1.0, TypeError), (0, ValueError), (11, ValueError)],
    "reset_after": NUMBERS,
}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [(name, value, error) for name, values in BAD.items() for value, error in values],
)
def test_bad_arguments_are_named_with_their_value(
    name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        CircuitBreaker(**{name: value})
    assert type(caught.value) is error
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)


def test_states_have_lower_case_values() -> None:
    assert [state.value for state in CircuitState] == ["closed", "open", "half_open"]
