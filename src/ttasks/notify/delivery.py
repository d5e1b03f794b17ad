"""Sending one message now, to several channels at once, within a time limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4
from warnings import warn

from ttasks import sync
from ttasks.model.checks import check_bool, check_number
from ttasks.model.clock import SYSTEM_CLOCK
from ttasks.notify.addresses import ChannelLike, check_channels
from ttasks.notify.courier import USUAL_RETRY, Courier, Letter
from ttasks.notify.errors import NotifyError
from ttasks.notify.message import Message, Reason, message_of
from ttasks.report.labels import OUTCOMES

if TYPE_CHECKING:
    from ttasks.notify.channel import Channel
    from ttasks.report.run_report import RunReport


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a message to one channel. True if it was sent.

    Attributes:
        channel: its name.
        attempts: how often it was tried.
        error: of the last attempt, or that the time was up; None if it was sent.
    """

    channel: str
    attempts: int = 0
    error: NotifyError | None = None

    def __bool__(self) -> bool:
        return self.error is None


class _Desk:
    """Notes what became of the letters: a `ttasks.notify.courier.Desk`."""

    def __init__(self) -> None:
        # Protects the outcomes, which couriers write and `deliver` reads.
        self._lock = sync.Lock()
        self._outcomes: dict[str, Delivery] = {}

    def sent(self, courier: Courier, letter: Letter) -> None:
        self._note(Delivery(courier.channel.name, letter.attempts))

    def delayed(self, courier: Courier, letter: Letter, error: NotifyError, wait: float) -> None:
        self._note(Delivery(courier.channel.name, letter.attempts, error))

    def kept(self, courier: Courier, letter: Letter, error: NotifyError | None) -> None:
        if error is not None:
            self._note(Delivery(courier.channel.name, letter.attempts, error))

    def _note(self, outcome: Delivery) -> None:
        with self._lock:
            self._outcomes[outcome.channel] = outcome

    def outcome(self, courier: Courier, *, has_ended: bool, timeout: float) -> Delivery:
        """What became of the letter of a courier; one that still tries ran out of time."""
        name = courier.channel.name
        with self._lock:
            found = self._outcomes.get(name)
        if found is not None and (has_ended or found):
            return found
        attempts = 1 if found is None else found.attempts + 1
        return Delivery(name, attempts, NotifyError(f"it took longer than {timeout:g} s"))


def deliver(channels: Sequence[Channel], message: Message, timeout: float) -> list[Delivery]:
    """Send a message through each channel at the same time, again where that fails.

    Returns once all have sent it or given up, but not later than after ``timeout`` seconds.
    """
    end = monotonic() + timeout
    desk = _Desk()
    couriers = [Courier(channel, SYSTEM_CLOCK, USUAL_RETRY, desk) for channel in channels]
    for courier in couriers:
        courier.add(Letter(message, None))
        courier.stop(end)
    ended = [courier.join(end - monotonic()) for courier in couriers]
    return [
        desk.outcome(courier, has_ended=has_ended, timeout=timeout)
        for courier, has_ended in zip(couriers, ended, strict=True)
    ]


def notify(
    report: RunReport,
    channels: Iterable[ChannelLike],
    only_failures: bool,
    tasks: Iterable[str] | None,
    timeout: float,
) -> list[Delivery]:
    """See `RunReport.notify`."""
    check_bool("only_failures", only_failures)
    check_number("timeout", timeout, above=0, most=sync.TIMEOUT_MAX)
    found = check_channels(channels)
    shown = report.select(tasks, only_failures)
    if only_failures and not shown.entries:
        return []
    reason = Reason("report", OUTCOMES.get(report.facts.outcome, report.facts.outcome))
    attach = any(channel.attaches for channel in found)
    message = message_of(shown, [reason], new_id(), datetime.now(UTC), attach=attach)
    outcomes = deliver(found, message, timeout)
    for outcome in outcomes:
        if outcome.error is not None:
            warn(
                f"the report was not sent through {outcome.channel!r}: {outcome.error}",
                RuntimeWarning,
                stacklevel=3,
            )
    return outcomes


def new_id() -> str:
    """An id for a message."""
    return f"msg_{uuid4().hex}"


def trial_message() -> Message:
    """A message that says that it tries the channel."""
    now = datetime.now(UTC)
    run = {
        "id": "",
        "number": 0,
        "title": "ttasks",
        "key": None,
        "outcome": "ok",
        "error": None,
        "host": "",
        "started_at": now.isoformat(),
        "duration": 0.0,
        "counts": {},
        "summary": "no tasks",
    }
    data = {"run": run, "failures": [], "more_failures": 0}
    reason = Reason("test", "this message tries the channel")
    return Message(new_id(), now, "ttasks: this message tries the channel", (reason,), data)
