"""TaskLogFilter: which task a log record belongs to, and the record without secrets."""

from __future__ import annotations

from inspect import currentframe
from typing import TYPE_CHECKING

from ttasks.model.context import current_context
from ttasks.model.event import TaskEvent
from ttasks.model.redact import redacted, redacted_title

if TYPE_CHECKING:
    from logging import LogRecord
    from types import FrameType

    from ttasks.model.redact import Redactor

_DELIVERY = "EventBus.deliver"  # the function that calls subscribers, with its local ``event``


class TaskLogFilter:
    """A filter for ``logging`` that lets every record pass and adds its task to it.

    Add it to a handler (``handler.addFilter(TaskLogFilter())``). Records then have ``task_id``,
    ``task_title`` (without secrets) and ``task_attempt``, for formats such as ``%(task_title)s``.
    Outside of any task the first two are empty and the last is 0. In a record of a task, the
    secrets of its executor are hidden in the message, the traceback and all other text. It works
    in threads, in coroutines, in subscribers (the task is that of the event) and for records of
    worker processes. Thread-safe.

    Example:
        >>> import logging
        >>> record = logging.makeLogRecord({"msg": "hello"})
        >>> TaskLogFilter().filter(record), record.task_attempt
        (True, 0)
    """

    def filter(self, record: LogRecord) -> bool:
        """Set the attributes; always True. ``logging`` calls this."""
        event, context = _delivered(), current_context()
        if event is not None and event.task is not None:
            record.task_id, record.task_attempt = event.task_id, event.attempt
            record.task_title = event.task.title
        elif context is not None:
            record.task_id, record.task_attempt = context.id, context.attempt
            record.task_title = redacted_title(context, context.redactor)
        else:
            record.task_id, record.task_title, record.task_attempt = "", "", 0
        if context is not None and context.redactor is not None:
            _redact(record, context.redactor)
        return True


def _redact(record: LogRecord, redactor: Redactor) -> None:
    """Hide secrets in a record, for all handlers that get to see it from now on."""
    try:
        message = record.getMessage()
    except Exception:  # the arguments do not fit; logging would print them
        message = f"{record.msg} {record.args}"
    if record.args or not isinstance(record.msg, str):
        record.msg, record.args = message, None
    if record.exc_info and not record.exc_text:
        from logging import Formatter

        record.exc_text = Formatter().formatException(record.exc_info)
    for name, value in list(record.__dict__.items()):
        record.__dict__[name] = redacted(value, redactor)


def _delivered() -> TaskEvent | None:
    """The event that a subscriber is just being told in this thread; None if there is none.

    Found on the stack, so that events cost nothing more when nobody logs.
    """
    frame: FrameType | None = currentframe()
    while frame is not None:
        if frame.f_code.co_qualname == _DELIVERY:
            event = frame.f_locals.get("event")
            return event if isinstance(event, TaskEvent) else None
        frame = frame.f_back
    return None
