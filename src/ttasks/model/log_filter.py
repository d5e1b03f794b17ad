"""TaskLogFilter: which task a log record belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttasks.model.context import current_context
from ttasks.model.redact import redacted_title

if TYPE_CHECKING:
    from logging import LogRecord


class TaskLogFilter:
    """A filter for ``logging`` that lets every record pass and adds its task to it.

    Add it to a handler (``handler.addFilter(TaskLogFilter())``). Records then have ``task_id``,
    ``task_title`` (without secrets) and ``task_attempt``, for formats such as ``%(task_title)s``.
    Outside of any task the first two are empty and the last is 0. It works in threads, in
    coroutines and for records of worker processes. Thread-safe.

    Example:
        >>> import logging
        >>> record = logging.makeLogRecord({"msg": "hello"})
        >>> TaskLogFilter().filter(record), record.task_attempt
        (True, 0)
    """

    def filter(self, record: LogRecord) -> bool:
        """Set the attributes; always True. ``logging`` calls this."""
        context = current_context()
        if context is None:
            record.task_id, record.task_title, record.task_attempt = "", "", 0
        else:
            record.task_id, record.task_attempt = context.id, context.attempt
            record.task_title = redacted_title(context, context.redactor)
        return True
