"""The worker process: takes calls from its pipe, makes them and reports."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from contextvars import copy_context
from multiprocessing import connection, parent_process
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ttasks import sync
from ttasks.backends.leash import Leash, kill_when_closed
from ttasks.backends.messages import DONE, FAILED, LOG, OUTPUT, PROGRESS, READY, Order
from ttasks.backends.pickling import PROTOCOL, dumps
from ttasks.errors import TaskExecutionError, describe, full_type_name, text_of, type_name
from ttasks.forks import FORKS, end_copy
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT, TaskContext
from ttasks.model.frames import captured_locals, formatted, location_of
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.trees import MARKER, joined

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from ttasks.backends.worker_log import Sender
    from ttasks.model.frames import Frames
    from ttasks.model.redact import Redactor


class WorkerContext(TaskContext):
    """`TaskContext` in a worker process: it sends its reports to the parent.

    A cancellation ends the process, so ``cancelled`` never becomes true here.
    """

    __slots__ = ()

    @property
    def payload(self) -> Any:
        """Not available: the function was given its arguments."""
        raise RuntimeError("context.payload is not available in a worker process")

    @property
    def upstream(self) -> Mapping[str, Task]:
        """Not available: pass the values as arguments."""
        raise RuntimeError(
            "context.upstream is not available in a worker process; give the tasks to the function "
            "as arguments, and it gets their values"
        )


class _Reports:
    """Sends messages to the parent; implements `ttasks.model.context.Reporter`. Thread-safe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = sync.Lock()  # protects the writing side of the pipe
        self.number = 0  # of the current call

    def send(self, *message: Any) -> None:
        data = pickle.dumps(message, PROTOCOL)
        with self._lock:
            self._pipe.send_bytes(data)

    def send_log(self, facts: dict[str, Any]) -> None:
        self.send(LOG, self.number, facts)

    def of(self, number: int) -> _CallReports:
        """The reporter of one call."""
        return _CallReports(self, number)


class _CallReports:
    """`Reporter` of one call."""

    def __init__(self, reports: _Reports, number: int) -> None:
        self._reports = reports
        self._number = number

    def progress(self, percent: float | None, message: str | None) -> None:
        self._reports.send(PROGRESS, self._number, percent, message)

    def output(self, stream: str, text: str) -> None:
        self._reports.send(OUTPUT, self._number, stream, text)

    def sink(self, stream: str) -> Callable[[str], None] | None:
        return None


def serve(pipe: Connection, mark: str) -> None:
    """Run a worker process; ``mark`` goes into the environment of the processes it starts.

    When this returns, the process ends as any Python program does.
    """
    _settle(pipe)
    reports = _Reports(pipe)
    with contextlib.suppress(EOFError, OSError):  # dismissed, or the parent is gone
        _serve(pipe, reports, mark, os.environ.get(MARKER))


def _serve(pipe: Connection, reports: _Reports, mark: str, outer: str | None) -> None:
    sender: Sender | None = None
    reports.send(READY, 0)
    while True:
        order, call = pickle.loads(pipe.recv_bytes())
        # By the id of the task its processes can be found, even after this one was killed.
        os.environ[MARKER] = joined(outer, f"{order.id}.{mark}")
        if order.log_levels is not None:
            from ttasks.backends.worker_log import Sender

            sender = sender or Sender(reports.send_log)
            sender.install(order.log_levels)
        reports.number = order.number
        reports.send(*copy_context().run(_answer, order, call, reports.of(order.number)))


def _answer(order: Order, call: bytes, reports: _CallReports) -> tuple[Any, ...]:
    """Make a call; return the message about its end."""
    number = order.number
    try:
        func, args, kwargs = _loaded(call, order.name)
        CURRENT.set(_context(order, reports))
        forks = FORKS.count
        try:
            value = func(*args, **kwargs)
        except BaseException as error:
            if FORKS.count != forks:
                end_copy(order.name, error)
            raise
        if FORKS.count != forks:
            end_copy(order.name)
        if type(value) is CoroutineType:
            value = _awaited(value)
        return DONE, number, dumps({"its value": value}, f"The result of {order.name} is lost")
    except BaseException as error:
        return FAILED, number, *_described(error, order.capture)


def _loaded(call: bytes, name: str) -> Any:
    try:
        return pickle.loads(call)
    except Exception as error:
        raise TaskExecutionError(
            f"The call of {name} could not be loaded in the worker process: {describe(error)}; "
            "functions and classes have to be at the top level of a module, or of a script file, "
            "that another process can import"
        ) from error


def _context(order: Order, reports: _CallReports) -> TaskContext:
    task = Task(
        order.title,
        None,
        TaskType(order.type),
        order.description,
        timeout=order.timeout,
        options=order.options,
    )
    object.__setattr__(task, "id", order.id)
    token = CancelToken()
    task.transition_to(TaskStatus.RUNNING)
    deadline = None if order.remaining is None else monotonic() + order.remaining
    return WorkerContext(task, (), reports, token, order.attempt, deadline)


def _awaited(value: Any) -> Any:
    import asyncio

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def _described(
    error: BaseException, capture: tuple[Redactor | None, Frames]
) -> tuple[bytes | None, str, str, str, dict[str, str], str]:
    """An exception as data: its pickle if possible, type, message, traceback, locals, location."""
    trace = error.__traceback__
    variables: dict[str, str] = {}
    location = ""
    try:
        text = formatted(error, trace)
        variables = captured_locals(trace, *capture)
        location = location_of(trace)
    except BaseException as broken:  # the code of an exception class may raise anything
        text = f"(no traceback: looking at the exception raised {type_name(broken)})"
    kind = type(error)
    data: bytes | None
    try:
        data = pickle.dumps(error, PROTOCOL)
        if type(pickle.loads(data)) is not kind:
            data = None
    except BaseException:  # the class may raise anything
        data = None
    return data, full_type_name(error), text_of(error), text, variables, location


# The process


def _settle(pipe: Connection) -> None:
    """Leave the terminal's group, and make sure that the process does not outlive its parent."""
    if sys.platform != "win32":
        os.setsid()
        os.set_inheritable(pipe.fileno(), False)
        # A process forked here must not hold the pipe, or nobody would notice its end.
        os.register_at_fork(after_in_child=lambda: _close(pipe))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = parent_process()
    assert parent is not None
    if sys.platform == "linux":
        kill_when_closed(parent.sentinel, -os.getpgrp())
        Leash()
    sync.Thread(target=_follow, args=(parent.sentinel,), name="ttasks-parent", daemon=True).start()


def _follow(sentinel: int) -> None:
    """End with the parent, even during a call, and kill all processes started here."""
    connection.wait([sentinel])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _close(pipe: Connection) -> None:
    with contextlib.suppress(OSError):
        pipe.close()
