"""Leash: processes end with their owner, whatever they are doing; Linux only.

A thread that waits for the end of a parent cannot act while another one holds the interpreter lock,
as a long regular expression does. The kernel can: it sends a signal of our choice when the other
end of a pipe is closed. (PR_SET_PDEATHSIG would act on the end of the parent's *thread*.)
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys


def kill_when_closed(fd: int, owner: int) -> None:
    """Have the kernel kill a process when all writing ends of a pipe are closed.

    Args:
        fd: the reading end, which belongs to that process alone. Nothing is ever written to it.
        owner: pid, or the negative id of a process group.
    """
    if sys.platform != "linux":
        return
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETOWN, owner)
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


class Leash:
    """Ends with this process all that it forks, also what is in another session by then.

    What is started by executing a program is not affected: that carries a mark in its environment,
    by which `ttasks.trees` finds it. What has been forked still has the environment of this
    process.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._inode = os.fstat(self._read).st_ino
        os.register_at_fork(after_in_child=self._follow)

    def _follow(self) -> None:
        """Add this process; called in a new child."""
        if self._write >= 0:  # later generations have closed it
            os.close(self._write)
            self._write = -1
        with contextlib.suppress(OSError):
            if os.fstat(self._read).st_ino != self._inode:
                return  # it has closed everything, and uses the number for something else
            # Opened again, since a description has one owner only. It stays open.
            mine = os.open(f"/proc/self/fd/{self._read}", os.O_RDONLY | os.O_NONBLOCK)
            kill_when_closed(mine, os.getpid())
            poll = select.poll()
            poll.register(mine, 0)
            if poll.poll(0):  # it has ended meanwhile
                os.kill(os.getpid(), signal.SIGKILL)
