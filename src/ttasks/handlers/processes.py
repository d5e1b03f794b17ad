"""Worker processes for Python calls: one call at a time each, and a real end at any time.

The thread of the attempt sends the call to a worker and reads what it reports until the end::

    attempt's thread ── Job, call ──→ worker process
                     ←─ progress, output, log records, then value or failure
"""

from __future__ import annotations

import atexit
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any

from ttasks.errors import TaskExecutionError, describe
from ttasks.handlers import pickling
from ttasks.handlers.messages import DONE, FAILED, LOG, OUTPUT, PROGRESS, Job, call_method
from ttasks.model.call import name_of
from ttasks.model.remote import RemoteTraceback
from ttasks.model.status import TaskStatus
from ttasks.model.task import PythonTask

if TYPE_CHECKING:
    from ttasks.handlers.child import Child
    from ttasks.handlers.worker_log import Levels
    from ttasks.model.context import TaskContext
    from ttasks.model.redact import Redactor

DISMISSAL_PATIENCE = 1.0
"""Seconds that an idle worker has to end by itself."""


class ProcessWorkers:
    """The worker processes of an executor; they live for as long as somebody uses them.

    Thread-safe. The lock owns the idle workers, the set of all and the number of users. A worker
    that is busy belongs to the thread that took it. The last user who leaves ends the idle ones;
    there are no others by then.

    Args:
        capture_locals: bring the local variables of failures along.
    """

    def __init__(self, *, capture_locals: bool = False) -> None:
        self._capture_locals = capture_locals
        self._lock = Lock()
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._users = 0
        self._calls = 0

    def __enter__(self) -> None:
        """Somebody may make calls from now on; workers are kept between them."""
        with self._lock:
            self._users += 1

    def __exit__(self, *_error: object) -> None:
        """That user makes no more calls; the last one ends the workers and waits for that."""
        with self._lock:
            self._users -= 1
            if self._users or not self._idle:
                return
            idle, self._idle = self._idle, []
        for child in idle:
            child.dismiss()
        for child in idle:
            child.kill(patience=DISMISSAL_PATIENCE)
        self._forget(idle)

    def run(
        self,
        context: TaskContext,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Make a call in a worker process and return its value; it follows timeout and token.

        Raises:
            TaskExecutionError: something cannot be pickled, the worker died, or what the function
                raised cannot be pickled.
            TaskTimeoutError, TaskCancelled: the worker was killed, with all that it had started.
            BaseException: what the function raised.
        """
        name = name_of(func)
        parts = {"func": _portable(func), "args": args, "kwargs": kwargs}
        call = pickling.dumps(parts, f"{name} cannot be sent to another process")
        with self, self._worker() as child:
            return self._call(child, context, name, call)

    def _call(self, child: Child, context: TaskContext, name: str, call: bytes) -> Any:
        remaining = context.remaining()
        deadline = None if remaining is None else monotonic() + remaining
        with self._lock:
            self._calls += 1
            number = self._calls
        with child.watching(context, deadline):
            child.wait_ready(name)
            capture = (context.redactor,) if self._capture_locals else None
            job = _job(number, context, name, capture)
            child.send(pickle.dumps((job, call), pickling.PROTOCOL))
            while True:
                kind, of, *facts = child.receive(name)
                if of != number:
                    continue  # of a thread that an earlier call has left running
                if kind in (DONE, FAILED):
                    child.usable = True
                    break
                _report(context, kind, facts)
        if kind == DONE:
            return _value(facts[0], name)
        raise _raised(name, *facts)

    @contextmanager
    def _worker(self) -> Iterator[Child]:
        """An idle worker or a new one; afterwards it is idle again, or killed if not usable."""
        child = self._take()
        child.usable = False
        try:
            yield child
        finally:
            if child.usable:
                with self._lock:
                    self._idle.append(child)
            else:
                child.kill()
                self._forget([child])

    def _take(self) -> Child:
        from ttasks.handlers.child import Child

        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.is_alive:
                    return child
                self._all.discard(child)
                child.kill()
        child = Child()
        with self._lock:
            if not self._all:
                # Also when the interpreter ends in the middle of a call.
                atexit.register(self._kill_all)
            self._all.add(child)
        return child

    def _forget(self, children: list[Child]) -> None:
        with self._lock:
            self._all.difference_update(children)
            if not self._all:
                atexit.unregister(self._kill_all)

    def _kill_all(self) -> None:
        for child in list(self._all):
            child.kill()


def _job(
    number: int, context: TaskContext, name: str, capture: tuple[Redactor | None] | None
) -> Job:
    return Job(
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
        capture,
        _log_levels(),
    )


def _log_levels() -> Levels | None:
    if "logging" not in sys.modules:
        return None
    from ttasks.handlers.worker_log import levels

    return levels()


def _report(context: TaskContext, kind: int, facts: list[Any]) -> None:
    """Pass on what the worker reports while it works."""
    if kind == PROGRESS:
        context.emit_progress(*facts)
    elif kind == OUTPUT:
        stream, text = facts
        context.emit_output(text, stream)
    elif kind == LOG:
        from ttasks.handlers.worker_log import replay

        replay(facts[0])


def _value(data: bytes, name: str) -> Any:
    try:
        return pickle.loads(data)[0]
    except Exception as error:
        raise TaskExecutionError(
            f"The result of {name} came back from its process and could not be loaded here: "
            f"{describe(error)}"
        ) from error


def _raised(
    name: str, data: bytes | None, kind: str, message: str, text: str, variables: dict[str, str]
) -> BaseException:
    """The exception that the function raised in the worker, as good as it can be had here."""
    error: BaseException | None = None
    if data is not None:
        try:
            error = pickle.loads(data)
        except Exception:
            pass
    if error is None or isinstance(error, KeyboardInterrupt):
        # The latter would be taken for a Ctrl-C here.
        note = "" if error is not None else " (the exception itself cannot be pickled)"
        error = TaskExecutionError(f"{name} raised {kind}: {message}{note}")
    error.__cause__ = RemoteTraceback(text, variables)
    return error


def _portable(func: Any) -> Any:
    """The function in a form that another process can load."""
    task = getattr(func, "__self__", None)
    if not isinstance(task, PythonTask):
        return func
    # The method of a task in class form: without what became of it, and without its arguments.
    state = task.__getstate__()
    state |= {"payload": None, "result": None, "status": TaskStatus.RUNNING}
    state["extra"].pop("payload", None)
    return partial(call_method, type(task), state, func.__name__)
