"""What people see while tasks run: a live view, plain lines, and the forms of CI systems.

Example:
    >>> from ttasks import Task, TaskExecutor, TaskGraph
    >>> graph = TaskGraph("hello")
    >>> hello = graph.add(Task.bash("echo hello", title="greet"))
    >>> with TaskExecutor() as executor, console(executor, "quiet"):
    ...     graph.run(executor).ok
    True
"""

from ttasks.console.logfiles import TaskLogHandler
from ttasks.console.records import log_events
from ttasks.console.session import MODES, Console, console

__all__ = ["MODES", "Console", "TaskLogHandler", "console", "log_events"]
