"""Telling people: messages about runs, by mail, webhook, chat or a function.

A `Notifier` watches an executor, asks its rules about every run that has ended, and sends one
message per run through its channels. `RunReport.notify` sends a report once.

Example:
    >>> from ttasks import Task, TaskExecutor, TaskGraph
    >>> from ttasks.notify import Failed, Mended, Notifier
    >>> graph = TaskGraph("nightly", key="nightly")
    >>> broken = graph.add(Task.bash("echo no space >&2; exit 1", title="dump"))
    >>> with TaskExecutor() as executor:
    ...     with Notifier(executor, [lambda message: print(message.subject)], [Failed(), Mended()]):
    ...         ended = graph.run(executor)
    nightly: 'dump' failed
"""

from ttasks.notify.addresses import channel_of
from ttasks.notify.apprise import Apprise
from ttasks.notify.channel import Channel
from ttasks.notify.chat import Slack, Teams
from ttasks.notify.delivery import Delivery
from ttasks.notify.errors import NotifyError
from ttasks.notify.mail import Mail
from ttasks.notify.message import Message, Reason
from ttasks.notify.notifier import Notifier
from ttasks.notify.rules import (
    DEFAULT_RULES,
    Always,
    CleanupFailed,
    EndedRun,
    Failed,
    Mended,
    Slower,
    StillFailing,
)
from ttasks.notify.webhook import Webhook

__all__ = [
    "Notifier",
    "Channel",
    "Mail",
    "Webhook",
    "Slack",
    "Teams",
    "Apprise",
    "channel_of",
    "Message",
    "Reason",
    "Delivery",
    "NotifyError",
    "EndedRun",
    "Failed",
    "StillFailing",
    "Mended",
    "Slower",
    "CleanupFailed",
    "Always",
    "DEFAULT_RULES",
]
