"""Task: a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from os import PathLike
from types import MemberDescriptorType
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, Unpack, cast, overload

from ttasks.model.attributes import ATTRIBUTES
from ttasks.model.call import Call, name_of, value_of
from ttasks.model.checks import wrong_type
from ttasks.model.command import command_options
from ttasks.model.lifecycle import Lifecycle
from ttasks.model.policy import RetryPolicy
from ttasks.model.prompt import agent_options, prompt_options
from ttasks.model.task_base import TaskBase
from ttasks.model.task_type import TaskType

R = TypeVar("R")
AnyTask = TypeVar("AnyTask", bound="Task")


class TaskSettings(TypedDict, total=False):
    """Keyword arguments that every way of making a task takes; see `Task`."""

    retry: RetryPolicy | None
    priority: float
    deadline: datetime | None
    group: str | None
    key: str | None
    version: str | None
    reuse: bool


class PythonSettings(TaskSettings, total=False):
    """Keyword arguments of Python tasks; see `Task`."""

    description: str
    timeout: float | None
    options: Mapping[str, Any] | None


class Task(TaskBase):
    """A unit of work: what to do, how to treat it, and what became of it.

    Tasks are equal, and hashed, by ``id``. Attributes may be written (with the same checks as
    here) until the task has SUCCEEDED; then a write raises AttributeError. Reading is thread-safe,
    status changes are atomic; write other attributes before you hand the task to an executor.

    Args:
        title: short name for people; empty takes the first line of the payload.
        payload: what the handler works on: a str for commands, prompts and agents.
        type: the kind, which chooses the handler.
        description: longer text for people.
        timeout: seconds per attempt, above 0; None means no limit.
        retry: when to try again; None means never.
        priority: among ready tasks of a graph the higher one starts first.
        deadline: aware datetime; among ready tasks of one priority the earlier starts first, one
            without a deadline last. It does not end the task.
        group: name of a concurrency group, see ``limits`` of the executor and of ``graph.run``.
        key: stable name of the task over several runs of a script, kept in the ledger.
        version: changes whenever the meaning of the work does, kept in the ledger.
        reuse: whether the result of an equal task may stand for this one, kept in the ledger.
        options: JSON values for the handler, by name.

    Attributes:
        id: uuid4 as str; immutable.
        created_at: aware UTC.
        fingerprint: digest of what the task does, equal for equal work; set when it is run with a
            store that may need it, else None.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument has a wrong value.

    Example:
        >>> task = Task("greet", "echo hello", TaskType.BASH, timeout=5)
        >>> task.status
        <TaskStatus.PENDING: 'pending'>
    """

    __slots__ = ()

    @classmethod
    def bash(
        cls,
        payload: str,
        *,
        title: str = "",
        description: str = "",
        timeout: float | None = None,
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: str | bytes | None = None,
        strict: bool = False,
        output_limit: int | None = None,
        grace: float = 2.0,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Make a task that runs ``bash -c payload``.

        Args:
            payload: the script.
            title, description, timeout, settings: see `Task`.
            cwd: folder to run in; None means that of this process.
            env: changes to the environment of this process; None as a value removes the name.
            stdin: what the command reads; None means nothing (end of file at once).
            strict: run with ``-euo pipefail``.
            output_limit: bytes to keep of each stream, at least 2: the first and the last half;
                the whole goes to a file. None keeps everything in memory.
            grace: seconds between TERM and KILL when the command is ended, at least 0.
        """
        options = command_options(
            cwd=cwd, env=env, stdin=stdin, strict=strict, output_limit=output_limit, grace=grace
        )
        return cls(
            title,
            payload,
            TaskType.BASH,
            description,
            timeout=timeout,
            options=options,
            **settings,
        )

    @classmethod
    def powershell(
        cls,
        payload: str,
        *,
        title: str = "",
        description: str = "",
        timeout: float | None = None,
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: str | bytes | None = None,
        output_limit: int | None = None,
        grace: float = 2.0,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Make a task that runs a PowerShell script; arguments as for `bash`."""
        options = command_options(
            cwd=cwd, env=env, stdin=stdin, output_limit=output_limit, grace=grace
        )
        return cls(
            title,
            payload,
            TaskType.POWERSHELL,
            description,
            timeout=timeout,
            options=options,
            **settings,
        )

    @classmethod
    def prompt(
        cls,
        payload: str,
        *,
        title: str = "",
        description: str = "",
        timeout: float | None = None,
        model: str | None = None,
        provider: Mapping[str, Any] | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Make a task that asks a language model one question, without tools.

        What is None is as the handler was made; a provider that does not know an option that is
        given fails the task.

        Args:
            payload: the question.
            title, description, timeout, settings: see `Task`.
            model: name of the model.
            provider: the Copilot SDK's setting for another model server, in place of that of the
                handler. It must hold no key: name an environment variable as ``api_key_env``.
            system: instructions for the model, as the system message.
            temperature: 0 to 2.
            max_tokens: most tokens of the answer, at least 1.
        """
        options = prompt_options(
            model=model,
            provider=provider,
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        return cls(
            title,
            payload,
            TaskType.PROMPT,
            description,
            timeout=timeout,
            options=options,
            **settings,
        )

    @classmethod
    def agent(
        cls,
        payload: str,
        *,
        title: str = "",
        description: str = "",
        timeout: float | None = None,
        model: str | None = None,
        provider: Mapping[str, Any] | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        cwd: str | PathLike[str] | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task:
        """Make a task that gives an agent with tools one turn; treat the payload as code.

        Unless the handler was made with ``permissions``, whatever the agent asks leave for is
        approved: it runs commands and changes files as this process may.

        Args:
            payload: what to do.
            title, description, timeout, settings: see `Task`.
            model, provider, temperature, max_tokens: see `prompt`.
            system: instructions, after those that the agent has anyway.
            cwd: folder that it works in; None means the handler's, or else that of this process.
        """
        options = agent_options(
            model=model,
            provider=provider,
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
            cwd=cwd,
        )
        return cls(
            title,
            payload,
            TaskType.AGENT,
            description,
            timeout=timeout,
            options=options,
            **settings,
        )

    @overload
    @staticmethod
    def python(
        func: Callable[..., Coroutine[Any, Any, R]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        title: str | None = None,
        backend: str | None = None,
        **settings: Unpack[PythonSettings],
    ) -> PythonTask[R]: ...

    @overload
    @staticmethod
    def python(
        func: Callable[..., R],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        title: str | None = None,
        backend: str | None = None,
        **settings: Unpack[PythonSettings],
    ) -> PythonTask[R]: ...

    @staticmethod
    def python(
        func: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        title: str | None = None,
        backend: str | None = None,
        **settings: Unpack[PythonSettings],
    ) -> PythonTask[Any]:
        """Make a task that calls a function, plain or ``async def``.

        A task among the arguments, also in lists, tuples and values of dicts, stands for its
        value, and ``graph.add`` makes it a dependency.

        Args:
            func: the function; not a generator function.
            args: its positional arguments.
            kwargs: its arguments by name; None means none.
            title: None means the name of the function.
            backend: "thread", "process" (which can really be ended; function, arguments and value
                have to pickle), or "asyncio"; None means "asyncio" for ``async def``, else
                "thread".
            settings: see `Task`.

        Raises:
            TypeError: the function cannot be called, or not with these arguments.
            ValueError: the backend is unknown or does not fit the function.
        """
        call = Call(func, args, kwargs, backend)
        task: PythonTask[Any] = object.__new__(PythonTask)
        Task.__init__(task, title or name_of(func), call, TaskType.PYTHON, **settings)
        return task


class PythonTask(Task, Generic[R]):
    """A task that calls a function and has a value of type ``R``.

    `Task.python` and the decorator ``@task`` make them. The class can also be derived from: give
    it a method ``run``, and what is to differ from the defaults as class attributes (``title``,
    ``timeout``, ``retry``, ``backend``, … as of `Task` and `Task.python`). Instances are then made
    from the arguments of ``run``.

    Example:
        >>> class Count(PythonTask[int]):
        ...     timeout = 5
        ...
        ...     def run(self, text: str) -> int:
        ...         return len(text.split())
        >>> Count("two words").title
        'Count'
    """

    __slots__ = ()

    backend: ClassVar[str | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        run = getattr(self, "run", None)
        if run is None:
            raise TypeError(
                f"{cls.__qualname__} needs a method run(self, ...) that does the work; "
                "for a task of a plain function there is Task.python(func, args)"
            )
        settings = {name: getattr(cls, name) for name in (*ATTRIBUTES, "type")}
        settings = {
            name: value
            for name, value in settings.items()
            if not isinstance(value, MemberDescriptorType)
        }
        for name in settings.keys() & {"payload", "type"}:
            raise TypeError(f"{cls.__qualname__} must not have a class attribute {name!r}")
        title = settings.pop("title", name_of(cls))
        call = Call(run, args, kwargs, cls.backend)
        super().__init__(title, call, TaskType.PYTHON, **settings)

    @property
    def value(self) -> R:
        """What the function returned.

        Raises:
            TaskExecutionError: the task has not SUCCEEDED.
        """
        return cast(R, value_of(self))

    @property
    def as_argument(self) -> R:
        """The task itself, which type checkers take for its value to come.

        For arguments of other tasks: ``load.task(rows.as_argument)`` is the same as
        ``load.task(rows)``, but checked.
        """
        return cast(R, self)


# For the engine and for stores, not for users.

lifecycle_of: Callable[[Task], Lifecycle] = attrgetter("_lifecycle")
"""The status, result and owner of a task, with the moves that only the engine makes."""


def stamp(task: Task, fingerprint: str | None) -> None:
    """Set the fingerprint of a task, also of one that has SUCCEEDED."""
    object.__setattr__(task, "fingerprint", fingerprint)


def view_of(task: AnyTask, changes: Mapping[str, Any]) -> AnyTask:
    """A task with the same id and the same live status and result, but some other attributes."""
    lifecycle_of(task).edited = True  # the text that was saved before may be another one
    view = object.__new__(type(task))
    for name in (*ATTRIBUTES, "id", "created_at", "fingerprint", "_lifecycle"):
        value = changes[name] if name in changes else getattr(task, name)
        object.__setattr__(view, name, value)
    return view


def check_task(name: str, value: object) -> None:
    """Raise TypeError unless the value is a task."""
    if not isinstance(value, Task):
        raise wrong_type(name, value, "a Task")


def check_tasks(name: str, value: object) -> tuple[Task, ...]:
    """The tasks of an argument that takes one or several, each once."""
    if isinstance(value, Task):
        return (value,)
    if not isinstance(value, (tuple, list)) and (
        isinstance(value, (str, bytes)) or not isinstance(value, Iterable)
    ):
        raise wrong_type(name, value, "a Task or an iterable of them")
    found: dict[str, Task] = {}
    for position, item in enumerate(value):
        if not isinstance(item, Task):
            raise wrong_type(f"{name}[{position}]", item, "a Task")
        found[item.id] = item
    return tuple(found.values())
