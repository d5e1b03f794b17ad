"""Run one command on Linux and macOS: a loop that waits for everything at once.

Both pipes, the exit of the command (a pidfd where there is one), the deadline and the cancel token
wake up one poll() on the calling thread. The phases of a run::

    watch --> (exit, both pipes closed) ----------------------------------> reap
      |   \\-> (exit, a survivor holds a pipe) -- 1 s at most --> end tree --^
      |-----> (timeout, cancel, an exception) -----------------> end tree --^

    end tree: TERM to all members, grace, then KILL until none is found
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from ttasks import sync
from ttasks.commands.capture import CHUNK_BYTES, Stream
from ttasks.commands.descriptors import Descriptors
from ttasks.commands.environment import environment
from ttasks.commands.spawn import Child
from ttasks.model.cancel import CancelToken
from ttasks.trees import Tree

SURVIVOR_SECONDS = 1.0
"""How long a process that outlives its command may hold the command's pipes."""

KILL_SECONDS = 0.7
"""How long to wait for killed processes to vanish; the kernel may hold one back for ever."""

SIGNAL_SECONDS = 0.1
"""How long the main thread waits at once. Only there Python handles signals, and not while it
waits; a signal that comes just before the wait does not end it."""

_BIG_PIPE_BYTES = 1024 * 1024
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", None)


