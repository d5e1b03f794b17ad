"""Threads: what stands for `threading.Thread` during a run."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explore.explorer import Explorer


class Abandoned(BaseException):
    """Ends the threads of a run that has failed."""


active: Explorer | None = None
"""The run that is under way. Assigned by `Explorer.run` alone; what reads it has the baton."""


class VirtualThread:
    """What stands for `threading.Thread` during a run."""

    def __init__(
        self,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        group: None = None,
        daemon: bool | None = None,
    ) -> None:
        assert active is not None
        self._explorer = active
        self._target = target
        self._args = args
        self._kwargs = kwargs or {}
        self.name = name or f"thread-{len(active.threads)}"
        self.daemon = bool(daemon)
        self._made = active.made = active.made + 1
        self.number = -1
        self.priority = 0.0
        self.is_ready = True
        self.until: float | None = None
        self.timed_out = False
        self.ended = False
        self.doing = "runs"
        self.unwinding = 0
        self.joiners: list[VirtualThread] = []
        self.held: list[object] = []  # locks, entered by `with`
        self.gate = threading.Lock()  # the baton of this thread
        self.gate.acquire()
        self.real = threading.Thread(target=self._serve, name=f"virtual {self.name}", daemon=True)

    def __hash__(self) -> int:
        return self._made  # so that sets of threads have the same order each time

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<VirtualThread {self.number} {self.name}>"

    @property
    def ident(self) -> int | None:
        return None if self.number < 0 else self.number + 1

    native_id = ident

    def begin(self) -> None:
        """Start without a point."""
        self._explorer.begun(self)
        self.real.start()

    def start(self) -> None:
        if self.number >= 0:
            raise RuntimeError("threads can only be started once")
        self._explorer.point("start")
        self.begin()
        self._explorer.point("started")

    def join(self, timeout: float | None = None) -> None:
        explorer = self._explorer
        if self.number < 0:
            raise RuntimeError("cannot join thread before it is started")
        if explorer.current is self:
            raise RuntimeError("cannot join current thread")
        explorer.point("join")
        until = None if timeout is None else explorer.now + max(0.0, timeout)
        while not self.ended and not explorer.dead:
            self.joiners.append(explorer.current)
            if not explorer.wait(f"joins {self.name}", until):
                return

    def is_alive(self) -> bool:
        return self.number >= 0 and not self.ended

    def run(self) -> None:
        try:
            if self._target is not None:
                self._target(*self._args, **self._kwargs)
        finally:  # as `threading` does, so that nothing lives on in what has ended
            self._target, self._args, self._kwargs = None, (), {}

    def _serve(self) -> None:
        explorer = self._explorer
        self.gate.acquire()
        sys.settrace(None)
        try:
            if not explorer.dead:
                sys.settrace(explorer.trace_function(self))
                self.run()
        except Abandoned:
            pass
        except BaseException as error:
            sys.settrace(None)
            text = "".join(traceback.format_exception(error))
            explorer.note(f"{self.name} died of an exception:\n{text}")
        finally:
            sys.settrace(None)
            explorer.ended(self)
