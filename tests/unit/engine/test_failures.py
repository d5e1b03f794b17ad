"""What a failure tells: the user's own frame, its variables, the call, a traceback of user code."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import callkit
import ttasks
from support import CUSTOM, make
from ttasks import Failure, InMemoryStore, SQLiteStore, Task, TaskExecutor, TaskGraph

HERE = Path(__file__).name


def parse(text: str) -> Any:
    where = "parse"  # noqa: F841
    return json.loads(text)


def outer(text: str) -> Any:
    where = "outer"  # noqa: F841
    return parse(text)


def failed(task: Task, **options: Any) -> Failure:
    with TaskExecutor(**options) as executor, pytest.raises(Exception):  # noqa: B017
        executor.execute(task)
    failure = task.result.failure
    assert isinstance(failure, Failure)
    return failure


def test_locals_are_those_of_the_users_own_frame_not_of_the_standard_library() -> None:
    failure = failed(Task.python(outer, ("{bad",)), capture_locals=True)
    assert failure.locals == {"text": "'{bad'", "where": "'parse'"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module in a folder of installed packages."""
    folder = tmp_path / "site-packages" / "somebody"
    folder.mkdir(parents=True)
    source = "def call(function):\n    theirs = 1\n    return function()\n"
    source += "def fail():\n    theirs = 2\n    raise ValueError('theirs')\n"
    module = ModuleType("somebody")
    exec(compile(source, str(folder / "__init__.py"), "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "somebody", module)
    return module


def test_locals_of_installed_packages_are_left_out_unless_they_are_asked_for(
    installed: ModuleType,
) -> None:
    def run() -> None:
        mine = 1  # noqa: F841
        installed.call(installed.fail)

    assert failed(Task.python(run), capture_locals=True).locals["mine"] == "1"
    for part in ("somebody", "site-packages/somebody"):
        assert failed(Task.python(run), capture_locals=part).locals == {"theirs": "2"}
    assert failed(Task.python(run), capture_locals="nowhere").locals == {}
    assert failed(Task.python(run)).locals == {}


def test_part_of_a_modules_name_chooses_its_innermost_frame() -> None:
    failure = failed(Task.python(outer, ("{bad",)), capture_locals="json.decoder")
    assert "where" not in failure.locals
    assert "s" in failure.locals


@pytest.mark.parametrize("wrong", [1, None, b"x", ["x"], "", " "])
def test_a_frame_is_chosen_by_a_bool_or_a_str(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="capture_locals"):
        TaskExecutor(capture_locals=wrong)


@pytest.mark.parametrize("backend", ["thread", "process"])
def test_every_backend_tells_location_locals_and_call(backend: str) -> None:
    task = Task.python(callkit.parse_number, ("x",), {"base": 7}, backend=backend)
    failure = failed(task, capture_locals=True)
    path, _, rest = failure.location.rpartition(":")
    assert Path(path).name == "callkit.py"
    assert rest.endswith(" in parse_number")
    assert failure.locals == {"text": "'x'", "base": "7"}
    assert failure.function == "callkit.parse_number"
    assert (failure.args, failure.kwargs) == (("'x'",), {"base": "7"})


def test_arguments_are_shown_with_the_values_of_tasks() -> None:
    graph = TaskGraph()
    number = graph.add(Task.python(int, ("5",)))
    task = graph.add(Task.python(callkit.parse_number, ([number, "x"],)))
    with TaskExecutor() as executor:
        graph.run(executor)
    assert task.result.failure.args == ("[5, 'x']",)


def test_arguments_are_bounded_and_hide_secrets() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise SystemExit

    args = ("the hunter2", "x" * 10_000, Broken())
    failure = failed(Task.python(callkit.fail_with, args), redact=["hunter2"])
    assert failure.args[0] == "'the ***'"
    assert len(failure.args[1]) == 500
    assert failure.args[2] == "<repr raised SystemExit>"
    many = failed(Task.python(callkit.fail_with, tuple(range(1000))))
    assert len(many.args) == 100


def test_a_task_that_is_no_call_has_no_function() -> None:
    failure = failed(Task.bash("exit 3"))
    assert (failure.function, failure.args, failure.kwargs, failure.location) == ("", (), {}, "")


def test_the_location_of_a_handler_is_the_innermost_line_of_the_users() -> None:
    def handler(context: Any) -> None:
        parse(context.payload)

    task = make("t", "{bad")
    with TaskExecutor() as executor:
        executor.register(CUSTOM, handler)
        with pytest.raises(ValueError):
            executor.execute(task)
    line = parse.__code__.co_firstlineno + 2
    assert task.result.failure.location == f"{__file__}:{line} in parse"


def test_without_a_frame_of_the_users_the_location_is_the_innermost_line() -> None:
    failure = failed(Task.python(json.loads, ("{bad",)), capture_locals=True)
    assert "decoder.py:" in failure.location
    assert failure.locals == {}


def test_the_traceback_leaves_out_the_frames_of_the_library() -> None:
    for task in (
        Task.python(outer, ("{bad",)),
        Task.python(callkit.parse_number, ("x",), backend="process"),
        Task.python(callkit.chained, backend="process"),
        Task.python(callkit.chained),
    ):
        text = failed(task).traceback
        assert os.path.dirname(ttasks.__file__) not in text
        assert text.startswith(("Traceback", "ttasks", "builtins"))
    assert "the cause" in text
    assert "fail_with" in text


def test_a_failure_comes_back_from_the_ledger(tmp_path: Path) -> None:
    for store in (InMemoryStore(), SQLiteStore(tmp_path / "ledger")):
        task = Task.python(callkit.parse_number, ("x",), {"base": 7})
        expected = failed(task, store=store, capture_locals=True)
        assert store.tasks[task.id].result.failure == expected
        store.close()
