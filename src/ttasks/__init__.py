"""Tasks and graphs of tasks, run in order, in this process.

A `Task` is a unit of work. A `TaskExecutor` runs it through a handler and attaches a `TaskResult`.
A `TaskGraph` runs many of them in dependency order. An `EventBus` tells what happens, a `Store`
remembers it.

<!-- PYTEST_DONT_REWRITE: pytest leaves the asserts of this package as they are. -->

Example:
    >>> from ttasks import Task, TaskExecutor, TaskGraph
    >>> graph = TaskGraph("hello")
    >>> hello = graph.add(Task.bash("echo hello"))
    >>> with TaskExecutor() as executor:
    ...     graph.run(executor).ok
    True
    >>> hello.result.output
    'hello\\n'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ttasks.engine.bridge import TaskFuture
    from ttasks.engine.bus import EventBus
    from ttasks.engine.executor import TaskExecutor
    from ttasks.errors import (
        CircuitOpenError,
        CycleError,
        DeclarationError,
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
        ScheduleError,
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
    from ttasks.model.facts import AttemptFacts, RunFacts, Span, TaskFacts, WaitReason
    from ttasks.model.function import TaskFunction, task
    from ttasks.model.graph import TaskGraph
    from ttasks.model.log_filter import TaskLogFilter
    from ttasks.model.policy import DependencyPolicy, RetryPolicy
    from ttasks.model.prompt import PermissionRequest, PromptReply
    from ttasks.model.result import Failure, TaskResult
    from ttasks.model.run import Run
    from ttasks.model.running import GraphStatistics
    from ttasks.model.snapshot import Snapshot
    from ttasks.model.status import TaskStatus
    from ttasks.model.store import Store
    from ttasks.model.task import PythonTask, Task
    from ttasks.model.task_type import TaskType
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
    from ttasks.stores.memory import InMemoryStore
    from ttasks.stores.sqlite import SQLiteStore

__version__ = "0.5.0"

__all__ = [
    "AttemptFacts",
    "BreakerStatus",
    "CircuitBreaker",
    "CircuitOpenError",
    "CircuitState",
    "CycleError",
    "DeclarationError",
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
    "ScheduleError",
    "ServiceError",
    "SlowerTask",
    "Snapshot",
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

# Where each name is. A module is imported with the first of its names that is used, so that
# `import ttasks` and the command line take little time.
_HOMES = {
    "AttemptFacts": "model.facts",
    "BreakerStatus": "model.breaker",
    "CircuitBreaker": "model.breaker",
    "CircuitOpenError": "errors",
    "CircuitState": "model.breaker",
    "CycleError": "errors",
    "DeclarationError": "errors",
    "DependencyPolicy": "model.policy",
    "EventBus": "engine.bus",
    "Failure": "model.result",
    "GraphError": "errors",
    "GraphFailedError": "errors",
    "GraphStatistics": "model.running",
    "HandlerNotFoundError": "errors",
    "InMemoryStore": "stores.memory",
    "InvalidTransitionError": "errors",
    "MissingExtraError": "errors",
    "PermissionRequest": "model.prompt",
    "PromptReply": "model.prompt",
    "ProviderAuthenticationError": "errors",
    "ProviderConnectionError": "errors",
    "ProviderError": "errors",
    "ProviderResponseError": "errors",
    "ProviderStartError": "errors",
    "RateLimitedError": "errors",
    "ServiceError": "errors",
    "PythonTask": "model.task",
    "ReportAttempt": "report",
    "ReportEntry": "report",
    "RetryPolicy": "model.policy",
    "Run": "model.run",
    "RunComparison": "report",
    "RunFacts": "model.facts",
    "RunNumbers": "report",
    "RunReport": "report",
    "SQLiteStore": "stores.sqlite",
    "ScheduleError": "errors",
    "SlowerTask": "report",
    "Snapshot": "model.snapshot",
    "Span": "model.facts",
    "Store": "model.store",
    "StoreError": "errors",
    "StoreVersionError": "errors",
    "TTasksError": "errors",
    "Task": "model.task",
    "TaskArgumentError": "errors",
    "TaskCancelled": "errors",
    "TaskChange": "report",
    "TaskContext": "model.context",
    "TaskEvent": "model.event",
    "TaskEventType": "model.event",
    "TaskExecutionError": "errors",
    "TaskExecutor": "engine.executor",
    "TaskFacts": "model.facts",
    "TaskFunction": "model.function",
    "TaskFuture": "engine.bridge",
    "TaskGraph": "model.graph",
    "TaskLogFilter": "model.log_filter",
    "TaskRejectedError": "errors",
    "TaskResult": "model.result",
    "TaskSaving": "report",
    "TaskStatus": "model.status",
    "TaskTimeoutError": "errors",
    "TaskType": "model.task_type",
    "UnknownDependencyError": "errors",
    "UnknownModelError": "errors",
    "WaitReason": "model.facts",
    "current_context": "model.context",
    "literal": "model.call",
    "make_copilot_agent_handler": "prompts",
    "make_copilot_prompt_handler": "prompts",
    "make_openai_prompt_handler": "prompts",
    "task": "model.function",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"ttasks.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
