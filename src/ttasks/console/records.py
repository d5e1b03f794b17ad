"""Records: events of tasks as records of ``logging``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ttasks.model.checks import wrong_type
from ttasks.model.event import RUN_EVENTS, TaskEvent, TaskEventType
from ttasks.report.labels import seconds

if TYPE_CHECKING:
    from ttasks.engine.executor import TaskExecutor

LEVELS = {
    TaskEventType.STARTED: logging.DEBUG,
    TaskEventType.READY: logging.INFO,
    TaskEventType.PROGRESS: logging.DEBUG,
    TaskEventType.OUTPUT: logging.DEBUG,
    TaskEventType.SUCCEEDED: logging.INFO,
    TaskEventType.SKIPPED: logging.INFO,
    TaskEventType.REUSED: logging.INFO,
    TaskEventType.RUN_STARTED: logging.INFO,
    TaskEventType.RUN_STOPPING: logging.WARNING,
    TaskEventType.RUN_ENDED: logging.INFO,
    TaskEventType.FAILED: logging.ERROR,
    TaskEventType.CANCELLED: logging.WARNING,
    TaskEventType.BLOCKED: logging.WARNING,
    TaskEventType.PERSISTENCE_FAILED: logging.ERROR,
    TaskEventType.CIRCUIT_OPENED: logging.WARNING,
    TaskEventType.CIRCUIT_CLOSED: logging.INFO,
}
"""Level by type of event; a FAILED that will be tried again is a WARNING."""

_SAY_IT = (TaskEventType.BLOCKED, TaskEventType.SKIPPED)


def log_events(
    executor: TaskExecutor, *, logger: logging.Logger | str | None = None
) -> Callable[[], None]:
    """Send all events of an executor to ``logging``, until the function that it returns is called.

    Records have ``task_id``, ``task_title``, ``task_attempt`` and ``task_event`` (the name of the
    type of the event), and failures their traceback. They are written on the threads that cause
    the events; so a handler that blocks holds up its task.

    Args:
        executor: whose events.
        logger: a logger or its name; None means ``"ttasks"``. Events below its level cost little;
            output is DEBUG, one record for each piece.

    Returns:
        A function that ends this; calling it again does nothing.

    Raises:
        TypeError: an argument has the wrong type.

    Example:
        >>> import logging
        >>> from ttasks import TaskExecutor
        >>> executor = TaskExecutor()
        >>> stop = log_events(executor, logger=logging.getLogger("example"))
        >>> stop()
    """
    if not hasattr(executor, "events"):
        raise wrong_type("executor", executor, "a TaskExecutor")
    if logger is None or isinstance(logger, str):
        logger = logging.getLogger(logger or "ttasks")
    elif not isinstance(logger, logging.Logger):
        raise wrong_type("logger", logger, "a Logger, its name or None")
    target = logger

    def record(event: TaskEvent) -> None:
        level = LEVELS.get(event.type, logging.INFO)
        if event.retry_in is not None:
            level = logging.WARNING
        if target.isEnabledFor(level):
            target.handle(_record(target, level, event))

    return executor.events.subscribe(record, types=TaskEventType)


def _record(logger: logging.Logger, level: int, event: TaskEvent) -> logging.LogRecord:
    is_of_run = event.type in RUN_EVENTS
    made = logger.makeRecord(
        logger.name,
        level,
        __file__,
        0,
        "%s",
        (_message(event),),
        None,
        extra={
            "task_id": event.task_id,
            "task_title": "" if is_of_run else event.task.title,
            "task_attempt": event.attempt,
            "task_event": event.type.value,
        },
    )
    if is_of_run:
        return made
    result = event.task.result
    if event.type is TaskEventType.FAILED and result is not None and result.failure is not None:
        made.exc_text = result.failure.traceback.rstrip() or None
    return made


def _message(event: TaskEvent) -> str:
    """What a record says."""
    kind = event.type
    if event.run is not None and kind is TaskEventType.RUN_STARTED:
        return f"{event.run.title or 'graph'} run started"
    if event.run is not None and kind is TaskEventType.RUN_STOPPING:
        return f"{event.run.title or 'graph'} run is being stopped: {event.error}"
    if event.run is not None and kind is TaskEventType.RUN_ENDED:
        return f"{event.run.title or 'graph'} run ended: {event.run.outcome}"
    title = event.task.title
    if kind is TaskEventType.OUTPUT:
        return f"{title} {event.output_stream}: {(event.output_chunk or '').rstrip()}"
    if kind is TaskEventType.PROGRESS:
        percent = "" if event.progress_percent is None else f" {event.progress_percent:g}%"
        return f"{title} progress{percent} {event.progress_message or ''}".rstrip()
    text = f"{title} {kind.value.replace('_', ' ')}"
    result = event.task.result
    if event.status.is_sink and result is not None:
        text += f" after {seconds(result.duration)}"
    if event.error:
        # Some reasons begin with what has been said by now: "blocked by 'test'".
        said = event.error.removeprefix(kind.value) if kind in _SAY_IT else event.error
        text += said if said != event.error else f": {said}"
    if event.retry_in is not None:
        text += f" (attempt {event.attempt + 1} in {event.retry_in:g} s)"
    return text
