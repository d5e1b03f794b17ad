"""The handler of Python tasks: a `Call` in, its value out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ttasks.errors import CycleError, TaskExecutionError
from ttasks.model.call import ASYNCIO, PROCESS, Call, name_of

if TYPE_CHECKING:
    from ttasks.handlers.processes import ProcessWorkers
    from ttasks.model.context import TaskContext
    from ttasks.model.task import Task


def make_python_handler(workers: ProcessWorkers) -> Callable[[TaskContext], Any]:
    """The handler of Python tasks, with these worker processes for the backend "process".

    It makes the call in place for the backend "thread", returns the coroutine for "asyncio", and
    for "process" keeps to timeout and cancellation by itself.
    """

    def run_python(context: TaskContext) -> Any:
        call = context.payload
        if type(call) is not Call:
            raise TaskExecutionError(_no_call(context, call))
        if call.args or call._kwargs:
            args, kwargs = call.bind(partial(_value, context))
            if call.backend != PROCESS:
                return call.func(*args, **kwargs)
        elif call.backend != PROCESS:
            return call.func()
        else:
            args, kwargs = (), {}
        return workers.run(context, call.func, args, kwargs)

    # Read by the engine.
    run_python.ends_itself = _is_on(PROCESS)  # type: ignore[attr-defined]
    run_python.returns_at_once = _is_on(ASYNCIO)  # type: ignore[attr-defined]
    return run_python


def _is_on(backend: str) -> Callable[[Any], bool]:
    def decide(payload: Any) -> bool:
        return type(payload) is Call and payload.backend == backend

    return decide


def _value(context: TaskContext, task: Task) -> Any:
    if task.id == context.id:
        raise CycleError([task])
    try:
        return task.value
    except TaskExecutionError as error:
        name = name_of(context.payload.func)
        raise TaskExecutionError(f"{name} cannot be called. {error}") from None


def _no_call(context: TaskContext, payload: object) -> str:
    return (
        f"Task {context.title!r} has no function to call, its payload is a "
        f"{type(payload).__name__}; make Python tasks with Task.python(func, args) or @task, and "
        "after loading one from a ledger make it anew"
    )
