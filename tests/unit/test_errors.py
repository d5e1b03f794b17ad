"""The error tree: one root, the built-in kin, and every error whole after pickling."""

from __future__ import annotations

import inspect
import pickle
from subprocess import CompletedProcess
from typing import Any

import pytest

import ttasks
from ttasks import (
    CircuitOpenError,
    CycleError,
    DeclarationError,
    GraphError,
    GraphFailedError,
    HandlerNotFoundError,
    InvalidTransitionError,
    MissingExtraError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
    ProviderStartError,
    RateLimitedError,
    ScheduleError,
    ServiceError,
    StoreError,
    StoreVersionError,
    Task,
    TaskArgumentError,
    TaskCancelled,
    TaskExecutionError,
    TaskRejectedError,
    TaskTimeoutError,
    TTasksError,
    UnknownDependencyError,
    UnknownModelError,
    errors,
)

COMPLETED: CompletedProcess[str] = CompletedProcess(["bash"], 3, "out", "err")
ONE, TWO = Task.bash("one"), Task.bash("two")

PROVIDER_ERRORS = [
    ProviderError,
    ProviderStartError,
    ProviderAuthenticationError,
    UnknownModelError,
    RateLimitedError,
    ProviderConnectionError,
    ProviderResponseError,
]

# Each with its attributes, and what its message has to say.
SAMPLES: list[tuple[TTasksError, dict[str, Any], list[str]]] = [
    (TTasksError("oops"), {}, ["oops"]),
    (TaskCancelled(), {"completed": None}, ["Task was cancelled"]),
    (TaskCancelled("enough", COMPLETED), {"completed": COMPLETED}, ["enough"]),
    (TaskExecutionError("exit 3"), {"completed": None}, ["exit 3"]),
    (TaskExecutionError("exit 3", COMPLETED), {"completed": COMPLETED}, ["exit 3"]),
    (
        ServiceError("Service died", "died", COMPLETED),
        {"completed": COMPLETED, "reason": "died"},
        ["Service died"],
    ),
    (TaskArgumentError("no value", "id-1"), {"task_id": "id-1"}, ["no value"]),
    (
        TaskTimeoutError(5),
        {"seconds": 5, "completed": None, "what": "Task"},
        ["Task timed out after 5 seconds"],
    ),
    (
        TaskTimeoutError(0.25, COMPLETED, "Graph"),
        {"seconds": 0.25, "completed": COMPLETED, "what": "Graph"},
        ["Graph timed out after 0.25 seconds"],
    ),
    (
        ScheduleError("nightly", None, "why"),
        {"schedule": "nightly", "slot": None, "reason": "why"},
        ["Schedule 'nightly': why"],
    ),
    (
        HandlerNotFoundError("http"),
        {"type_name": "http", "known": ()},
        ["'http'", "none", "register"],
    ),
    (
        HandlerNotFoundError("http", ["bash", "prompt"]),
        {"type_name": "http", "known": ("bash", "prompt")},
        ["'http'", "bash, prompt"],
    ),
    (
        InvalidTransitionError("id-1", "build", "pending", "succeeded"),
        {"task_id": "id-1", "title": "build", "current": "pending", "target": "succeeded"},
        ["'build'", "id-1", "'pending'", "'succeeded'"],
    ),
    (GraphError("a run is active"), {}, ["a run is active"]),
    (CycleError([ONE, TWO]), {"path": (ONE, TWO)}, ["one -> two -> one"]),
    (
        DeclarationError("t", "its input is gone"),
        {"title": "t", "problem": "its input is gone"},
        ["Task 't': its input is gone"],
    ),
    (CycleError([ONE]), {"path": (ONE,)}, ["one -> one"]),
    (
        UnknownDependencyError(ONE, TWO),
        {"task": ONE, "dependency": TWO},
        ["'one'", "'two'", TWO.id, "add"],
    ),
    (
        GraphFailedError("release", [("build", "exit 1"), ("test", "blocked by 'build'")]),
        {
            "title": "release",
            "failures": (("build", "exit 1"), ("test", "blocked by 'build'")),
            "run_error": None,
        },
        ["'release'", "build: exit 1", "test: blocked by 'build'"],
    ),
    (
        GraphFailedError("", [], "Graph timed out"),
        {"title": "", "failures": (), "run_error": "Graph timed out"},
        ["Graph failed: Graph timed out"],
    ),
    (StoreError("no space"), {}, ["no space"]),
    (
        StoreVersionError("a.db", 9, 3),
        {"path": "a.db", "found": 9, "supported": 3},
        ["'a.db'", "9", "3", "upgrade"],
    ),
    (
        CircuitOpenError("db", 12.5),
        {"group": "db", "retry_after": 12.5},
        ["'db'", "12.5 s"],
    ),
    (TaskRejectedError("not on Fridays"), {}, ["not on Fridays"]),
    (
        MissingExtraError("copilot", "A prompt"),
        {"extra": "copilot", "feature": "A prompt"},
        ["A prompt", "pip install 'ttasks[copilot]'"],
    ),
    *(
        (
            error("Provider", "the reason", 429),
            {"provider": "Provider", "reason": "the reason", "status": 429},
            ["Provider: the reason"],
        )
        for error in PROVIDER_ERRORS
    ),
]
PARENTS: dict[type[TTasksError], tuple[type[BaseException], ...]] = {
    TaskCancelled: (RuntimeError,),
    TaskExecutionError: (RuntimeError,),
    TaskArgumentError: (TaskExecutionError,),
    ServiceError: (TaskExecutionError, RuntimeError),
    TaskTimeoutError: (TimeoutError,),
    HandlerNotFoundError: (ValueError,),
    InvalidTransitionError: (ValueError,),
    GraphError: (ValueError,),
    CycleError: (GraphError, ValueError),
    DeclarationError: (ValueError,),
    UnknownDependencyError: (GraphError, ValueError),
    GraphFailedError: (),
    ScheduleError: (RuntimeError,),
    CircuitOpenError: (),
    TaskRejectedError: (),
    StoreError: (),
    StoreVersionError: (StoreError,),
    MissingExtraError: (ImportError,),
    ProviderError: (RuntimeError,),
    **dict.fromkeys(PROVIDER_ERRORS[1:], (ProviderError, RuntimeError)),
}
CLASSES = [
    item
    for item in vars(errors).values()
    if inspect.isclass(item) and issubclass(item, BaseException)
]
EACH = pytest.mark.parametrize(
    ("error", "attributes", "says"),
    [
        pytest.param(*sample, id=f"{type(sample[0]).__name__}-{n}")
        for n, sample in enumerate(SAMPLES)
    ],
)


