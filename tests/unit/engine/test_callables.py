"""Python tasks in the engine: context variables, logging, imports, reports of the right task."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import callkit
from callkit import WHERE
from ttasks import Task, TaskExecutor, TaskGraph, TaskLogFilter, TaskType


async def awhere() -> str:
    await asyncio.sleep(0)
    return WHERE.get()


def execute(task: Task) -> Any:
    with TaskExecutor() as executor:
        return executor.execute(task).value


def submit(task: Task) -> Any:
    with TaskExecutor() as executor:
        return executor.submit(task).result().value


def run(task: Task) -> Any:
    with TaskExecutor() as executor:
        TaskGraph().add(task)
        graph = TaskGraph()
        graph.add(task)
        graph.run(executor)
    return task.result.value if task.result else None


def arun(task: Task) -> Any:
    graph = TaskGraph()
    graph.add(task)
    with TaskExecutor() as executor:
        asyncio.run(graph.arun(executor))
    return task.result.value if task.result else None


@pytest.mark.parametrize("way", [execute, submit, run, arun])
@pytest.mark.parametrize("timeout", [None, 20])
@pytest.mark.parametrize("func", [callkit.where, awhere])
def test_context_variables_of_the_caller_are_seen(
    way: Callable[[Task], Any], timeout: float | None, func: Callable[[], Any]
) -> None:
    token = WHERE.set("at the caller")
    try:
        task = Task.python(func, timeout=timeout)
        assert way(task) == "at the caller"
    finally:
        WHERE.reset(token)


@pytest.mark.parametrize("func", [lambda: WHERE.set("inside"), awhere])
def test_context_variables_that_a_task_sets_are_its_own(func: Callable[[], Any]) -> None:
    execute(Task.python(func))
    assert WHERE.get() == "nowhere"


def test_a_task_that_submits_is_not_the_context_of_the_other() -> None:
    with TaskExecutor() as executor:

        def outer() -> str:
            return str(executor.submit(Task.python(lambda: callkit.here().title)).result().value)

        assert executor.execute(Task.python(outer)).value.startswith("lambda at")


def test_coroutines_with_a_timeout_take_no_thread_each() -> None:
    import threading

    counts: list[int] = []

    async def count() -> None:
        await asyncio.sleep(0.01)
        counts.append(threading.active_count())

    graph = TaskGraph()
    for _ in range(50):
        graph.add(Task.python(count, timeout=30))
    before = threading.active_count()
    with TaskExecutor() as executor:
        graph.run(executor, max_workers=2)
    assert graph.ok
    assert max(counts) <= before + 3


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.addFilter(TaskLogFilter())
        self.setFormatter(logging.Formatter("%(task_title)s/%(task_attempt)d: %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    handler = Lines()
    monkeypatch.setattr(callkit.log, "handlers", [handler])
    return handler.lines


async def alog() -> None:
    await asyncio.sleep(0)
    callkit.log.warning("from a coroutine")


def test_log_records_carry_their_task(lines: list[str]) -> None:
    with TaskExecutor() as executor:
        custom = TaskType("custom")
        executor.register(custom, lambda context: callkit.log.warning("from a handler"))
        executor.execute(Task("custom one", None, custom))
        executor.execute(Task.python(callkit.log.warning, ("from a thread",), title="threaded"))
        executor.execute(Task.python(alog, timeout=20))
    callkit.log.warning("from nowhere")
    assert lines == [
        "custom one/1: from a handler",
        "threaded/1: from a thread",
        "alog/1: from a coroutine",
        "/0: from nowhere",
    ]


def test_importing_the_library_imports_nothing_that_is_not_used() -> None:
    heavy = {"asyncio", "concurrent.futures", "logging", "multiprocessing", "pickle", "sqlite3"}
    heavy |= {"pathlib", "ttasks.engine.resume", "ttasks.model.identity"}
    code = (
        "from ttasks import Task, TaskExecutor, TaskGraph; import sys; "
        f"print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path}; {code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


def test_an_executor_without_process_tasks_imports_no_multiprocessing() -> None:
    code = (
        "import sys; from ttasks import Task, TaskExecutor; "
        "TaskExecutor().execute(Task.python(int)); print('multiprocessing' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False\n"
