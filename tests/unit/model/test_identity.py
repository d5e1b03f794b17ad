"""Fingerprints of calls and values: equal for equal work, and never for anything else."""

from __future__ import annotations

import functools
import re
import textwrap
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from fractions import Fraction
from ipaddress import ip_address
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

import callkit
from ttasks import PythonTask, Task, TaskType, task
from ttasks.model.fingerprint import fingerprint_of

CUSTOM = TaskType("custom")
Pair = namedtuple("Pair", "x y")
Other = namedtuple("Other", "x y")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: Any = 0


@dataclass(frozen=True)
class Place:
    x: int
    y: Any = 0


@dataclass
class Scaled:
    factor: int

    def times(self, number: int) -> int:
        return self.factor * number

    def __call__(self, number: int) -> int:
        return self.times(number)


def echo(value: Any) -> Any:
    return value


def of(func: Any, *args: Any, **kwargs: Any) -> str | None:
    return fingerprint_of(Task.python(func, args, kwargs))


def of_value(value: Any) -> str | None:
    return of(echo, value)


def known(fingerprint: str | None) -> str:
    assert fingerprint is not None
    return fingerprint


VALUES: list[Callable[[], Any]] = [
    lambda: None,
    lambda: True,
    lambda: 1,
    lambda: 1.0,
    lambda: "1",
    lambda: 0.0,
    lambda: -0.0,
    lambda: b"1",
    lambda: bytearray(b"1"),
    lambda: 1j,
    lambda: range(3),
    lambda: ...,
    lambda: [1, 2],
    lambda: (1, 2),
    lambda: {1, 2},
    lambda: frozenset({1, 2}),
    lambda: Pair(1, 2),
    lambda: Other(1, 2),
    lambda: {"1": "a"},
    lambda: {1: "a"},
    lambda: [["1", "a"]],
    lambda: {"tuple": [1, 2]},
    lambda: OrderedDict(a=1, b=2),
    lambda: OrderedDict(b=2, a=1),
    lambda: Counter("aab"),
    lambda: Path("a/b"),
    lambda: PurePosixPath("a/b"),
    lambda: "a/b",
    lambda: datetime(2026, 1, 1, tzinfo=UTC),
    lambda: datetime(2026, 1, 1),  # noqa: DTZ001
    lambda: datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),
    lambda: datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    lambda: datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    lambda: date(2026, 1, 1),
    lambda: time(1, 2),
    lambda: timedelta(seconds=1),
    lambda: Colour.RED,
    lambda: Colour.BLUE,
    lambda: "red",
    lambda: Level.LOW,
    lambda: Access.READ | Access.WRITE,
    lambda: Access.READ,
    lambda: UUID(int=1),
    lambda: Decimal("1.0"),
    lambda: Decimal("1.00"),
    lambda: Fraction(1, 2),
    lambda: ip_address("127.0.0.1"),
    lambda: ip_address("::1"),
    lambda: Point(1),
    lambda: Point(1, (2,)),
    lambda: Point(1, [2]),
    lambda: Place(1),
    lambda: re.compile("a"),
    lambda: re.compile("a", re.IGNORECASE),
    lambda: re.compile(b"a"),
    lambda: Colour,
    lambda: Point,
    lambda: len,
    lambda: callkit.double,
    lambda: callkit.triple,
]


def test_each_value_is_told_from_every_other_and_known_again() -> None:
    first = [known(of_value(make())) for make in VALUES]
    assert [known(of_value(make())) for make in VALUES] == first
    assert len(set(first)) == len(VALUES)


def test_payloads_of_other_types_are_told_apart_as_well() -> None:
    payloads = [[1, 2], (1, 2), {"1": 2}, {1: 2}, Colour.RED, "red", Path("red")]
    found = [known(fingerprint_of(Task("t", payload, CUSTOM))) for payload in payloads]
    assert len(set(found)) == len(payloads)


