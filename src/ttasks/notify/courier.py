"""Courier: sends the messages of one channel, on a thread of its own, until they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING, Any, Protocol

from ttasks import sync
from ttasks.errors import text_of, type_name
from ttasks.model.clock import Bell
from ttasks.model.policy import RetryPolicy
from ttasks.model.redact import Redactor
from ttasks.notify.errors import NotifyError
from ttasks.report.labels import one_line

if TYPE_CHECKING:
    from ttasks.model.clock import Clock
    from ttasks.notify.channel import Channel
    from ttasks.notify.message import Message

log = getLogger("ttasks")

USUAL_RETRY = RetryPolicy(100, 1.0, multiplier=3.0, max_backoff=600.0, jitter=0.2)
"""1, 3, 9, … 600 seconds; all attempts together take about 16 hours."""


@dataclass(slots=True, eq=False)
class Letter:
    """A message on its way to one channel; its courier owns it.

    Attributes:
        message: the message.
        row: of the outbox; None without one.
        attempts: how often it was tried.
        due: when to try, by the clock.
    """

    message: Message
    row: Any
    attempts: int = 0
    due: float = 0.0


class Desk(Protocol):
    """Whom a courier tells what became of a letter; called on the thread of the courier."""

    def sent(self, courier: Courier, letter: Letter) -> None:
        """The letter was sent."""

    def delayed(self, courier: Courier, letter: Letter, error: NotifyError, wait: float) -> None:
        """There is another attempt in ``wait`` seconds."""

    def kept(self, courier: Courier, letter: Letter, error: NotifyError | None) -> None:
        """The courier has given it up: after ``error``, or because there was no time left."""


class Courier:
    """Sends letters through one channel. Thread-safe.

    The letter that is due first is tried first. One that cannot be sent waits for its next attempt
    without keeping up the others.

    Args:
        channel: the way.
        clock: for the waits between attempts.
        retry: how often to try, and the waits where the other side names none.
        desk: is told what became of each letter.
        redactor: hides what the log must not have, besides the channel's own secrets; or None.
    """

    def __init__(
        self,
        channel: Channel,
        clock: Clock,
        retry: RetryPolicy,
        desk: Desk,
        redactor: Redactor | None = None,
    ) -> None:
        self.channel = channel
        self._clock = clock
        self._retry = retry
        self._desk = desk
        self._redactor = redactor
        self._own_secrets = Redactor(channel.secrets)
        self._bell = Bell(clock)
        # Protects the letters, and whether there is a thread for them.
        self._lock = sync.Lock()
        self._letters: list[Letter] = []
        self._thread: sync.Thread | None = None
        self._until: float | None = None  # the last moment for an attempt, once it is to stop

    def __len__(self) -> int:
        return len(self._letters)

    def begin(self) -> None:
        """Start the thread now, since none can be started while the interpreter exits.

        Raises:
            RuntimeError: it cannot be started.
        """
        with self._lock:
            self._start()

    def add(self, letter: Letter) -> None:
        """Send a letter when it is due."""
        with self._lock:
            self._letters.append(letter)
            self._start()
        self._bell.ring()

    def _start(self) -> None:
        if self._thread is None:
            name = f"ttasks-notify-{self.channel.name}"
            # A daemon: a channel that hangs must not keep the interpreter from its end.
            thread = sync.Thread(target=self._run, name=name, daemon=True)
            thread.start()
            self._thread = thread  # only now: if it cannot start, the next letter tries again

    def stop(self, until: float) -> None:
        """Try nothing that is due after that moment, and end the thread when nothing is left."""
        self._until = until
        self._bell.ring()

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread after `stop`; False if it has not ended by then."""
        thread = self._thread
        if thread is None:
            return True
        if thread is sync.current_thread():  # the channel itself closes its notifier
            return False
        thread.join(max(0.0, seconds))
        return not thread.is_alive()

    def letters(self) -> list[Letter]:
        """Those that were neither sent nor given up."""
        with self._lock:
            return list(self._letters)

    def _run(self) -> None:
        while True:
            with self._lock:
                letter = min(self._letters, key=lambda item: item.due, default=None)
            until = self._until
            if until is not None and (letter is None or letter.due > until):
                break
            if letter is None:
                self._bell.wait_until(None)
            elif letter.due > self._clock.now():
                self._bell.wait_until(letter.due)
            else:
                self._try(letter)
        for letter in self.letters():
            self._drop(letter)
            self._desk.kept(self, letter, None)

    def _try(self, letter: Letter) -> None:
        letter.attempts += 1
        try:
            self.channel.send(letter.message)
        except BaseException as error:  # also SystemExit: the thread has more to send
            failure = self._described(error)
            wait = self._wait(letter, error, failure)
            if wait is None:
                self._drop(letter)
                self._desk.kept(self, letter, failure)
            else:
                letter.due = self._clock.now() + wait
                self._desk.delayed(self, letter, failure, wait)
        else:
            self._drop(letter)
            self._desk.sent(self, letter)

    def _wait(self, letter: Letter, error: BaseException, failure: NotifyError) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if failure.is_final or not self._retry.allows(letter.attempts, error):
            return None
        usual = self._retry.delay(letter.attempts)
        return usual if failure.retry_after is None else max(failure.retry_after, usual)

    def _drop(self, letter: Letter) -> None:
        with self._lock:
            self._letters.remove(letter)

    def _described(self, error: BaseException) -> NotifyError:
        """The error without secrets."""
        if isinstance(error, NotifyError):
            reason, retry_after, is_final = error.reason, error.retry_after, error.is_final
        else:
            reason, retry_after, is_final = f"{type_name(error)}: {text_of(error)}", None, False
        reason = self._own_secrets.text(reason)
        if self._redactor is not None:
            reason = self._redactor.text(reason)
        return NotifyError(one_line(reason, 500), retry_after, is_final)
