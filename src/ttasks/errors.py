"""The error tree: every exception class of this library derives from ``TTasksError``.

Each class keeps structured attributes and computes its message from them. All of them survive
pickling, so that they can cross a process boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from subprocess import CompletedProcess


class TTasksError(Exception):
    """Root of all errors that this library raises on its own account.

    Subclasses pass their structured attributes to ``super().__init__`` and override
    ``__str__``, so that ``args`` alone rebuild the error when it is unpickled.
    """


class TaskCancelled(TTasksError, RuntimeError):
    """The task was cancelled; a handler raises it to end its attempt as CANCELLED.

    Attributes:
        completed: for a command, its ``subprocess.CompletedProcess`` with the partial output.
    """

    def __init__(
        self,
        message: str = "Task was cancelled",
        completed: CompletedProcess[str] | None = None,
    ) -> None:
        super().__init__(message, completed)
        self.completed: CompletedProcess[str] | Any = completed

    def __str__(self) -> str:
        return str(self.args[0])


class TaskExecutionError(TTasksError, RuntimeError):
    """A handler's work ran and failed, for example a command with a non-zero exit code.

    Attributes:
        completed: the ``subprocess.CompletedProcess`` of a command, else None.
    """

    def __init__(self, message: str, completed: CompletedProcess[str] | None = None) -> None:
        super().__init__(message, completed)
        self.completed: CompletedProcess[str] | Any = completed

    def __str__(self) -> str:
        return str(self.args[0])


class TaskArgumentError(TaskExecutionError):
    """The function of a Python task was not called, because its arguments cannot be made.

    The value of another task is missing, or something cannot be sent to a worker process. Such a
    task is never tried again, and its ``attempts`` do not count this one.

    Attributes:
        task_id: the task.
    """

    def __init__(self, message: str, task_id: str) -> None:
        super().__init__(message)
        self.args = (message, task_id)
        self.task_id = task_id


class TaskTimeoutError(TTasksError, TimeoutError):
    """An attempt took longer than its task's timeout, or a run longer than its own.

    Attributes:
        seconds: the limit that was passed.
        completed: for a command, its ``subprocess.CompletedProcess`` with the partial output.
        what: what timed out, the subject of the message.
    """

    def __init__(
        self,
        seconds: float,
        completed: CompletedProcess[str] | None = None,
        what: str = "Task",
    ) -> None:
        # One argument only: OSError, a base of TimeoutError, would take the first of two for errno.
        super().__init__(f"{what} timed out after {seconds:g} seconds")
        self.seconds = seconds
        self.completed: CompletedProcess[str] | Any = completed
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.seconds, self.completed, self.what), self.__dict__.copy()


class ServiceError(TaskExecutionError):
    """A service was not ready in time, or ended although it was still needed.

    Attributes:
        reason: "not_ready" or "died"; the ``termination_reason`` of the result.
        completed: of a command its ``subprocess.CompletedProcess``; else None.
    """

    def __init__(
        self, message: str, reason: str, completed: CompletedProcess[str] | None = None
    ) -> None:
        super().__init__(message, completed)
        self.args = (message, reason, completed)
        self.reason = reason


class HandlerNotFoundError(TTasksError, ValueError):
    """No handler is registered for a task's type.

    Attributes:
        type_name: the name of the task type.
        known: names of the types that do have a handler.
    """

    def __init__(self, type_name: str, known: Sequence[str] = ()) -> None:
        super().__init__(type_name, tuple(known))
        self.type_name = type_name
        self.known = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(self.known) or "none"
        return (
            f"No handler is registered for task type {self.type_name!r} (registered: {known}); "
            f"add one with executor.register(TaskType({self.type_name!r}), handler)"
        )


class InvalidTransitionError(TTasksError, ValueError):
    """A status change that the lifecycle does not allow; the task is unchanged.

    Attributes:
        task_id, title: the task.
        current, target: values of the status it had and of the one that was asked for.
    """

    def __init__(self, task_id: str, title: str, current: str, target: str) -> None:
        super().__init__(task_id, title, current, target)
        self.task_id = task_id
        self.title = title
        self.current = current
        self.target = target

    def __str__(self) -> str:
        return (
            f"Task {self.title!r} ({self.task_id}) cannot go from {self.current!r} "
            f"to {self.target!r}"
        )


class GraphError(TTasksError, ValueError):
    """A graph that cannot run, or a change that would leave it so."""


class CycleError(GraphError):
    """Tasks depend on each other in a circle.

    Attributes:
        path: the tasks (`ttasks.Task`) of one cycle in order; each depends on the next, the last
            on the first.
    """

    def __init__(self, path: Sequence[Any]) -> None:
        super().__init__(tuple(path))
        self.path = tuple(path)

    def __str__(self) -> str:
        titles = [task.title for task in self.path]
        if len(titles) > 12:
            titles = [*titles[:6], f"… {len(titles) - 11} more …", *titles[-5:]]
        titles.append(self.path[0].title)
        return "The graph has a cycle: " + " -> ".join(titles) + " (each depends on the next)"


class UnknownDependencyError(GraphError):
    """A dependency was named that is not in the graph.

    Attributes:
        task: the task (`ttasks.Task`) that names it.
        dependency: the task that is missing, or the key or title that no task has.
        near: similar keys and titles of the graph.
    """

    def __init__(self, task: Any, dependency: Any, near: Sequence[str] = ()) -> None:
        super().__init__(task, dependency, tuple(near))
        self.task = task
        self.dependency = dependency
        self.near = tuple(near)

    def __str__(self) -> str:
        missing = self.dependency
        if isinstance(missing, str):
            return (
                f"Task {self.task.title!r} depends on {missing!r}, and no task of the graph has "
                f"that key or title{did_you_mean(self.near)}"
            )
        return (
            f"Task {self.task.title!r} depends on {missing.title!r} "
            f"({missing.id}), which is not in the graph; add it with graph.add(...)"
        )


class DeclarationError(TTasksError, ValueError):
    """What a task declares does not hold: an input or output is missing, or a tool fails.

    Attributes:
        title: of the task.
        problem: what is wrong.
    """

    def __init__(self, title: str, problem: str) -> None:
        super().__init__(title, problem)
        self.title = title
        self.problem = problem

    def __str__(self) -> str:
        return f"Task {self.title!r}: {self.problem}"


class GraphFailedError(TTasksError):
    """A run ended with required tasks that did not succeed.

    It is raised from the first of ``exceptions``, or from the error of the run if there are none.

    Attributes:
        title: the graph's title.
        failures: title and error text of each such task that is not CANCELLED, in insertion order.
        run_error: text of the error of the whole run, such as a timeout, or None.
        cancelled: titles of the required tasks that are CANCELLED, in insertion order.
        exceptions: what the FAILED tasks raised, in the order in which they failed; empty for a
            graph from a store. When this error is pickled, those that cannot be are replaced.
    """

    def __init__(
        self,
        title: str,
        failures: Sequence[tuple[str, str]],
        run_error: str | None = None,
        cancelled: Sequence[str] = (),
        exceptions: Sequence[BaseException] = (),
    ) -> None:
        super().__init__(title, tuple(failures), run_error, tuple(cancelled))
        self.title = title
        self.failures = tuple(failures)
        self.run_error = run_error
        self.cancelled = tuple(cancelled)
        self.exceptions = tuple(exceptions)

    def __str__(self) -> str:
        name = f"Graph {self.title!r}" if self.title else "Graph"
        lines = [f"{name} failed"]
        if self.run_error is not None:
            lines[0] += f": {self.run_error}"
        lines += [f"  {title}: {error}" for title, error in self.failures]
        if self.cancelled:
            lines.append(f"  cancelled: {', '.join(self.cancelled)}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, tuple(map(_picklable, self.exceptions)))


def _picklable(error: BaseException) -> BaseException:
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever the code of its class raises
        return TaskExecutionError(f"{type(error).__qualname__}: {describe(error)}")
    return error


class StoreError(TTasksError):
    """A store cannot be opened, read or written."""


class StoreVersionError(StoreError):
    """A ledger was written by a newer version of this library.

    Attributes:
        path: the file.
        found: its schema version.
        supported: the newest version that this library reads.
    """

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(path, found, supported)
        self.path = path
        self.found = found
        self.supported = supported

    def __str__(self) -> str:
        return (
            f"Ledger {self.path!r} has schema version {self.found}, this ttasks reads up to "
            f"{self.supported}; upgrade ttasks to open it"
        )


class CircuitOpenError(TTasksError):
    """A circuit breaker is open, so the handler was not called.

    Attributes:
        group: the concurrency group, or the name of the task type, whose breaker is open.
        retry_after: seconds until the next trial call; 0.0 while one is under way.
        what: "group" or "task type".
    """

    def __init__(self, group: str, retry_after: float, what: str = "group") -> None:
        super().__init__(group, retry_after, what)
        self.group = group
        self.retry_after = retry_after
        self.what = what

    def __str__(self) -> str:
        circuit = f"The circuit of {self.what} {self.group!r}"
        if not self.retry_after:
            return f"{circuit} is open until its trial call has ended"
        return f"{circuit} is open for {self.retry_after:.3g} s more"


class TaskRejectedError(TTasksError):
    """A guard refused a task before its handler was called."""


class MissingExtraError(TTasksError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: name of the extra of this package that brings it.
        feature: what needs it.
    """

    def __init__(self, extra: str, feature: str) -> None:
        super().__init__(extra, feature)
        self.extra = extra
        self.feature = feature

    def __str__(self) -> str:
        return f"{self.feature} needs an extra; install it with: pip install 'ttasks[{self.extra}]'"


