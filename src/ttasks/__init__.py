"""Tasks and graphs of tasks, run in order, in this process.

A `Task` is a unit of work. A `TaskExecutor` runs it through a handler and attaches a `TaskResult`.
A `TaskGraph` runs many of them in dependency order. An `EventBus` tells what happens, a `Store`
remembers it.

<!-- PYTEST_DONT_REWRITE: pytest leaves the asserts of this package as they are. -->

Example:
    >>> graph = TaskGraph("hello")
    >>> hello = graph.add(Task.bash("echo hello"))
    >>> with TaskExecutor() as executor:
    ...     graph.run(executor).ok
    True
    >>> hello.result.output
    'hello\\n'
"""

from typing import TYPE_CHECKING, Any

from ttasks.engine.bus import EventBus
from ttasks.engine.executor import TaskExecutor
from ttasks.errors import (
    CircuitOpenError,
    CycleError,
    GraphError,
    GraphFailedError,
    HandlerNotFoundError,
    InvalidTransitionError,
    MissingExtraError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
    ProviderStartError,
    RateLimitedError,
    ServiceError,
    StoreError,
    StoreVersionError,
    TaskArgumentError,
    TaskCancelled,
    TaskExecutionError,
    TaskRejectedError,
    TaskTimeoutError,
    TTasksError,
    UnknownDependencyError,
    UnknownModelError,
)
from ttasks.model.breaker import BreakerStatus, CircuitBreaker, CircuitState
from ttasks.model.call import literal
from ttasks.model.context import TaskContext, current_context
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.function import TaskFunction, task
from ttasks.model.graph import TaskGraph
from ttasks.model.log_filter import TaskLogFilter
from ttasks.model.policy import DependencyPolicy, RetryPolicy
from ttasks.model.prompt import PermissionRequest, PromptReply
from ttasks.model.result import Failure, TaskResult
from ttasks.model.run import Run
from ttasks.model.running import GraphStatistics
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store
from ttasks.model.task import PythonTask, Task
from ttasks.model.task_type import TaskType
from ttasks.stores.memory import InMemoryStore

if TYPE_CHECKING:
    from ttasks.engine.bridge import TaskFuture
    from ttasks.model.facts import AttemptFacts, RunFacts, Span, TaskFacts, WaitReason
    from ttasks.prompts import (
        make_copilot_agent_handler,
        make_copilot_prompt_handler,
        make_openai_prompt_handler,
    )
    from ttasks.report import (
        ReportAttempt,
        ReportEntry,
        RunComparison,
        RunNumbers,
        RunReport,
        SlowerTask,
        TaskChange,
        TaskSaving,
    )
    from ttasks.stores.sqlite import SQLiteStore

    __version__: str

__all__ = [
    "AttemptFacts",
    "BreakerStatus",
    "CircuitBreaker",
    "CircuitOpenError",
    "CircuitState",
    "CycleError",
    "DependencyPolicy",
    "EventBus",
    "Failure",
    "GraphError",
    "GraphFailedError",
    "GraphStatistics",
    "HandlerNotFoundError",
    "InMemoryStore",
    "InvalidTransitionError",
    "MissingExtraError",
    "PermissionRequest",
    "PromptReply",
    "ProviderAuthenticationError",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderResponseError",
    "ProviderStartError",
    "RateLimitedError",
    "PythonTask",
    "ReportAttempt",
    "ReportEntry",
    "RetryPolicy",
    "Run",
    "RunComparison",
    "RunFacts",
    "RunNumbers",
    "RunReport",
    "SQLiteStore",
    "ServiceError",
    "SlowerTask",
    "Span",
    "Store",
    "StoreError",
    "StoreVersionError",
    "TTasksError",
    "Task",
    "TaskArgumentError",
    "TaskCancelled",
    "TaskChange",
    "TaskContext",
    "TaskEvent",
    "TaskEventType",
    "TaskExecutionError",
    "TaskExecutor",
    "TaskFacts",
    "TaskFunction",
    "TaskFuture",
    "TaskGraph",
    "TaskLogFilter",
    "TaskRejectedError",
    "TaskResult",
    "TaskSaving",
    "TaskStatus",
    "TaskTimeoutError",
    "TaskType",
    "UnknownDependencyError",
    "UnknownModelError",
    "WaitReason",
    "__version__",
    "current_context",
    "literal",
    "make_copilot_agent_handler",
    "make_copilot_prompt_handler",
    "make_openai_prompt_handler",
    "task",
]

_PROMPT_HANDLERS = (
    "make_copilot_agent_handler",
    "make_copilot_prompt_handler",
    "make_openai_prompt_handler",
)
_FACTS = ("AttemptFacts", "RunFacts", "Span", "TaskFacts", "WaitReason")
_REPORTS = (
    "ReportAttempt",
    "ReportEntry",
    "RunComparison",
    "RunNumbers",
    "RunReport",
    "SlowerTask",
    "TaskChange",
    "TaskSaving",
)


def __getattr__(name: str) -> Any:
    # sqlite3 is only imported by those who use it.
    if name == "SQLiteStore":
        from ttasks.stores.sqlite import SQLiteStore

        return SQLiteStore
    if name == "TaskFuture":
        from ttasks.engine.bridge import TaskFuture

        return TaskFuture
    if name == "__version__":
        from importlib.metadata import version

        return version("ttasks")
    if name in _PROMPT_HANDLERS:
        from ttasks import prompts

        return getattr(prompts, name)
    if name in _FACTS:
        from ttasks.model import facts

        return getattr(facts, name)
    if name in _REPORTS:
        from ttasks import report

        return getattr(report, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
