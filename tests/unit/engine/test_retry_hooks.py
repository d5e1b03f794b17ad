"""Retries that look at results, wait longer by an increment, give up, and tell before they wait."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import callkit
from support import EventRecorder, FakeHandler, bounded, executor_with, make, run
from ttasks import (
    RetryPolicy,
    Task,
    TaskExecutionError,
    TaskExecutor,
    TaskGraph,
    TaskResult,
    TaskStatus,
)

FAILED, SUCCEEDED = TaskStatus.FAILED, TaskStatus.SUCCEEDED


def executed(script: Any, policy: Any, **options: Any) -> tuple[Task, BaseException | None]:
    """A task after its execution, with what the executor raised."""
    executor, recorder = executor_with(FakeHandler({"t": script}), **options)
    task = make("t", retry=policy)
    raised = None
    with executor:
        try:
            bounded(lambda: executor.execute(task))
        except Exception as error:
            raised = error
    recorder.check()
    return task, raised


def test_a_number_is_a_policy_of_that_many_attempts() -> None:
    task, _ = executed([OSError(), OSError(), "value"], 3)
    assert task.retry == RetryPolicy(3)
    assert (task.value, task.result.attempts) == ("value", 3)


def test_execute_and_submit_take_a_number_as_well() -> None:
    executor, _ = executor_with(FakeHandler({"t": [OSError(), "value"]}))
    with executor:
        assert bounded(lambda: executor.execute(make("t"), retry_policy=2)).value == "value"
        assert executor.submit(make("t"), retry_policy=2).result(10).value == "value"
        for wrong in (0, -1, True, 1.5, "2"):
            with pytest.raises((TypeError, ValueError), match="retry_policy"):
                executor.execute(make("t"), retry_policy=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, -1, True, 2.0, "3", [1]])
def test_a_number_of_attempts_is_an_int_of_at_least_one(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="retry"):
        make("t", retry=wrong)
    task = make("t")
    with pytest.raises((TypeError, ValueError), match="retry"):
        task.retry = wrong
    assert task.retry is None


def test_give_up_on_wins_over_retry_on() -> None:
    policy = RetryPolicy(5, give_up_on=(FileNotFoundError, KeyError))
    task, raised = executed([OSError(), PermissionError(), FileNotFoundError("gone")], policy)
    assert task.result.attempts == 3
    assert isinstance(raised, FileNotFoundError)


def test_a_result_that_is_not_wanted_is_tried_again() -> None:
    policy = RetryPolicy(5, retry_if=lambda result: result.value == "not yet")
    task, raised = executed(["not yet", "not yet", "ready"], policy)
    assert raised is None
    assert (task.value, task.result.attempts) == ("ready", 3)


def test_the_last_attempt_fails_if_its_result_is_not_wanted() -> None:
    policy = RetryPolicy(2, retry_if=lambda result: result.value == "not yet")
    task, raised = executed(["not yet", "not yet"], policy)
    assert isinstance(raised, TaskExecutionError)
    assert task.error == "retry_if asked for another attempt"
    assert (task.status, task.result.raw, task.result.termination_reason) == (
        FAILED,
        "not yet",
        "handler",
    )


def test_retry_if_is_asked_about_failures_too_after_retry_on() -> None:
    asked: list[str | None] = []

    def transient(result: TaskResult) -> bool:
        asked.append(result.error)
        return result.error == "busy"

    policy = RetryPolicy(9, retry_on=OSError, retry_if=transient)
    task, raised = executed([OSError("busy"), ValueError("busy")], policy)
    assert isinstance(raised, ValueError)
    assert task.result.attempts == 2
    task, raised = executed([OSError("busy"), OSError("full")], policy)
    assert (task.result.attempts, task.error) == (2, "full")
    assert asked == ["busy", "busy", "busy", "full"]


def test_an_exit_code_decides() -> None:
    def busy(result: TaskResult) -> bool:
        return result.returncode == 75

    with TaskExecutor() as executor:
        task = Task.bash("exit 75", retry=RetryPolicy(3, retry_if=busy))
        with pytest.raises(TaskExecutionError):
            executor.execute(task)
        assert task.result.attempts == 3
        task = Task.bash("exit 1", retry=RetryPolicy(3, retry_if=busy))
        with pytest.raises(TaskExecutionError):
            executor.execute(task)
        assert (task.result.attempts, task.result.termination_reason) == (1, "exit_code")
        said_no = RetryPolicy(2, retry_if=lambda result: "no" in (result.stdout or ""))
        task = Task.bash("echo no; echo why >&2", retry=said_no)
        with pytest.raises(TaskExecutionError, match="retry_if asked"):
            executor.execute(task)
        result = task.result
        assert (result.returncode, result.stdout, result.stderr) == (0, "no\n", "why\n")
        assert (result.termination_reason, result.attempts) == ("handler", 2)


def test_before_sleep_is_told_before_each_wait_and_never_else() -> None:
    told: list[tuple[str | None, int, float]] = []

    def tell(result: TaskResult, seconds: float) -> None:
        told.append((result.error, result.attempts, seconds))

    policy = RetryPolicy(3, 0.001, increment=0.001, before_sleep=tell)
    executed([OSError("a"), OSError("b"), OSError("c")], policy)
    assert told == [("a", 1, 0.001), ("b", 2, 0.002)]
    executed(["value"], policy)
    assert len(told) == 2


@pytest.mark.parametrize("name", ["retry_if", "before_sleep"])
@pytest.mark.parametrize("problem", [ZeroDivisionError("oops"), SystemExit("oops")], ids=repr)
def test_what_a_function_of_the_policy_raises_ends_the_task(
    name: str, problem: BaseException
) -> None:
    def broken(*args: Any) -> None:
        raise problem

    policy = RetryPolicy(3, **{name: broken})
    task, raised = executed([OSError("first")], policy, redact=["oops"])
    assert isinstance(raised, TaskExecutionError)
    assert raised.__cause__ is problem
    assert (task.status, task.result.attempts) == (FAILED, 1)
    assert task.error == (
        f"{name} raised {type(problem).__name__}: ***; the attempt had failed with: first"
    )


def test_a_retry_that_before_sleep_prevents_costs_no_budget() -> None:
    calls: list[str] = []

    def first_only(result: TaskResult, seconds: float) -> None:
        calls.append(result.task_id)
        if len(calls) == 1:
            raise ValueError("stop")

    executor, _ = executor_with(FakeHandler({"a": OSError(), "b": [OSError(), "value"]}))
    graph = TaskGraph()
    policy = RetryPolicy(2, before_sleep=first_only)
    a = graph.add(make("a", retry=policy))
    b = graph.add(make("b", retry=policy), after=a)
    graph[b] = ()
    with executor:
        run(graph, executor, max_workers=1, retry_budget=1)
    assert (a.status, b.status) == (FAILED, SUCCEEDED)


def test_results_that_functions_see_hide_secrets() -> None:
    seen: list[Any] = []

    def look(result: TaskResult) -> bool:
        seen.append((result.output, result.error))
        return False

    executed(["the secret"], RetryPolicy(2, retry_if=look), redact=["secret"])
    executed([OSError("the secret")], RetryPolicy(2, retry_if=look), redact=["secret"])
    assert seen == [("the ***", None), ("", "the ***")]


def test_the_events_of_an_unwanted_result_are_those_of_a_failure() -> None:
    executor, _ = executor_with(FakeHandler({"t": ["no", "yes"]}))
    recorder = EventRecorder(executor)
    policy = RetryPolicy(2, retry_if=lambda result: result.value == "no")
    task = make("t", retry=policy)
    with executor:
        bounded(lambda: executor.execute(task))
    types = [kind.value for kind in recorder.of(task)]
    assert types == ["started", "failed", "started", "succeeded"]


def test_a_policy_with_functions_that_have_names_pickles() -> None:
    policy = RetryPolicy(2, retry_if=pickle_me, before_sleep=pickle_me, give_up_on=KeyError)
    assert pickle.loads(pickle.dumps(policy)) == policy


def pickle_me(*args: Any) -> bool:
    return True


@pytest.mark.usefixtures("bare_main")
def test_functions_of_a_policy_need_not_pickle_for_another_process() -> None:
    with TaskExecutor() as executor:
        assert executor.attempt(callkit.TriedScale(3)).value == 6
        assert executor.attempt(callkit.TriedScale(2)).attempts == 2
