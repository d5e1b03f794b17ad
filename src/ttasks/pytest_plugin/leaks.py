"""What a test leaves behind, and which task made it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import Any
from unittest import mock

import psutil

from ttasks import sync
from ttasks.engine.executor import TaskExecutor
from ttasks.model.context import current_context
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.processes import this_system
from ttasks.trees import MARKER, OrphanTree, mark_in

PATIENCE_SECONDS = 2.0
"""How long what is ending by itself may take for it."""

_POLL_SECONDS = 0.01
_HELPERS = (
    "from multiprocessing.resource_tracker import",
    "from multiprocessing.forkserver import",
)
"""In the command lines of processes that multiprocessing keeps until the interpreter exits."""

_DESCRIPTORS = "/dev/fd"


Held = dict[tuple[str, Any], str]
"""What this process has at one moment: kind and identity to a name for people."""


class Makers:
    """Which task has made what, while it watches. Thread-safe: each entry is one operation.

    Attributes:
        is_paused: executors that are made now are of no interest.
        titles: title by id of the tasks that have started.
        executors: those that were made.
    """

    def __init__(self) -> None:
        self.is_paused = False
        self.titles: dict[str, str] = {}
        self.executors: list[TaskExecutor] = []
        self._of_thread: dict[int, str] = {}
        self._of_process: dict[int, str] = {}
        self._of_path: dict[str, str] = {}
        self._of_executor: dict[int, str] = {}
        self._sockets: list[tuple[weakref.ref[Any], str]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take notes for the length of a ``with`` block."""

        def executor_made(made: TaskExecutor, title: str | None) -> None:
            if self.is_paused:
                return
            self.executors.append(made)
            made.events.subscribe(self._task_started, types=TaskEventType.STARTED)
            if title is not None:
                self._of_executor[id(made)] = title

        def thread_started(thread: threading.Thread, title: str | None) -> None:
            if title is not None and thread.ident is not None:
                self._of_thread[thread.ident] = title

        def process_started(process: subprocess.Popen[Any], title: str | None) -> None:
            if title is not None:
                self._of_process[process.pid] = title

        with ExitStack() as stack:
            for owner, name, note in (
                (TaskExecutor, "__init__", executor_made),
                (threading.Thread, "start", thread_started),
                (subprocess.Popen, "__init__", process_started),
            ):
                method = _noting(getattr(owner, name), note)
                stack.enter_context(mock.patch.object(owner, name, method))
            yield

    def _task_started(self, event: TaskEvent) -> None:
        self.titles[event.task_id] = event.task.title
        self._of_thread[threading.get_ident()] = event.task.title

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event of Python; only what happens in a task is of interest."""
        if event not in ("open", "socket.__new__"):
            return
        context = current_context()
        if context is None:
            return
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            self._of_path[path] = context.title
        elif event == "socket.__new__":
            try:
                self._sockets.append((weakref.ref(arguments[0]), context.title))
            except TypeError:  # of a class without weak references
                pass

    def of(self, kind: str, identity: Any, name: str) -> str | None:
        """Title of the task that has made something; None if no task has."""
        if kind == "process":
            return self._of_mark(identity[0]) or self._of_process.get(identity[0])
        if kind == "thread":
            return self._of_thread.get(identity)
        if kind == "executor":
            return self._of_executor.get(identity)
        for reference, title in self._sockets:
            socket = reference()
            if socket is not None and socket.fileno() == identity[0]:
                return title
        return self._of_path.get(name)

    def marks(self, pid: int) -> list[str]:
        """The ids of the tasks that a process belongs to, the innermost first."""
        mark = mark_in(this_system().environment(pid)).decode(errors="replace")
        outer = os.environ.get(MARKER, "").split("/")  # of a task that has started this pytest
        inner = [part for part in reversed(mark.split("/")) if part and part not in outer]
        return [part.partition(".")[0] for part in inner]

    def _of_mark(self, pid: int) -> str | None:
        titles = (self.titles.get(mark) for mark in self.marks(pid))
        return next((title for title in titles if title is not None), None)


def _noting(
    method: Callable[..., Any], note: Callable[[Any, str | None], None]
) -> Callable[..., Any]:
    """A method that notes the object and the current task when it has returned."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = method(self, *args, **kwargs)
        context = current_context()
        note(self, None if context is None else context.title)
        return value

    return call