class _Wake:
    """A descriptor that a cancel from another thread makes readable; -1 before `open`."""

    __slots__ = ("_fds", "_lock", "_write", "fd")

    def __init__(self) -> None:
        # Protects `_write`: once closed, the number may belong to somebody else.
        self._lock = sync.Lock()
        self._fds = Descriptors()
        self.fd = self._write = -1

    def open(self) -> None:
        if hasattr(os, "eventfd"):
            self.fd = self._write = self._fds.open(os.eventfd, 0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.fd, self._write = self._fds.open_pipe()
            os.set_blocking(self.fd, False)

    def set(self) -> None:
        with self._lock:
            if self._write >= 0:
                os.write(self._write, b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        with self._lock:
            self.fd = self._write = -1
            self._fds.close()


class Run:
    """One command from its start to its end. Used by one thread, once."""

    def __init__(
        self,
        streams: Sequence[Stream],
        timeout: float | None,
        grace: float,
        cancel: CancelToken,
        marker: str,
        stop_signal: int,
        is_service: bool,
    ) -> None:
        self.streams = streams
        self.cancel = cancel
        self.grace = grace
        self.timeout = timeout
        self.marker = marker
        self.stop_signal = stop_signal
        self.is_service = is_service
        self.child = Child()
        self.started = False
        self.exited = False
        self.survivors = 0
        self._poll = select.poll()
        self._open: dict[int, Stream] = {}
        self._read_bytes: dict[int, int] = {}
        self._wake = _Wake()
        is_main = sync.current_thread() is sync.main_thread()
        self._longest_wait = SIGNAL_SECONDS if is_main else 86_400.0

    def run(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str | None] | None,
        stdin: bytes | None,
        pass_fds: Sequence[int],
    ) -> str | None:
        """Run it; returns "timeout", "cancelled" or None. Afterwards nothing of it is left."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        remove: Callable[[], None] | None = None
        try:
            self._wake.open()
            self._poll.register(self._wake.fd, select.POLLIN)
            remove = self.cancel.add_callback(self._wake.set)
            try:
                self.child.start(
                    argv,
                    cwd=cwd,
                    env=environment(env, self.marker),
                    stdin=stdin,
                    pass_fds=pass_fds,
                )
                self._register()
                self.started = True
                reason = self._watch(deadline) or ("survivors" if self.is_service else None)
                if reason is not None:
                    self._end_tree(reason)
            except BaseException:
                self._abandon()
                raise
            self._reap()
            return None if reason == "survivors" else reason
        finally:
            try:
                if remove is not None:
                    remove()
            finally:
                self._wake.close()
                self.child.close()

    @property
    def returncode(self) -> int | None:
        """How it ended, None if that could not be learnt."""
        return self.child.returncode

    def _register(self) -> None:
        for fd, stream in zip(self.child.outputs, self.streams, strict=True):
            self._open[fd] = stream
            self._read_bytes[fd] = CHUNK_BYTES
            self._poll.register(fd, select.POLLIN)
        if self.child.exit_fd >= 0:
            self._poll.register(self.child.exit_fd, select.POLLIN)

    def _watch(self, deadline: float | None) -> str | None:
        """Wait for the end; returns why the tree must be ended, None if it has ended."""
        pause = 0.001
        while self._open or not self.exited:
            if self.cancel.cancelled:
                return "cancelled"
            seconds: float | None = None
            if deadline is not None:
                now = time.monotonic()
                if now >= deadline:
                    return "survivors" if self.exited else "timeout"
                seconds = deadline - now
            if self.child.exit_fd < 0 and not self.exited:
                # Nothing tells of the exit: look for it, ever more rarely.
                seconds = pause if seconds is None else min(seconds, pause)
                pause = min(pause * 1.5, 0.05)
            was = self.exited
            self._pump(seconds)
            if self.exited and not was:
                deadline = self._survivor_deadline(deadline)
        return None

    @staticmethod
    def _survivor_deadline(deadline: float | None) -> float:
        """Until when the pipes may be held, now that the command has ended by itself: not longer
        than it might have run, so that the grace of survivors fits into the promised time."""
        now = time.monotonic()
        limit = now + SURVIVOR_SECONDS
        return limit if deadline is None else min(limit, max(deadline, now + 0.2))

    def _pump(self, seconds: float | None) -> None:
        """Wait up to ``seconds`` for something to happen, and take what the pipes hold."""
        # poll() takes no more than some weeks; the caller looks at its clock again anyway.
        wait = self._longest_wait if seconds is None else min(seconds, self._longest_wait)
        for fd, events in self._poll.poll(int(wait * 1000) + 1):
            stream = self._open.get(fd)
            if stream is not None:
                self._read(fd, stream, events)
            elif fd == self.child.exit_fd:
                self.exited = True
                self._poll.unregister(fd)
            else:
                self._wake.clear()
        if self.child.exit_fd < 0 and not self.exited:
            self.exited = self.child.has_ended()

    def _read(self, fd: int, stream: Stream, events: int) -> None:
        if events & select.POLLIN:
            size = self._read_bytes[fd]
            data = os.read(fd, size)
            if data:
                if len(data) == size and size == CHUNK_BYTES:
                    self._grow(fd)
                stream.take(data)
                return
        self._poll.unregister(fd)
        del self._open[fd]

    def _grow(self, fd: int) -> None:
        """A stream that fills its pipe gets a bigger one: fewer switches between the two sides.

        Not from the start: a user may have only so much of pipe buffers.
        """
        self._read_bytes[fd] = _BIG_PIPE_BYTES
        if _F_SETPIPE_SZ is not None:
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, _F_SETPIPE_SZ, _BIG_PIPE_BYTES)

    @property
    def _killed(self) -> bool:
        return self.cancel.killed

    def _end_tree(self, reason: str) -> None:
        """Ask the tree to end, then make it; takes what it still prints."""
        self._free_descriptor()
        tree = Tree(self.child.pid or -1, self.marker)
        number = signal.SIGKILL if self._killed or self.grace <= 0 else self.stop_signal
        if reason == "survivors":
            self.survivors = len(tree.find())
        if number == signal.SIGKILL or not self._ask(tree):
            self._kill(tree)
        self._drain()

    def _free_descriptor(self) -> None:
        """Give up the wake-up descriptor: without any, nobody could look at the processes.

        From now on a kill is noticed a little later.
        """
        if self._wake.fd >= 0:
            with contextlib.suppress(KeyError):  # an interrupt came just behind it
                self._poll.unregister(self._wake.fd)
            self._wake.close()

    def _ask(self, tree: Tree) -> bool:
        """The signal to all, and wait; False if the grace is over or a kill came."""
        stop = time.monotonic() + self.grace
        found = tree.signal(self.stop_signal)
        pause = 0.002
        while found:
            now = time.monotonic()
            if now >= stop or self._killed:
                return False
            pause = min(pause * 1.5, 0.05, stop - now)
            until = now + pause
            while (left := until - time.monotonic()) > 0:
                was = self.exited, len(self._open)
                self._pump(left)
                if self._killed or (self.exited, len(self._open)) != was:
                    break  # perhaps that was the last of them
            found = not tree.is_gone()
        return True

    def _kill(self, tree: Tree) -> None:
        stop = time.monotonic() + KILL_SECONDS
        # Again and again: what forks while we look is found the next time.
        while tree.signal(signal.SIGKILL) and time.monotonic() < stop:
            pause = 0.001
            again = min(stop, time.monotonic() + 0.1)
            while tree.known_lives() and time.monotonic() < again:
                self._pump(pause)
                pause = min(pause * 1.5, 0.02)

    def _drain(self) -> None:
        """Take what is written already; whoever may still write gets no more than that."""
        stop = time.monotonic() + 0.1
        while self._open and time.monotonic() < stop:
            if not any(fd in self._open for fd, _ in self._poll.poll(0)):
                break
            self._pump(0)

    def _abandon(self) -> None:
        """An exception goes through: end the tree, whatever else comes."""
        for stream in self.streams:
            stream.on_output = None
        if not self.child.pid:
            return
        try:
            if not self.started:
                self._register()
            self._end_tree("exception")
        except BaseException:
            # A second Ctrl-C, most likely: no more grace.
            self._kill(Tree(self.child.pid or -1, self.marker))
            raise
        finally:
            self._reap()

    def _reap(self) -> None:
        if not self.child.reap():
            # Killed, but not gone yet, or exit not noticed yet: give the kernel a moment.
            stop = time.monotonic() + 0.2
            while not (reaped := self.child.reap()) and time.monotonic() < stop:
                sync.sleep(0.001)
            if not reaped:
                reap_later(self.child.pid)


def reap_later(pid: int) -> None:
    """Wait for a process that not even KILL has ended yet, so that it does not stay a zombie."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.waitpid(pid, 0)

    # No thread can be started any more when the interpreter shuts down; then init will wait.
    with contextlib.suppress(RuntimeError):
        sync.Thread(target=wait, daemon=True, name=f"ttasks-reap-{pid}").start()
