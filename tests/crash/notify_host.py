"""Runs a graph that fails and tells of it, for tests that kill it.

    python notify_host.py LEDGER URL STOP

STOP is where it announces itself and waits to be killed: "queued" is when the row of the run is in
the outbox and nothing else has happened, "decided" when its message is there, "sending" while the
channel sends, "sent" when the other side has it and the outbox does not know. "none" runs to the
end; "idle" only waits for messages of others for as long as its standard input is open.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from ttasks import RetryPolicy, SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.notify import Message, Notifier, Webhook
from ttasks.notify.rules import DEFAULT_RULES, EndedRun


def stop() -> None:
    say("here")
    threading.Event().wait()


def say(line: str) -> None:
    """Print a line in one piece, whatever other threads print."""
    os.write(1, f"{line}\n".encode())


class Hook(Webhook):
    def __init__(self, url: str, where: str) -> None:
        super().__init__(url, name="hook", timeout=5)
        self.where = where

    def send(self, message: Message) -> None:
        if self.where == "decided":
            stop()
        super().send(message)
        if self.where == "sent":
            stop()


def main(path: str, url: str, where: str) -> None:
    def rule(run: EndedRun) -> Any:
        if where == "queued":
            stop()

    with SQLiteStore(path) as store, TaskExecutor(store) as executor:
        hook = Hook(url, where)
        retry = RetryPolicy(9, 0.2)
        with Notifier(executor, [hook], [rule, *DEFAULT_RULES], retry=retry) as notifier:
            if where == "idle":
                say("here")
                sys.stdin.read()
                return
            graph = TaskGraph("nightly", key="nightly")
            graph.add(Task.bash("exit 3", title="dump"))
            graph.run(executor)
            say("ran")
            notifier.flush(20)


if __name__ == "__main__":
    main(*sys.argv[1:])
