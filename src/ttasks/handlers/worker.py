"""What a worker process does: it takes calls from its pipe, makes them and reports."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from contextvars import copy_context
from multiprocessing import connection, parent_process
from threading import Lock, Thread
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ttasks.errors import TaskExecutionError, describe
from ttasks.handlers.environment import MARKER
from ttasks.handlers.messages import DONE, FAILED, LOG, OUTPUT, PROGRESS, READY, Job
from ttasks.handlers.pickling import PROTOCOL, dumps
from ttasks.model.cancel import CancelToken
from ttasks.model.context import CURRENT, TaskContext
from ttasks.model.frames import captured_locals
from ttasks.model.task import Task, lifecycle_of
from ttasks.model.task_type import TaskType

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from ttasks.handlers.worker_log import Sender
    from ttasks.model.redact import Redactor


class WorkerContext(TaskContext):
    """`TaskContext` in a worker process: what it reports is sent to the parent.

    A cancellation ends the process, so ``cancelled`` never becomes true here.
    """

    __slots__ = ()

    @property
    def payload(self) -> Any:
        """Not there: the arguments are what the function was given."""
        raise RuntimeError("context.payload is not available in a worker process")

    @property
    def upstream(self) -> Mapping[str, Task]:
        """Not there: hand the values over as arguments."""
        raise RuntimeError(
            "context.upstream is not available in a worker process; give the tasks to the function "
            "as arguments, and it gets their values"
        )


class _Reports:
    """Sends messages to the parent; implements `ttasks.model.context.Reporter`. Thread-safe.

    The lock owns the writing side of the pipe.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = Lock()
        self.number = 0  # of the current call

    def send(self, *message: Any) -> None:
        data = pickle.dumps(message, PROTOCOL)
        with self._lock:
            self._pipe.send_bytes(data)

    def send_log(self, facts: dict[str, Any]) -> None:
        self.send(LOG, self.number, facts)

    def of(self, number: int) -> _JobReports:
        """The reporter of one call."""
        return _JobReports(self, number)


class _JobReports:
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


def serve(pipe: Connection, marker: str) -> None:
    """The whole life of a worker process; ``marker`` is for the environment of what it starts."""
    _settle(pipe, marker)
    reports = _Reports(pipe)
    with contextlib.suppress(EOFError, OSError):  # the parent lets it go, or is gone
        _serve(pipe, reports)
    _end()


def _serve(pipe: Connection, reports: _Reports) -> None:
    sender: Sender | None = None
    reports.send(READY, 0)
    while True:
        job, call = pickle.loads(pipe.recv_bytes())
        if job.log_levels is not None:
            from ttasks.handlers.worker_log import Sender

            sender = sender or Sender(reports.send_log)
            sender.install(job.log_levels)
        reports.number = job.number
        reports.send(*copy_context().run(_answer, job, call, reports.of(job.number)))


def _answer(job: Job, call: bytes, reports: _JobReports) -> tuple[Any, ...]:
    """Make a call; returns the message about its end."""
    number = job.number
    try:
        func, args, kwargs = _loaded(call, job.name)
        CURRENT.set(_context(job, reports))
        value = func(*args, **kwargs)
        if type(value) is CoroutineType:
            value = _awaited(value)
        return DONE, number, dumps({"its value": value}, f"The result of {job.name} is lost")
    except BaseException as error:
        return FAILED, number, *_described(error, job.capture)


def _loaded(call: bytes, name: str) -> Any:
    try:
        return pickle.loads(call)
    except Exception as error:
        raise TaskExecutionError(
            f"The call of {name} could not be loaded in the worker process: {describe(error)}; "
            "functions and classes have to be at the top level of a module, or of a script file, "
            "that another process can import"
        ) from error


def _context(job: Job, reports: _JobReports) -> TaskContext:
    task = Task(
        job.title,
        None,
        TaskType(job.type),
        job.description,
        timeout=job.timeout,
        options=job.options,
    )
    object.__setattr__(task, "id", job.id)
    token = CancelToken()
    lifecycle_of(task).start(token)
    deadline = None if job.remaining is None else monotonic() + job.remaining
    return WorkerContext(task, reports, token, job.attempt, (), deadline)


def _awaited(value: Any) -> Any:
    import asyncio

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())


def _described(
    error: BaseException, capture: tuple[Redactor | None] | None
) -> tuple[bytes | None, str, str, str, dict[str, str]]:
    """An exception as plain data: pickled if it can be, type, message, traceback, locals."""
    from traceback import format_exception

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    error.__traceback__ = trace
    text = "".join(format_exception(error))
    variables = {} if capture is None else captured_locals(trace, capture[0])
    kind = type(error)
    try:
        message = describe(error)
    except Exception as broken:
        message = f"(whose text raised {type(broken).__name__})"
    data: bytes | None
    try:
        data = pickle.dumps(error, PROTOCOL)
        if type(pickle.loads(data)) is not kind:
            data = None
    except BaseException:  # whatever the class does
        data = None
    return data, f"{kind.__module__}.{kind.__qualname__}", message, text, variables


# The process


def _settle(pipe: Connection, marker: str) -> None:
    """Leave the terminal's group, mark what will be started, and see to it that no worker stays."""
    if hasattr(os, "setsid"):
        os.setsid()
        os.set_inheritable(pipe.fileno(), False)
        # What is forked here must not hold the pipe: its end would not be noticed.
        os.register_at_fork(after_in_child=lambda: _close(pipe))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    outer = os.environ.get(MARKER)
    os.environ[MARKER] = marker if outer is None else f"{outer}/{marker}"
    Thread(target=_follow_parent, name="ttasks-parent", daemon=True).start()


def _follow_parent() -> None:
    """End when the parent has, also in the middle of a call."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        _end()


def _end() -> None:
    """End this process, and what it has started and not ended."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _close(pipe: Connection) -> None:
    with contextlib.suppress(OSError):
        pipe.close()
