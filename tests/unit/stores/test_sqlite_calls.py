"""Python tasks in a ledger: their calls come back, and graphs of them run again."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

import callkit
from support import run
from ttasks import (
    GraphError,
    PythonTask,
    SQLiteStore,
    StoreError,
    Task,
    TaskExecutionError,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    literal,
)
from ttasks.model.call import Call
from ttasks.model.fingerprint import fingerprint_of
from ttasks.stores.sqlite.plain import NotStored


class Colour(Enum):
    RED = "red"


class Access(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: Any = ()


Pair = namedtuple("Pair", "x y")


def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def double(number: int) -> int:
    return 2 * number


def twice(values: list[Any]) -> list[Any]:
    return [double(value) for value in values]


class Scaled(PythonTask[int]):
    title = "scaled"

    def run(self, number: int, by: int = 2) -> int:
        return number * by


def back(task: Task, folder: Path) -> Task:
    """The task as another process would read it."""
    with SQLiteStore(folder / "ledger") as store:
        store.tasks.save(task)
        return store.tasks[task.id]


def executed(task: Task) -> Any:
    with TaskExecutor() as executor:
        return executor.execute(task).value


VALUES = [
    None,
    True,
    5,
    2.5,
    float("inf"),
    "text",
    b"\x00\xff",
    bytearray(b"a"),
    [1, [2]],
    (1, (2,)),
    {"a": 1},
    {1: "a", (2, 3): [4]},
    {"tuple": [1]},
    {1, 2},
    frozenset({"a"}),
    Path("a/b"),
    PurePosixPath("a"),
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    date(2026, 1, 2),
    time(1, 2, 3),
    timedelta(days=1, microseconds=5),
    UUID(int=5),
    Decimal("1.50"),
    Fraction(1, 3),
    Colour.RED,
    {Colour.RED},
    {Colour.RED: [Colour.RED]},
    Point(1, (2, {"a": Point(3)})),
    [Point(1), Pair(1, (2,))],
    (Colour, Point),
    double,
    len,
]


@pytest.mark.parametrize("value", VALUES, ids=[type(value).__name__ for value in VALUES])
def test_arguments_come_back_as_they_were_with_the_same_fingerprint(
    value: Any, tmp_path: Path
) -> None:
    task = Task.python(echo, (value, [value]), {"named": value})
    copy = back(task, tmp_path)
    assert type(copy.payload) is Call
    assert fingerprint_of(copy) == fingerprint_of(task)
    args, kwargs = executed(back(copy, tmp_path))  # saved again as it came
    assert args == (value, [value])
    assert kwargs == {"named": value}
    assert [type(item) for item in args] == [type(value), list]


class Opaque:
    pass


class Sub(dict[str, int]):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: Task.python(echo, (object(),)),
        lambda: Task.python(echo, ([Opaque()],)),
        lambda: Task.python(echo, (Sub(),)),
        lambda: Task.python(echo, (Access.READ | Access.WRITE,)),
        lambda: Task.python(echo, (lambda: 1,)),
        lambda: Task.python(lambda: 1),
        lambda: Task.python(Point(1).__repr__),
        lambda: Task.python(callkit.Shop(2).price, (1,)),
        lambda: Task.python(echo, (literal(Task.bash("x")),)),
    ],
)
def test_what_would_not_come_back_is_not_stored_and_says_so(make: Any, tmp_path: Path) -> None:
    copy = back(make(), tmp_path)
    assert isinstance(copy.payload, NotStored)
    with TaskExecutor() as executor, pytest.raises(TaskExecutionError, match="no function to call"):
        executor.execute(copy)


def nightly() -> TaskGraph:
    graph = TaskGraph("nightly")
    numbers = graph.add(Task.python(sorted, ([3, 1, 2],), title="numbers"))
    doubled = graph.add(Task.python(twice, (numbers,), title="doubled"))
    graph.add(callkit.triple.task(4), after=doubled)
    graph.add(callkit.Scale(doubled_sum := Task.python(sum, (doubled,)), by=2))
    graph.add(doubled_sum)
    graph.add(Task.python(callkit.parse_number, ("7",), backend="process", title="far"))
    return graph


@pytest.mark.usefixtures("bare_main")
def test_a_graph_of_python_tasks_runs_when_it_comes_out_of_the_ledger(tmp_path: Path) -> None:
    graph = nightly()
    with SQLiteStore(tmp_path / "ledger") as store:
        store.graphs.save(graph)
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        loaded = run(store.graphs[graph.id], executor)
        loaded.raise_for_failure()
        values = [task.value for task in loaded]
    assert values == [[1, 2, 3], [2, 4, 6], 12, 24, 12, 7]
    assert [fingerprint for fingerprint in (task.fingerprint for task in loaded) if fingerprint]


def test_what_has_failed_runs_again_with_the_values_of_the_ledger(tmp_path: Path) -> None:
    graph = TaskGraph("g")
    first = graph.add(Task.python(callkit.count_calls, (str(tmp_path / "log"),)))
    second = graph.add(Task.python(callkit.fails_without, (str(tmp_path / "flag"), first)))
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        assert run(graph, executor).failed == [second]
    (tmp_path / "flag").touch()
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        loaded = run(store.graphs[graph.id], executor)
        assert loaded.ok
    assert (tmp_path / "log").read_text() == "called\n"
    assert loaded.find(second.id).value == "value"


def test_a_task_that_is_loaded_alone_says_which_value_is_missing(tmp_path: Path) -> None:
    upstream = Task.python(double, (1,))
    copy = back(Task.python(double, (upstream,)), tmp_path)
    with (
        TaskExecutor() as executor,
        pytest.raises(TaskExecutionError, match=f"{upstream.id}.*load the graph"),
    ):
        executor.execute(copy)
    with pytest.raises(GraphError, match=f"{upstream.id}.*load the graph"):
        TaskGraph().add(copy)


def in_module(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> ModuleType:
    module = ModuleType(name)
    exec(textwrap.dedent(source), module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_reading_imports_nothing_and_running_says_what_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = in_module(monkeypatch, "soon_gone", "def work(): return 1\nclass C: pass\n")
    task = Task.python(module.work, retry=3)
    with SQLiteStore(tmp_path / "ledger") as store:
        store.tasks.save(task)
        monkeypatch.delitem(sys.modules, "soon_gone")
        copy = store.tasks[task.id]
    assert "soon_gone" not in sys.modules
    assert repr(copy.payload) == "<Call of work on backend 'thread'>"
    with (
        TaskExecutor() as executor,
        pytest.raises(StoreError, match=r"soon_gone\.work, .*cannot be imported: ModuleNotFound"),
    ):
        executor.execute(copy)
    assert copy.result.attempts == 1  # it is not tried again
    in_module(monkeypatch, "soon_gone", "work = 5")
    with TaskExecutor() as executor, pytest.raises(StoreError, match="no longer callable"):
        executor.execute(copy)
    in_module(monkeypatch, "soon_gone", "def other(): pass")
    with TaskExecutor() as executor, pytest.raises(StoreError, match="AttributeError"):
        executor.execute(copy)


def test_a_module_that_raises_anything_fails_only_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = in_module(monkeypatch, "raises_exit", "def work(): return 1")
    graph = TaskGraph("g")
    task = graph.add(Task.python(module.work))
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        store.graphs.save(graph)
        monkeypatch.delitem(sys.modules, "raises_exit")
        (tmp_path / "raises_exit.py").write_text("raise SystemExit(3)")
        monkeypatch.syspath_prepend(tmp_path)
        loaded = run(store.graphs[graph.id], executor)
        (copy,) = loaded
    assert (copy.id, copy.status) == (task.id, TaskStatus.FAILED)
    assert "SystemExit" in (copy.error or "")


def test_a_script_finds_its_own_functions_again_and_no_other_script_does(tmp_path: Path) -> None:
    source = """
        import sys
        from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph

        def work(number):
            return number + 1

        with SQLiteStore("ledger") as store, TaskExecutor(store) as executor:
            if sys.argv[1] == "save":
                graph = TaskGraph("g", key="k")
                graph.add(Task.python(work, (1,)))
                store.graphs.save(graph)
            else:
                (task,) = store.graphs[store.graphs.keyed("k")[0]].run(executor)
                print(task.error or task.value)
        """
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))

    def script(name: str, what: str) -> str:
        command = [sys.executable, str(tmp_path / f"{name}.py"), what]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.stderr == ""
        return done.stdout.strip()

    script("one", "save")
    assert "was defined in the script" in script("two", "run")
    assert script("one", "run") == "2"


def test_a_ledger_cannot_have_anything_else_imported_when_it_is_read(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        task = Task.python(echo, (UUID(int=1),))
        store.tasks.save(task)
        with store._ledger.reading() as connection:
            (text,) = connection.execute("SELECT payload FROM works").fetchone()
        bad = text.replace('"uuid","UUID"', '"os","system"').replace(str(UUID(int=1)), "true")
        assert bad != text
        store._ledger.writer.write(
            lambda connection: connection.execute("UPDATE works SET payload=?", (bad,))
        )
        with pytest.raises(StoreError, match="damaged"):
            store.tasks[task.id]


def test_stored_arguments_hide_secrets(tmp_path: Path) -> None:
    secret = "hunter2"
    task = Task.python(
        echo,
        (secret, [f"the {secret}"], Path(secret), secret.encode(), {secret: 1}, {secret}, 5),
        {"plain": Point(1), "shown": Point(2, secret)},
    )
    path = tmp_path / "ledger"
    with SQLiteStore(path) as store, TaskExecutor(store, redact=[secret]) as executor:
        executor.execute(task)
        payload = store.tasks[task.id].payload
    assert payload.args == ("***", ["the ***"], "***", "***", "***", "***", 5)
    assert payload.kwargs["shown"] == "***"
    data = b"".join(item.read_bytes() for item in tmp_path.iterdir())
    assert secret.encode() not in data.replace(b"\x00", b"")


def test_facts_of_a_loaded_graph_import_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import enum\nclass Kind(enum.Enum):\n    A = 1\ndef work(kind, other): return 1\n"
    module = in_module(monkeypatch, "not_for_readers", source)
    graph = TaskGraph("g")
    upstream = graph.add(Task.python(double, (1,), title="up"))
    task = graph.add(Task.python(module.work, (module.Kind.A, upstream)))
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        run(graph, executor)
        monkeypatch.delitem(sys.modules, "not_for_readers")
        facts = store.runs[next(iter(store.runs))].facts()
        alone = store.tasks[task.id]
    assert facts.tasks[task.id].function == "work"
    assert facts.tasks[task.id].arguments == "<stored enum>, <up>"
    assert repr(alone.payload.args) == f"(<stored enum>, <value of task {upstream.id}>)"
    assert "not_for_readers" not in sys.modules


def test_a_function_that_changed_is_the_reason_why_it_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = []
    for value in (1, 2):
        module = in_module(monkeypatch, "may_change", f"def work(kind): return {value}")
        graph = TaskGraph("g", key="g")
        task = graph.add(Task.python(module.work, (Colour.RED,)))
        with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
            run(graph, executor, resume=True)
            reasons.append(graph.facts().tasks[task.id])
    assert task.value == 2
    assert reasons[1].changed == ("function",)
