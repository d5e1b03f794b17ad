"""Backlog: what a store could not save, to be saved later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ttasks import sync

if TYPE_CHECKING:
    from ttasks.model.event import TaskEvent

_WAIT_SECONDS = 0.001
_MOST_SKIPPED = 64

Save = Callable[[], object]


class Backlog:
    """Calls that have failed, by task or graph, to be repeated in their order. Thread-safe.

    Its lock protects all fields; it is not held while calls are made or events published.

    Args:
        publish: tells the subscribers of an event.

    Attributes:
        calls: by the id of a task or graph, each with the event that is published when it has been
            made, if any; empty if nothing is missing.
        late: events, by the id of their task, that are being published late.
    """

    def __init__(self, publish: Callable[[TaskEvent], None]) -> None:
        self.calls: dict[str, deque[tuple[Save, TaskEvent | None]]] = {}
        self.late: dict[str, deque[TaskEvent]] = {}
        self._publish = publish
        self._lock = sync.Lock()
        self._busy: set[str] = set()  # ids whose calls are being made
        self._skipped = self._to_skip = 0

    def add(self, key: str, call: Save, event: TaskEvent | None = None) -> None:
        """Remember a call that has failed, and an event that waits for it."""
        with self._lock:
            self.calls.setdefault(key, deque()).append((call, event))

    def catch_up(self, key: str | None = None, *, at_once: bool = False) -> None:
        """Make the calls again, those of ``key`` first.

        A call that fails again is kept. The others are then tried less often, but at least at every
        64th call of this method, or ``at_once``.

        Raises:
            BaseException: what a call of ``key`` has raised.
        """
        if key is not None:
            self._make(key)
        with self._lock:
            self._skipped += 1
            if self._skipped <= self._to_skip and not at_once:
                return
            self._skipped = 0
            others = list(self.calls)
        has_failed = False
        for other in others:
            try:
                self._make(other)
            except BaseException:  # it was kept and announced the first time
                has_failed = True
        with self._lock:
            self._to_skip = min(2 * self._to_skip + 1, _MOST_SKIPPED - 1) if has_failed else 0

    def follow(self, event: TaskEvent) -> bool:
        """Have an event published after those of its task that are late; False if none is."""
        with self._lock:
            late = self.late.get(event.task_id)
            if late is None:
                return False
            late.append(event)
            return True

    def _make(self, key: str) -> None:
        while True:
            with self._lock:
                if key not in self._busy:
                    calls = self.calls.get(key)
                    if calls is None:
                        return
                    self._busy.add(key)
                    break
            sync.sleep(_WAIT_SECONDS)  # another thread makes them
        is_mine = False
        try:
            while calls:
                call, event = calls[0]
                call()
                with self._lock:
                    calls.popleft()
                    if event is not None:
                        is_mine = is_mine or key not in self.late
                        self.late.setdefault(key, deque()).append(event)
        finally:
            with self._lock:
                self._busy.discard(key)
                if not calls:
                    self.calls.pop(key, None)
            if is_mine:
                self._publish_late(key)

    def _publish_late(self, key: str) -> None:
        """Publish the late events of a task, and those that are added meanwhile."""
        interrupt: BaseException | None = None
        while True:
            try:
                with self._lock:
                    late = self.late.get(key)
                    if not late:
                        self.late.pop(key, None)
                        break
                    event = late.popleft()
                self._publish(event)
            except BaseException as error:  # Ctrl-C; what a subscriber raises stays in the bus
                interrupt = interrupt or error
        if interrupt is not None:
            raise interrupt
