"""Task: what it takes, what it refuses, and what can be read off it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from math import inf, nan
from typing import Any
from uuid import UUID

import pytest

from ttasks import (
    InvalidTransitionError,
    RetryPolicy,
    Task,
    TaskExecutionError,
    TaskExecutor,
    TaskStatus,
    TaskType,
)

WORK = TaskType("work")
LATER = datetime(2030, 1, 1, tzinfo=UTC)
SETTINGS: dict[str, Any] = {
    "retry": RetryPolicy(3),
    "priority": 2.5,
    "deadline": LATER,
    "group": "db",
    "key": "build",
    "version": "2",
    "reuse": True,
}
FACTORIES: dict[str, Callable[..., Task]] = {
    "bash": Task.bash,
    "powershell": Task.powershell,
    "prompt": Task.prompt,
    "agent": Task.agent,
}
PUBLIC = {
    "title": "new",
    "payload": "new",
    "type": TaskType("other"),
    "description": "new",
    "timeout": 9.0,
    "retry": RetryPolicy(9),
    "priority": 9.0,
    "deadline": LATER + timedelta(days=1),
    "group": "new",
    "key": "new",
    "version": "new",
    "reuse": True,
    "options": {"new": 1},
}


def work(**settings: Any) -> Task:
    return Task("title", "payload", WORK, **settings)


def succeeded(**settings: Any) -> Task:
    task = work(**settings)
    task.transition_to(TaskStatus.RUNNING)
    task.transition_to(TaskStatus.SUCCEEDED)
    return task


def public(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in (*PUBLIC, "id", "created_at", "status")}


# Making one


def test_a_task_has_the_promised_defaults() -> None:
    before = datetime.now(UTC)
    task = Task("title", 5, WORK)
    after = datetime.now(UTC)
    assert (task.title, task.payload, task.type, task.description) == ("title", 5, WORK, "")
    assert (task.timeout, task.retry, task.deadline) == (None, None, None)
    assert (task.priority, task.reuse) == (0.0, False)
    assert (task.group, task.key, task.version) == (None, None, None)
    assert dict(task.options) == {}
    assert task.is_pending
    assert (task.result, task.error, task.blocked_by) == (None, None, None)
    assert before <= task.created_at <= after
    assert task.created_at.utcoffset() == timedelta(0)


def test_a_task_keeps_what_it_is_given() -> None:
    task = Task("t", "p", WORK, "d", timeout=3, options={"a": [1, {"b": None}]}, **SETTINGS)
    assert (task.title, task.payload, task.type, task.description) == ("t", "p", WORK, "d")
    assert {name: getattr(task, name) for name in SETTINGS} == SETTINGS
    assert task.timeout == 3.0
    assert isinstance(task.timeout, float)
    assert task.options == {"a": [1, {"b": None}]}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_makes_a_task_of_its_type_with_the_same_settings(name: str) -> None:
    task = FACTORIES[name]("do it", title="t", description="d", timeout=3, **SETTINGS)
    assert task.type is TaskType(name)
    assert (task.title, task.payload, task.description, task.timeout) == ("t", "do it", "d", 3.0)
    assert {key: getattr(task, key) for key in SETTINGS} == SETTINGS


@pytest.mark.parametrize("make", [Task.bash, Task.powershell])
def test_commands_keep_their_options_as_json(make: Callable[..., Task]) -> None:
    task = make("x", cwd="/tmp", env={"A": "1", "B": None}, stdin="in", output_limit=10, grace=0)
    assert task.options == {
        "cwd": "/tmp",
        "env": {"A": "1", "B": None},
        "stdin": "in",
        "output_limit": 10,
        "grace": 0.0,
    }


def test_options_that_have_their_default_are_not_kept() -> None:
    assert Task.bash("x", strict=False, grace=2.0, cwd=None, env={}).options == {}
    assert Task.bash("x", strict=True).options == {"strict": True}


@pytest.mark.parametrize(
    ("payload", "title"),
    [
        ("echo hello", "echo hello"),
        ("\n  echo one\necho two\n", "echo one"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("", "bash"),
        (" \n ", "bash"),
    ],
)
def test_a_task_without_a_title_is_named_after_its_payload(payload: str, title: str) -> None:
    assert Task.bash(payload).title == title
    assert Task("", payload, TaskType.BASH).title == title


def test_a_task_without_title_and_text_is_named_after_its_type() -> None:
    assert Task("", {"url": "x"}, WORK).title == "work"


def test_a_custom_type_takes_any_payload() -> None:
    payload = object()
    assert Task("t", payload, WORK).payload is payload


def test_options_are_a_copy_that_cannot_be_written() -> None:
    given = {"a": [1]}
    task = work(options=given)
    given["a"].append(2)
    given["b"] = []
    assert task.options == {"a": [1]}
    with pytest.raises(TypeError):
        task.options["a"] = 2  # type: ignore[index]


# Identity


def test_ids_are_distinct_uuid4_strings() -> None:
    ids = [work().id for _ in range(100)]
    assert len(set(ids)) == 100
    for text in ids:
        assert isinstance(text, str)
        assert str(UUID(text)) == text
        assert UUID(text).version == 4


def test_tasks_are_equal_and_hashed_by_id() -> None:
    one, other = work(), work()
    twin = pickle.loads(pickle.dumps(one))
    assert one == twin
    assert hash(one) == hash(twin)
    assert one != other
    assert one != one.id
    assert {one: 1}[twin] == 1
    twin.title = "changed"
    assert one == twin


def test_repr_shows_id_title_and_status() -> None:
    task = work()
    assert task.id in repr(task)
    assert repr("title") in repr(task)
    assert "pending" in repr(task)
    task.cancel()
    assert "cancelled" in repr(task)


@pytest.mark.parametrize(
    "name", ["id", "status", "result", "error", "blocked_by", "created_at", "is_done"]
)
def test_what_the_library_decides_is_read_only(name: str) -> None:
    task = work()
    before = getattr(task, name)
    with pytest.raises(AttributeError):
        setattr(task, name, "new")
    assert getattr(task, name) == before


@pytest.mark.parametrize("name", ["id", "title", "payload", "status", "options"])
def test_no_attribute_can_be_deleted(name: str) -> None:
    task = work()
    with pytest.raises(AttributeError, match=name):
        delattr(task, name)
    assert hasattr(task, name)


def test_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(AttributeError):
        work().titel = "new"


# Writing


@pytest.mark.parametrize("name", PUBLIC)
def test_public_attributes_can_be_written_until_the_task_has_succeeded(name: str) -> None:
    task = work()
    setattr(task, name, PUBLIC[name])
    assert getattr(task, name) == PUBLIC[name]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_task_that_succeeded_rejects_writes(name: str) -> None:
    task = succeeded()
    before = public(task)
    with pytest.raises(AttributeError) as caught:
        setattr(task, name, PUBLIC[name])
    assert name in str(caught.value)
    assert task.title in str(caught.value)
    assert public(task) == before


@pytest.mark.parametrize("status", [s for s in TaskStatus if s is not TaskStatus.SUCCEEDED])
def test_in_every_other_status_a_task_can_be_written(status: TaskStatus) -> None:
    task = work()
    if status is not TaskStatus.PENDING:
        task.transition_to(status) if task.can_transition_to(status) else None
    task.title = "new"
    assert task.title == "new"


# Value


def test_the_value_is_that_of_the_result() -> None:
    with TaskExecutor() as executor:
        executor.register(WORK, lambda context: [context.payload])
        task = work()
        executor.execute(task)
    assert task.value == ["payload"]


@pytest.mark.parametrize("status", [s for s in TaskStatus if s is not TaskStatus.SUCCEEDED])
def test_a_task_without_a_value_says_what_it_is_instead(status: TaskStatus) -> None:
    task = work()
    if status is not TaskStatus.PENDING:
        task.transition_to(status, "for a reason")
    with pytest.raises(TaskExecutionError, match=rf"'title' \({task.id}\).* it is {status.value}"):
        _ = task.value


# Copies


def test_a_pickled_task_has_everything_but_who_runs_it() -> None:
    task = work(timeout=3, options={"a": [1]}, **SETTINGS)
    task.transition_to(TaskStatus.RUNNING)
    task.transition_to(TaskStatus.FAILED, "oops")
    twin = pickle.loads(pickle.dumps(task))
    assert public(twin) == public(task)
    assert (twin.error, twin.result, twin.blocked_by) == ("oops", None, None)
    twin.transition_to(TaskStatus.RUNNING)
    assert task.is_failed, "the copy has a life of its own"


def test_a_pickled_task_that_succeeded_is_read_only() -> None:
    twin = pickle.loads(pickle.dumps(succeeded()))
    with pytest.raises(AttributeError):
        twin.title = "new"
    with pytest.raises(InvalidTransitionError):
        twin.transition_to(TaskStatus.RUNNING)


def test_a_copied_task_has_a_life_of_its_own() -> None:
    task = work(options={"a": [1]})
    for twin in (copy.copy(task), copy.deepcopy(task)):
        twin.cancel()
        assert twin == task
        assert task.is_pending


def test_a_subclass_keeps_its_own_attributes_through_pickle() -> None:
    task = Special("title", "payload", WORK)
    task.extra = [1, 2]
    twin = pickle.loads(pickle.dumps(task))
    assert isinstance(twin, Special)
    assert twin.extra == [1, 2]


class Special(Task):
    extra: list[int]


# Bad input


class Nowhere(tzinfo):
    """A time zone that does not know its offset, so that its moments are naive."""

    def utcoffset(self, dt: datetime | None) -> None:
        return None


LOOP: list[Any] = []
LOOP.append(LOOP)
HUGE = 10**400
STRS: list[Any] = [None, 5, b"x", ["x"]]
NAMES = [(value, TypeError) for value in (5, b"x", ["x"])] + [
    (value, ValueError) for value in ("", "  ")
]
NUMBERS = [(value, TypeError) for value in ("1", True, [1], 1j)] + [
    (value, ValueError) for value in (nan, inf, -inf, HUGE, -HUGE)
]
BAD: dict[str, list[tuple[Any, type[Exception]]]] = {
    "title": [(value, TypeError) for value in STRS],
    "description": [(value, TypeError) for value in STRS],
    "type": [(value, TypeError) for value in (None, "bash", 5, TaskStatus.PENDING)],
    "timeout": [*NUMBERS, (0, ValueError), (-1, ValueError), (-0.0, ValueError)],
    "retry": [
        *((value, TypeError) for value in (3.0, True, {"max_attempts": 3}, RetryPolicy)),
        (0, ValueError),
        (-1, ValueError),
    ],
    "priority": [*NUMBERS, (None, TypeError)],
    "deadline": [
        (5, TypeError),
        ("2030-01-01", TypeError),
        (date(2030, 1, 1), TypeError),
        (timedelta(1), TypeError),
        (datetime(2030, 1, 1), ValueError),  # noqa: DTZ001 - the naive one is the point
        (datetime(2030, 1, 1, tzinfo=Nowhere()), ValueError),
    ],
    "group": [(value, error) for value, error in NAMES if value != ["x"]],
    "key": NAMES,
    "version": NAMES,
    "reuse": [(value, TypeError) for value in (None, 0, 1, "yes")],
    "options": [
        (5, TypeError),
        ("ab", TypeError),
        ([("a", 1)], TypeError),
        ({1: 2}, TypeError),
        ({"a": object()}, TypeError),
        ({"a": {"b": [0, {1}]}}, TypeError),
        ({"a": {2: 3}}, TypeError),
        ({"a": b"x"}, TypeError),
        ({"a": nan}, ValueError),
        ({"a": [inf]}, ValueError),
        ({"a": LOOP}, ValueError),
    ],
}
CASES = [
    pytest.param(name, value, error, id=f"{name}-{type(value).__name__}-{str(value)[:20]}")
    for name, values in BAD.items()
    for value, error in values
]
GOOD: dict[str, Any] = {"title": "title", "payload": "payload", "type": WORK}


def innermost(value: Any) -> Any:
    """The part of a value that a message about it has to show."""
    if value is LOOP or not isinstance(value, (Mapping, list)) or len(value) != 1:
        return value
    if isinstance(value, list):
        return innermost(value[0])
    key, item = next(iter(value.items()))
    return innermost(item) if isinstance(key, str) else key


def assert_names(message: str, name: str, value: Any) -> None:
    assert name in message
    shown = repr(value)[:40], repr(innermost(value))[:40]
    if not (isinstance(value, dict) and "{1}" in shown[0]):
        assert any(text in message for text in shown), message
    else:
        assert "options['a']['b'][1]" in message


@pytest.mark.parametrize(("name", "value", "error"), CASES)
def test_the_constructor_names_what_it_cannot_take(
    name: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        Task(**{**GOOD, name: value})
    assert type(caught.value) is error
    assert_names(str(caught.value), name, value)


@pytest.mark.parametrize(("name", "value", "error"), CASES)
@pytest.mark.parametrize("factory", FACTORIES)
def test_a_factory_names_what_it_cannot_take(
    factory: str, name: str, value: Any, error: type[Exception]
) -> None:
    if name in ("type", "options"):
        error, name, value = TypeError, name, name  # it has no such argument
    with pytest.raises(error) as caught:
        FACTORIES[factory](**{"payload": "payload", name: value})
    assert_names(str(caught.value), name, value)


@pytest.mark.parametrize(("name", "value", "error"), CASES)
def test_a_write_names_what_it_cannot_take_and_changes_nothing(
    name: str, value: Any, error: type[Exception]
) -> None:
    task = work(timeout=3, options={"a": 1}, **SETTINGS)
    before = public(task)
    with pytest.raises(error) as caught:
        setattr(task, name, value)
    assert_names(str(caught.value), name, value)
    assert public(task) == before


@pytest.mark.parametrize("type", ["bash", "powershell", "prompt", "agent"])
@pytest.mark.parametrize("payload", [None, 5, b"echo", ["echo"], {"a": 1}])
def test_commands_and_prompts_take_text_only(type: str, payload: Any) -> None:
    for make in (
        lambda: Task("title", payload, TaskType(type)),
        lambda: FACTORIES[type](payload),
        lambda: setattr(FACTORIES[type]("text"), "payload", payload),
    ):
        with pytest.raises(TypeError) as caught:
            make()
        assert_names(str(caught.value), "payload", payload)


@pytest.mark.parametrize("payload", ["a\0b", "\ud800"])
@pytest.mark.parametrize("make", [Task.bash, Task.powershell])
def test_commands_take_only_text_that_can_be_passed_on(
    make: Callable[..., Task], payload: str
) -> None:
    with pytest.raises(ValueError, match="payload .* position"):
        make(payload)


COMMAND_OPTIONS: list[tuple[str, Any, type[Exception], str]] = [
    ("cwd", 5, TypeError, "5"),
    ("cwd", "", ValueError, "''"),
    ("env", ["A=1"], TypeError, "['A=1']"),
    ("env", {1: "x"}, TypeError, "1"),
    ("env", {"A=B": "x"}, ValueError, "'A=B'"),
    ("stdin", 5, TypeError, "5"),
    ("output_limit", 1, ValueError, "1"),
    ("output_limit", "1", TypeError, "'1'"),
    ("grace", -1, ValueError, "-1"),
    ("grace", nan, ValueError, "nan"),
    ("grace", HUGE, ValueError, "1000"),
    ("grace", None, TypeError, "None"),
]


@pytest.mark.parametrize(("name", "value", "error", "shown"), COMMAND_OPTIONS)
@pytest.mark.parametrize("type", ["bash", "powershell"])
def test_options_of_commands_are_checked_wherever_they_come_from(
    type: str, name: str, value: Any, error: type[Exception], shown: str
) -> None:
    task = FACTORIES[type]("x", grace=5)
    for give in (
        lambda: FACTORIES[type]("x", **{name: value}),
        lambda: Task("title", "x", TaskType(type), options={name: value}),
        lambda: setattr(task, "options", {name: value}),
    ):
        with pytest.raises(error) as caught:
            give()
        assert name in str(caught.value)
        assert shown in str(caught.value)
    assert task.options == {"grace": 5.0}


@pytest.mark.parametrize("strict", [None, 0, 1, "yes"])
def test_strict_is_a_bool(strict: Any) -> None:
    with pytest.raises(TypeError) as caught:
        Task.bash("x", strict=strict)
    assert_names(str(caught.value), "strict", strict)


@pytest.mark.parametrize("name", ["timeot", "shell", "options", "type"])
@pytest.mark.parametrize("make", [Task.bash, Task.powershell])
def test_unknown_options_are_refused_by_name(make: Callable[..., Task], name: str) -> None:
    with pytest.raises(TypeError, match=name):
        make("x", **{name: 1})


def test_unknown_options_of_a_command_are_refused_by_name_in_a_mapping_too() -> None:
    with pytest.raises(TypeError, match="'shell'.*known: cwd"):
        Task("title", "x", TaskType.BASH, options={"shell": True})
    with pytest.raises(TypeError, match="strict"):
        Task.powershell("x", strict=True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("payload", "options", "name"), [(5, {}, "payload"), ("x", {"shell": True}, "shell")]
)
def test_a_task_cannot_become_a_command_that_could_not_be_made(
    payload: Any, options: dict[str, Any], name: str
) -> None:
    task = Task("title", payload, WORK, options=options)
    before = public(task)
    with pytest.raises(TypeError, match=name):
        task.type = TaskType.BASH
    assert public(task) == before


@pytest.mark.parametrize("hours", [-11, 0, 5])
def test_a_deadline_may_be_in_any_time_zone(hours: int) -> None:
    deadline = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=hours)))
    assert work(deadline=deadline).deadline == deadline