class Leaks:
    """Looks for what each test leaves behind that has the mark. Used by the main thread only."""

    def __init__(self) -> None:
        self._before: Held | None = None
        self._makers = Makers()
        self._stack = ExitStack()
        self._audits = False

    def begin(self) -> None:
        """Note what there is before a test and its fixtures."""
        self._makers = Makers()
        if not self._audits:
            self._audits = True  # a hook stays until the end of the process
            sys.addaudithook(self._audit)
        self._stack.enter_context(self._makers.watching())
        self._before = self._now()

    @contextmanager
    def exempting(self) -> Iterator[None]:
        """Allow what is made in a ``with`` block to stay: a fixture for several tests makes it."""
        if self._before is None:
            yield
            return
        before = self._now()
        was_paused, self._makers.is_paused = self._makers.is_paused, True
        try:
            yield
        finally:
            self._makers.is_paused = was_paused  # one fixture may be set up within another
            self._before |= _without(self._now(), before)

    def end(self) -> list[str]:
        """Return a line for everything that the test has left behind. Idempotent."""
        before, self._before = self._before, None
        if before is None:
            return []
        give_up = monotonic() + PATIENCE_SECONDS
        try:
            while left := _without(self._now(), before):
                if monotonic() >= give_up:
                    return [self._describe(key, name) for key, name in left.items()]
                sync.sleep(_POLL_SECONDS)
        finally:
            self._stack.close()
        return []

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._before is not None:
            self._makers.audit(event, arguments)

    def _now(self) -> Held:
        made = self._makers.executors
        executors = {("executor", id(one)): "not shut down" for one in made if not one.is_shutdown}
        processes = _processes(self._makers)
        others = {key for key, name in processes.items() if self._is_of_others(key, name)}
        theirs = {target for _, (pid, _) in others for target in _refers_to(pid)}
        descriptors = {key: name for key, name in _descriptors().items() if name not in theirs}
        for key in others:
            del processes[key]
        return {**processes, **_threads(), **descriptors, **executors}

    def _is_of_others(self, key: tuple[str, Any], command: str) -> bool:
        """True for a process of multiprocessing, and of a task that no test has started."""
        _, (pid, _) = key
        marks = self._makers.marks(pid)
        is_unknown = bool(marks) and not any(mark in self._makers.titles for mark in marks)
        return is_unknown or any(text in command for text in _HELPERS)

    def _describe(self, key: tuple[str, Any], name: str) -> str:
        kind, identity = key
        title = self._makers.of(kind, identity, name)
        shown = f"{kind} {identity[0]}" if isinstance(identity, tuple) else kind
        return f"{shown}: {name}" + ("" if title is None else f" (of task {title!r})")


def _without(held: Held, other: Held) -> Held:
    return {key: name for key, name in held.items() if key not in other}


def _processes(makers: Makers) -> Held:
    """The descendants of this process, and what tasks have started that is none any more."""
    found = psutil.Process().children(recursive=True)
    known = {process.pid for process in found}
    if makers.titles and sys.platform != "win32":
        for row in OrphanTree(frozenset(makers.titles)).find():
            if row.pid not in known:
                with suppress(psutil.Error):
                    found.append(psutil.Process(row.pid))
    held: Held = {}
    for process in found:
        with suppress(psutil.Error):
            key = "process", (process.pid, process.create_time())
            try:
                held[key] = " ".join(process.cmdline()) or process.name()
            except psutil.ZombieProcess:
                held[key] = "ended, but nobody has waited for it"
    return held


def _refers_to(pid: int) -> list[str]:
    """The descriptors that belong to a process: its pipes, and what tells of its end."""
    folder = f"/proc/{pid}/fd"
    found = [f"pidfd of {pid}"]
    with suppress(OSError):  # not on Linux, or it has ended
        for name in os.listdir(folder):
            with suppress(OSError):
                found.append(os.readlink(f"{folder}/{name}"))
    return [target for target in found if target.startswith(("pipe:", "pidfd "))]


def _threads() -> Held:
    return {("thread", thread.ident): thread.name for thread in threading.enumerate()}


def _descriptors() -> Held:
    """The open descriptors; none where they cannot be listed."""
    held: Held = {}
    try:
        numbers = [int(name) for name in os.listdir(_DESCRIPTORS)]
    except (OSError, ValueError):
        return {}
    for number in numbers:
        try:
            found = os.fstat(number)
        except OSError:  # the one that has read the folder
            continue
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
            if target == "anon_inode:[pidfd]":
                target = f"pidfd of {_pid_of(number)}"
        except OSError:  # not on Linux, or closed by now
            target = "open"
        held["descriptor", (number, found.st_dev, found.st_ino)] = target
    return held


def _pid_of(pidfd: int) -> str:
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    return lines.get("Pid", "").strip()
