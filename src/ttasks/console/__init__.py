"""What people see while tasks run: a live view, plain lines, and the forms of CI systems.

Example:
    >>> from ttasks import Task, TaskExecutor, TaskGraph
    >>> graph = TaskGraph("hello")
    >>> hello = graph.add(Task.bash("echo hello", title="greet"))
    >>> with TaskExecutor() as executor, console(executor, "quiet"):
    ...     graph.run(executor).ok
    True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttasks.console.detect import MODES
    from ttasks.console.logfiles import TaskLogHandler
    from ttasks.console.records import log_events
    from ttasks.console.session import Console, console

__all__ = ["MODES", "Console", "TaskLogHandler", "console", "log_events"]

# The command line wants words of `text` and the modes, and should not wait for the rest.
_HOMES = {
    "MODES": "detect",
    "Console": "session",
    "TaskLogHandler": "logfiles",
    "console": "session",
    "log_events": "records",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ttasks.console.{_HOMES[name]}"), name)
