"""File descriptors that no exception of a signal handler can lose.

Such an exception (Ctrl-C in the main thread) is raised between two steps of Python code, also
between the return of ``os.pipe()`` and the assignment of what it returned: nobody knows those
descriptors then. Here a function written in C calls ``os.pipe`` and keeps the result, and no Python
code runs in between. Closing works the same way, so that no number is closed twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import chain, starmap
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
        self._fds.extend(chain.from_iterable(starmap(os.pipe, _ONCE)))
        return self._fds[-2], self._fds[-1]

    def close(self, *fds: int) -> None:
        """Close these, or all if none is named."""
        mine = self._fds
        if fds:
            places = sorted([mine.index(fd) for fd in fds], reverse=True)
            any(map(os.close, map(mine.pop, places)))
        else:
            any(map(os.close, starmap(mine.pop, _ONCE * len(mine))))

    def __del__(self) -> None:
        if getattr(self, "_fds", None):  # an interrupt may have come before it was made
            self.close()


_ONCE = ((),)  # the arguments of one call without any