def state(error: BaseException, attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes, with what does not compare by value as what does."""
    found = {name: getattr(error, name) for name in attributes}
    return {
        name: vars(value) if isinstance(value, CompletedProcess) else value
        for name, value in found.items()
    }


def test_there_is_one_tree() -> None:
    assert all(issubclass(item, TTasksError) for item in CLASSES)
    assert TTasksError.__bases__ == (Exception,)


def test_every_error_has_a_sample_and_a_place_in_the_tree() -> None:
    assert {type(error) for error, _, _ in SAMPLES} == set(CLASSES)
    assert set(PARENTS) == set(CLASSES) - {TTasksError}


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_public(error: type[TTasksError]) -> None:
    assert getattr(ttasks, error.__name__) is error
    assert error.__name__ in ttasks.__all__


@pytest.mark.parametrize(("error", "parents"), PARENTS.items())
def test_an_error_is_caught_as_its_kin(
    error: type[TTasksError], parents: tuple[type[BaseException], ...]
) -> None:
    kin = {parent for parent in error.__mro__ if parent not in (error, object)}
    expected = {TTasksError, Exception, BaseException, *parents}
    for parent in parents:
        expected |= {item for item in parent.__mro__ if item is not object}
    assert kin == expected


@EACH
def test_an_error_keeps_its_attributes_and_says_them(
    error: TTasksError, attributes: dict[str, Any], says: list[str]
) -> None:
    for name, value in attributes.items():
        assert getattr(error, name) is value or getattr(error, name) == value
    for text in says:
        assert text in str(error)


@EACH
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_whole(
    error: TTasksError, attributes: dict[str, Any], says: list[str], protocol: int
) -> None:
    twin = pickle.loads(pickle.dumps(error, protocol))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert state(twin, attributes) == state(error, attributes)


def test_notes_survive_pickling() -> None:
    error = TaskTimeoutError(5, None, "Graph")
    error.add_note("while releasing")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while releasing"]


def test_a_long_cycle_is_told_by_its_ends() -> None:
    tasks = [Task.bash("x", title=f"task {number}") for number in range(1000)]
    error = CycleError(tasks)
    assert error.path == tuple(tasks)
    text = str(error)
    for shown in ("task 0 -> task 1 -> ", "989 more", "task 998 -> task 999 -> task 0"):
        assert shown in text
    assert len(text) < 300


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError("oops"), "oops"), (ValueError(), "ValueError"), (KeyError("a"), "'a'")],
)
def test_an_error_without_a_message_is_described_by_its_type(error: Exception, text: str) -> None:
    assert errors.describe(error) == text
