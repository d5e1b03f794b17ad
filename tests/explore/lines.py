"""Lines: points, and Ctrl-C, before any line of the library.

A trace function makes a run several times slower, so only some seeds have one.
"""

from __future__ import annotations

from collections.abc import Callable
from linecache import getline
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

import ttasks
from explore.explorer import Explorer
from explore.threads import VirtualThread

LIBRARY = str(Path(ttasks.__file__).parent)


class Preemption:
    """Any thread may be switched before any line, with this probability."""

    def __init__(self, random: Random, probability: float) -> None:
        self._random = random
        self._probability = probability

    def __call__(self, explorer: Explorer, thread: VirtualThread) -> Any:
        def at_line(_frame: FrameType) -> None:
            can_switch = len(explorer.ready) > 1 and not explorer.dead
            if can_switch and self._random.random() < self._probability:
                explorer.point("line", may_interrupt=False)  # see `InterruptAtLine`

        return tracing(at_line)


class InterruptAtLine:
    """Ctrl-C strikes before one line, counted on the main thread while it is armed."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, explorer: Explorer, thread: VirtualThread) -> Any:
        def at_line(frame: FrameType) -> None:
            if not explorer.is_armed or self._left <= 0:
                return
            if self._left > 1:
                self._left -= 1
            elif not _enters_or_leaves_with(frame):
                self._left = 0
                explorer.strike(frame)

        return tracing(at_line) if thread is explorer.main else None


def tracing(at_line: Callable[[FrameType], None]) -> Callable[..., Any]:
    """A trace function that looks at the lines of the library alone."""

    def on_line(frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "line":
            at_line(frame)
        return on_line

    def on_call(frame: FrameType, _event: str, _arg: Any) -> Any:
        return on_line if _is_library(frame.f_code) else None

    return on_call


def _enters_or_leaves_with(frame: FrameType) -> bool:
    """True where the interpreter calls no signal handler, between a block and its ``with``."""
    line = getline(frame.f_code.co_filename, frame.f_lineno)
    return line.lstrip().startswith("with ")


_known: dict[CodeType, bool] = {}


def _is_library(code: CodeType) -> bool:
    known = _known.get(code)
    if known is None:
        known = _known[code] = code.co_filename.startswith(LIBRARY)
    return known
