"""Processes, each identified by its pid and start time.

A pid alone may belong to another process later. Pid and start time together identify one process,
within one boot of the machine and one pid namespace (each container has its own). This module looks
at processes and signals single ones; `ttasks.trees` knows which of them belong together.

All functions are thread-safe.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

_DEAD = b"ZXx"
_STOPPED = b"Tt"
_BUSY = b"RD"
_CLOCK_SECONDS = 2.0
"""How far two start times of a process may differ, as psutil computes them from the clock."""


class Row(NamedTuple):
    """A process of the system at one moment.

    Attributes:
        pid, parent, group, session: ids.
        state: one letter, as in ``ps``.
        start: when it started, in a unit that depends on the system.
    """

    pid: int
    parent: int
    group: int
    session: int
    state: bytes
    start: int

    @property
    def is_alive(self) -> bool:
        """False for a zombie."""
        return self.state not in _DEAD

    @property
    def is_busy(self) -> bool:
        """True if it runs, wants to run, or waits for the disk."""
        return self.state in _BUSY

    @property
    def is_stopped(self) -> bool:
        """True after a SIGSTOP."""
        return self.state in _STOPPED


class System(NamedTuple):
    """How to look at the processes of a machine; tests put a fake in its place.

    ``scan`` and ``row`` raise OSError if no descriptor is free to look with.

    Attributes:
        scan: all processes.
        row: the process with a pid, None if there is none.
        environment: the environment that a process started with, as NAME=value separated by NUL
            bytes; "?" if it cannot be read. It may leave out all but `ttasks.trees.MARKER`.
    """

    scan: Callable[[], Iterable[Row]]
    row: Callable[[int], Row | None]
    environment: Callable[[int], bytes]


def this_system() -> System:
    """How to look at the processes of this machine."""
    if sys.platform == "linux" and os.path.exists("/proc/self/stat"):
        return System(scan_proc, read_proc, environment_proc)
    return System(scan_psutil, read_psutil, environment_psutil)


def scan_proc() -> list[Row]:
    """All processes, from Linux' /proc."""
    rows = (read_proc(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [row for row in rows if row is not None]


def read_proc(pid: int) -> Row | None:
    """The process with this pid, from Linux' /proc.

    Raises:
        OSError: no descriptor is free.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            data = file.read(1024)
        # The name is in parentheses, and may itself hold spaces and parentheses.
        fields = data[data.rindex(b")") + 2 :].split()
        return Row(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0], int(fields[19]))
    except (OSError, ValueError, IndexError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return None


def environment_proc(pid: int) -> bytes:
    """The environment of a process, from Linux' /proc."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b"?"  # not ours to read


def scan_psutil() -> list[Row]:
    """All processes, from psutil."""
    import psutil

    rows = (read_psutil(pid) for pid in psutil.pids())
    return [row for row in rows if row is not None]


def read_psutil(pid: int) -> Row | None:
    """The process with this pid, from psutil."""
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            dead = process.status() == psutil.STATUS_ZOMBIE
            stopped = process.status() == psutil.STATUS_STOPPED
            return Row(
                pid,
                process.ppid(),
                os.getpgid(pid),
                os.getsid(pid),
                b"Z" if dead else b"T" if stopped else b"S",
                int(process.create_time() * 1e6),
            )
    except (psutil.Error, OSError):
        return None


def environment_psutil(pid: int) -> bytes:
    """The environment of a process, from psutil."""
    import psutil

    try:
        variables = psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return b"?"
    return "\0".join([f"{name}={value}" for name, value in variables.items()]).encode(
        errors="replace"
    )


# One process


def send(system: System, row: Row, number: int) -> None:
    """Send a signal to this process, but not to another one that has its pid by now."""
    fd = -1
    with contextlib.suppress(OSError):
        try:
            fd = open_exit_fd(row.pid)
            try:
                now = system.row(row.pid)
            except OSError:  # there was one free descriptor, and no second one to look with
                if fd < 0:
                    raise
                held, fd = fd, -1
                os.close(held)
                now = system.row(row.pid)
            if now is None or now.start != row.start:
                return
            if fd >= 0:
                signal.pidfd_send_signal(fd, number)
            else:
                os.kill(row.pid, number)
        finally:
            if fd >= 0:
                os.close(fd)


def open_exit_fd(pid: int) -> int:
    """A descriptor that becomes readable when the process ends; -1 if the system has none."""
    if hasattr(os, "pidfd_open"):
        # Fails on old kernels, in some sandboxes and without a free descriptor.
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return -1


@lru_cache(maxsize=1)
def adopts_orphans() -> bool:
    """Whether orphaned descendants become children of this program (checked once)."""
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    get_child_subreaper = 37
    try:
        import ctypes

        answer = ctypes.c_int(0)
        library = ctypes.CDLL(None)
        failed = library.prctl(get_child_subreaper, ctypes.byref(answer), 0, 0, 0)
    except (ImportError, AttributeError, OSError):
        return False
    return failed == 0 and answer.value != 0


# Processes of other programs, identified beyond the end of this one


class Liveness(Enum):
    """Whether a process runs. Values are the lower-case names.

    UNKNOWN is a process on another host or in another container, which cannot be checked from here.
    """

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, identified beyond its end and the reboot of its machine.

    Attributes:
        host: name of the machine or container, for people. It is ignored if ``boot`` is equal, as
            a machine may be renamed while it runs.
        boot: identifies one boot of the machine and one pid namespace; empty where start times do
            that.
        pid: id of the process.
        started: when it started: clock ticks since the boot on Linux, elsewhere seconds since 1970.
    """

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def current(cls) -> ProcessIdentity:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The process of this machine that has this pid now."""
        return cls(host_name(), _boot(), pid, _start_of(pid) or "")

    def liveness(self) -> Liveness:
        """Whether it still runs; a zombie does not."""
        my_boot, _, my_space = _boot().partition("/")
        boot, _, space = self.boot.partition("/")
        if (not boot or boot != my_boot) and self.host != host_name():
            return Liveness.UNKNOWN  # another machine
        if boot != my_boot:
            return Liveness.GONE  # this machine, before it was restarted
        if space != my_space:
            return Liveness.UNKNOWN
        started = _start_of(self.pid)
        is_same = started is not None and _is_same_start(started, self.started)
        return Liveness.ALIVE if is_same else Liveness.GONE


def host_name() -> str:
    """The name of this machine or container, for people."""
    from socket import gethostname  # takes long to import, and who only reads needs no name

    return gethostname()


def _boot() -> str:
    """On Linux, the ids of this boot and of the pid namespace, joined by "/"; elsewhere empty."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When a process started, as text; None if there is none or it is a zombie."""
    if sys.platform.startswith("linux"):
        row = read_proc(pid)
        return str(row.start) if row is not None and row.is_alive else None
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return str(process.create_time())
    except psutil.Error:
        return None


def _is_same_start(one: str, other: str) -> bool:
    if one == other:
        return True
    if sys.platform.startswith("linux"):
        return False
    try:
        return abs(float(one) - float(other)) < _CLOCK_SECONDS
    except ValueError:
        return False
