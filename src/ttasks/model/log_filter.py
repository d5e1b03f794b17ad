"""TaskLogFilter: which task a log record belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttasks.model.context import current_context

if TYPE_CHECKING:
    from logging import LogRecord


class TaskLogFilter:
    """A filter for ``logging`` that lets every record pass and tells it its task.

    Add it to a handler (``handler.addFilter(TaskLogFilter())``); records then have ``task_id``,
    ``task_title`` and ``task_attempt``, for formats such as ``%(task_title)s``. Outside of any task
    the first two are empty and the last is 0. It works in threads, coroutines and for records of
    worker processes. Thread-safe.

    Example:
        >>> import logging
        >>> record = logging.makeLogRecord({"msg": "hello"})
        >>> TaskLogFilter().filter(record), record.task_attempt
        (True, 0)
    """

    def filter(self, record: LogRecord) -> bool:
        """Set the attributes; always True. ``logging`` calls this."""
        context = current_context()
        record.task_id = "" if context is None else context.id
        record.task_title = "" if context is None else context.title
        record.task_attempt = 0 if context is None else context.attempt
        return True
