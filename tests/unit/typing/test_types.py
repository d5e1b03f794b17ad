"""What a type checker knows of Python tasks: mypy over a small file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api", reason="mypy belongs to another group than the tests")

ROOT = Path(__file__).resolve().parents[3]

SOURCE = """\
from typing import Any, assert_type

from ttasks import (
    PythonTask,
    Task,
    TaskExecutor,
    TaskFuture,
    TaskGraph,
    TaskResult,
    TaskType,
    literal,
    task,
)


@task
def load(path: str, *, limit: int = 5) -> list[int]:
    return [len(path)][:limit]


@task(timeout=5, backend="process")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
async def fetch(url: str) -> bytes:
    return url.encode()


@task(timeout=3)
async def fetch_soon(url: str) -> bytes:
    return url.encode()


class Shop:
    @task
    def price(self, pieces: int) -> float:
        return 1.5 * pieces


class Count(PythonTask[int]):
    timeout = 5
    retry = 3
    group = ["a", "b"]
    title = "count"
    backend = "process"

    def run(self, text: str) -> int:
        return len(text)


def plain(number: int) -> str:
    return str(number)


async def aplain(number: int) -> str:
    return str(number)


async def main() -> None:
    executor = TaskExecutor()
    assert_type(executor.execute(Count("x")), TaskResult[int])
    assert_type(executor.execute(load.task("x")).value, list[int])
    assert_type(executor.attempt(fetch.task("x")).value, bytes)
    assert_type(executor.submit(total.task([1])), TaskFuture[int])
    assert_type(await executor.submit(total.task([1])), TaskResult[int])
    assert_type((await executor.aexecute(total.task([1]))).value, int)
    assert_type(executor.execute(Task.bash("x")).value, str)
    assert_type(Task.prompt("x").value, str)
    assert_type(executor.execute(Task("t", None, TaskType("x"))).value, Any)
    print(Task.bash("x").result.output.upper(), Task.bash("x").result.stdout.upper())
    print(total.task([1]).result.failure.location)
    assert_type(literal(Count("x")), Count)
    annotated: TaskResult = executor.execute(Count("x"))
    plain_task: Task = Count("x")
    print(annotated, plain_task, Task.bash("x", retry=3, group=["a", "b"]))
    Count("x").result.outptu  # error: union-attr
    executor.execute(Count("x")).value.upper()  # error: attr-defined
    assert_type(load("x", limit=1), list[int])
    assert_type(load.task("x"), PythonTask[list[int]])
    assert_type(load.task("x").value, list[int])
    assert_type(total.task(load.task("x").as_argument), PythonTask[int])
    assert_type(total.having(timeout=3).task([1]), PythonTask[int])
    assert_type(await fetch("x"), bytes)
    assert_type(fetch.task("x"), PythonTask[bytes])
    assert_type(fetch_soon.task("x").value, bytes)
    assert_type(Shop().price(3), float)
    assert_type(Shop().price.task(3).value, float)
    assert_type(Count("x").value, int)
    assert_type(Task.python(plain, (1,)).value, str)
    assert_type(Task.python(aplain, (1,)), PythonTask[str])
    assert_type(TaskGraph().add(load.task("x")).value, list[int])
    load.task(5)  # error: arg-type
    load.task("x", limit="y")  # error: arg-type
    load.task()  # error: call-arg
    total.task(load.task("x"))  # error: arg-type
    total("x")  # error: arg-type
    fetch.task(b"x")  # error: arg-type
    Shop().price.task("x")  # error: arg-type
    task(tiemout=3)  # error: call-overload
    Task.python(plain, (1,), grace=3)  # error: call-overload
"""


def test_arguments_and_values_of_tasks_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(SOURCE, encoding="utf-8")
    expected = {
        (number, match[1])
        for number, line in enumerate(SOURCE.splitlines(), 1)
        if (match := re.search(r"# error: (.*)", line))
    }
    options = ["--strict", "--no-error-summary", "--cache-dir", str(ROOT / ".cache" / "mypy-typed")]
    output, trouble, _ = api.run([*options, "--python-version", "3.11", str(path)])
    assert trouble == ""
    found = {
        (int(match[1]), match[2])
        for match in re.finditer(r"typed\.py:(\d+): error: .*\[([a-z-]+)\]", output)
    }
    assert found == expected, output
