"""What helps to test code that uses this library: a fake clock, fake handlers, a recorder.

And what tests a store of your own: `check_store`.

They are real implementations that work in memory, not mocks; the library's own tests use them.

Example:
    >>> from ttasks import RetryPolicy, Task, TaskExecutor, TaskType
    >>> handler = FakeHandler({"fetch": [OSError("down"), "page"]})
    >>> executor = TaskExecutor.empty()
    >>> executor.register(TaskType("fake"), handler)
    >>> task = Task("fetch", None, TaskType("fake"), retry=RetryPolicy(2))
    >>> executor.execute(task).value
    'page'
    >>> handler.titles
    ['fetch', 'fetch']
"""

from ttasks.testing.clock import FakeClock
from ttasks.testing.context import FakeContext, make_context
from ttasks.testing.handler import FakeHandler
from ttasks.testing.prompts import FakePromptCall, FakePromptHandler
from ttasks.testing.recorder import EventRecorder
from ttasks.testing.shell import FakeShell, ShellCall, ShellReply
from ttasks.testing.store import check_store

__all__ = [
    "EventRecorder",
    "FakeClock",
    "FakeContext",
    "FakeHandler",
    "FakePromptCall",
    "FakePromptHandler",
    "FakeShell",
    "ShellCall",
    "ShellReply",
    "check_store",
    "make_context",
]
