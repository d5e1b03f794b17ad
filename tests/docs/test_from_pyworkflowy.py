"""What the README of pyWorkflowy shows, section by section, translated."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ttasks import (
    CycleError,
    DependencyPolicy,
    PythonTask,
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskCancelled,
    TaskExecutor,
    TaskGraph,
    TaskTimeoutError,
    current_context,
    task,
)

WAIT = 10.0

# Tasks


@task
def square(x: int) -> int:
    return x * x


@task(title="checkout", retry=4, timeout=10.0, backend="thread")
def checkout(cart: int) -> dict[str, int]:
    return {"cart": cart}


class FetchUser(PythonTask[str]):
    title = "fetch user"
    retry = RetryPolicy(3)
    timeout = 5.0

    def run(self, user: int) -> str:
        return f"user {user}"


class FetchLater(PythonTask[str]):
    async def run(self, user: int) -> str:
        await asyncio.sleep(0)
        return f"user {user}"


def test_a_decorated_function_is_called_plainly_or_made_a_task() -> None:
    assert square(5) == 25
    with TaskExecutor() as executor:
        assert executor.submit(square.task(5)).result(WAIT).value == 25
        made = checkout.task(3)
        assert executor.execute(made).value == {"cart": 3}
    assert (made.title, made.timeout) == ("checkout", 10.0)
    assert made.retry is not None
    assert made.retry.max_attempts == 4
    assert square.task(1).title == "square"


def test_the_class_form_takes_the_arguments_of_run() -> None:
    with TaskExecutor() as executor:
        assert executor.execute(FetchUser(42)).value == "user 42"
        assert executor.execute(FetchLater(43)).value == "user 43"
    assert FetchUser(1).title == "fetch user"


# Backends


def test_backends_are_named_by_the_task_or_the_executor() -> None:
    with TaskExecutor(backend="process", max_workers=1) as executor:
        assert executor.execute(Task.python(os.getpid)).value != os.getpid()
        assert executor.execute(Task.python(os.getpid, backend="thread")).value == os.getpid()


async def nothing() -> None: ...


def test_a_coroutine_cannot_be_put_on_a_thread() -> None:
    with pytest.raises(ValueError, match="needs a plain function"):
        task(backend="thread")(nothing)


# Dependencies


def test_dependencies_hold_back_and_pass_values_on() -> None:
    order: list[str] = []

    def step(name: str, *_: Any) -> str:
        order.append(name)
        return name

    load = Task.python(step, ("load",))
    clean = Task.python(step, ("clean", load))
    write = Task.python(step, ("write",))
    graph = TaskGraph()
    graph.add(write, after=clean)
    graph.add(clean)
    graph.add(load)
    with TaskExecutor() as executor:
        graph.run(executor)
    assert order == ["load", "clean", "write"]


def test_a_cycle_is_found_when_the_edge_is_added() -> None:
    graph = TaskGraph()
    first, second = Task.python(print), Task.python(print)
    graph.add(first, after=second)
    with pytest.raises(CycleError):
        graph.add(second, after=first, check=True)
    assert second not in graph


@pytest.mark.parametrize(
    ("policy", "becomes"),
    [
        (DependencyPolicy.BLOCK, "blocked"),
        (DependencyPolicy.SKIP, "skipped"),
        (DependencyPolicy.RUN_ANYWAY, "succeeded"),
    ],
)
def test_policies_say_what_a_failed_dependency_means(
    policy: DependencyPolicy, becomes: str
) -> None:
    graph = TaskGraph()
    fails = graph.add(Task.python(lambda: 1 / 0))
    dependent = graph.add(Task.python(lambda: 1), after=fails, on_dep_failure=policy)
    with TaskExecutor() as executor:
        graph.run(executor)
    assert dependent.status.value == becomes


# Retries, timeouts, cancellation


def test_backoff_is_exponential_linear_or_none() -> None:
    exponential = RetryPolicy(5, 1.0, multiplier=2, max_backoff=5.0)
    linear = RetryPolicy(5, 1.0, increment=1.0, max_backoff=3.0)
    assert [exponential.delay(retry) for retry in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 5.0]
    assert [linear.delay(retry) for retry in (1, 2, 3, 4)] == [1.0, 2.0, 3.0, 3.0]
    assert RetryPolicy(5).delay(3) == 0.0


def test_timeouts_need_not_be_tried_again() -> None:
    policy = RetryPolicy(3, give_up_on=TimeoutError)
    with TaskExecutor() as executor:
        result = executor.attempt(Task.bash("sleep 30", timeout=0.1, retry=policy))
    assert (result.attempts, result.termination_reason) == (1, "timeout")


def test_a_running_function_notices_that_it_was_cancelled() -> None:
    started = threading.Event()

    def loop() -> str:
        context = current_context()
        assert context is not None
        assert (context.title, context.attempt) == ("loop", 1)
        started.set()
        assert context.wait_cancelled(WAIT)
        return "stopped early"

    with TaskExecutor() as executor:
        futures = [executor.submit(Task.python(loop, title="loop"))]
        assert started.wait(WAIT)
        executor.cancel_all()
        for future in futures:
            with pytest.raises(TaskCancelled):
                future.result(WAIT)


# The runner


def test_a_failure_is_raised_or_kept_as_asked() -> None:
    graph = TaskGraph()
    graph.add(Task.python(lambda: 1 / 0, title="fails"))
    fine = graph.add(Task.python(lambda: 1))
    with TaskExecutor(max_workers=8) as executor:
        graph.run(executor)
    assert fine.is_done
    with pytest.raises(Exception, match="division by zero"):
        graph.raise_for_failure()


# Persistence


def test_a_script_that_starts_again_goes_on_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def build() -> tuple[TaskGraph, Task]:
        graph = TaskGraph(key="nightly")
        first = Task.bash(f"echo first >> {log}", title="first")
        last = Task.bash(f"test -e {tmp_path}/ready && echo last >> {log}", title="last")
        graph.add(last, after=first)  # in another order than last time: it does not matter
        graph.add(first)
        return graph, last

    for is_ready in (False, True):
        if is_ready:
            (tmp_path / "ready").touch()
        graph, last = build()
        with SQLiteStore(tmp_path / "state.db") as store, TaskExecutor(store) as executor:
            graph.run(executor, resume=True)
        assert last.is_done is is_ready
    assert log.read_text() == "first\nlast\n"


# Async


def test_coroutines_run_on_the_loop_of_the_program_and_futures_are_awaited() -> None:
    async def main() -> list[Any]:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def fetch() -> int:
            return await queue.get()

        async with TaskExecutor() as executor:
            graph = TaskGraph()
            fetched = graph.add(Task.python(fetch))
            running = asyncio.create_task(graph.arun(executor))
            await queue.put(7)
            await running
            submitted = await executor.submit(square.task(6))
        return [fetched.value, submitted.value]

    assert asyncio.run(main()) == [7, 36]


# Errors


def test_a_timeout_is_the_error_it_says_it_is() -> None:
    with TaskExecutor() as executor, pytest.raises(TaskTimeoutError) as caught:
        executor.execute(Task.bash("sleep 30", timeout=0.1))
    assert isinstance(caught.value, TimeoutError)