class ScheduleError(TTasksError, RuntimeError):
    """What a schedule should have run did not run, or did not succeed.

    Attributes:
        schedule: name of the schedule.
        slot: the moment it was for, aware UTC; None if it is about the schedule as a whole.
        reason: what went wrong, for people.
    """

    def __init__(self, schedule: str, slot: datetime | None, reason: str) -> None:
        super().__init__(schedule, slot, reason)
        self.schedule = schedule
        self.slot = slot
        self.reason = reason

    def __str__(self) -> str:
        when = "" if self.slot is None else f", slot {self.slot:%Y-%m-%d %H:%M:%S} UTC"
        return f"Schedule {self.schedule!r}{when}: {self.reason}"


class ProviderError(TTasksError, RuntimeError):
    """The provider of a language model gave no answer to a prompt.

    Attributes:
        provider: name of the provider.
        reason: what went wrong, for people.
        status: HTTP status that the model's server answered with, or None.
    """

    def __init__(self, provider: str, reason: str, status: int | None = None) -> None:
        super().__init__(provider, reason, status)
        self.provider = provider
        self.reason = reason
        self.status = status

    def __str__(self) -> str:
        return f"{self.provider}: {self.reason}"


class ProviderStartError(ProviderError):
    """The provider's program is missing, does not start, ended, or is of another version."""


