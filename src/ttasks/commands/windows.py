"""Run one command on Windows, which has neither sessions nor pipes that can be waited on.

One reader thread per pipe and one for the exit put what they see into a queue, on which the calling
thread waits. The tree is ended through psutil. Written for Windows and tested with fakes elsewhere;
it has not been run there.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from ttasks import sync
from ttasks.commands.capture import CHUNK_BYTES, Stream
from ttasks.commands.environment import text_environment
from ttasks.model.cancel import CancelToken

SURVIVOR_SECONDS = 1.0
KILL_SECONDS = 0.7

_NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200)
_NO_WINDOW: int = getattr(subprocess, "CREATE_NO_WINDOW", 0x08000000)
_EXIT = "exit"
_WAKE = "wake"


class Run:
    """One command from its start to its end. Used by one thread, once."""

    def __init__(
        self,
        streams: Sequence[Stream],
        timeout: float | None,
        grace: float,
        cancel: CancelToken,
        marker: str,
        stop_signal: int,  # there are no signals to send
        is_service: bool,
    ) -> None:
        self.streams = streams
        self.timeout = timeout
        self.grace = grace
        self.cancel = cancel
        self.marker = marker
        self.is_service = is_service
        self.started = False
        self.exited = False
        self.survivors = 0
        self.returncode: int | None = None
        self._open: dict[str, Stream] = {}
        # What happened, in the order in which it did: stream name and data, exit, or wake-up.
        # Bounded, so that a command that prints faster than we take is held up, as on POSIX.
        self._events: queue.Queue[tuple[str, bytes]] = queue.Queue(maxsize=64)

    def run(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str | None] | None,
        stdin: bytes | None,
        pass_fds: Sequence[int],
    ) -> str | None:
        """Run it; returns "timeout", "cancelled" or None."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        process = self._start(argv, cwd, env, stdin)
        self.started = True
        remove: Callable[[], None] | None = None
        try:
            remove = self.cancel.add_callback(self._wake)
            self._read_in_threads(process, stdin)
            reason = self._watch(deadline) or ("survivors" if self.is_service else None)
            if reason is not None:
                self._end_tree(process.pid, reason)
        except BaseException:
            for stream in self.streams:
                stream.on_output = None
            kill_tree(process.pid)
            raise
        finally:
            if remove is not None:
                remove()
            self._release(process)
        self.returncode = process.poll()
        return None if reason == "survivors" else reason

    def _start(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str | None] | None,
        stdin: bytes | None,
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if not stdin else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=text_environment(env, self.marker),
            creationflags=_NEW_GROUP | _NO_WINDOW,
        )

    def _wake(self) -> None:
        # A full queue wakes up as well as one more event would.
        with contextlib.suppress(queue.Full):
            self._events.put_nowait((_WAKE, b""))

    def _read_in_threads(self, process: subprocess.Popen[bytes], stdin: bytes | None) -> None:
        pipes = (process.stdout, process.stderr)
        for stream, pipe in zip(self.streams, pipes, strict=True):
            assert pipe is not None
            self._open[stream.name] = stream
            _thread(self._read, stream.name, pipe)
        _thread(self._wait, process)
        if stdin:
            _thread(_feed, process.stdin, stdin)

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := pipe.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
                self._events.put((name, data))
        self._events.put((name, b""))

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._events.put((_EXIT, b""))

    def _watch(self, deadline: float | None) -> str | None:
        while self._open or not self.exited:
            if self.cancel.cancelled:
                return "cancelled"
            if deadline is not None and time.monotonic() >= deadline:
                return "survivors" if self.exited else "timeout"
            was = self.exited
            self._take(None if deadline is None else deadline - time.monotonic())
            if self.exited and not was:
                deadline = time.monotonic() + SURVIVOR_SECONDS
        return None

    def _take(self, seconds: float | None) -> bool:
        """Wait up to ``seconds`` for one event and act on it; False if there was none."""
        try:
            name, data = self._events.get(timeout=None if seconds is None else max(seconds, 0.001))
        except queue.Empty:
            return False
        if name == _EXIT:
            self.exited = True
        elif name != _WAKE:
            if data:
                self.streams[0 if name == self.streams[0].name else 1].take(data)
            else:
                self._open.pop(name, None)
        return True

    def _end_tree(self, pid: int, reason: str) -> None:
        # There is no TERM: console programs get CTRL_BREAK, all others can only be killed.
        if reason == "survivors":
            self.survivors = len(descendants(pid))
        elif self.grace > 0 and not self.cancel.killed:
            stop = time.monotonic() + self.grace
            if send_break(pid):
                while not self.exited and time.monotonic() < stop:
                    if self.cancel.killed:
                        break
                    self._take(min(0.05, self.grace))
        kill_tree(pid)
        stop = time.monotonic() + KILL_SECONDS
        while (self._open or not self.exited) and time.monotonic() < stop:
            self._take(0.05)

    def _release(self, process: subprocess.Popen[bytes]) -> None:
        """Free reader threads that wait for a place in the queue, and close the pipes."""
        stop = time.monotonic() + KILL_SECONDS
        while (self._open or not self.exited) and time.monotonic() < stop:
            self._take(0.05)
        if not self._open:
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def _thread(target: Callable[..., None], *args: Any) -> None:
    sync.Thread(target=target, args=args, daemon=True, name="ttasks-pipe").start()


def _feed(pipe: IO[bytes], data: bytes) -> None:
    # A command that does not read its input is no error.
    with contextlib.suppress(OSError):
        pipe.write(data)
    with contextlib.suppress(OSError):
        pipe.close()


def send_break(pid: int) -> bool:
    """Ask the process group to end; False if that is impossible."""
    import os
    import signal

    number = getattr(signal, "CTRL_BREAK_EVENT", None)
    if number is None:
        return False
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def descendants(pid: int) -> list[Any]:
    """The processes below this one, as psutil finds them."""
    import psutil

    try:
        found: list[Any] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return found


def kill_tree(pid: int) -> None:
    """Kill this process and everything below it, as far as psutil finds it."""
    import psutil

    victims = descendants(pid)
    with contextlib.suppress(psutil.Error):
        victims.append(psutil.Process(pid))
    for victim in victims:
        with contextlib.suppress(psutil.Error):
            victim.kill()
