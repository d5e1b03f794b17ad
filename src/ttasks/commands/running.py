"""The commands that run in this process, so that none of them outlives it.

A command on a daemon thread would: the interpreter ends such a thread without a word.
"""

from __future__ import annotations

import atexit
import os
from functools import lru_cache

from ttasks import sync
from ttasks.model.cancel import CancelToken
from ttasks.model.command import GRACE_SECONDS

END_SECONDS = GRACE_SECONDS + 1.0
"""How long commands may take to end at the exit of the interpreter, before they are killed."""

KILL_SECONDS = 1.0
"""How long the exit waits for them after that."""


class RunningCommands:
    """The tokens of all commands that run. Thread-safe."""

    def __init__(self) -> None:
        # Protects the two below. Taken by itself and not through the condition, whose methods are
        # Python code: an interrupt in there would leave it locked.
        self._lock = sync.Lock()
        self._changed = sync.Condition(self._lock)
        self._tokens: dict[object, CancelToken] = {}
        self._over = False
        self._pid = os.getpid()
        atexit.register(self.end_all)

    def add(self, command: object, token: CancelToken) -> None:
        """Note a command that begins. During the exit it is cancelled at once."""
        with self._lock:
            self._tokens[command] = token
            over = self._over
        if over:
            token.cancel("interrupted")

    def remove(self, command: object) -> None:
        """Forget a command that has ended."""
        with self._lock:
            self._tokens.pop(command, None)
            if self._over:
                self._changed.notify_all()

    def end_all(self) -> None:
        """End what still runs, and wait for that; for the exit of the interpreter."""
        if os.getpid() != self._pid:
            return  # a forked copy; the commands are not its own
        try:
            self._end(END_SECONDS, kill=False)
        finally:
            self._end(KILL_SECONDS, kill=True)

    def _end(self, seconds: float, *, kill: bool) -> None:
        with self._changed:
            self._over = True
            tokens = list(self._tokens.values())
        for token in tokens:
            token.cancel("interrupted", kill=kill)
        with self._changed:
            self._changed.wait_for(lambda: not self._tokens, seconds)


@lru_cache(maxsize=1)
def running_commands(pid: int) -> RunningCommands:
    """Those of this process; ``pid`` is its id, so that a forked copy gets its own."""
    return RunningCommands()
