"""What stands for locks, conditions, events, sleeps, clock and event loop during a run."""

from __future__ import annotations

import asyncio
import signal as real_signal
from collections.abc import Callable
from typing import Any, Self

from explore import threads as current
from explore.explorer import Explorer
from explore.threads import VirtualThread


def running() -> Explorer:
    """The run that is under way."""
    assert current.active is not None, "no run is under way"
    return current.active


class Lock:
    """`threading.Lock`. Released, it goes to whichever of those that wait comes first."""

    def __init__(self) -> None:
        self._is_locked = False
        self._waiting: list[VirtualThread] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        explorer = current.active
        if explorer is None:  # after the end of a run
            assert not self._is_locked, "still held after the run"
            self._is_locked = True
            return True
        explorer.point("acquire")
        until = None if timeout < 0 else explorer.now + timeout
        while self._is_locked:
            if not blocking or timeout == 0:
                explorer.give_way("in vain")
                return False
            me = explorer.current
            self._waiting.append(me)
            in_time = explorer.wait("lock", until)
            if me in self._waiting:
                self._waiting.remove(me)
            if not in_time and self._is_locked:
                return False
        self._is_locked = True
        return True

    def release(self) -> None:
        explorer = current.active
        if not self._is_locked and (explorer is None or not explorer.dead):
            raise RuntimeError("release unlocked lock")
        self._is_locked = False
        if explorer is not None and not explorer.dead:
            for thread in self._waiting:
                explorer.wake(thread)
            self._waiting.clear()
            explorer.point("release")

    def locked(self) -> bool:
        return self._is_locked

    def __enter__(self) -> bool:
        self.acquire()
        if current.active is not None:
            current.active.current.held.append(self)
        return True

    def __exit__(self, *_error: object) -> None:
        if current.active is not None and self in current.active.current.held:
            current.active.current.held.remove(self)
        self.release()


class RLock(Lock):
    """`threading.RLock`."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: VirtualThread | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = None if current.active is None else current.active.current
        if self._count and self._owner is me:
            self._count += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self._owner, self._count = me, 1
        return True

    def release(self) -> None:
        self._count -= 1
        if self._count <= 0:
            self._owner, self._count = None, 0
            super().release()


class Condition:
    """`threading.Condition`."""

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = RLock() if lock is None else lock
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        self._waiting: list[VirtualThread] = []

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)

    def wait(self, timeout: float | None = None) -> bool:
        explorer = running()
        me = explorer.current
        until = None if timeout is None else explorer.now + max(0.0, timeout)
        self._waiting.append(me)
        try:
            self._lock.__exit__()
            while me in self._waiting:
                if not explorer.wait("condition", until):
                    break
        finally:
            told = me not in self._waiting
            if not told:
                self._waiting.remove(me)
            if not explorer.dead:
                with explorer.shielded():
                    self._lock.__enter__()
        return told

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        explorer = running()
        until = None if timeout is None else explorer.now + timeout
        while not (result := predicate()):
            left = None if until is None else until - explorer.now
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        explorer = current.active
        told, self._waiting = self._waiting[:n], self._waiting[n:]
        if explorer is not None and not explorer.dead:
            for thread in told:
                explorer.wake(thread)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class Event:
    """`threading.Event`."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[VirtualThread] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        explorer = current.active
        if explorer is None or explorer.dead:
            self._is_set = True
            return
        explorer.point("set")
        self._is_set = True
        for thread in self._waiting:
            explorer.wake(thread)
        self._waiting.clear()
        explorer.point("is set")

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        explorer = running()
        explorer.point("wait")
        until = None if timeout is None else explorer.now + max(0.0, timeout)
        while not self._is_set:
            me = explorer.current
            self._waiting.append(me)
            in_time = explorer.wait("event", until)
            if me in self._waiting:
                self._waiting.remove(me)
            if not in_time:
                break
        return self._is_set


def sleep(seconds: float) -> None:
    """`time.sleep`."""
    explorer = running()
    if seconds <= 0:
        explorer.give_way("yield")
        return
    until = explorer.now + seconds
    explorer.point("sleep")
    while explorer.now < until:
        explorer.wait(f"sleeps until {until:g}", until)


def current_thread() -> VirtualThread:
    """`threading.current_thread`."""
    return running().current


def main_thread() -> VirtualThread:
    """`threading.main_thread`."""
    return running().main


def get_ident() -> int:
    """`threading.get_ident`."""
    return running().current.ident or 0


def monotonic() -> float:
    """`time.monotonic`."""
    return running().now


class VirtualClock:
    """A `ttasks.Clock` that goes by the time of the run."""

    def now(self) -> float:
        explorer = current.active
        if explorer is None:
            return 0.0
        if not explorer.dead:
            explorer.point("now")
        return explorer.now

    def wait_until(self, lock: Lock, moment: float | None) -> bool:
        """See `ttasks.Clock`."""
        if moment is None:
            return lock.acquire()
        return lock.acquire(timeout=max(0.0, moment - running().now))


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without descriptors: it waits by the time of the run, or until woken."""

    def __init__(self) -> None:
        super().__init__()
        self._explorer = running()
        self._selector = self
        self._is_woken = False
        self._sleeper: VirtualThread | None = None

    def time(self) -> float:
        return running().now

    def select(self, timeout: float | None) -> list[Any]:
        explorer = running()
        explorer.point("loop")
        until = None if timeout is None else explorer.now + timeout
        while not self._is_woken and (until is None or explorer.now < until):
            self._sleeper = explorer.current
            explorer.wait("event loop", until)
        self._sleeper = None
        self._is_woken = False
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        self._is_woken = True
        explorer = current.active
        if explorer is not None and not explorer.dead:
            if self._sleeper is not None:
                explorer.wake(self._sleeper)
            explorer.point("wake loop")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        # What ends interpreters goes through loops as it pleases.
        error = context.get("exception")
        if not self._explorer.dead and (error is None or isinstance(error, Exception)):
            self._explorer.complaints.append(f"event loop: {context}")

    @classmethod
    def make(cls) -> Self:
        """`asyncio.new_event_loop`."""
        return cls()


def set_signal(number: int, handler: Any) -> Any:
    """`signal.signal`."""
    explorer = running()
    if explorer.current is not explorer.main:
        raise ValueError("signal only works in main thread of the main interpreter")
    old = explorer.handlers.get(number, real_signal.SIG_DFL)
    explorer.handlers[number] = handler
    return old


def get_signal(number: int) -> Any:
    """`signal.getsignal`."""
    return running().handlers.get(number, real_signal.SIG_DFL)


def set_wakeup_fd(_fd: int, *, warn_on_full_buffer: bool = True) -> int:
    """`signal.set_wakeup_fd`, without an effect: nothing here waits for descriptors."""
    return -1
