"""A command's process: its pipes, how to notice its end, and how to learn how it ended.

Where the host ignores SIGCHLD, the kernel does not keep how its children ended; there a shell is
put in between, which tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Mapping, Sequence

from ttasks.commands.descriptors import Descriptors
from ttasks.commands.launch import Launch, check_startable

# Runs a command and tells its exit status on descriptor 3; keeps its own remarks ("Killed") out of
# the command's stderr.
_REPORTER = 'exec 4>&2 2>/dev/null; (exec "$@" 2>&4 3>&- 4>&-); echo $? >&3'


class Child:
    """A started process. Owned by the thread that runs it.

    Attributes:
        pid: its process id, also the id of its session and group; 0 once it has been reaped.
        outputs: our ends of its stdout and stderr.
        exit_fd: becomes readable when it has ended; -1 where the system has no such thing.
        returncode: how it ended; None before `reap`, and if that could not be learnt.
    """

    __slots__ = ("_fds", "_status_fd", "exit_fd", "outputs", "pid", "returncode")

    def __init__(self) -> None:
        self.pid = 0
        self.outputs: tuple[int, int] = (-1, -1)
        self.exit_fd = -1
        self.returncode: int | None = None
        self._status_fd = -1
        self._fds = Descriptors()

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None,
        env: Mapping[bytes, bytes],
        stdin: bytes | None,
        pass_fds: Sequence[int],
    ) -> None:
        """Start it; raises OSError if that fails. The caller calls `close` in either case."""
        fds = self._fds
        out_read, out_write = fds.open_pipe()
        error_read, error_write = fds.open_pipe()
        source = memory_file(fds, stdin) if stdin else fds.open(os.open, os.devnull, os.O_RDONLY)
        stdio = [source, out_write, error_write]
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            check_startable(argv, cwd)
            argv = ["/bin/sh", "-c", _REPORTER, "sh", *argv]
            self._status_fd, status_write = fds.open_pipe()
            stdio.append(status_write)
        self.outputs = (out_read, error_read)
        launch = Launch(argv, cwd, env, stdio, pass_fds)
        try:
            launch.start()
        finally:
            # Also after an exception of a signal handler: the process may run by then.
            self.pid = launch.pid
        fds.close(*stdio)
        if hasattr(os, "pidfd_open"):
            # Old kernels and some sandboxes have none; out of descriptors is no reason to fail.
            with contextlib.suppress(OSError):
                self.exit_fd = fds.open(os.pidfd_open, self.pid)

    def has_ended(self) -> bool:
        """Whether it has ended, for systems without ``exit_fd``.

        Leaves it a zombie where that is possible, so that its pid stays its own.
        """
        if not hasattr(os, "waitid"):
            return self.reap()
        try:
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.pid, flags) is not None
        except ChildProcessError:
            return True

    def reap(self) -> bool:
        """Collect the exit status if it has ended; True if it has. ``returncode`` is None if lost.

        From then on its pid may be given to somebody else.
        """
        if self.pid == 0:
            return True
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            pass  # somebody else in this program has reaped it, or SIGCHLD is ignored
        if self._status_fd >= 0:
            self.returncode = self._reported()
        self.pid = 0
        return True

    def _reported(self) -> int | None:
        os.set_blocking(self._status_fd, False)
        try:
            text = os.read(self._status_fd, 64).strip()
        except OSError:
            text = b""
        if not text:
            # The reporter was killed before it could tell; so was the command.
            return -signal.SIGKILL
        code = int(text)
        return 128 - code if 128 < code <= 128 + 64 else code

    def close(self) -> None:
        """Close every descriptor; may be called twice."""
        self._fds.close()


def memory_file(fds: Descriptors, data: bytes) -> int:
    """A readable descriptor of an anonymous file with this content, positioned at its start.

    Simpler than feeding a pipe, and it cannot deadlock or break.
    """
    try:
        fd = fds.open(os.memfd_create, "ttasks")
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = fds.open(os.dup, file.fileno())
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