def test_the_order_of_a_set_and_of_a_mapping_does_not_count() -> None:
    words = [f"word {number}" for number in range(50)]
    assert known(of_value(set(words))) == of_value({*words[::-1]})
    assert known(of_value({"a": 1, 2: "b"})) == of_value({2: "b", "a": 1})
    assert known(of_value(MappingProxyType({"a": 1}))) == of_value({"a": 1})


class Opaque:
    pass


class Sub(dict[str, int]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Opaque(),
        Sub(a=1),
        [1, {"deep": (Opaque(),)}],
        Point(1, Opaque()),
        type("Text", (str,), {})("x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_may_hold_anything_has_no_fingerprint(value: Any) -> None:
    assert of_value(value) is None


def test_a_value_that_contains_itself_or_cannot_be_read_has_no_fingerprint() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert fingerprint_of(Task("t", loop, CUSTOM)) is None
    unset = object.__new__(Point)
    assert of_value(unset) is None


# Arguments


def add(x: int, y: int = 2, *, z: int = 3) -> int:
    return x + y + z


def many(first: Any, *rest: Any, **named: Any) -> Any:
    return first, rest, named


def test_arguments_count_by_parameter_however_they_are_given() -> None:
    same = known(of(add, 1, 2))
    for call in (of(add, 1, y=2), of(add, x=1, y=2), of(add, y=2, x=1), of(add, 1)):
        assert call == same
    assert of(add, 1, z=3) == same
    assert len({same, of(add, 2, 1), of(add, 1, 3), of(add, 1, z=4)}) == 4


def test_variable_arguments_count_by_place_and_by_name() -> None:
    assert known(of(many, 1, 2, a=3, b=4)) == of(many, 1, 2, b=4, a=3)
    assert len({of(many, 1, 2), of(many, 1, a=2), of(many, 2, 1), of(many, (1, 2))}) == 4
    assert known(of(many, 1, a=2)) == of(many, first=1, a=2)


def test_arguments_of_decorated_functions_count_by_their_own_parameters() -> None:
    decorated = task(add)
    assert known(of(decorated, 1, 2)) == of(decorated, x=1, y=2)
    assert fingerprint_of(decorated.task(1)) == of(decorated, 1)
    method = Scaled(2).times
    assert known(of(method, 3)) == of(method, number=3)


def test_tasks_among_the_arguments_count_by_their_place_whatever_class_they_have() -> None:
    one = Task("one", "p", CUSTOM)
    assert known(of(echo, one)) == of(echo, Task.python(echo, (1,)))
    assert of(many, one, one) != of(many, one, Task("two", "p", CUSTOM))


# Functions


def made(source: str, name: str = "f") -> Any:
    """A function of this module that is compiled from a source text."""
    scope: dict[str, Any] = {"__name__": "made"}
    exec(textwrap.dedent(source), scope)
    return scope[name]


def test_the_code_of_a_function_counts_but_not_its_lines_comments_and_docstring() -> None:
    same = known(of(made("def f():\n    return g(1)")))
    assert of(made("# moved\n\n\ndef f():\n    # says more\n    return g(1)")) == same
    assert of(made('def f():\n    """Now with a docstring."""\n    return g(1)')) == same
    others = [
        "def f():\n    return g(2)",
        "def f():\n    return h(1)",
        "def f():\n    return g(1.0)",
        "def f():\n    return g(True)",
        "def f():\n    return [g(1)]",
        "def f():\n    return (lambda: 1)()",
        "def f():\n    return (lambda: 2)()",
        "def f():\n    def g(): return 1\n    return g()",
        "def f():\n    def g(): return 2\n    return g()",
        "def f():\n    return 'text'",
        "def f():\n    return x in {1, 2}",
        "def f():\n    return x in {1, 3}",
        "def f():\n    return x in (1, 2)",
        "def f():\n    return ...",
        "async def f():\n    return g(1)",
    ]
    found = [known(of(made(source))) for source in others]
    assert len({same, *found}) == 1 + len(others)


def test_a_class_inside_of_a_function_counts_without_its_lines() -> None:
    source = "def f():\n    class C:\n        n = 7\n    return C().n\n"
    same = known(of(made(source)))
    assert of(made("\n\n\n" + source)) == same
    assert of(made(source.replace("7", "8"))) != same


def test_the_defaults_and_the_closure_of_a_function_count() -> None:
    def closing(value: Any) -> Any:
        return lambda: value

    def defaulting(value: Any) -> Any:
        def f(x: Any = value) -> Any:
            return x

        return f

    for maker in (closing, defaulting):
        assert known(of(maker(1))) == of(maker(1))
        assert of(maker(1)) != of(maker(2))
        assert of(maker((1, 2))) != of(maker([1, 2]))
        assert of(maker(object())) is None
    assert of(defaulting(1), 5) != of(defaulting(2), 5)  # it may look at its own defaults


def test_functions_in_closures_and_arguments_count_with_their_code() -> None:
    def wrapping(inner: Any) -> Any:
        @functools.wraps(inner)
        def run(*args: Any) -> Any:
            return inner(*args)

        return run

    assert known(of(wrapping(callkit.double), 1)) == of(wrapping(callkit.double), 1)
    assert of(wrapping(callkit.double), 1) != of(wrapping(callkit.triple), 1)
    assert of(echo, lambda: 1) != of(echo, lambda: 2)


def test_a_function_that_closes_over_itself_has_a_fingerprint() -> None:
    def making(step: int) -> Any:
        def down(number: int) -> int:
            return number if number <= 0 else down(number - step)

        return down

    assert known(of(making(1), 5)) == of(making(1), 5)
    assert of(making(1), 5) != of(making(2), 5)


def test_methods_and_callable_objects_count_with_the_object() -> None:
    assert known(of(Scaled(2).times, 1)) == of(Scaled(2).times, 1)
    found = {
        of(Scaled(2).times, 1),
        of(Scaled(3).times, 1),
        of(Scaled(2), 1),
        of(Scaled(3), 1),
        of("a".upper),
        of("b".upper),
        of(len, "a"),
    }
    assert None not in found
    assert len(found) == 7
    assert of(callkit.Shop(2).price, 1) is None  # nothing says what a Shop is


def test_partials_count_with_what_they_hold() -> None:
    part = functools.partial
    found = [of(part(add, 1)), of(part(add, 2)), of(part(add, x=1)), of(add, 1)]
    assert None not in found
    assert len(set(found)) == 4
    assert of(part(add, object())) is None


def class_form(body: str) -> Any:
    scope: dict[str, Any] = {"__name__": "made", "PythonTask": PythonTask}
    exec(f"class Made(PythonTask[int]):\n{textwrap.indent(textwrap.dedent(body), '    ')}", scope)
    return scope["Made"]


def test_the_class_form_counts_with_the_code_of_its_methods() -> None:
    first = class_form("def run(self, n): return self.twice(n)\ndef twice(self, n): return 2 * n")
    again = class_form("def run(self, n): return self.twice(n)\n\ndef twice(self, n): return 2 * n")
    other = class_form("def run(self, n): return self.twice(n)\ndef twice(self, n): return n + n")
    assert known(fingerprint_of(first(1))) == fingerprint_of(again(n=1))
    assert fingerprint_of(first(1)) != fingerprint_of(other(1))


def test_what_a_constructor_of_the_class_form_keeps_counts_as_well() -> None:
    kept = class_form(
        """
        def __init__(self, n):
            super().__init__()
            object.__setattr__(self, "n", n)
        def run(self): return self.n
        """
    )
    assert known(fingerprint_of(kept(1))) == fingerprint_of(kept(1))
    assert fingerprint_of(kept(1)) != fingerprint_of(kept(2))
    assert fingerprint_of(kept(object())) is None


def test_the_version_of_a_task_counts() -> None:
    found = {fingerprint_of(Task.python(echo, (1,), version=version)) for version in (None, "1")}
    assert len(found) == 2
