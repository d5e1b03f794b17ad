"""TaskType: an open set of names, of which equal ones are the same object."""

from __future__ import annotations

import copy
import pickle
from threading import Barrier, Thread

import pytest

from ttasks import TaskExecutor, TaskType


@pytest.mark.parametrize("name", ["BASH", "POWERSHELL", "PROMPT", "AGENT", "PYTHON"])
def test_the_known_types_are_named_after_their_values(name: str) -> None:
    known = getattr(TaskType, name)
    assert known.value == name.lower()
    assert TaskType(name.lower()) is known


def test_equal_names_are_the_same_object() -> None:
    http = TaskType("http")
    assert TaskType("".join(["ht", "tp"])) is http
    assert TaskType("HTTP") is not http
    assert TaskType("HTTP") != http
    assert len({http, TaskType("http"), TaskType("HTTP")}) == 2


def test_copies_and_pickles_are_the_same_object() -> None:
    http = TaskType("http")
    assert pickle.loads(pickle.dumps(http)) is http
    assert copy.copy(http) is http
    assert copy.deepcopy([http])[0] is http


def test_a_type_shows_its_name() -> None:
    http = TaskType("http")
    assert (str(http), repr(http), http.value) == ("http", "TaskType('http')", "http")


def test_a_type_is_no_str() -> None:
    assert TaskType("http") != "http"


def test_a_type_is_immutable() -> None:
    http = TaskType("http")
    for name in ("value", "_value", "other"):
        with pytest.raises(AttributeError):
            setattr(http, name, "ftp")
    assert http.value == "http"


def test_racing_makers_of_one_name_get_the_same_object() -> None:
    threads_count, rounds = 4, 100
    made: list[list[TaskType]] = [[] for _ in range(rounds)]
    barrier = Barrier(threads_count, timeout=30)

    def maker() -> None:
        for number, found in enumerate(made):
            barrier.wait()
            found.append(TaskType(f"race-{number}"))

    threads = [Thread(target=maker) for _ in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for found in made:
        assert len(found) == threads_count
        assert all(item is found[0] for item in found)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, TypeError),
        (5, TypeError),
        (b"http", TypeError),
        (["http"], TypeError),
        (TaskType("http"), TypeError),
        ("", ValueError),
        (" \t\n", ValueError),
    ],
)
def test_bad_names_are_refused(value: object, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        TaskType(value)  # type: ignore[arg-type]
    assert "value" in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("type", "handler", "name", "shown"),
    [
        ("http", print, "type", "TaskType('http')"),
        (None, print, "type", "None"),
        (TaskType("http"), "print", "handler", "'print'"),
        (TaskType("http"), None, "handler", "None"),
    ],
)
def test_a_handler_is_registered_for_a_type_only(
    type: object, handler: object, name: str, shown: str
) -> None:
    with TaskExecutor.empty() as executor:
        with pytest.raises(TypeError) as caught:
            executor.register(type, handler)  # type: ignore[arg-type]
        assert name in str(caught.value)
        assert shown in str(caught.value)
        assert not executor.is_registered(TaskType("http"))