class ProviderAuthenticationError(ProviderError):
    """Not signed in, or the key is not accepted."""


class UnknownModelError(ProviderError):
    """The provider has no such model, or nothing at that address."""


class RateLimitedError(ProviderError):
    """Too many requests at the moment; name it in ``RetryPolicy(retry_on=...)``."""


class ProviderConnectionError(ProviderError):
    """The model's server cannot be reached, broke off, or failed (HTTP 500 and above)."""


class ProviderResponseError(ProviderError):
    """The model's server answered with something that is no answer, or an empty one."""


def describe(error: BaseException) -> str:
    """The text of an error for people: its message, or its type where it has none."""
    text = str(error)
    if type(text) is not str:  # a subclass, whose methods may do anything
        text = str.__str__(text)
    return text or type_name(error)


def did_you_mean(near: Sequence[str]) -> str:
    """The end of a message about an unknown name: similar known names."""
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def text_of(error: BaseException) -> str:
    """`describe`, also for an exception whose text raises something itself."""
    try:
        return describe(error)
    except BaseException as broken:
        return f"{type_name(error)} (whose text raised {type_name(broken)})"


def type_name(value: object) -> str:
    """The name of the type of an object, without running code of its metaclass."""
    return _name_of(type(value), "__name__")


def full_type_name(value: object) -> str:
    """The same with the module of the type."""
    kind = type(value)
    return f"{_name_of(kind, '__module__')}.{_name_of(kind, '__qualname__')}"


def _name_of(kind: type, attribute: str) -> str:
    name = type.__dict__[attribute].__get__(kind)
    return name if type(name) is str else "?"
