"""Explorer: runs threads one at a time, and chooses by a seed which of them goes on.

Each virtual thread is a real thread that runs only while it has the baton. It may hand the baton on
at a *point*: wherever threads meet (locks, conditions, events, starts, joins, waits, calls of user
code), and on request at any line of the library. The time is virtual: when all threads wait, it
moves to the end of the earliest timed wait. If there is none, that is a deadlock.

Everything that is random comes from one seed, so a seed stands for one interleaving.

The baton orders everything here, so nothing in this file needs a lock of its own.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from explore import threads
from explore.choices import Choices
from explore.threads import Abandoned, VirtualThread

MOST_POINTS = 20_000
"""Points after which a run is a livelock; a usual one has a few hundred."""

REAL_SECONDS = 20.0
"""Real seconds without a point after which a thread counts as blocked by something real."""

MOST_SLIP = 3.5
"""Virtual seconds by which a run is late at most. With the naps of subscribers (6 s at most) that
stays under `ttasks.engine.reports.EMIT_PATIENCE`, past which the order of events is no promise."""

UNWINDING_POINTS = 300
"""Points that a thread may pass while a failed run is unwound; then it is left where it is."""


_OWN_FILES = ("explore/explorer.py", "explore/threads.py", "/threading.py")
"""Not shown in stacks."""

Tracer = Callable[["Explorer", "VirtualThread"], Any]


class Problem(Exception):
    """What is wrong with a run: a deadlock, a livelock, a broken promise."""


class Explorer:
    """One run of threads under control. Use it once.

    Args:
        choices: decides who goes on.
        interrupts: at which points, counted while the main thread is `armed`, Ctrl-C comes.
        tracer: gives each thread its trace function (see `explore.lines`), None for none.

    Attributes:
        now: virtual seconds since the beginning.
        points: how many there have been.
        trace: number of the thread that ran, and what it did, at each point.
        problem: what ended the run, None if nothing has.
        complaints: what else went wrong meanwhile.
    """

    def __init__(
        self,
        choices: Choices,
        *,
        interrupts: tuple[int, ...] = (),
        tracer: Tracer | None = None,
    ) -> None:
        self.choices = choices
        self.now = 0.0
        self.points = 0
        self.made = 0
        self.trace: list[tuple[int, str]] = []
        self.problem: str | None = None
        self.complaints: list[str] = []
        self.dead = False
        self.threads: list[VirtualThread] = []
        self.ready: list[VirtualThread] = []
        self.handlers: dict[int, Any] = {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: signal.SIG_DFL,
        }
        self.interrupted = 0
        self._interrupts = sorted(interrupts, reverse=True)
        self._tracer = tracer
        self._pending = 0
        self._armed = False
        self._armed_points = 0
        self._slipped = 0.0
        self._over = threading.Lock()
        self._over.acquire()
        self.current: VirtualThread
        self.main: VirtualThread

    # For whoever starts it

    def run(self, main: Callable[[], object]) -> None:
        """Run ``main`` on a virtual main thread until all threads have ended.

        Raises:
            Problem: the run has failed; the message has the stacks of all threads.
        """
        assert threads.active is None, "one run at a time"
        threads.active = self
        try:
            self.main = self.current = VirtualThread(main, name="main")
            self.main.begin()
            self.main.gate.release()
            self._wait_for_end()
        finally:
            threads.active = None
        if self.problem is not None:
            raise Problem(self.problem)

    def _wait_for_end(self) -> None:
        before = -1
        while not self._over.acquire(timeout=REAL_SECONDS):
            if self.points == before:
                self.note("a thread waits for something that the explorer does not control")
                return
            before = self.points
        if self.dead:
            for thread in self.threads:
                if not thread.ended:
                    thread.gate.release()
                    self._over.acquire(timeout=1.0)
        for thread in self.threads:
            if thread.ended:
                thread.real.join()  # what it holds is let go of in this run

    def fail(self, what: str) -> None:
        """End the run because of a problem; called by a virtual thread, does not return."""
        self.note(what)
        raise Abandoned

    def note(self, what: str) -> None:
        """The run has failed; end it."""
        if self.problem is None:
            self.problem = f"{what}\n{self.stacks()}"
        self.dead = True

    def stacks(self) -> str:
        """Where each thread is."""
        frames = sys._current_frames()
        lines = []
        for thread in self.threads:
            if thread.ended:
                continue
            lines.append(f"--- {thread.name} ({thread.doing})")
            frame = frames.get(thread.real.ident or 0)
            entries = traceback.extract_stack(frame) if frame is not None else []
            lines += [
                f"    {Path(entry.filename).name}:{entry.lineno} {entry.name}: {entry.line}"
                for entry in entries
                if not entry.filename.endswith(_OWN_FILES)
            ]
        return "\n".join(lines)

    # For the primitives, on the thread that has the baton

    def point(self, what: str, *, may_interrupt: bool = True) -> None:
        """Perhaps let another thread go on; on the main thread Ctrl-C may strike."""
        if self.dead:
            self._unwind()
        self._count(what)
        me = self.current
        choices = self.choices
        if choices.slip and choices.random.random() < choices.slip:
            self._slip()
        if len(self.ready) > 1:
            chosen = choices.pick(me, self.ready)
            if chosen is not me:
                self._hand_to(chosen, me)
        if may_interrupt and self._pending and me is self.main and self._armed:
            self._deliver(sys._getframe(1))

    def wait(self, what: str, until: float | None = None) -> bool:
        """Let others go on until this thread is woken; False if ``until`` came first."""
        if self.dead:
            self._unwind()
        me = self.current
        me.doing, me.until, me.timed_out = what, until, False
        me.is_ready = False
        self.ready.remove(me)
        self._count(what)
        if not me.is_ready:
            self._hand_on(me)
        me.doing = "runs"
        if self._pending and me is self.main and self._armed:
            self._deliver(sys._getframe(1))
        return not me.timed_out

    def wake(self, thread: VirtualThread) -> None:
        """Make a thread ready that waits; nothing happens if it does not."""
        if not thread.is_ready and not thread.ended:
            thread.is_ready, thread.until = True, None
            self.ready.append(thread)

    def give_way(self, what: str) -> None:
        """The running thread looked in vain; others go first."""
        self.choices.demote(self.current)
        self.point(what)

    def begun(self, thread: VirtualThread) -> None:
        """A thread has been started."""
        thread.number = len(self.threads)
        self.threads.append(thread)
        self.ready.append(thread)
        self.choices.welcome(thread)

    def ended(self, thread: VirtualThread) -> None:
        """The running thread is over; the last act on its real thread."""
        thread.ended, thread.is_ready = True, False
        if self.dead:
            self._over.release()
            return
        self.ready.remove(thread)
        for joiner in thread.joiners:
            self.wake(joiner)
        self._hand_on(None)

    def _count(self, what: str) -> None:
        self.points += 1
        self.trace.append((self.current.number, what))
        if self.points > MOST_POINTS:
            self.fail(f"livelock: more than {MOST_POINTS} points")
        if self._armed:
            self._armed_points += 1
            if self._interrupts and self._armed_points >= self._interrupts[-1]:
                self._interrupts.pop()
                self._pending += 1
                self.wake(self.main)

    def _hand_on(self, me: VirtualThread | None) -> None:
        """Give the baton to somebody who is ready, if need be after some time."""
        while not self.ready:
            if not self._advance():
                if all(thread.ended for thread in self.threads):
                    self._over.release()
                elif me is None:
                    self.note("deadlock: nobody can go on")
                    self._over.release()
                else:
                    self.fail("deadlock: nobody can go on")
                return
        chosen = self.choices.pick(self.current, self.ready)
        if chosen is not me:
            self._hand_to(chosen, me)

    def _hand_to(self, chosen: VirtualThread, me: VirtualThread | None) -> None:
        self.current = chosen
        chosen.gate.release()
        if me is not None:
            me.gate.acquire()
            if self.dead:
                self.current = me
                raise Abandoned

    def _slip(self) -> None:
        """Move the time although somebody could run."""
        until = min((t.until for t in self.threads if t.until is not None), default=self.now)
        if until > self.now and self._slipped + until - self.now <= MOST_SLIP:
            self._slipped += until - self.now
            self._advance()

    def _advance(self) -> bool:
        """Move the time to the end of the earliest wait; False if there is none."""
        timed = [thread for thread in self.threads if thread.until is not None]
        if not timed:
            return False
        first = min(timed, key=lambda thread: (thread.until, thread.number))
        assert first.until is not None
        self.now = max(self.now, first.until)
        first.timed_out = True
        self.wake(first)
        return True

    def _unwind(self) -> None:
        """End a thread of a dead run; one that does not let itself be ended stays where it is."""
        me = self.current
        me.unwinding += 1
        if me.unwinding > UNWINDING_POINTS:
            self._over.release()
            me.gate.acquire()
        raise Abandoned

    # Signals and lines

    def armed(self) -> _Armed:
        """Let Ctrl-C strike the main thread, in a ``with`` block there."""
        return _Armed(self)

    def arm(self, on: bool) -> None:
        """See `armed`."""
        self._armed = on and self.current is self.main
        if not on:
            self._pending = 0

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Keep Ctrl-C from the main thread, in a ``with`` block that is not interrupted in C."""
        armed = self._armed
        if self.current is self.main:
            self._armed = False
        try:
            yield
        finally:
            self._armed = armed

    def _deliver(self, frame: FrameType) -> None:
        self._pending -= 1
        self.interrupted += 1
        self.trace.append((self.main.number, "signal"))
        handler = self.handlers[signal.SIGINT]
        if callable(handler):
            handler(signal.SIGINT, frame)

    def trace_function(self, thread: VirtualThread) -> Any:
        """What looks at each line of a thread; None for nothing."""
        return None if self._tracer is None else self._tracer(self, thread)

    def strike(self, frame: FrameType) -> None:
        """Ctrl-C, before this line of the main thread."""
        if not self.dead:
            self._pending += 1
            self._deliver(frame)

    @property
    def is_armed(self) -> bool:
        """True while Ctrl-C may strike."""
        return self._armed


class _Armed:
    """A ``with`` block that sets nothing on what is raised in it: that may be frozen."""

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer

    def __enter__(self) -> None:
        self._explorer.arm(True)

    def __exit__(self, *_error: object) -> None:
        self._explorer.arm(False)
