"""TaskExecutor: construction, handlers, execute, cancel, mark_blocked; bad input to it all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from support import (
    CUSTOM,
    FakeHandler,
    Gate,
    Obedient,
    background,
    bounded,
    executor_with,
    make,
    statuses,
)
from ttasks import (
    HandlerNotFoundError,
    InMemoryStore,
    InvalidTransitionError,
    RetryPolicy,
    Task,
    TaskCancelled,
    TaskContext,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
    current_context,
)

STARTED, SUCCEEDED = TaskEventType.STARTED, TaskEventType.SUCCEEDED
FAILED, CANCELLED = TaskEventType.FAILED, TaskEventType.CANCELLED

TASK = make("t")
OTHER = make("other")

# What is called, and what the error must name: the argument, and the value that was given.
BAD_ARGUMENTS: list[tuple[Callable[[], Any], type[Exception], list[str]]] = [
    (lambda: TaskExecutor("store"), TypeError, ["store", "'store'"]),
    (lambda: TaskExecutor.empty(42), TypeError, ["store", "42"]),
    (lambda: TaskExecutor(max_workers=0), ValueError, ["max_workers", "0"]),
    (lambda: TaskExecutor(max_workers=-3), ValueError, ["max_workers", "-3"]),
    (lambda: TaskExecutor(max_workers=2.5), TypeError, ["max_workers", "2.5"]),
    (lambda: TaskExecutor(max_workers=True), TypeError, ["max_workers", "True"]),
    (lambda: TaskExecutor(max_workers="4"), TypeError, ["max_workers", "'4'"]),
    (lambda: TaskExecutor(limits=[("db", 1)]), TypeError, ["limits", "('db', 1)"]),
    (lambda: TaskExecutor(limits={"db": 0}), ValueError, ["limits['db']", "0"]),
    (lambda: TaskExecutor(limits={"db": "1"}), TypeError, ["limits['db']", "'1'"]),
    (lambda: TaskExecutor(limits={"db": True}), TypeError, ["limits['db']", "True"]),
    (lambda: TaskExecutor(limits={"": 1}), ValueError, ["limits", "''"]),
    (lambda: TaskExecutor(limits={3: 1}), TypeError, ["limits", "3"]),
    # The values of these are secrets, which an error must not show.
    (lambda: TaskExecutor(redact="hunter2"), TypeError, ["redact must be an iterable of str"]),
    (lambda: TaskExecutor(redact=None), TypeError, ["redact must be", "got None"]),
    (lambda: TaskExecutor(redact=[7]), TypeError, ["redact[0]", "got int"]),
    (lambda: TaskExecutor(redact=["a", None]), TypeError, ["redact[1]", "got None"]),
    (lambda: TaskExecutor(redact=[""]), ValueError, ["redact[0]"]),
    (lambda: TaskExecutor(redact_env="*_TOKEN"), TypeError, ["redact_env", "'*_TOKEN'"]),
    (lambda: TaskExecutor(redact_env=[7]), TypeError, ["redact_env[0]", "7"]),
    (lambda: TaskExecutor(redact_env=[""]), ValueError, ["redact_env[0]", "''"]),
    (lambda: TaskExecutor(capture_locals=1), TypeError, ["capture_locals", "1"]),
    (lambda: TaskExecutor(strict_persistence="yes"), TypeError, ["strict_persistence", "'yes'"]),
]

BAD_CALLS: list[tuple[Callable[[TaskExecutor], Any], type[Exception], list[str]]] = [
    (lambda e: e.register("http", print), TypeError, ["type", "'http'", "TaskType('http')"]),
    (lambda e: e.register(CUSTOM, 5), TypeError, ["handler", "5"]),
    (lambda e: e.register(CUSTOM, None), TypeError, ["handler", "None"]),
    (lambda e: e.handler("http"), TypeError, ["type", "'http'"]),
    (lambda e: e.handler(CUSTOM)("no"), TypeError, ["handler", "'no'"]),
    (lambda e: e.is_registered("custom"), TypeError, ["type", "'custom'"]),
    (lambda e: e.execute("t"), TypeError, ["task", "'t'"]),
    (lambda e: e.execute(None), TypeError, ["task", "None"]),
    (lambda e: e.execute(TASK, [OTHER]), TypeError, ["upstream", "other"]),
    (lambda e: e.execute(TASK, {OTHER.id: 5}), TypeError, ["upstream[", "5"]),
    (lambda e: e.execute(TASK, {"x": OTHER}), ValueError, ["upstream['x']", OTHER.id]),
    (lambda e: e.execute(TASK, check=0), TypeError, ["check", "0"]),
    (lambda e: e.execute(TASK, retry_policy=3.0), TypeError, ["retry_policy", "3.0"]),
    (lambda e: e.submit("t"), TypeError, ["task", "'t'"]),
    (lambda e: e.submit(TASK, {"x": OTHER}), ValueError, ["upstream['x']", OTHER.id]),
    (lambda e: e.submit(TASK, retry_policy={}), TypeError, ["retry_policy", "{}"]),
    (lambda e: e.cancel(TASK.id), TypeError, ["task", TASK.id]),
    (lambda e: e.is_running(TASK), TypeError, ["task_id", "t"]),
    (lambda e: e.mark_blocked(TASK, OTHER), TypeError, ["parent_id", "other"]),
    (lambda e: e.mark_blocked(TASK, ""), ValueError, ["parent_id", "''"]),
    (lambda e: e.mark_blocked("t", OTHER.id), TypeError, ["task", "'t'"]),
    (lambda e: e.shutdown(wait=1), TypeError, ["wait", "1"]),
    (lambda e: e.shutdown(cancel="no"), TypeError, ["cancel", "'no'"]),
    (lambda e: e.shutdown(timeout=-1), ValueError, ["timeout", "-1"]),
    (lambda e: e.shutdown(timeout="1"), TypeError, ["timeout", "'1'"]),
    (lambda e: e.shutdown(wait=False, timeout=3), ValueError, ["timeout (3) needs wait=True"]),
    (lambda e: e.events.subscribe("no"), TypeError, ["callback", "'no'"]),
    (lambda e: e.events.subscribe(print, types="started"), TypeError, ["types", "'started'"]),
    (lambda e: e.events.subscribe(print, types=[1]), TypeError, ["types", "1"]),
]

BAD_RUNS: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"max_workers": 0}, ValueError, ["max_workers", "0"]),
    ({"max_workers": 1.0}, TypeError, ["max_workers", "1.0"]),
    ({"max_workers": True}, TypeError, ["max_workers", "True"]),
    ({"fail_fast": 1}, TypeError, ["fail_fast", "1"]),
    ({"timeout": 0}, ValueError, ["timeout", "0"]),
    ({"timeout": -1}, ValueError, ["timeout", "-1"]),
    ({"timeout": float("nan")}, ValueError, ["timeout", "nan"]),
    ({"timeout": float("inf")}, ValueError, ["timeout", "inf"]),
    ({"timeout": "1"}, TypeError, ["timeout", "'1'"]),
    ({"finally_timeout": 0.0}, ValueError, ["finally_timeout", "0.0"]),
    ({"finally_timeout": True}, TypeError, ["finally_timeout", "True"]),
    ({"retry_budget": -1}, ValueError, ["retry_budget", "-1"]),
    ({"retry_budget": 1.5}, TypeError, ["retry_budget", "1.5"]),
    ({"limits": {"db": 0}}, ValueError, ["limits['db']", "0"]),
    ({"limits": ["db"]}, TypeError, ["limits", "['db']"]),
    ({"handle_sigterm": "yes"}, TypeError, ["handle_sigterm", "'yes'"]),
]


@pytest.mark.parametrize(("call", "kind", "named"), BAD_ARGUMENTS)
def test_bad_argument_of_the_constructor_is_named(
    call: Callable[[], Any], kind: type[Exception], named: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    for text in named:
        assert text in str(caught.value)


@pytest.mark.parametrize(("call", "kind", "named"), BAD_CALLS)
def test_bad_argument_of_a_method_is_named_and_changes_nothing(
    call: Callable[[TaskExecutor], Any], kind: type[Exception], named: list[str]
) -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler, store=InMemoryStore())
    with pytest.raises(kind) as caught:
        call(executor)
    assert type(caught.value) is kind
    for text in named:
        assert text in str(caught.value)
    assert TASK.is_pending
    assert OTHER.is_pending
    assert handler.calls == []
    assert recorder.events == []
    assert not executor.is_shutdown
    assert list(executor.store.tasks) == list(executor.store.graphs) == []


@pytest.mark.parametrize(("options", "kind", "named"), BAD_RUNS)
def test_bad_argument_of_a_run_is_named_and_nothing_starts(
    options: dict[str, Any], kind: type[Exception], named: list[str]
) -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler, store=InMemoryStore())
    graph = TaskGraph("g")
    graph.add(make("a"))
    with pytest.raises(kind) as caught:
        graph.run(executor, **options)
    assert type(caught.value) is kind
    for text in named:
        assert text in str(caught.value)
    assert statuses(graph) == {"a": "pending"}
    assert recorder.events == handler.calls == []
    assert list(executor.store.tasks) == list(executor.store.graphs) == []


@pytest.mark.parametrize("wrong", [None, "executor", InMemoryStore()])
def test_run_wants_an_executor(wrong: Any) -> None:
    graph = TaskGraph("g")
    graph.add(make("a"))
    with pytest.raises(TypeError, match="executor"):
        graph.run(wrong)
    assert statuses(graph) == {"a": "pending"}


def test_a_new_executor_knows_commands_and_an_empty_one_nothing() -> None:
    assert TaskExecutor().is_registered(TaskType.BASH)
    assert TaskExecutor().is_registered(TaskType.POWERSHELL)
    assert not TaskExecutor.empty().is_registered(TaskType.BASH)


def test_execute_returns_the_result_that_the_task_keeps() -> None:
    executor, recorder = executor_with(lambda context: f"hello {context.payload}")
    task = make("t", payload="you")
    result = executor.execute(task)
    assert result is task.result
    assert result.status is TaskStatus.SUCCEEDED
    assert result.output == result.value == result.raw == "hello you"
    assert (result.attempts, result.error, result.failure) == (1, None, None)
    assert result.termination_reason is None
    assert result.started_at.tzinfo is not None
    assert result.started_at <= result.finished_at
    assert recorder.of(task) == [STARTED, SUCCEEDED]
    recorder.check()


def test_what_the_handler_raises_comes_out_after_the_task_is_failed_and_announced() -> None:
    error = KeyError("nope")
    executor, recorder = executor_with(FakeHandler({"t": error}), store=InMemoryStore())
    task = make("t")
    with pytest.raises(KeyError) as caught:
        executor.execute(task)
    assert caught.value is error
    assert task.is_failed
    assert recorder.of(task) == [STARTED, FAILED]
    assert executor.store.tasks[task.id].is_failed
    assert task.result is not None
    assert task.result.termination_reason == "handler"
    assert task.result.failure is not None
    assert task.result.failure.type == "builtins.KeyError"
    assert "perform" in task.result.failure.traceback


def test_a_handler_that_raises_task_cancelled_cancels() -> None:
    executor, recorder = executor_with(FakeHandler({"t": TaskCancelled("not today")}))
    task = make("t")
    with pytest.raises(TaskCancelled, match="not today"):
        executor.execute(task)
    assert task.is_cancelled
    assert task.error == "not today"
    assert recorder.of(task) == [STARTED, CANCELLED]


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), BaseException("odd")])
def test_anything_else_that_is_raised_fails(error: BaseException) -> None:
    executor, recorder = executor_with(FakeHandler({"t": error}))
    task = make("t")
    with pytest.raises(type(error)):
        executor.execute(task)
    assert task.is_failed
    recorder.check()


def test_an_exception_without_a_readable_text_fails_the_task_all_the_same() -> None:
    class Evil(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    executor, recorder = executor_with(FakeHandler({"t": Evil()}))
    task = make("t")
    with pytest.raises(Evil):
        executor.execute(task)
    assert task.is_failed
    assert "Evil" in (task.error or "")
    recorder.check()


def test_a_missing_handler_fails_the_task_and_names_the_type() -> None:
    executor, recorder = executor_with(print, store=InMemoryStore())
    task = Task("t", None, TaskType("http"))
    with pytest.raises(HandlerNotFoundError, match="'http'.*custom"):
        executor.execute(task, retry_policy=RetryPolicy(5))
    assert task.is_failed
    assert task.result is not None
    assert task.result.attempts == 0
    assert recorder.of(task) == [FAILED]
    assert executor.store.tasks[task.id].is_failed
    recorder.check()


@pytest.mark.parametrize("end", ["succeeded", "cancelled"])
def test_a_task_at_its_end_cannot_be_executed_again(end: str) -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler)
    task = make("t")
    if end == "succeeded":
        executor.execute(task)
    else:
        task.cancel()
    before = (task.status, task.result, len(recorder.events), len(handler.calls))
    with pytest.raises((InvalidTransitionError, TaskCancelled)):
        executor.execute(task)
    assert (task.status, task.result, len(recorder.events), len(handler.calls)) == before


@pytest.mark.parametrize("before", [TaskStatus.FAILED, TaskStatus.BLOCKED, TaskStatus.SKIPPED])
def test_a_task_that_did_not_succeed_can_be_executed_again(before: TaskStatus) -> None:
    executor, _ = executor_with(FakeHandler())
    task = make("t")
    task.transition_to(before)
    assert executor.execute(task).status is TaskStatus.SUCCEEDED


def test_a_running_task_cannot_be_executed_a_second_time() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate)
    task = make("t")
    first = background(lambda: executor.execute(task))
    gate.wait_reached()
    assert executor.is_running(task.id)
    with pytest.raises(InvalidTransitionError):
        executor.execute(task)
    assert task.is_running
    gate.open()
    assert first.result(10).status is TaskStatus.SUCCEEDED
    assert not executor.is_running(task.id)
    recorder.check()


def test_of_many_racing_executions_of_a_task_exactly_one_runs() -> None:
    executor, recorder = executor_with(FakeHandler())
    for _ in range(50):
        task = make("t")
        barrier = threading.Barrier(4)

        def go(task: Task = task, barrier: threading.Barrier = barrier) -> str:
            barrier.wait(10)
            try:
                return executor.execute(task).status.value
            except InvalidTransitionError:
                return "refused"

        futures = [background(go) for _ in range(4)]
        assert sorted(future.result(10) for future in futures) == ["refused"] * 3 + ["succeeded"]
    recorder.check()


def test_register_replaces_and_the_decorator_returns_the_handler() -> None:
    executor = TaskExecutor.empty()

    @executor.handler(CUSTOM)
    def first(context: TaskContext) -> str:
        return "first"

    assert first.__name__ == "first"
    assert executor.execute(make("a")).output == "first"
    executor.register(CUSTOM, lambda context: "second")
    assert executor.execute(make("b")).output == "second"


def test_the_handler_sees_its_task_and_exactly_its_upstream() -> None:
    seen: dict[str, Any] = {}

    def handler(context: TaskContext) -> None:
        assert current_context() is context
        seen.update(
            id=context.id,
            title=context.title,
            status=context.status,
            attempt=context.attempt,
            upstream=dict(context.upstream),
            options=dict(context.options),
            remaining=context.remaining(),
        )
        with pytest.raises(TypeError):
            context.upstream["x"] = OTHER  # type: ignore[index]

    executor, _ = executor_with(handler)
    task = make("t", options={"size": 3})
    upstream = {OTHER.id: OTHER}
    executor.execute(task, upstream)
    assert seen == {
        "id": task.id,
        "title": "t",
        "status": TaskStatus.RUNNING,
        "attempt": 1,
        "upstream": upstream,
        "options": {"size": 3},
        "remaining": None,
    }
    assert current_context() is None


def test_a_task_executed_by_a_handler_is_a_task_of_its_own() -> None:
    inner = make("inner")

    def handler(context: TaskContext) -> str:
        if context.title == "outer":
            executor.execute(inner)
            assert current_context() is context
        return context.title

    executor, recorder = executor_with(handler)
    assert executor.execute(make("outer")).output == "outer"
    assert inner.is_succeeded
    recorder.check()


def test_cancelling_the_outer_task_cancels_what_its_handler_executes() -> None:
    obedient = Obedient()
    inner = make("inner")

    def handler(context: TaskContext) -> Any:
        return executor.execute(inner).output if context.title == "outer" else obedient(context)

    executor, recorder = executor_with(handler)
    outer = make("outer")
    future = background(lambda: executor.execute(outer))
    obedient.wait_reached()
    assert executor.cancel(outer)
    with pytest.raises(TaskCancelled):
        future.result(10)
    assert inner.is_cancelled
    assert outer.is_cancelled
    recorder.check()


def test_the_timeout_of_the_outer_task_cancels_what_its_handler_executes() -> None:
    ended = threading.Event()
    obedient = Obedient()
    inner = make("inner")

    def handler(context: TaskContext) -> Any:
        if context.title != "outer":
            return obedient(context)
        try:
            return executor.execute(inner)
        finally:
            ended.set()

    executor, recorder = executor_with(handler)
    outer = make("outer", timeout=0.05)
    with pytest.raises(TimeoutError, match=r"timed out after 0\.05 seconds"):
        bounded(lambda: executor.execute(outer))
    assert ended.wait(10)
    assert outer.is_failed
    assert inner.is_cancelled
    assert inner.result is not None
    assert inner.result.termination_reason == "cancelled"
    recorder.check()


# Cancel


def test_cancel_ends_a_task_that_has_not_started_and_tells() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler, store=InMemoryStore())
    task = make("t")
    assert executor.cancel(task)
    assert task.is_cancelled
    assert recorder.of(task) == [CANCELLED]
    assert executor.store.tasks[task.id].is_cancelled
    assert task.result is not None
    assert (task.result.attempts, task.result.termination_reason) == (0, "cancelled")
    assert executor.cancel(task)
    assert recorder.of(task) == [CANCELLED]
    with pytest.raises(TaskCancelled):
        executor.execute(task)
    assert handler.calls == []


def test_cancel_after_success_changes_nothing() -> None:
    executor, recorder = executor_with(FakeHandler())
    task = make("t")
    executor.execute(task)
    assert not executor.cancel(task)
    assert task.is_succeeded
    recorder.check()


@pytest.mark.parametrize("how", ["executor", "task"])
def test_a_running_task_that_is_cancelled_ends_cancelled_whatever_it_returns(how: str) -> None:
    gate = Gate()
    executor, recorder = executor_with(gate)
    task = make("t")
    future = background(lambda: executor.execute(task))
    gate.wait_reached()
    executor.cancel(task) if how == "executor" else task.cancel()
    gate.open()
    with pytest.raises(TaskCancelled):
        future.result(10)
    assert task.is_cancelled
    assert task.result is not None
    assert task.result.raw == "t"
    assert recorder.of(task) == [STARTED, CANCELLED]
    recorder.check()


def test_cancel_that_says_yes_is_kept_however_close_it_is_to_the_end() -> None:
    executor, recorder = executor_with(FakeHandler())
    answers = set()
    for round_ in range(400):
        task = make("t")
        barrier = threading.Barrier(2)

        def go(task: Task = task, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            try:
                executor.execute(task)
            except TaskCancelled:
                pass

        future = background(go)
        barrier.wait(10)
        for _ in range(round_ % 40):
            pass
        answer = executor.cancel(task)
        future.result(10)
        assert answer == task.is_cancelled
        assert answer or task.is_succeeded
        answers.add(answer)
    recorder.check()


def test_cancel_from_a_subscriber_at_the_start_is_heard() -> None:
    handler = FakeHandler()
    executor, recorder = executor_with(handler)
    executor.events.subscribe(lambda event: executor.cancel(event.task), types=STARTED)
    task = make("t")
    with pytest.raises(TaskCancelled):
        executor.execute(task)
    assert handler.calls == []
    recorder.check()


# Moves by hand


@pytest.mark.parametrize("target", [TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED])
@pytest.mark.parametrize("step", ["return", "raise", "cancelled"])
def test_a_task_that_its_handler_moves_by_hand_stays_there(target: TaskStatus, step: str) -> None:
    task = make("t")

    def handler(context: TaskContext) -> str:
        task.transition_to(target, None if target is TaskStatus.SUCCEEDED else "by hand")
        if step == "raise":
            raise ValueError("boom")
        if step == "cancelled":
            raise TaskCancelled
        return "done"

    executor, recorder = executor_with(handler)

    def go() -> None:
        try:
            executor.execute(task)
        except (ValueError, TaskCancelled):
            pass

    bounded(go)
    assert task.status is target
    assert task.result is not None
    assert task.result.status is target
    recorder.check()


def test_moved_by_hand_and_cancelled_ends() -> None:
    task = make("t")

    def handler(context: TaskContext) -> None:
        task.transition_to(TaskStatus.FAILED, "by hand")
        context.cancel_token.cancel()
        context.raise_if_cancelled()

    executor, recorder = executor_with(handler)

    def go() -> None:
        with pytest.raises(Exception, match="cannot go|cancelled"):
            executor.execute(task)

    bounded(go)
    assert task.is_failed
    recorder.check()


# mark_blocked


def test_mark_blocked_saves_and_announces() -> None:
    executor, recorder = executor_with(FakeHandler(), store=InMemoryStore())
    task = make("t")
    executor.mark_blocked(task, OTHER.id)
    assert task.is_blocked
    assert task.blocked_by == OTHER.id
    assert task.result is None
    assert recorder.of(task) == [TaskEventType.BLOCKED]
    assert executor.store.tasks[task.id].is_blocked


@pytest.mark.parametrize("end", [TaskStatus.SUCCEEDED, TaskStatus.CANCELLED])
def test_mark_blocked_refuses_a_task_at_its_end(end: TaskStatus) -> None:
    executor, recorder = executor_with(FakeHandler())
    task = make("t")
    if end is TaskStatus.SUCCEEDED:
        executor.execute(task)
    else:
        task.cancel()
    count = len(recorder.events)
    with pytest.raises(InvalidTransitionError):
        executor.mark_blocked(task, OTHER.id)
    assert task.status is end
    assert task.blocked_by is None
    assert len(recorder.events) == count


def test_mark_blocked_refuses_a_running_task() -> None:
    gate = Gate()
    executor, recorder = executor_with(gate)
    task = make("t")
    future = background(lambda: executor.execute(task))
    gate.wait_reached()
    with pytest.raises(InvalidTransitionError):
        executor.mark_blocked(task, OTHER.id)
    gate.open()
    future.result(10)
    assert recorder.of(task) == [STARTED, SUCCEEDED]
