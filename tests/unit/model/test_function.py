"""The decorator ``@task`` and the class form."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import callkit
from callkit import AsyncScale, FarScale, Scale, Shop, atriple, far_triple, triple
from ttasks import PythonTask, RetryPolicy, Task, TaskExecutor, TaskGraph, task

pytestmark = pytest.mark.usefixtures("bare_main")


def test_a_direct_call_is_a_plain_call() -> None:
    assert triple(2) == 6
    assert far_triple(2) == 6
    made = atriple(2)
    assert inspect.iscoroutine(made)
    assert asyncio.run(made) == 6


def test_a_decorated_function_keeps_its_face() -> None:
    @task(timeout=3)
    def documented(number: int) -> int:
        """Say so."""
        return number

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "Say so."
    assert list(inspect.signature(documented).parameters) == ["number"]
    assert repr(documented) == "<task function documented>"


def test_task_makes_a_task_with_the_settings() -> None:
    retry = RetryPolicy(2)

    @task(timeout=3, retry=retry, title="mine", group="g", options={"a": 1})
    def work(number: int, *, more: int = 0) -> int:
        return number + more

    made = work.task(1, more=2)
    assert isinstance(made, PythonTask)
    assert (made.title, made.timeout, made.retry, made.group) == ("mine", 3.0, retry, "g")
    assert dict(made.options) == {"a": 1}
    other = work.having(timeout=None, title=None).task(1)
    assert (other.title, other.timeout, other.group) == ("work", None, "g")
    with TaskExecutor() as executor:
        assert executor.execute(made).value == 3


def test_tasks_of_all_kinds_take_values_of_each_other() -> None:
    graph = TaskGraph()
    first = graph.add(triple.task(1))
    second = graph.add(atriple.task(first))
    third = far_triple.task(second)
    graph.add(third)
    with TaskExecutor() as executor:
        graph.run(executor)
    assert third.value == 27
    assert third.timeout == 30


def test_methods_keep_working() -> None:
    shop = Shop(3)
    assert shop.price(4) == 12
    assert Shop.price(shop, 4) == 12
    made = shop.price.task(5)
    assert made.title == "Shop.price"
    with TaskExecutor() as executor:
        assert executor.execute(made).value == 15
        far = shop.price.having(backend="process").task(6)
        assert executor.execute(far).value == 18


def test_a_decorated_function_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(triple)) is triple
    assert pickle.loads(pickle.dumps(triple.having(timeout=3))) is triple
    assert pickle.loads(pickle.dumps(Shop(4).price))(2) == 8


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: task(3), TypeError, ["func", "3"]),
        (lambda: task(tiemout=3), TypeError, ["'tiemout'", "timeout"]),
        (lambda: task(payload=3), TypeError, ["'payload'"]),
        (lambda: task(timeout=0)(callkit.double), ValueError, ["timeout", "0"]),
        (lambda: task(retry=0)(callkit.double), ValueError, ["retry", "0"]),
        (lambda: task(retries=3), TypeError, ["'retries'", "did you mean 'retry'?"]),
        (lambda: task(name="x"), TypeError, ["'name'", "did you mean 'title'?"]),
        (lambda: task(colour="x"), TypeError, ["'colour'", "it has backend, "]),
        (lambda: task(backend="x")(callkit.double), ValueError, ["backend", "'x'"]),
        (lambda: task(backend="asyncio")(callkit.double), ValueError, ["async def"]),
        (lambda: task(backend="process")(lambda: 1), ValueError, ["lambda at"]),
        (lambda: triple.having(tiemout=3), TypeError, ["'tiemout'"]),
        (lambda: triple.task(), TypeError, ["triple() missing", "'number'"]),
        (lambda: triple.task(1, 2), TypeError, ["triple() too many"]),
        (lambda: Shop(1).price.task(), TypeError, ["Shop.price() missing", "'pieces'"]),
    ],
)
def test_bad_input_of_the_decorator_is_refused(
    make: Callable[[], Any], error: type[Exception], says: list[str]
) -> None:
    with pytest.raises(error) as caught:
        make()
    for text in says:
        assert text in str(caught.value)


# The class form


def test_an_instance_is_a_task_made_from_the_arguments_of_run() -> None:
    made = Scale(4, by=5)
    assert isinstance(made, Task)
    assert (made.title, made.timeout, made.group) == ("Scale", 30.0, "scales")
    with TaskExecutor() as executor:
        assert executor.execute(made).value == 20
    assert made.value == 20


def test_the_class_form_runs_on_every_backend() -> None:
    graph = TaskGraph()
    first = graph.add(Scale(1))
    second = graph.add(FarScale(first, by=3))
    third = AsyncScale(second)
    graph.add(third)
    with TaskExecutor() as executor:
        graph.run(executor)
    assert (second.title, third.title) == ("far away", "AsyncScale")
    assert third.payload.backend == "asyncio"
    assert third.value == 12


def test_attributes_of_an_instance_can_be_written() -> None:
    made = Scale(1)
    made.timeout = 5
    assert made.timeout == 5.0
    assert Scale(1).timeout == 30.0
    with pytest.raises(ValueError, match="timeout"):
        made.timeout = -1


def test_an_instance_survives_pickling() -> None:
    twin = pickle.loads(pickle.dumps(FarScale(3)))
    assert (twin.title, twin.timeout, twin.payload.args) == ("far away", 30.0, (3,))


class NoRun(PythonTask[int]):
    pass


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: NoRun(), TypeError, ["NoRun needs a method run(self", "Task.python"]),
        (lambda: PythonTask(callkit.double), TypeError, ["Task.python"]),
        (lambda: Scale(), TypeError, ["Scale.run() missing", "'number'"]),
        (lambda: Scale(1, of=3), TypeError, ["'of'"]),
    ],
)
def test_bad_input_of_the_class_form_is_refused(
    make: Callable[[], Any], error: type[Exception], says: list[str]
) -> None:
    with pytest.raises(error) as caught:
        make()
    for text in says:
        assert text in str(caught.value)


def class_with(**attributes: Any) -> Any:
    return type("Made", (PythonTask,), {"run": lambda self: 1, **attributes})


async def arun(self: Any) -> int:
    return 1


def grun(self: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("attributes", "error", "says"),
    [
        ({"timeout": -1}, ValueError, ["timeout", "-1"]),
        ({"title": 5}, TypeError, ["title", "5"]),
        ({"retry": 0}, ValueError, ["retry", "0"]),
        ({"retry": "3"}, TypeError, ["retry", "'3'"]),
        ({"options": 5}, TypeError, ["options", "5"]),
        ({"backend": "loop"}, ValueError, ["backend", "'loop'"]),
        ({"backend": "loop", "run": None}, ValueError, ["backend", "'loop'"]),
        ({"backend": "asyncio"}, ValueError, ["backend='asyncio'", "async def"]),
        ({"backend": "thread", "run": arun}, ValueError, ["backend='thread'", "async def"]),
        ({"run": grun}, TypeError, ["generator"]),
        ({"run": 5}, TypeError, ["run", "callable"]),
        ({"payload": 3}, TypeError, ["'payload'"]),
        ({"type": 3}, TypeError, ["'type'"]),
        ({"retries": 2}, TypeError, ["'retries'", "did you mean 'retry'?", "_retries"]),
        ({"titel": "x"}, TypeError, ["'titel'", "did you mean 'title'?"]),
        ({"result": 4}, TypeError, ["'result'", "tasks have one"]),
        ({"name": "x"}, TypeError, ["'name'", "did you mean 'title'?"]),
        ({"time_out": 2}, TypeError, ["'time_out'", "did you mean 'timeout'?"]),
        ({"backends": "thread"}, TypeError, ["'backends'", "did you mean 'backend'?"]),
    ],
)
def test_a_class_is_checked_when_it_is_made(
    attributes: dict[str, Any], error: type[Exception], says: list[str]
) -> None:
    if attributes.get("run", 1) is None:
        attributes = {name: value for name, value in attributes.items() if name != "run"}
        with pytest.raises(error) as caught:
            type("Made", (PythonTask,), attributes)
    else:
        with pytest.raises(error) as caught:
            class_with(**attributes)
    assert type(caught.value) is error
    for text in ["Made", *says]:
        assert text in str(caught.value)


def test_attributes_of_the_users_own_are_left_alone() -> None:
    made = class_with(limit=5, _name="x", KEYS=("a",), name=property(lambda self: "own"))()
    assert (made.limit, made._name, made.KEYS, made.name) == (5, "x", ("a",), "own")


def test_settings_of_a_class_are_kept_as_those_of_a_task() -> None:
    base = class_with(timeout=5, retry=2)
    derived = type("Derived", (base,), {"timeout": 6})
    assert (derived().timeout, derived().retry) == (6.0, RetryPolicy(2))
    with TaskExecutor() as executor:
        assert executor.execute(derived()).value == 1
    with pytest.raises(ValueError, match="Wrong: timeout"):
        type("Wrong", (base,), {"timeout": 0})
    assert type("Untitled", (base,), {"title": None})().title == "Untitled"
