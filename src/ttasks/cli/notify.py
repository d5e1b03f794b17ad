"""``ttasks notify test``: whether a channel works."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ttasks.cli import targets
from ttasks.cli.exits import FAILED, OK, CommandError
from ttasks.cli.output import say_json

if TYPE_CHECKING:
    from ttasks.notify.channel import Channel


def execute(options: Namespace) -> int:
    """Carry out the command."""
    from ttasks.notify.delivery import deliver, trial_message

    channel = _channel(options.channel)
    message = trial_message()
    (outcome,) = deliver([channel], message, options.timeout)
    error = None if outcome.error is None else str(outcome.error)
    if options.json:
        told = {"channel": outcome.channel, "message": message.id, "sent": error is None}
        say_json("notify", {**told, "attempts": outcome.attempts, "error": error})
    elif error is None:
        print(f"sent {message.id} through {outcome.channel}")
    else:
        print(f"not sent through {outcome.channel}: {error}", file=sys.stderr)
    return OK if error is None else FAILED


def _channel(text: str) -> Channel:
    """The channel that is meant by a URL, or by the name of an object."""
    from ttasks.notify.addresses import check_channels

    name = "that URL"
    found: Any = text
    if "://" not in text:
        name, found = targets.load_attribute(text)
        if isinstance(found, str):
            name = f"the URL in {name}"
    try:
        (channel,) = check_channels([found])
    except (TypeError, ValueError) as error:
        raise CommandError(f"{name} is no channel: {error}") from None
    return channel
