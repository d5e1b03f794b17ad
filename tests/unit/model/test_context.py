"""TaskContext: what a handler sees, and what it may say."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from math import inf, nan
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from ttasks import Task, TaskCancelled, TaskContext, TaskStatus, TaskType, current_context
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT

WORK = TaskType("work")


class Reports:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def progress(self, percent: float | None, message: str | None) -> None:
        self.heard.append(("progress", percent, message))

    def output(self, stream: str, text: str) -> None:
        self.heard.append(("output", stream, text))

    def sink(self, stream: str) -> Callable[[str], None] | None:
        self.heard.append(("sink", stream))
        return None


@pytest.fixture
def reports() -> Reports:
    return Reports()


def context_of(reports: Reports, **given: Any) -> TaskContext:
    task = given.pop("task", None) or Task("title", {"a": 1}, WORK, "text", timeout=3)
    return TaskContext(
        task, given.pop("upstream", ()), reports, given.pop("token", None) or CancelToken(), **given
    )


def test_a_context_shows_its_task(reports: Reports) -> None:
    task = Task("title", {"a": 1}, WORK, "text", timeout=3, options={"b": 2})
    context = context_of(reports, task=task, attempt=2)
    assert (context.id, context.title, context.description) == (task.id, "title", "text")
    assert (context.payload, context.type, context.timeout) == ({"a": 1}, WORK, 3.0)
    assert (context.options, context.attempt) == ({"b": 2}, 2)
    assert context.status is TaskStatus.PENDING
    task.transition_to(TaskStatus.RUNNING)
    assert context.status is TaskStatus.RUNNING


@pytest.mark.parametrize(
    "name", ["id", "title", "payload", "options", "status", "cancelled", "upstream"]
)
def test_what_a_context_shows_cannot_be_set(reports: Reports, name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(context_of(reports), name, None)


# Upstream


def test_upstream_is_a_read_only_mapping_in_order(reports: Reports) -> None:
    tasks = tuple(Task(str(n), None, WORK) for n in range(5))
    upstream = context_of(reports, upstream=tasks).upstream
    assert list(upstream) == [task.id for task in tasks]
    assert list(upstream.values()) == list(tasks)
    assert upstream[tasks[3].id] is tasks[3]
    assert len(upstream) == 5
    assert "unknown" not in upstream
    with pytest.raises(KeyError, match="unknown"):
        upstream["unknown"]
    with pytest.raises(TypeError):
        upstream["new"] = tasks[0]  # type: ignore[index]


def test_without_dependencies_upstream_is_empty(reports: Reports) -> None:
    assert dict(context_of(reports).upstream) == {}


def test_a_wide_upstream_is_read_in_linear_time(reports: Reports) -> None:
    tasks = tuple(Task("t", None, WORK) for _ in range(20_000))
    context = context_of(reports, upstream=tasks)
    # One pass over the tasks for each look-up would be 200 million steps.
    assert all(context.upstream[task.id] is task for task in tasks)


# Time and cancellation


def test_remaining_counts_down_to_zero(reports: Reports) -> None:
    assert context_of(reports).remaining() is None
    assert context_of(reports, deadline=monotonic() - 5).remaining() == 0.0
    left = context_of(reports, deadline=monotonic() + 500).remaining()
    assert left is not None
    assert 400 < left <= 500


def test_a_context_reads_cancelled_when_its_token_is(reports: Reports) -> None:
    token = CancelToken()
    context = context_of(reports, token=token)
    assert not context.cancelled
    context.raise_if_cancelled()
    assert context.wait_cancelled(0) is False
    token.cancel("timeout")
    assert context.cancelled
    assert context.wait_cancelled(60) is True
    with pytest.raises(TaskCancelled):
        context.raise_if_cancelled()


# Reports


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        ((50,), (50.0, None)),
        ((0, "start"), (0.0, "start")),
        ((100.0, ""), (100.0, "")),
        ((None, "half"), (None, "half")),
    ],
)
def test_progress_has_a_percent_or_a_message_or_both(
    reports: Reports, arguments: tuple[Any, ...], heard: tuple[Any, ...]
) -> None:
    context_of(reports).emit_progress(*arguments)
    assert reports.heard == [("progress", *heard)]


def test_progress_need_not_grow(reports: Reports) -> None:
    context = context_of(reports)
    for percent in (80, 20, 20):
        context.emit_progress(percent)
    assert [percent for _, percent, _ in reports.heard] == [80.0, 20.0, 20.0]


def test_output_goes_to_stdout_unless_it_says_otherwise(reports: Reports) -> None:
    context = context_of(reports)
    context.emit_output("a")
    context.emit_output("b", "stderr")
    context.emit_output("")
    context.emit_output("c", stream="stdout")
    assert reports.heard == [
        ("output", "stdout", "a"),
        ("output", "stderr", "b"),
        ("output", "stdout", "c"),
    ]


HUGE = 10**400
STREAMS: list[tuple[Any, type[Exception]]] = [
    (None, TypeError),
    (1, TypeError),
    (["stdout"], TypeError),
    ("stdin", ValueError),
    ("", ValueError),
]
BAD: list[tuple[str, str, list[tuple[Any, type[Exception]]]]] = [
    (
        "emit_progress",
        "percent",
        [(value, TypeError) for value in ("5", True, [5], 5j)]
        + [(value, ValueError) for value in (-0.1, 100.1, nan, inf, -inf, HUGE)],
    ),
    ("emit_progress", "message", [(value, TypeError) for value in (5, b"x", ["x"])]),
    ("emit_output", "text", [(value, TypeError) for value in (None, 5, b"x", ["x"])]),
    ("emit_output", "stream", STREAMS),
    ("output_sink", "stream", STREAMS),
    (
        "wait_cancelled",
        "seconds",
        [(value, TypeError) for value in (None, "5", True, [5])]
        + [(value, ValueError) for value in (-0.1, nan, inf, HUGE)],
    ),
]


@pytest.mark.parametrize(
    ("method", "name", "value", "error"),
    [
        pytest.param(method, name, value, error, id=f"{method}-{name}-{str(value)[:20]}")
        for method, name, values in BAD
        for value, error in values
    ],
)
def test_bad_arguments_are_named_with_their_value_and_nothing_is_reported(
    reports: Reports, method: str, name: str, value: Any, error: type[Exception]
) -> None:
    others = {"text": "x"} if (method, name) == ("emit_output", "stream") else {}
    with pytest.raises(error) as caught:
        getattr(context_of(reports), method)(**others, **{name: value})
    assert type(caught.value) is error
    assert name in str(caught.value)
    assert repr(value)[:40] in str(caught.value)
    assert reports.heard == []


def test_progress_of_nothing_is_refused(reports: Reports) -> None:
    with pytest.raises(ValueError, match="percent.*message"):
        context_of(reports).emit_progress()
    assert reports.heard == []


# Finding it


def test_outside_of_a_handler_there_is_no_context() -> None:
    assert current_context() is None


def test_the_context_is_known_wherever_its_variables_are(reports: Reports) -> None:
    context = context_of(reports)
    found: list[TaskContext | None] = []

    def below() -> None:
        CURRENT.set(context)
        found.append(current_context())
        inside = copy_context()
        thread = Thread(target=lambda: found.append(inside.run(current_context)))
        thread.start()
        thread.join()

    copy_context().run(below)
    assert found == [context, context]
    assert current_context() is None


def test_repr_shows_what_is_worked_on(reports: Reports) -> None:
    context = context_of(reports, attempt=2)
    assert context.id in repr(context)
    assert "'title'" in repr(context)
    assert "2" in repr(context)
