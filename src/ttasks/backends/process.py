"""The process backend: calls in worker processes, which can be killed at any time.

Each worker makes one call at a time. The thread of a job sends the call and reads the reports::

    thread of the job ── Order, call ──→ worker process
                      ←─ progress, output, log records, then value or failure

Workers are kept and used again until the backend is closed.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import finalize

from ttasks import sync
from ttasks.backends import pickling
from ttasks.backends.call import bound
from ttasks.backends.messages import DONE, FAILED, LOG, OUTPUT, PROGRESS, Order, call_method
from ttasks.backends.prints import Captured
from ttasks.errors import TaskArgumentError, TaskExecutionError, describe
from ttasks.model.call import name_of
from ttasks.model.remote import RemoteTraceback
from ttasks.model.status import TaskStatus
from ttasks.model.task import PythonTask

if TYPE_CHECKING:
    from ttasks.backends.base import Job
    from ttasks.backends.child import Child
    from ttasks.backends.worker_log import Levels
    from ttasks.model.context import TaskContext
    from ttasks.model.frames import Frames

DISMISSAL_PATIENCE = 5.0
"""Seconds that an idle worker has to end by itself, exit handlers included."""


class ProcessBackend:
    """Makes the calls of Python tasks in worker processes. Thread-safe.

    A worker is started when a job finds none idle. It ends with `close`, with the garbage
    collection of this object, at the exit of the interpreter, or as soon as this program dies.

    Args:
        capture_locals: whether to keep the local variables of failures, and of which frame.
    """

    kills = True
    frees_worker = False

    def __init__(self, *, capture_locals: Frames = False) -> None:
        self._capture_locals = capture_locals
        self._workers = _Workers()
        finalize(self, self._workers.close).atexit = False  # `_Workers` sees to that

    def start(self, job: Job) -> None:
        """See `Backend`. Blocks until the call has ended; the job's handler is not used."""
        try:
            value = job.variables.run(self._run, job.context)
        except BaseException as error:
            job.end(None, error)
        else:
            job.end(value, None)

    def close(self) -> None:
        """See `Backend`. Waits until the workers have ended, and ends those that do not."""
        self._workers.close()

    def _run(self, context: TaskContext) -> Any:
        return self.call(context, *bound(context))

    def call(
        self,
        context: TaskContext,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make a call in a worker process and return its value.

        Raises:
            TaskArgumentError: something cannot be pickled.
            TaskExecutionError: the value cannot be pickled, the worker died, or the exception that
                the function raised cannot be pickled.
            TaskTimeoutError, TaskCancelled: the worker was killed, with all processes it started.
            BaseException: what the function raised.
        """
        name = name_of(func)
        parts = {"func": _portable(func), "args": args, "kwargs": kwargs}
        call = pickling.dumps(
            parts,
            f"{name} cannot be sent to another process",
            lambda message: TaskArgumentError(message, context.id),
        )
        child = self._workers.take()
        usable = False
        try:
            remaining = context.remaining()
            deadline = None if remaining is None else monotonic() + remaining
            with child.watching(context, deadline):
                child.wait_ready(name)
                order = self._order(child.next_number(), context, name)
                child.send(pickle.dumps((order, call), pickling.PROTOCOL))
                kind, facts = _answer(child, order, context)
            usable = True
        finally:
            self._workers.give_back(child, usable=usable)
        if kind == DONE:
            return _value(facts[0], name)
        raise _raised(name, *facts)

    def _order(self, number: int, context: TaskContext, name: str) -> Order:
        return Order(
            number,
            context.id,
            context.title,
            context.description,
            context.type.value,
            context.timeout,
            dict(context.options),
            context.attempt,
            context.remaining(),
            name,
            (context.redactor if self._capture_locals else None, self._capture_locals),
            _log_levels(),
        )


class _Workers:
    """The worker processes of a backend. Thread-safe.

    A worker that is not idle belongs to the thread that took it. The exit of the interpreter ends
    the workers too, but the exit of a forked copy of this program does not.
    """

    def __init__(self) -> None:
        self._lock = sync.Lock()  # protects the three below
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._closed = False
        self._closing = sync.Lock()  # lets others wait for the end of a `close`
        self._closer: int | None = None  # the thread that has it
        self._pid = os.getpid()

    def take(self) -> Child:
        """An idle worker, or a new one."""
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                self._start()
            elif child.is_alive:
                return child
            else:
                self._end(child)

    def give_back(self, child: Child, *, usable: bool) -> None:
        """Keep a worker for the next call, or end it with all processes that it started."""
        with self._lock:
            keep = usable and not self._closed
            if keep:
                self._idle.append(child)
        if not keep:
            self._end(child)

    def close(self) -> None:
        """End all workers; idle ones run their exit handlers. Idempotent."""
        me = sync.get_ident()
        if os.getpid() != self._pid or self._closer == me:  # garbage is collected during a close
            return
        with self._closing:
            self._closer = me
            try:
                self._close()
            finally:
                self._closer = None

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
        for child in idle:
            child.dismiss()
        for child in busy:
            child.kill()  # the thread that took it notices
        for child in idle:
            self._end(child, DISMISSAL_PATIENCE)
        atexit.unregister(self.close)

    def _end(self, child: Child, patience: float = 0.0) -> None:
        child.end(patience)
        with self._lock:
            self._all.discard(child)

    def _start(self) -> None:
        """Start a worker, and make it idle.

        Not in the main thread: there a KeyboardInterrupt may come between any two steps, and
        descriptors or the process would be lost.
        """
        if sync.current_thread() is not sync.main_thread():
            self._add()
            return
        raised: list[BaseException] = []

        def add() -> None:
            try:
                self._add()
            except BaseException as error:
                raised.append(error)

        thread = sync.Thread(target=add, name="ttasks-start", daemon=True)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]

    def _add(self) -> None:
        from ttasks.backends.child import Child  # imports multiprocessing

        child = Child()
        with self._lock:
            first = not self._all
            self._all.add(child)
            self._idle.append(child)
        if first:
            # Registered after those of multiprocessing, which wait for the workers: so it runs
            # before them.
            atexit.register(self.close)


def _answer(child: Child, order: Order, context: TaskContext) -> tuple[int, list[Any]]:
    """Pass on the reports of the worker; return its last message about this call."""
    while True:
        kind, number, *facts = child.receive(order.name)
        if number != order.number:
            continue  # from a thread that an earlier call left running
        if kind in (DONE, FAILED):
            return kind, facts
        if kind == PROGRESS:
            context.emit_progress(*facts)
        elif kind == OUTPUT:
            stream, text = facts
            context.emit_output(text, stream)
        elif kind == LOG:
            from ttasks.backends.worker_log import replay

            replay(facts[0])


def _log_levels() -> Levels | None:
    if "logging" not in sys.modules:
        return None
    from ttasks.backends.worker_log import levels

    return levels()


def _value(data: bytes, name: str) -> Any:
    try:
        return pickle.loads(data)[0]
    except Exception as error:
        raise TaskExecutionError(
            f"The result of {name} came back from its process and could not be loaded here: "
            f"{describe(error)}"
        ) from error


def _raised(
    name: str,
    data: bytes | None,
    kind: str,
    message: str,
    text: str,
    variables: dict[str, str],
    location: str,
) -> BaseException:
    """The exception that the function raised in the worker, or the closest substitute."""
    error: BaseException | None = None
    if data is not None:
        try:
            error = pickle.loads(data)
        except Exception:
            pass
    if error is None or isinstance(error, KeyboardInterrupt):
        # A KeyboardInterrupt would be taken for a Ctrl-C here.
        note = "" if error is not None else " (the exception itself cannot be pickled)"
        error = TaskExecutionError(f"{name} raised {kind}: {message}{note}")
    try:
        raise error from RemoteTraceback(
            text, variables, location
        )  # also sets it on a frozen exception
    except BaseException as raised:
        return raised.with_traceback(None)


def _portable(func: Any) -> Any:
    """The function in a form that another process can load."""
    if isinstance(func, Captured):
        return Captured(_portable(func.func))
    task = getattr(func, "__self__", None)
    if not isinstance(task, PythonTask):
        return func
    # The method of a task in class form: without its result and its arguments, and without its
    # policy, whose functions need not pickle.
    state = task.__getstate__()
    state |= {"payload": None, "result": None, "retry": None, "status": TaskStatus.RUNNING}
    state["extra"].pop("payload", None)
    return partial(call_method, type(task), state, func.__name__)
