"""Log records of a worker process, on their way to the loggers of its parent.

Imported only where ``logging`` is in use.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any

Levels = tuple[int, dict[str, int]]


def levels() -> Levels:
    """The disabled level, and the levels that are set by name of the logger ("" is the root)."""
    manager = logging.root.manager
    found = {"": logging.root.level}
    for name, logger in list(manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and logger.level:
            found[name] = logger.level
    return manager.disable, found


def replay(facts: dict[str, Any]) -> None:
    """Pass a record of a worker to the logger of the same name in this process."""
    record = logging.makeLogRecord(facts)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


class Sender(logging.Handler):
    """The only handler of a worker's root logger: sends every record to the parent."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._send = send
        self._levels: Levels | None = None

    def install(self, wanted: Levels) -> None:
        """Replace the handlers of the root logger, and set the levels of the parent."""
        logging.root.handlers[:] = [self]
        if wanted != self._levels:
            self._levels = wanted
            disabled, by_name = wanted
            logging.disable(disabled)
            for name, level in by_name.items():
                logging.getLogger(name or None).setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._send(_facts(record))
        except Exception:
            self.handleError(record)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """A record as plain data, with message and traceback as text."""
    facts = dict(record.__dict__)
    facts["msg"], facts["args"] = record.getMessage(), None
    if record.exc_info:
        facts["exc_text"] = record.exc_text or logging.Formatter().formatException(record.exc_info)
        facts["exc_info"] = None
    try:
        pickle.dumps(facts)
    except Exception:  # something that the user attached cannot be pickled
        facts = {
            name: value if type(value) in (int, float, str, type(None)) else repr(value)
            for name, value in facts.items()
        }
    return facts
