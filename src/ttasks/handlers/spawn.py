"""A command's process: its pipes, how to notice its end, and how to learn how it ended.

Where the host ignores SIGCHLD, the kernel does not keep how its children ended; there a shell is
put in between, which tells.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct
import sys
from collections.abc import Mapping, Sequence

from ttasks.handlers.launch import Launch, check_startable

# Runs a command and tells its exit status on descriptor 3; keeps its own remarks ("Killed") out of
# the command's stderr.
_REPORTER = 'exec 4>&2 2>/dev/null; (exec "$@" 2>&4 3>&- 4>&-); echo $? >&3'


class Child:
    """A started process. Owned by the thread that runs it.

    Attributes:
        pid: its process id, also the id of its session and group.
        outputs: our ends of its stdout and stderr.
        exit_fd: becomes readable when it has ended; -1 where the system has no such thing.
    """

    __slots__ = ("_status_fd", "exit_fd", "outputs", "pid", "returncode")

    def __init__(self) -> None:
        self.pid = 0
        self.outputs: tuple[int, int] = (-1, -1)
        self.exit_fd = -1
        self.returncode: int | None = None
        self._status_fd = -1

    def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None,
        env: Mapping[bytes, bytes],
        stdin: bytes | None,
        pass_fds: Sequence[int],
    ) -> None:
        """Start it; raises OSError, with nothing left open, if that fails."""
        fds: list[int] = []  # what is closed here in any case
        launch: Launch | None = None
        try:
            out_read, out_write = os.pipe()
            self.outputs = (out_read, -1)
            fds.append(out_write)
            error_read, error_write = os.pipe()
            self.outputs = (out_read, error_read)
            fds.append(error_write)
            source = memory_file(stdin) if stdin else os.open(os.devnull, os.O_RDONLY)
            fds.append(source)
            stdio = [source, out_write, error_write]
            if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
                check_startable(argv, cwd)
                argv = ["/bin/sh", "-c", _REPORTER, "sh", *argv]
                self._status_fd, status_write = os.pipe()
                fds.append(status_write)
                stdio.append(status_write)
            launch = Launch(argv, cwd, env, stdio, pass_fds)
            launch.start()
        finally:
            # Also after an exception of a signal handler: the process may run by then.
            if launch is not None:
                self.pid = launch.pid
            for fd in fds:
                os.close(fd)
            if self.pid == 0:
                self.close()
        self.exit_fd = open_exit_fd(self.pid)

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
            # Somebody else in this program has reaped it, or SIGCHLD is ignored.
            if self._status_fd < 0:
                self.returncode = exit_code_of(self.exit_fd)
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
        for fd in (*self.outputs, self.exit_fd, self._status_fd):
            if fd >= 0:
                os.close(fd)
        self.outputs = (-1, -1)
        self.exit_fd = self._status_fd = -1


def memory_file(data: bytes) -> int:
    """A readable descriptor of an anonymous file with this content, positioned at its start.

    Simpler than feeding a pipe, and it cannot deadlock or break.
    """
    if hasattr(os, "memfd_create"):
        try:
            fd = os.memfd_create("ttasks")
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            fd = _unlinked_file()
    else:
        fd = _unlinked_file()
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unlinked_file() -> int:
    import tempfile

    fd, path = tempfile.mkstemp(prefix="ttasks-")
    os.unlink(path)
    return fd


def open_exit_fd(pid: int) -> int:
    """A descriptor that becomes readable when the process ends; -1 if there is no such thing."""
    if hasattr(os, "pidfd_open"):
        # Old kernels and some sandboxes have none; out of descriptors is no reason to fail either.
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return -1


def exit_code_of(pidfd: int) -> int | None:
    """How a process ended that somebody else has reaped; Linux 6.15 and later know, else None."""
    if pidfd < 0 or sys.platform != "linux":
        return None
    wants_exit = 1 << 3  # PIDFD_INFO_EXIT
    request = 0xC000FF0B | (64 << 16)  # PIDFD_GET_INFO with the first version of its struct
    buffer = bytearray(64)
    struct.pack_into("=Q", buffer, 0, wants_exit)
    try:
        fcntl.ioctl(pidfd, request, buffer)
    except OSError:
        return None
    if not struct.unpack_from("=Q", buffer, 0)[0] & wants_exit:
        return None
    return os.waitstatus_to_exitcode(struct.unpack_from("=i", buffer, 60)[0])
