"""What has to happen around ``os.fork``: SQLite must have no connection open at that moment.

A child inherits the table in which SQLite keeps the locks of its process, but not the locks. Even a
connection that the child opens itself would take its locks from that table only, and the log could
be taken away under it. So all connections are closed before a fork, once nobody uses them, and both
sides open new ones when they need them. ``subprocess`` does not come along here, unless it is given
a ``preexec_fn``.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Protocol
from weakref import WeakValueDictionary

WAIT_SECONDS = 5.0
"""How long a fork waits for what is being written or read."""


class Forkable(Protocol):
    """What takes part in a fork."""

    def before_fork(self) -> None:
        """Let nobody in any more, wait for those inside, close everything."""

    def after_fork(self, child: bool) -> None:
        """Let everybody in again."""


# Hooks of a fork cannot be taken back, so there is one for all ledgers of the process, which it
# must not keep alive. The numbers give all threads the same order of locking.
_number = count()
_ledgers: WeakValueDictionary[int, Forkable] = WeakValueDictionary()
_stopped: list[Forkable] = []


def register(ledger: Forkable) -> None:
    """Call the methods of ``ledger`` around each fork, for as long as it lives."""
    _ledgers[next(_number)] = ledger


def _before() -> None:
    for _, ledger in sorted(_ledgers.items()):
        ledger.before_fork()
        _stopped.append(ledger)


def _after(child: bool) -> None:
    while _stopped:
        _stopped.pop().after_fork(child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(False),
        after_in_child=lambda: _after(True),
    )
