"""Three ways to start a process; the first that can do it well is taken.

1. posix_spawn of the C library (`libc`): where it has all that is needed.
2. ``subprocess.Popen``: everywhere else, and for commands that inherit more descriptors.
3. ``os.posix_spawn`` of a shell that starts the command: where (2) would hand down signals that
   this thread blocks, which would make the command deaf to TERM.

All of them make it the leader of a new *session* rather than only of a process group: it then has
no controlling terminal, so that a password prompt on it fails at once instead of stopping the
command until its timeout; and descendants with process groups of their own (``set -m``) are still
known by their session.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ttasks.commands import libc

# Starts the arguments after the first in the directory that the first names.
_STARTER = 'cd -- "$1" || exit; shift; exec "$@"'


@dataclass(slots=True)
class Launch:
    """What to start.

    Attributes:
        argv: program and arguments.
        cwd: directory, None for the current one.
        env: the whole environment.
        stdio: descriptors that become 0, 1, 2, and 3 if there is a fourth.
        pass_fds: descriptors that keep their number.
        pid: process id once it is started, 0 before; set also if an exception follows at once.
    """

    argv: Sequence[str]
    cwd: str | None
    env: Mapping[bytes, bytes]
    stdio: Sequence[int]
    pass_fds: Sequence[int] = ()
    pid: int = 0

    def start(self) -> None:
        """Start it; raises OSError, whose filename says whether program or directory is wrong."""
        library = libc.load()
        if library is not None and not self.pass_fds and os.path.dirname(self.argv[0]):
            self._with_libc(library)
        elif len(self.stdio) > 3 or signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            self._below_shell()
        else:
            self._with_popen()

    def _with_libc(self, library: libc.Libc) -> None:
        sys.audit("os.posix_spawn", self.argv[0], self.argv, self.env)
        copies: list[int] = []
        stdio = self._out_of_the_way(copies)
        pid = library.new_pid()
        try:
            library.spawn(
                [os.fsencode(argument) for argument in self.argv],
                None if self.cwd is None else os.fsencode(self.cwd),
                self.env,
                stdio,
                pid,
            )
        except OSError as error:
            check_startable(self.argv, self.cwd)
            raise OSError(error.errno, error.strerror, self.argv[0]) from None
        finally:
            self.pid = pid.value
            for fd in copies:
                os.close(fd)

    def _out_of_the_way(self, copies: list[int]) -> list[int]:
        """Make the descriptors big enough not to be overwritten by one another (in a host that
        had closed 0, 1 or 2); the caller closes the copies."""
        least = len(self.stdio) + 1
        stdio = []
        for fd in self.stdio:
            if fd < least:
                fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
                copies.append(fd)
            stdio.append(fd)
        return stdio

    def _with_popen(self) -> None:
        # __new__ first: an exception that a signal handler raises in the middle of __init__ leaves
        # us the pid.
        process: subprocess.Popen[bytes] = subprocess.Popen.__new__(subprocess.Popen)
        try:
            process.__init__(  # type: ignore[misc]
                self.argv,
                stdin=self.stdio[0],
                stdout=self.stdio[1],
                stderr=self.stdio[2],
                cwd=self.cwd,
                env=self.env,
                pass_fds=self.pass_fds,
                start_new_session=True,
            )
        finally:
            if process.returncode is None:
                self.pid = getattr(process, "pid", 0)
                # The pid is ours from here on; Popen must neither wait for it nor warn.
                process.returncode = 0

    def _below_shell(self) -> None:
        check_startable(self.argv, self.cwd)
        copies: list[int] = []
        try:
            stdio = self._out_of_the_way(copies)
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)]
            for fd in self.pass_fds:
                os.set_inheritable(fd, True)
            command = ["/bin/sh", "-c", _STARTER, "sh", self.cwd or ".", *self.argv]
            self.pid = _spawn_session(command, self.env, actions)
        finally:
            for fd in copies:
                os.close(fd)


def _spawn_session(
    argv: list[str], env: Mapping[bytes, bytes], actions: Sequence[tuple[int, int, int]]
) -> int:
    options: dict[str, Any] = {"setsid": True}
    while True:
        try:
            return os.posix_spawn(
                argv[0],
                argv,
                env,
                file_actions=actions,
                setsigmask=(),
                setsigdef=libc.RESET_SIGNALS,
                **options,
            )
        except NotImplementedError:
            # Old systems: at least a process group.
            if "setsid" not in options:
                raise
            options = {"setpgroup": 0}


def check_startable(argv: Sequence[str], cwd: str | None) -> None:
    """Raise the OSError that starting this would raise, as far as files are the reason."""
    if cwd is not None and not os.path.isdir(cwd):
        code = errno.ENOTDIR if os.path.exists(cwd) else errno.ENOENT
        raise OSError(code, os.strerror(code), cwd)
    program = argv[0]
    if cwd is not None:
        if not os.access(cwd, os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), cwd)
        program = os.path.join(cwd, program)
    if os.path.dirname(argv[0]) and not os.access(program, os.X_OK):
        code = errno.EACCES if os.path.exists(program) else errno.ENOENT
        raise OSError(code, os.strerror(code), argv[0])
