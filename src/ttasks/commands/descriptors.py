"""File descriptors that no exception of a signal handler can lose.

Such an exception (Ctrl-C in the main thread) is raised between two steps of Python code, also
between the return of ``os.pipe()`` and the assignment of what it returned: nobody knows those
descriptors then. Here a function written in C calls ``os.pipe`` and keeps the result, and no Python
code runs in between. Closing works the same way, so that no number is closed twice.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from itertools import chain, repeat, starmap
from typing import Any


class Descriptors:
    """Descriptors that are closed together, at the latest when this object is garbage.

    Not thread-safe.
    """

    __slots__ = ("_fds",)

    def __init__(self) -> None:
        self._fds: list[int] = []

    def open(self, function: Callable[..., int], *args: Any) -> int:
        """Call a function written in C that opens a descriptor, and keep that."""
        self._fds.extend(starmap(function, (args,)))
        return self._fds[-1]

    def open_pipe(self) -> tuple[int, int]:
        """Make a pipe; returns its reading and its writing end."""
        self._fds.extend(chain.from_iterable(starmap(os.pipe, ((),))))
        return self._fds[-2], self._fds[-1]

    def close(self, *fds: int) -> None:
        """Close these, or all if none is named."""
        if not fds:
            _exhaust(map(os.close, starmap(self._fds.pop, repeat((), len(self._fds)))))
        for fd in fds:
            _exhaust(map(os.close, map(self._fds.pop, (self._fds.index(fd),))))

    def __del__(self) -> None:
        self.close()


def _exhaust(calls: map[None]) -> None:
    deque(calls, maxlen=0)
