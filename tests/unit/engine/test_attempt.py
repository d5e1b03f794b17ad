"""One try of one task: timeouts, output, progress, and what is left behind."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from support import FakeHandler, Gate, background, bounded, executor_with, make, threads, wait
from ttasks import (
    TaskCancelled,
    TaskContext,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskStatus,
    TaskTimeoutError,
    current_context,
)
from ttasks.engine import reports
from ttasks.engine.reports import pieces
from ttasks.model.context import CHUNK_LIMIT

OUTPUT, PROGRESS = TaskEventType.OUTPUT, TaskEventType.PROGRESS


def settle(executor: TaskExecutor, count: int = 0) -> None:
    """Wait until that many threads are left behind."""
    pause = threading.Event()
    for _ in range(5000):
        if executor.abandoned == count and (count or not threads()):
            return
        pause.wait(0.002)
    pytest.fail(f"{executor.abandoned} abandoned, {threads()}")


def test_a_handler_that_takes_too_long_is_left_behind() -> None:
    gate = Gate()
    contexts: list[TaskContext] = []

    def handler(context: TaskContext) -> str:
        contexts.append(context)
        return gate(context)

    executor, recorder = executor_with(handler)
    task = make("t", timeout=0.05)
    with pytest.raises(TaskTimeoutError, match=r"Task timed out after 0\.05 seconds"):
        bounded(lambda: executor.execute(task))
    assert task.is_failed
    assert task.error == "Task timed out after 0.05 seconds"
    assert task.result is not None
    assert task.result.termination_reason == "timeout"
    assert task.result.duration >= 0.05
    assert contexts[0].cancelled
    assert contexts[0].remaining() == 0.0
    assert executor.abandoned == 1
    # What it still says is not heard.
    count = len(recorder.events)
    contexts[0].emit_output("late")
    contexts[0].emit_progress(50)
    gate.open()
    settle(executor)
    assert len(recorder.events) == count
    assert task.is_failed
    assert task.result.output == ""
    recorder.check()


def test_a_handler_that_obeys_at_its_timeout_is_not_left_behind_for_long() -> None:
    executor, recorder = executor_with(lambda context: context.wait_cancelled(10))
    with pytest.raises(TaskTimeoutError):
        bounded(lambda: executor.execute(make("t", timeout=0.05)))
    settle(executor)
    recorder.check()


@pytest.mark.parametrize("step", ["value", ValueError("boom"), TaskCancelled("no")])
def test_a_timeout_that_does_not_pass_changes_nothing(step: Any) -> None:
    def handler(context: TaskContext) -> Any:
        left = context.remaining()
        assert left is not None
        assert 0 < left <= 60
        assert current_context() is context
        if isinstance(step, BaseException):
            raise step
        return step

    executor, recorder = executor_with(handler)
    task = make("t", timeout=60)
    if isinstance(step, str):
        assert executor.execute(task).output == step
    else:
        with pytest.raises(type(step)):
            executor.execute(task)
    assert threads() == []
    assert executor.abandoned == 0
    recorder.check()


def test_a_timeout_beyond_what_threads_can_wait_is_no_timeout() -> None:
    executor, _ = executor_with(FakeHandler({"t": "done"}))
    assert executor.execute(make("t", timeout=1e15)).output == "done"


def test_racing_ends_and_timeouts_have_one_outcome() -> None:
    executor, recorder = executor_with(lambda context: context.wait_cancelled(0.002))
    for _ in range(100):
        task = make("t", timeout=0.002)
        try:
            executor.execute(task)
            assert task.is_succeeded
        except TaskTimeoutError:
            assert task.is_failed
    settle(executor)
    recorder.check()


# Output and progress


def test_output_is_announced_and_collected_by_stream() -> None:
    def handler(context: TaskContext) -> str:
        context.emit_output("one\n")
        context.emit_output("warn\n", stream="stderr")
        context.emit_output("")
        context.emit_output("two\n")
        return "returned"

    executor, recorder = executor_with(handler)
    task = make("t")
    result = executor.execute(task)
    assert result.output == "one\ntwo\n"
    assert result.error == "warn\n"
    assert result.value == "returned"
    chunks = [(e.output_stream, e.output_chunk) for e in recorder.events if e.type is OUTPUT]
    assert chunks == [("stdout", "one\n"), ("stderr", "warn\n"), ("stdout", "two\n")]
    recorder.check()


def test_output_of_a_failure_is_kept() -> None:
    def handler(context: TaskContext) -> None:
        context.emit_output("so far")
        raise ValueError("boom")

    executor, _ = executor_with(handler)
    task = make("t")
    with pytest.raises(ValueError):
        executor.execute(task)
    assert task.result is not None
    assert task.result.output == "so far"
    assert task.result.error == "boom"


@pytest.mark.parametrize(
    "text", ["", "a", "é" * 70_000, "🐍" * 50_000, ("x" * 99 + "\n") * 3000, "\n" * 100_000]
)
def test_pieces_fit_and_join_to_the_text(text: str) -> None:
    found = pieces(text)
    assert "".join(found) == text
    assert all(len(piece.encode()) <= CHUNK_LIMIT for piece in found)
    if len(found) > 1 and "\n" in text:
        assert all(piece.endswith("\n") for piece in found[:-1])


def test_long_output_comes_in_pieces() -> None:
    text = "🐍" * 40_000
    executor, recorder = executor_with(lambda context: context.emit_output(text))
    result = executor.execute(make("t"))
    chunks = [e.output_chunk or "" for e in recorder.events if e.type is OUTPUT]
    assert result.output == "".join(chunks) == text
    assert len(chunks) > 1
    assert all(len(chunk.encode()) <= CHUNK_LIMIT for chunk in chunks)


def test_progress_need_not_grow() -> None:
    def handler(context: TaskContext) -> None:
        context.emit_progress(90, "nearly")
        context.emit_progress(10)
        context.emit_progress(message="again")

    executor, recorder = executor_with(handler)
    executor.execute(make("t"))
    seen = [(e.progress_percent, e.progress_message) for e in recorder.events if e.type is PROGRESS]
    assert seen == [(90, "nearly"), (10, None), (None, "again")]
    recorder.check()


def test_reports_of_threads_never_come_after_the_end() -> None:
    ended = threading.Event()
    helpers: list[threading.Thread] = []

    def handler(context: TaskContext) -> None:
        said = threading.Event()

        def chatter() -> None:
            while not ended.is_set():
                context.emit_output("x")
                context.emit_progress(1)
                said.set()

        helpers[:] = [threading.Thread(target=chatter) for _ in range(2)]
        for helper in helpers:
            helper.start()
        wait(said)

    executor, recorder = executor_with(handler)
    for _ in range(10):
        task = make("t")
        ended.clear()
        try:
            result = executor.execute(task)
        finally:
            ended.set()
            for helper in helpers:
                helper.join(10)
        chunks = [
            e.output_chunk or ""
            for e in recorder.events
            if e.type is OUTPUT and e.task_id == task.id
        ]
        assert "".join(chunks) == result.output != ""
    recorder.check()


def test_the_end_waits_for_a_report_that_is_being_delivered() -> None:
    delivering, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def slow(event: TaskEvent) -> None:
        if event.type is OUTPUT:
            delivering.set()
            assert go_on.wait(10)
        order.append(event.type.value)

    def handler(context: TaskContext) -> None:
        helper = threading.Thread(target=lambda: context.emit_output("x"))
        helper.start()
        helpers.append(helper)
        assert delivering.wait(10)

    helpers: list[threading.Thread] = []
    executor, recorder = executor_with(handler)
    executor.events.subscribe(slow)
    future = background(lambda: executor.execute(make("t")))
    assert delivering.wait(10)
    go_on.set()
    future.result(10)
    helpers[0].join(10)
    assert order == ["started", "output", "succeeded"]
    recorder.check()


def test_a_subscriber_that_never_returns_cannot_hold_up_the_end_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports, "EMIT_PATIENCE", 0.05)
    gate = threading.Event()
    helpers: list[threading.Thread] = []
    delivering = threading.Event()

    def stuck(event: TaskEvent) -> None:
        delivering.set()
        assert gate.wait(10)

    def handler(context: TaskContext) -> None:
        helpers.append(threading.Thread(target=lambda: context.emit_output("x")))
        helpers[0].start()
        assert delivering.wait(10)

    executor = executor_with(handler)[0]
    executor.events.subscribe(stuck, types=OUTPUT)
    assert bounded(lambda: executor.execute(make("t"))).status is TaskStatus.SUCCEEDED
    gate.set()
    helpers[0].join(10)


# Subscribers


def test_a_subscriber_that_raises_breaks_neither_the_work_nor_another() -> None:
    class Broken:
        def __call__(self, event: TaskEvent) -> None:
            raise SystemExit("no")

        def __repr__(self) -> str:
            raise RuntimeError("no name either")

    executor, recorder = executor_with(lambda context: context.emit_output("x"))
    executor.events.subscribe(Broken())
    after: list[TaskEventType] = []
    executor.events.subscribe(lambda event: after.append(event.type))
    executor.execute(make("t"))
    assert after == [event.type for event in recorder.events]
    assert len(after) == 3
    assert [type(error) for error in executor.events.errors] == [SystemExit] * 3


def test_only_the_last_thousand_errors_of_subscribers_are_kept() -> None:
    executor = executor_with(FakeHandler())[0]

    def broken(event: TaskEvent) -> None:
        raise ValueError(event.task.title)

    executor.events.subscribe(broken, types=TaskEventType.SUCCEEDED)
    for number in range(1005):
        executor.execute(make(str(number)))
    errors = executor.events.errors
    assert len(errors) == 1000
    assert (str(errors[0]), str(errors[-1])) == ("5", "1004")


def test_locals_of_the_failing_frame_are_kept_only_if_asked_for() -> None:
    def handler(context: TaskContext) -> None:
        answer = 42
        raise ValueError(f"boom {answer}")

    for wanted in (False, True):
        executor = executor_with(handler, capture_locals=wanted)[0]
        task = make("t")
        with pytest.raises(ValueError):
            executor.execute(task)
        assert task.result is not None
        assert task.result.failure is not None
        assert task.result.failure.locals.get("answer") == ("42" if wanted else None)
