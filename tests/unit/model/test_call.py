"""Call and `Task.python`: what is refused, what is found in arguments, titles."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import callkit
from ttasks import (
    CycleError,
    InMemoryStore,
    PythonTask,
    Task,
    TaskExecutionError,
    TaskExecutor,
    TaskGraph,
    TaskType,
    UnknownDependencyError,
    literal,
)
from ttasks.model.call import Call
from ttasks.model.fingerprint import fingerprint_of


def plain(a: int, b: int = 0, *, c: int = 0) -> int:
    return a + b + c


async def coroutine(a: int) -> int:
    return a


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class AsyncCallable:
    async def __call__(self, a: int) -> int:
        return a


class Callable_:
    def __call__(self, a: int) -> int:
        return a

    def method(self, a: int) -> int:
        return a

    def walk(self) -> Iterator[int]:
        yield 1


def local_function() -> Callable[[], int]:
    def inner() -> int:
        return 1

    return inner


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Task.python(3), TypeError, ["func must be a callable", "int", "3"]),
        (lambda: Task.python("f"), TypeError, ["func", "'f'"]),
        (lambda: Task.python(None), TypeError, ["func", "NoneType"]),
        (lambda: Task.python(generator), TypeError, ["generator is a generator", "list("]),
        (lambda: Task.python(async_generator), TypeError, ["async_generator is a generator"]),
        (lambda: Task.python(Callable_().walk), TypeError, ["Callable_.walk is a generator"]),
        (lambda: Task.python(functools.partial(generator)), TypeError, ["partial generator"]),
        (lambda: Task.python(plain), TypeError, ["plain() missing a required argument: 'a'"]),
        (lambda: Task.python(plain, (1, 2, 3)), TypeError, ["plain() too many positional"]),
        (lambda: Task.python(plain, (1,), {"d": 1}), TypeError, ["plain()", "argument 'd'"]),
        (lambda: Task.python(plain, (1,), {"a": 1}), TypeError, ["plain() multiple values", "'a'"]),
        (lambda: Task.python(coroutine), TypeError, ["coroutine() missing"]),
        (lambda: Task.python(Callable_()), TypeError, ["Callable_() missing"]),
        (lambda: Task.python(functools.partial(plain, 1), (1, 2)), TypeError, ["partial plain()"]),
        (lambda: Task.python(lambda a: a), TypeError, ["lambda at test_call.py:", "'a'"]),
        (lambda: Task.python(plain, 5), TypeError, ["args must be", "5", "(value,)"]),
        (lambda: Task.python(plain, "a"), TypeError, ["args must be", "'a'"]),
        (lambda: Task.python(plain, {1: 2}), TypeError, ["args must be"]),
        (lambda: Task.python(plain, (), [1]), TypeError, ["kwargs must be a mapping", "[1]"]),
        (lambda: Task.python(plain, (), {1: 2}), TypeError, ["a name in kwargs", "1"]),
        (lambda: Task.python(plain, (1,), backend="dask"), ValueError, ["backend", "'dask'"]),
        (lambda: Task.python(plain, (1,), backend=1), TypeError, ["backend", "1"]),
        (lambda: Task.python(plain, (1,), backend="asyncio"), ValueError, ["async def", "plain"]),
        (lambda: Task.python(coroutine, (1,), backend="thread"), ValueError, ["is async def"]),
        (lambda: Task.python(lambda: 1, backend="process"), ValueError, ["by name", "lambda at"]),
        (
            lambda: Task.python(local_function(), backend="process"),
            ValueError,
            ["inner is defined inside of local_function", "top level"],
        ),
        (
            lambda: Task.python(functools.partial(lambda: 1), backend="process"),
            ValueError,
            ["lambda at"],
        ),
        (lambda: Task.python(plain, (1,), timeout=0), ValueError, ["timeout", "0"]),
        (lambda: Task.python(plain, (1,), title=3), TypeError, ["title", "3"]),
        (lambda: Task.python(plain, (1,), grace=3), TypeError, ["grace"]),
        (lambda: Task.python(plain, (1,), options={"a": object()}), TypeError, ["options['a']"]),
    ],
)
def test_bad_input_is_refused_at_construction(
    make: Callable[[], Task], error: type[Exception], says: list[str]
) -> None:
    with pytest.raises(error) as caught:
        make()
    for text in says:
        assert text in str(caught.value)


def test_a_coroutine_object_is_refused_with_what_to_do() -> None:
    made = coroutine(1)
    with pytest.raises(TypeError, match=r"a coroutine object.*coroutine instead of coroutine\("):
        Task.python(made)
    made.close()


@pytest.mark.parametrize("make", [list, dict])
def test_arguments_that_contain_themselves_are_refused(make: type) -> None:
    inner = make()
    if isinstance(inner, list):
        inner.append([inner])
    else:
        inner["x"] = (inner,)
    with pytest.raises(ValueError, match=f"{type(inner).__name__}.* contains itself"):
        Task.python(plain, (inner,))


def test_arguments_that_are_nested_too_deeply_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    try:
        with pytest.raises(ValueError, match="nested too deeply"):
            Task.python(plain, (deep,))
    finally:
        while deep:  # what is freed at one go that deep costs the stack of old interpreters
            deep = deep.pop()


def test_what_is_shared_is_looked_at_once() -> None:
    wide: list[Any] = []
    for _ in range(60):
        wide = [wide, wide]
    assert Call(plain, (wide,)).references() == ()
    source = Task.python(plain, (1,))
    row = [source]
    bound, _ = Call(plain, ([row, row],)).bind(lambda task: 5)
    assert bound == ([[5], [5]],)
    assert bound[0][0] is bound[0][1]


@pytest.mark.parametrize(
    ("func", "title"),
    [
        (plain, "plain"),
        (coroutine, "coroutine"),
        (Callable_().method, "Callable_.method"),
        (Callable_(), "Callable_"),
        (functools.partial(plain, 1), "partial plain"),
        (len, "len"),
        (dict, "dict"),
        (callkit.triple, "triple"),
        (local_function(), "inner"),
    ],
)
def test_the_title_comes_from_the_function(func: Any, title: str) -> None:
    count = {"plain": 1, "coroutine": 1, "Callable_.method": 1, "Callable_": 1, "len": 1}
    args = (1,) * count.get(title, 1 if title == "triple" else 0)
    assert Task.python(func, args).title == title
    assert Task.python(func, args, title="mine").title == "mine"


def test_the_title_of_a_lambda_says_where_it_is() -> None:
    line = test_the_title_of_a_lambda_says_where_it_is.__code__.co_firstlineno + 2
    assert Task.python(lambda: 1).title == f"lambda at test_call.py:{line}"


@pytest.mark.parametrize(
    ("func", "backend"),
    [
        (plain, "thread"),
        (coroutine, "asyncio"),
        (AsyncCallable(), "asyncio"),
        (functools.partial(coroutine), "asyncio"),
        (callkit.atriple, "asyncio"),
        (Callable_(), "thread"),
    ],
)
def test_the_backend_follows_from_the_function(func: Any, backend: str) -> None:
    assert Task.python(func, (1,)).payload.backend == backend


def test_callables_without_a_signature_are_taken_as_they_are() -> None:
    assert Task.python(dict, ([("a", 1)],)).title == "dict"
    with TaskExecutor() as executor:
        assert executor.execute(Task.python(max, (1, 2))).value == 2


def test_tasks_are_found_everywhere_and_become_dependencies_first() -> None:
    tasks = [Task.python(plain, (number,), title=f"t{number}") for number in range(6)]
    ordered = OrderedDict(x=tasks[2])
    default: defaultdict[str, Any] = defaultdict(list, y=tasks[3])
    graph = TaskGraph()
    task = Task.python(
        callkit.total,
        ([tasks[1], (callkit.Point(tasks[0], 1), ordered)], default, "text", {1, 2}),
        {"k": tasks[4], "again": tasks[1]},
    )
    graph.add(task, after=[tasks[5], tasks[1]])
    assert [found.title for found in graph[task]] == ["t1", "t0", "t2", "t3", "t4", "t5"]
    args, kwargs = task.payload.bind(lambda found: found.title)
    assert args == (["t1", (("t0", 1), {"x": "t2"})], {"y": "t3"}, "text", {1, 2})
    assert kwargs == {"k": "t4", "again": "t1"}
    assert type(args[0][1][1]) is OrderedDict
    assert type(args[1]) is defaultdict
    assert args[1].default_factory is list
    assert task.payload.args[0][0] is tasks[1]
    assert ordered["x"] is tasks[2]
    graph[task] = [tasks[5]]
    assert len(graph[task]) == 6


def test_a_dependency_among_the_arguments_has_to_be_in_the_graph() -> None:
    graph = TaskGraph()
    graph.add(Task.python(callkit.double, (Task.python(callkit.double, (1,)),)))
    with pytest.raises(UnknownDependencyError):
        graph.validate()


def test_a_value_of_the_task_itself_is_a_cycle() -> None:
    items: list[Any] = []
    task = Task.python(callkit.echo, (items,))
    items.append(task)
    with pytest.raises(CycleError, match="echo -> echo"):
        TaskGraph().add(task)
    with TaskExecutor() as executor, pytest.raises(CycleError):
        executor.execute(task)
    assert task.is_failed


def test_values_of_each_other_are_a_cycle() -> None:
    first_args: list[Any] = []
    first = Task.python(callkit.echo, (first_args,), title="first")
    second = Task.python(callkit.echo, (first,), title="second")
    first_args.append(second)
    graph = TaskGraph()
    graph.add(first)
    graph.add(second)
    with TaskExecutor() as executor, pytest.raises(CycleError):
        graph.run(executor)


def test_a_task_without_a_value_says_so() -> None:
    task = Task.python(plain, (1,), title="mine")
    with pytest.raises(TaskExecutionError, match="'mine'.*is missing: it is pending"):
        _ = task.value
    with TaskExecutor() as executor:
        executor.execute(task)
    assert task.value == 1


def test_the_value_of_a_command_is_its_output() -> None:
    graph = TaskGraph()
    command = graph.add(Task.bash("echo 5"))
    task = Task.python(int, (command,))
    graph.add(task)
    with TaskExecutor() as executor:
        graph.run(executor)
    assert task.value == 5


def test_a_call_cannot_be_changed_and_survives_pickling() -> None:
    call = Call(plain, [1], {"c": 2})
    for change in (lambda: setattr(call, "func", len), lambda: delattr(call, "args")):
        with pytest.raises(AttributeError, match="cannot (assign to|delete) field"):
            change()
    with pytest.raises(TypeError):
        call.kwargs["c"] = 3  # type: ignore[index]
    for twin in (pickle.loads(pickle.dumps(call)), copy.copy(call)):
        assert (twin.func, twin.args, dict(twin.kwargs), twin.backend) == (
            plain, (1,), {"c": 2}, "thread",
        )  # fmt: skip
    assert repr(call) == "<Call of plain on backend 'thread'>"


def test_another_payload_fails_with_what_to_do() -> None:
    task = Task("odd", "plain", TaskType.PYTHON)
    with TaskExecutor() as executor, pytest.raises(TaskExecutionError, match=r"Task\.python\("):
        executor.execute(task)


def test_a_store_remembers_a_python_task(tmp_path: Any) -> None:
    from ttasks import SQLiteStore

    for store in (InMemoryStore(), SQLiteStore(tmp_path / "ledger.db")):
        task = Task.python(plain, (1,))
        with TaskExecutor(store) as executor:
            executor.execute(task)
        kept = store.tasks[task.id]
        assert kept.result is not None
        assert kept.result.value == 1
        store.close()


def test_options_of_tasks_are_taken() -> None:
    task = Task.python(
        plain, (1,), title="t", description="d", timeout=3, priority=2, group="g", key="k",
        version="v", reuse=True, options={"a": 1},
    )  # fmt: skip
    assert isinstance(task, PythonTask)
    assert (task.timeout, task.priority, task.group, task.key) == (3.0, 2.0, "g", "k")
    assert (task.version, task.reuse, dict(task.options)) == ("v", True, {"a": 1})
    assert task.type is TaskType.PYTHON


def test_a_plain_function_may_return_a_coroutine() -> None:
    with TaskExecutor() as executor:
        assert executor.execute(Task.python(lambda: asyncio.sleep(0, "slept"))).value == "slept"


# Fingerprints


def fingerprint(func: Any, *args: Any, **kwargs: Any) -> str | None:
    return fingerprint_of(Task.python(func, args, kwargs))


def test_equal_calls_have_equal_fingerprints() -> None:
    same = fingerprint(plain, 1, c=2)
    assert same is not None
    assert fingerprint(plain, 1, c=2) == same
    others = [
        fingerprint(plain, 1, c=3),
        fingerprint(plain, 2, c=2),
        fingerprint(plain, 1),
        fingerprint(callkit.double, 1),
        fingerprint(functools.partial(plain, 1)),
        fingerprint(functools.partial(plain, 2)),
        fingerprint(callkit.triple, 1),
        fingerprint_of(callkit.Scale(1)),
        fingerprint_of(callkit.FarScale(1)),
    ]
    assert None not in others
    assert len({same, *others}) == 1 + len(others)


def test_tasks_among_the_arguments_count_by_their_place() -> None:
    one, two = Task.python(plain, (1,)), Task.python(plain, (2,))
    assert fingerprint(callkit.echo, [one, two]) == fingerprint(callkit.echo, [two, one])
    assert fingerprint(callkit.total, one, two) != fingerprint(callkit.total, one, two, one)


# Tasks as they are


def test_a_literal_task_is_passed_itself_and_is_no_dependency() -> None:
    watched = Task.bash("true", title="watched")
    value = Task.python(plain, (5,))
    graph = TaskGraph()
    graph.add(value)
    args = (literal(watched), [literal([watched, value]), value])
    task = graph.add(Task.python(callkit.echo_all, args, {"key": literal({"task": value})}))
    assert graph.dependencies(task) == [value]
    with TaskExecutor() as executor:
        graph.run(executor).raise_for_failure()
    given, named = task.value
    assert given[0] is watched
    assert given[1] == [[watched, value], 5]
    assert named == {"key": {"task": value}}
    assert watched.is_pending


def test_a_literal_of_what_holds_no_task_is_that_value() -> None:
    with TaskExecutor() as executor:
        assert executor.execute(Task.python(callkit.double, (literal(4),))).value == 8


@pytest.mark.usefixtures("bare_main")
def test_a_literal_task_reaches_another_process_as_a_copy() -> None:
    watched = Task.bash("true", title="watched")
    with TaskExecutor() as executor:
        task = Task.python(callkit.title_of, (literal(watched),), backend="process")
        assert executor.execute(task).value == "watched"


def test_a_literal_task_has_no_fingerprint_and_a_literal_value_one_of_its_own() -> None:
    task = Task.bash("true")
    assert fingerprint(callkit.echo, literal(task)) is None
    assert fingerprint(callkit.echo_all, task, literal(task)) is None
    assert fingerprint(callkit.echo, literal(1)) not in (None, fingerprint(callkit.echo, 1))
