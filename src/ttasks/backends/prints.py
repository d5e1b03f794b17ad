"""Prints: what Python tasks print becomes their output, if they ask for it.

``sys.stdout`` and ``sys.stderr`` belong to the whole process, so a router replaces each while such
a task runs. A context variable says whose text it is: text of a captured task goes to its context,
and all other text goes on to the stream.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import CoroutineType
from typing import Any

from ttasks import sync
from ttasks.model.call import name_of
from ttasks.model.context import CHUNK_LIMIT, PRINTS, TaskContext, current_context


class Captured:
    """A function whose prints become output of the task that calls it."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        self.__qualname__ = name_of(func)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        context = current_context()
        assert context is not None
        prints = _Prints(context)
        with _Capturing(prints):
            value = self.func(*args, **kwargs)
        if type(value) is CoroutineType:
            return _awaited(value, prints)
        return value


async def _awaited(coroutine: Coroutine[Any, Any, Any], prints: _Prints) -> Any:
    with _Capturing(prints):
        return await coroutine


class _Capturing:
    """A ``with`` block whose text goes to an attempt.

    No generator: an exception that goes through one gets attributes, which its class may forbid.
    """

    def __init__(self, prints: _Prints) -> None:
        self._prints = prints

    def __enter__(self) -> None:
        _routers.enter()
        self._token = PRINTS.set(self._prints)

    def __exit__(self, *_error: object) -> None:
        PRINTS.reset(self._token)
        _routers.leave()
        self._prints.finish()


class _Prints:
    """Collects what one attempt prints, and reports it line by line. Thread-safe."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._lock = sync.Lock()  # protects the unfinished lines
        self._unfinished: dict[str, str] = {}

    def write(self, stream: str, text: str) -> None:
        """Take text; report the lines that it completes."""
        with self._lock:
            text = self._unfinished.pop(stream, "") + text
            cut = max(text.rfind("\n"), text.rfind("\r")) + 1
            if len(text) - cut >= CHUNK_LIMIT:
                cut = len(text)
            if cut < len(text):
                self._unfinished[stream] = text[cut:]
        self._report(stream, text[:cut])

    def flush(self, stream: str) -> None:
        """Report an unfinished line."""
        with self._lock:
            text = self._unfinished.pop(stream, "")
        self._report(stream, text)

    def finish(self) -> None:
        """Report all unfinished lines."""
        for stream in list(self._unfinished):
            self.flush(stream)

    def _report(self, stream: str, text: str) -> None:
        if text:
            self._context.emit_output(text, stream)


class _Router:
    """Replaces ``sys.stdout`` or ``sys.stderr``; except for writing, it acts as that stream."""

    def __init__(self, name: str, stream: Any) -> None:
        self.__dict__["router_name"] = name
        self.__dict__["router_stream"] = stream

    def write(self, text: str) -> int:
        prints = PRINTS.get()
        if prints is None:
            return self.router_stream.write(text)  # type: ignore[no-any-return]
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        prints.write(self.router_name, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        prints = PRINTS.get()
        if prints is None:
            self.router_stream.flush()
        else:
            prints.flush(self.router_name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["router_stream"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.router_stream, name, value)

    def __iter__(self) -> Iterator[str]:
        return iter(self.router_stream)

    def __repr__(self) -> str:
        return f"<router of {self.router_stream!r}>"


class _Routers:
    """Puts the routers in place while any task needs them."""

    def __init__(self) -> None:
        self._lock = sync.Lock()  # protects the two below, and who changes the streams of `sys`
        self._users = 0
        self._placed: list[_Router] = []

    def enter(self) -> None:
        """Put routers in place, also where somebody has replaced one."""
        with self._lock:
            self._users += 1
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if stream is not None and type(stream) is not _Router:
                    router = _Router(name, stream)
                    self._placed.append(router)
                    setattr(sys, name, router)

    def leave(self) -> None:
        """Undo one `enter`; the last one restores the streams."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            for router in reversed(self._placed):
                if getattr(sys, router.router_name) is router:
                    setattr(sys, router.router_name, router.router_stream)
            self._placed.clear()


_routers = _Routers()
