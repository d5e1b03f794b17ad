"""Child: a worker process as its parent sees it."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context, resource_tracker
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from ttasks import sync
from ttasks.backends.messages import READY
from ttasks.backends.worker import serve
from ttasks.errors import TaskCancelled, TaskExecutionError, TaskTimeoutError
from ttasks.processes import open_exit_fd, this_system
from ttasks.trees import Tree

if TYPE_CHECKING:
    from ttasks.model.context import TaskContext

KILL_PATIENCE = 5.0
"""Seconds until a killed process is given up on; only the kernel can hold it that long."""

SIGNAL_SECONDS = 0.1
"""Longest single wait of the main thread: a signal that comes just before does not end it."""

LONGEST_WAIT = 86_400.0
"""Longest single wait of other threads, in seconds: poll() takes no more than a few weeks."""


class Child:
    """A worker process. Belongs to one thread at a time; `kill` may be called from any."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self._number = 0
        self._ready = False
        self._mark = os.urandom(8).hex()
        self._context: TaskContext | None = None
        self._deadline: float | None = None
        try:
            self._pipe, theirs = context.Pipe()
            try:
                self._alarm, self._bell = context.Pipe(duplex=False)
            except OSError:
                self._pipe.close()
                theirs.close()
                raise
        except OSError as error:
            raise _not_started(error) from error
        self._bell_lock = sync.Lock()  # protects the bell: nobody rings it once it is closed
        self._opened = -1
        self._process = context.Process(target=serve, args=(theirs, self._mark))
        try:
            # Before SIGINT is blocked: its own start unblocks that.
            resource_tracker.ensure_running()
            with _without_interrupts():
                self._process.start()
        except RuntimeError:
            if "--multiprocessing-fork" in sys.orig_argv:
                _refuse_to_start()
            self._close()
            raise
        except (OSError, AssertionError) as error:
            self._close()
            raise _not_started(error) from error
        finally:
            theirs.close()
        assert self._process.pid is not None
        self._pid = self._process.pid
        row = None
        if sys.platform != "win32":
            row = this_system().row(self._pid)
        self._start = -1 if row is None else row.start
        self._opened = open_exit_fd(self._pid)
        # multiprocessing's own stays open as long as anything lives that the worker has forked.
        self._exit = self._opened if self._opened >= 0 else self._process.sentinel

    @property
    def is_alive(self) -> bool:
        """False once it has ended."""
        return not connection.wait([self._exit], 0)

    def next_number(self) -> int:
        """The number of the next call, unique in this worker."""
        self._number += 1
        return self._number

    @contextmanager
    def watching(self, context: TaskContext, deadline: float | None) -> Iterator[None]:
        """In this ``with`` block, `receive` follows the token and the deadline of an attempt."""
        self._context, self._deadline = context, deadline
        remove = context.cancel_token.add_callback(self._ring)
        try:
            yield
        finally:
            remove()
            self._context = None

    def wait_ready(self, name: str) -> None:
        """Wait until it accepts calls."""
        if not self._ready:
            kind, _ = self.receive(name)
            self._ready = kind == READY

    def send(self, message: bytes) -> None:
        """Send it a message; if it has died, `receive` raises."""
        with suppress(OSError):
            self._pipe.send_bytes(message)

    def receive(self, name: str) -> Any:
        """Its next message; ``name`` is that of the function, for errors.

        Raises:
            TaskCancelled: the token has been cancelled.
            TaskTimeoutError: the deadline has passed.
            TaskExecutionError: the process has died.
        """
        context = self._context
        assert context is not None
        is_main = sync.current_thread() is sync.main_thread()
        while True:
            seconds = SIGNAL_SECONDS if is_main else LONGEST_WAIT
            if context.cancel_token.cancelled:
                raise TaskCancelled
            if self._deadline is not None:
                left = self._deadline - monotonic()
                if left <= 0:
                    assert context.timeout is not None
                    raise TaskTimeoutError(context.timeout)
                seconds = min(seconds, left)
            ready = connection.wait([self._pipe, self._alarm, self._exit], seconds)
            if self._pipe in ready or (self._exit in ready and self._pipe.poll()):
                try:
                    return pickle.loads(self._pipe.recv_bytes())
                except (EOFError, OSError):
                    raise self._death(name) from None
            if self._exit in ready:
                raise self._death(name)
            if self._alarm in ready:
                self._alarm.recv_bytes()

    def dismiss(self) -> None:
        """Let it end when it is idle, without waiting."""
        with suppress(OSError):
            self._pipe.close()

    def kill(self, patience: float = 0.0) -> None:
        """Kill it and what it has started; wait at most that many seconds until all are gone."""
        give_up = monotonic() + patience
        tree = Tree(self._pid, self._mark, start=self._start)
        while self._kill(tree) and monotonic() < give_up:
            sync.sleep(0.002)

    def _kill(self, tree: Tree) -> bool:
        if sys.platform == "win32":
            return _kill_tree_by_parents(self._pid)
        return tree.signal(signal.SIGKILL)

    def end(self, patience: float = 0.0) -> None:
        """Wait that many seconds for its end, then kill what is left of it; release it."""
        if patience:
            connection.wait([self._exit], patience)
        self.kill(KILL_PATIENCE)
        connection.wait([self._exit], KILL_PATIENCE)  # its last thread
        self._close()
        with suppress(ValueError):  # it still runs
            self._process.close()

    def _ring(self) -> None:
        with self._bell_lock:
            if not self._bell.closed:
                self._bell.send_bytes(b"!")

    def _close(self) -> None:
        with self._bell_lock:
            self._bell.close()
        self._alarm.close()
        self._pipe.close()
        if self._opened >= 0:
            os.close(self._opened)
            self._opened = -1

    def _death(self, name: str) -> TaskExecutionError:
        """The error for a process that has ended."""
        connection.wait([self._exit], KILL_PATIENCE)
        code = self._process.exitcode
        for _ in range(100):
            if code is not None:
                break
            # Another thread is reaping it, as multiprocessing does at every start.
            sync.sleep(0.001)
            code = self._process.exitcode
        how = _how_ended(code)
        if self._ready:
            return TaskExecutionError(f"The worker process that ran {name} died: {how}")
        return TaskExecutionError(
            f"The worker process for {name} died before it could begin: {how}; a script that uses "
            "backend='process' must be importable, with what it does when run under "
            "'if __name__ == \"__main__\":'"
        )


def _not_started(error: BaseException) -> TaskExecutionError:
    return TaskExecutionError(f"No worker process could be started: {error}")


def _how_ended(code: int | None) -> str:
    if code is None:
        return "its exit status was lost"
    if code >= 0:
        return f"it exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the system does so when memory runs out)" if name == "SIGKILL" else ""
    return f"it was killed by {name}{hint}"


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started in this ``with`` block ignores Ctrl-C until it unblocks SIGINT."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _refuse_to_start() -> NoReturn:
    """End a worker whose import of the main script has come to where it starts workers."""
    sys.stderr.write(
        "ttasks: a worker process loads this script and must not run it; put what starts tasks "
        "under 'if __name__ == \"__main__\":'\n"
    )
    sys.stderr.flush()
    os._exit(1)


def _kill_tree_by_parents(pid: int) -> bool:
    """For systems without process groups; not run by the tests of this project."""
    import psutil

    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return False
    for found in tree:
        with suppress(psutil.Error):
            found.kill()
    return True
