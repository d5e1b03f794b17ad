"""RetryPolicy: the formula of its delays, what it allows, and what it refuses."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from math import inf, isfinite, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttasks import DependencyPolicy, RetryPolicy

SECONDS = st.floats(0, 1e6)
SHARES = st.floats(0, 1)
RANDOM = st.floats(0, 1, exclude_max=True)


def never() -> float:
    raise AssertionError("asked for a random number without jitter")


def test_the_default_tries_once_and_does_not_wait() -> None:
    policy = RetryPolicy()
    assert (policy.max_attempts, policy.backoff, policy.multiplier) == (1, 0.0, 1.0)
    assert (policy.max_backoff, policy.jitter, policy.max_elapsed) == (None, 0.0, None)
    assert policy.retry_on == (Exception,)
    assert not policy.allows(1, ValueError())


def test_delays_grow_by_the_multiplier_up_to_the_cap() -> None:
    policy = RetryPolicy(6, 0.5, multiplier=2, max_backoff=3)
    assert [policy.delay(n, never) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_without_a_multiplier_the_delay_is_constant() -> None:
    policy = RetryPolicy(5, 0.5)
    assert [policy.delay(n, never) for n in range(1, 5)] == [0.5] * 4


def test_an_increment_makes_each_delay_longer_than_the_one_before() -> None:
    policy = RetryPolicy(6, 1.0, increment=2.0, max_backoff=6.0)
    assert [policy.delay(n, never) for n in range(1, 6)] == [1.0, 3.0, 5.0, 6.0, 6.0]
    both = RetryPolicy(6, 1.0, multiplier=2, increment=0.5)
    assert [both.delay(n, never) for n in range(1, 4)] == [1.0, 2.5, 5.0]
    assert isfinite(RetryPolicy(2, increment=1e308).delay(1000, never))


def test_give_up_on_takes_a_class_or_a_tuple_and_wins() -> None:
    for classes in (KeyError, (KeyError, OSError)):
        policy = RetryPolicy(3, give_up_on=classes)
        assert not policy.allows(1, KeyError())
        assert policy.allows(1, ValueError())
    assert policy.give_up_on == (KeyError, OSError)


@given(
    retry=st.integers(1, 60),
    backoff=SECONDS,
    multiplier=st.floats(1, 100),
    extra=st.none() | SECONDS,
    jitter=SHARES,
    random=RANDOM,
)
def test_a_delay_follows_the_formula(
    retry: int,
    backoff: float,
    multiplier: float,
    extra: float | None,
    jitter: float,
    random: float,
) -> None:
    cap = None if extra is None else backoff + extra
    policy = RetryPolicy(99, backoff, multiplier=multiplier, max_backoff=cap, jitter=jitter)
    plain = backoff * multiplier ** (retry - 1)
    if cap is not None:
        plain = min(plain, cap)
    delay = policy.delay(retry, lambda: random)
    assert delay == pytest.approx(plain * (1 + jitter * (2 * random - 1)), rel=1e-9, abs=1e-12)
    assert plain * (1 - jitter) * 0.999999 <= delay <= plain * (1 + jitter) * 1.000001


@given(
    retry=st.integers(1, 10**6),
    backoff=st.sampled_from([0, 0.0, 1, 1e300]),
    multiplier=st.sampled_from([1, 10, 1e300]),
    cap=st.sampled_from([None, 1e300]),
    jitter=SHARES,
    random=RANDOM,
)
def test_a_delay_is_a_finite_number_however_late_the_retry(
    retry: int, backoff: float, multiplier: float, cap: float | None, jitter: float, random: float
) -> None:
    policy = RetryPolicy(2, backoff, multiplier=multiplier, max_backoff=cap, jitter=jitter)
    delay = policy.delay(retry, lambda: random)
    assert delay >= 0
    assert isfinite(delay)
    if not backoff:
        assert delay == 0


def test_attempts_count_the_first() -> None:
    policy = RetryPolicy(3)
    assert [policy.allows(n, ValueError()) for n in (1, 2, 3, 4)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("retry_on", "retried", "other"),
    [
        (OSError, TimeoutError(), ValueError()),
        ((OSError, KeyError), KeyError(), IndexError()),
        ((), None, Exception()),
        ((Exception,), Exception(), KeyboardInterrupt()),
    ],
)
def test_only_errors_of_the_named_classes_are_retried(
    retry_on: Any, retried: BaseException | None, other: BaseException
) -> None:
    policy = RetryPolicy(2, retry_on=retry_on)
    assert retried is None or policy.allows(1, retried)
    assert not policy.allows(1, other)


def test_a_policy_is_frozen_compares_by_value_and_survives_pickle() -> None:
    policy = RetryPolicy(3, 0.5, multiplier=2, max_backoff=9, jitter=0.1, retry_on=OSError)
    assert policy == RetryPolicy(
        3, 0.5, multiplier=2, max_backoff=9, jitter=0.1, retry_on=(OSError,)
    )
    assert policy != RetryPolicy(4)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert len({policy, pickle.loads(pickle.dumps(policy))}) == 1
    with pytest.raises(FrozenInstanceError):
        policy.backoff = 1.0  # type: ignore[misc]


def test_dependency_policies_have_lower_case_values() -> None:
    names = "BLOCK SKIP CONTINUE_IF_ANY RUN_ANYWAY ON_FAILURE"
    assert [policy.name for policy in DependencyPolicy] == names.split()
    assert all(policy.value == policy.name.lower() for policy in DependencyPolicy)
    assert all(pickle.loads(pickle.dumps(policy)) is policy for policy in DependencyPolicy)


HUGE = 10**400
INTS = [(value, TypeError) for value in (None, "3", 3.0, True, [3])]
NUMBERS = [(value, TypeError) for value in ("1", True, [1], 1j)] + [
    (value, ValueError) for value in (nan, inf, -inf, HUGE)
]
BAD: dict[str, list[tuple[Any, type[Exception]]]] = {
    "max_attempts": [*INTS, (0, ValueError), (-1, ValueError)],
    "backoff": [*NUMBERS, (None, TypeError), (-0.1, ValueError)],
    "multiplier": [*NUMBERS, (None, TypeError), (0.99, ValueError), (-1, ValueError)],
    "max_backoff": [*NUMBERS, (-1, ValueError), (0.4, ValueError)],
    "jitter": [*NUMBERS, (None, TypeError), (-0.1, ValueError), (1.1, ValueError)],
    "retry_on": [
        (value, TypeError)
        for value in (None, "OSError", int, ValueError("x"), [OSError], (OSError, int))
    ],
    "give_up_on": [
        (value, TypeError) for value in (None, "OSError", int, ValueError("x"), (OSError, int))
    ],
    "increment": [*NUMBERS, (-1, ValueError)],
    "retry_if": [(value, TypeError) for value in ("x", 5, OSError("x"))],
    "before_sleep": [(value, TypeError) for value in ("x", 5)],
    "max_elapsed": [*NUMBERS, (0, ValueError), (-1, ValueError)],
    "retry": [*INTS, (0, ValueError), (-1, ValueError)],
}


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        pytest.param(name, value, error, id=f"{name}-{str(value)[:20]}")
        for name, values in BAD.items()
        for value, error in values
    ],
)
def test_bad_arguments_are_named_with_their_value(
    name: str, value: Any, error: type[Exception]
) -> None:
    def make() -> None:
        if name == "retry":
            RetryPolicy().delay(value, never)
        else:
            RetryPolicy(**{"backoff": 0.5, name: value})

    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    shown = value[-1] if isinstance(value, tuple) else value
    assert name in str(caught.value)
    assert repr(shown)[:40] in str(caught.value)


def test_what_tunes_a_policy_is_given_by_name() -> None:
    with pytest.raises(TypeError, match="positional"):
        RetryPolicy(3, 0.5, 2.0)  # type: ignore[misc]
