"""Start one process with its pipes, in a session of its own, and learn how it ended.

A new *session* rather than only a new process group: the command then has no controlling
terminal, so that a password prompt on it fails at once instead of stopping the command (SIGTTIN)
until its timeout, and so that descendants with process groups of their own (``set -m``) are still
known by their session.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_RESET_SIGNALS = [
    getattr(signal, name) for name in ("SIGCHLD", "SIGPIPE", "SIGXFSZ") if hasattr(signal, name)
]

# Both run the arguments after the first in the directory that the first names. The second tells
# the exit status on descriptor 3, and keeps its own remarks ("Killed") out of the command's stderr.
_STARTER = 'cd -- "$1" || exit; shift; exec "$@" 3>&-'
_REPORTER = (
    'cd -- "$1" || exit; shift; exec 4>&2 2>/dev/null; (exec "$@" 2>&4 3>&- 4>&-); echo $? >&3'
)


class Child:
    """A started process. Owned by the thread that runs it.

    Attributes:
        pid: its process id, also the id of its session and group.
        outputs: our ends of its stdout and stderr.
        exit_fd: becomes readable when it has ended; -1 where the system has no such thing.
    """

    __slots__ = ("_status_fd", "exit_fd", "outputs", "pid", "process", "returncode")

    def __init__(self) -> None:
        # Made before the process is: an exception between fork and return must not lose it.
        self.process: subprocess.Popen[bytes] | None = None
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
        try:
            out_read, out_write = os.pipe()
            fds += [out_read, out_write]
            error_read, error_write = os.pipe()
            fds += [error_read, error_write]
            source = subprocess.DEVNULL
            if stdin:
                source = memory_file(stdin)
                fds.append(source)
            stdio = (source, out_write, error_write)
            ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
            if ignored or signal.pthread_sigmask(signal.SIG_BLOCK, ()):
                self._start_below_shell(argv, cwd, env, stdio, pass_fds, report=ignored)
            else:
                self._start_plainly(argv, cwd, env, stdio, pass_fds)
            fds.remove(out_read)
            fds.remove(error_read)
            self.outputs = (out_read, error_read)
            self.exit_fd = open_exit_fd(self.pid)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in fds:
                os.close(fd)

    def _start_plainly(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[bytes, bytes],
        stdio: tuple[int, int, int],
        pass_fds: Sequence[int],
    ) -> None:
        # Popen is vfork + exec with every other descriptor closed: as fast as posix_spawn, which
        # has neither cwd nor that. __new__ first, so that an exception raised by a signal handler
        # in the middle of __init__ leaves us the pid.
        process: subprocess.Popen[bytes] = subprocess.Popen.__new__(subprocess.Popen)
        self.process = process
        try:
            process.__init__(  # type: ignore[misc]
                argv,
                stdin=stdio[0],
                stdout=stdio[1],
                stderr=stdio[2],
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
                start_new_session=True,
            )
        except BaseException:
            pid = getattr(process, "pid", None)
            if pid is not None and process.returncode is None:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    process.wait()
            self.process = None
            raise
        self.pid = process.pid

    def _start_below_shell(
        self,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[bytes, bytes],
        stdio: tuple[int, int, int],
        pass_fds: Sequence[int],
        *,
        report: bool,
    ) -> None:
        """Start it where Popen would hand something down that does harm.

        A signal that this thread blocks would be blocked in the command, which then could not obey
        TERM. And of a host that ignores SIGCHLD the kernel does not keep how its children ended: a
        shell in between tells.
        """
        check_startable(argv, cwd)
        status_read, status_write = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY)
        fds = [status_write, null]
        self._status_fd = status_read
        try:
            sources = (null if stdio[0] == subprocess.DEVNULL else stdio[0], *stdio[1:], fds[0])
            # Moved out of the way first: what is duplicated onto 0 to 3 must not be one of them.
            fds += [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64) for fd in sources]
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds[2:])]
            for fd in pass_fds:
                os.set_inheritable(fd, True)
            script = _REPORTER if report else _STARTER
            command = ["sh", "-c", script, "sh", cwd or ".", *argv]
            self.pid = spawn_session("/bin/sh", command, env, actions)
        finally:
            for fd in fds:
                os.close(fd)
        if not report:
            os.close(status_read)
            self._status_fd = -1

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
        if self.process is not None:
            # Popen would otherwise wait for a pid that is not ours any more.
            self.process.returncode = self.returncode if self.returncode is not None else -1
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


def spawn_session(
    program: str,
    argv: Sequence[str],
    env: Mapping[bytes, bytes],
    actions: Sequence[tuple[int, int, int]],
) -> int:
    """Start a program with default signals, none of them blocked, in a session of its own."""
    options: dict[str, Any] = {"setsid": True}
    while True:
        try:
            return os.posix_spawn(
                program,
                list(argv),
                env,
                file_actions=actions,
                setsigmask=(),
                setsigdef=_RESET_SIGNALS,
                **options,
            )
        except NotImplementedError:
            # Old systems: at least a process group.
            if "setsid" not in options:
                raise
            options = {"setpgroup": 0}


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


def check_startable(argv: Sequence[str], cwd: str | None) -> None:
    """Raise the OSError that starting this directly would raise."""
    if cwd is not None and not os.path.isdir(cwd):
        code = errno.ENOTDIR if os.path.exists(cwd) else errno.ENOENT
        raise OSError(code, os.strerror(code), cwd)
    if os.path.dirname(argv[0]) and not os.access(argv[0], os.X_OK):
        code = errno.EACCES if os.path.exists(argv[0]) else errno.ENOENT
        raise OSError(code, os.strerror(code), argv[0])
