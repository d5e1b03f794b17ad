"""The handler of Python tasks, in the form that today's engine takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ttasks.backends.call import bound, call_python
from ttasks.commands.shell import run_bash, run_powershell
from ttasks.model.call import ASYNCIO, PROCESS, Call
from ttasks.prompts.handler import PromptHandler

if TYPE_CHECKING:
    from ttasks.backends.process import ProcessBackend
    from ttasks.model.context import TaskContext


class PythonHandler:
    """Makes the call in place, returns its coroutine, or makes it in a worker process."""

    def __init__(self, processes: ProcessBackend) -> None:
        self._processes = processes

    def __call__(self, context: TaskContext) -> Any:
        payload = context.payload
        if type(payload) is Call and payload.backend == PROCESS:
            return self._processes.call(context, *bound(context))
        return call_python(context)

    def ends_itself(self, payload: Any) -> bool:
        return type(payload) is Call and payload.backend == PROCESS

    def returns_at_once(self, payload: Any) -> bool:
        return type(payload) is Call and payload.backend == ASYNCIO


def ends_itself(handler: Callable[..., Any]) -> bool:
    """True for handlers that keep to timeout and cancellation themselves."""
    return handler in (run_bash, run_powershell) or isinstance(handler, PromptHandler)
