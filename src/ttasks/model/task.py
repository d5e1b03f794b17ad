"""Task: a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from operator import attrgetter
from os import PathLike
from types import MappingProxyType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypedDict, TypeVar, Unpack, cast, overload

from ttasks.errors import InvalidTransitionError, TaskExecutionError, did_you_mean
from ttasks.model.attributes import (
    ATTRIBUTES,
    FUNCTION_SETTINGS,
    NO_OPTIONS,
    TEXTS,
    check_options,
    check_payload,
    check_retry,
    check_settings,
    check_task_type,
    meant_by,
    title_of,
)
from ttasks.model.call import Call, Reference, check_backend, check_function, name_of
from ttasks.model.checks import (
    check_bool,
    check_moment,
    check_number,
    check_optional_str,
    check_seconds,
    check_str,
    wrong_type,
)
from ttasks.model.command import STOP_SIGNAL, command_options, service_options
from ttasks.model.groups import Group, check_group
from ttasks.model.ids import new_id
from ttasks.model.lifecycle import Lifecycle
from ttasks.model.policy import RetryPolicy
from ttasks.model.prompt import agent_options, prompt_options
from ttasks.model.result import MaybeNone, R_co, TaskResult
from ttasks.model.service import READY_SECONDS, AnyProbe, Service, check_service
from ttasks.model.snapshot import (
    NOTHING,
    check_files,
    check_reused,
    check_tools,
    check_variables,
)
from ttasks.model.status import TRANSITIONS, TaskStatus
from ttasks.model.task_type import TaskType

R = TypeVar("R")
AnyTask = TypeVar("AnyTask", bound="Task")

_FIXED = ("id", "created_at", "fingerprint")
_OUTCOME = ("status", "error", "result", "blocked_by")
_READ_ONLY = frozenset(_FIXED + _OUTCOME)
_write = object.__setattr__


class TaskSettings(TypedDict, total=False):
    """Keyword arguments that every way of making a task takes; see `Task`."""

    description: str
    timeout: float | None
    retry: RetryPolicy | int | None
    priority: float
    deadline: datetime | None
    group: str | Iterable[str] | None
    key: str | None
    version: str | None
    reuse: bool
    inputs: str | PathLike[str] | Iterable[str | PathLike[str]]
    outputs: str | PathLike[str] | Iterable[str | PathLike[str]]
    env_inputs: str | Iterable[str]
    tools: str | Iterable[str]


class PythonSettings(TaskSettings, total=False):
    """Keyword arguments of Python tasks; see `Task`."""

    options: Mapping[str, Any] | None


class Task(Reference, Generic[R_co]):
    """A unit of work: what to do, how to treat it, and what became of it.

    Tasks are equal, and hashed, by ``id``. Attributes can be written, with the same checks as
    here, until the task has SUCCEEDED; after that a write raises AttributeError. Reading is
    thread-safe and status changes are atomic. Write the other attributes before you hand the
    task to an executor. To type checkers, ``Task[str]`` is a task whose value is a str.

    Args:
        title: short name for people; an empty one is replaced by the first line of the payload.
        payload: what the handler works on: a str for commands, prompts and agents.
        type: the kind of task, which selects the handler.
        description: longer text for people.
        timeout: seconds per attempt, above 0; None means no limit.
        retry: when to try again, as a RetryPolicy or as the number of attempts, the first included;
            None means never. It is kept as a RetryPolicy.
        priority: among the ready tasks of a graph, those with a higher priority start first.
        deadline: aware datetime. Among ready tasks of equal priority, the earliest deadline
            starts first; tasks without one start last. A deadline does not end a task.
        group: name of a concurrency group, or of several: the task runs when there is a place in
            each. It is kept as None, a str, or a tuple of several. See ``limits`` of the executor
            and of ``graph.run``.
        key: name that stays the same from one run of a script to the next; kept in the ledger.
        version: a new one says that the work has changed; kept in the ledger.
        reuse: whether to take over the result of an equal task; kept in the ledger.
        inputs: with ``reuse``, files that the work depends on: names or patterns such as
            ``"src/**/*.c"``, relative to the folder of the command or else of this process. A
            folder stands for all files below it. Each must match a file that is there, or that an
            upstream makes as one of its ``outputs``. Files in ``outputs`` are no inputs.
        outputs: with ``reuse``, files that the work makes, in the same form. The task fails if one
            is missing when it has succeeded, and runs again if one is changed or removed later.
        env_inputs: with ``reuse``, names of environment variables that the work depends on.
        tools: with ``reuse``, commands such as ``"gcc --version"``, run without a shell. The work
            depends on what they print.
        options: JSON values for the handler, by name.

    Attributes:
        id: uuid4 as str; immutable.
        created_at: aware UTC.
        fingerprint: digest of what the task does, equal for equal work. It is set when the task
            is run with a store that may need it, and None before.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument has a wrong value.

    Example:
        >>> task = Task("greet", "echo hello", TaskType.BASH, timeout=5)
        >>> task.status
        <TaskStatus.PENDING: 'pending'>
    """

    __slots__ = (*ATTRIBUTES, *_FIXED, "_lifecycle", "__weakref__")

    title: str
    payload: Any
    type: TaskType
    description: str
    timeout: float | None
    retry: RetryPolicy | None
    priority: float
    deadline: datetime | None
    group: Group
    key: str | None
    version: str | None
    reuse: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    env_inputs: tuple[str, ...]
    tools: tuple[str, ...]
    options: Mapping[str, Any]
    id: str
    created_at: datetime
    fingerprint: str | None
    _lifecycle: Lifecycle

    def __init__(
        self,
        title: str,
        payload: Any,
        type: TaskType,
        description: str = "",
        *,
        timeout: float | None = None,
        retry: RetryPolicy | int | None = None,
        priority: float = 0.0,
        deadline: datetime | None = None,
        group: str | Iterable[str] | None = None,
        key: str | None = None,
        version: str | None = None,
        reuse: bool = False,
        inputs: str | PathLike[str] | Iterable[str | PathLike[str]] = NOTHING,
        outputs: str | PathLike[str] | Iterable[str | PathLike[str]] = NOTHING,
        env_inputs: str | Iterable[str] = NOTHING,
        tools: str | Iterable[str] = NOTHING,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        # The usual values need no call of a check. This saves 0.8 us per task, see `_set` below.
        if title.__class__ is not str or description.__class__ is not str:
            check_str("title", title)
            check_str("description", description)
        if type.__class__ is not TaskType:
            check_task_type("type", type)
        if type in TEXTS:
            check_payload("payload", payload, type)
        if priority.__class__ is not float or not isfinite(priority):
            priority = check_number("priority", priority)
        timeout = None if timeout is None else check_seconds("timeout", timeout)
        retry = None if retry is None else check_retry("retry", retry)
        deadline = None if deadline is None else check_moment("deadline", deadline)
        groups = None if group is None else check_group("group", group)
        key = None if key is None else check_optional_str("key", key)
        version = None if version is None else check_optional_str("version", version)
        reuse = False if reuse is False else check_bool("reuse", reuse)
        files = made = variables = commands = NOTHING
        if not (inputs is outputs is env_inputs is tools is NOTHING):
            files, made = check_files("inputs", inputs), check_files("outputs", outputs)
            variables, commands = (
                check_variables("env_inputs", env_inputs),
                check_tools("tools", tools),
            )
            check_reused(reuse, files, made, variables, commands)
        options = NO_OPTIONS if options is None else check_options("options", options, type)
        _set.title(self, title or title_of(payload, type))
        _set.payload(self, payload)
        _set.type(self, type)
        _set.description(self, description)
        _set.timeout(self, timeout)
        _set.retry(self, retry)
        _set.priority(self, priority)
        _set.deadline(self, deadline)
        _set.group(self, groups)
        _set.key(self, key)
        _set.version(self, version)
        _set.reuse(self, reuse)
        _set.inputs(self, files)
        _set.outputs(self, made)
        _set.env_inputs(self, variables)
        _set.tools(self, commands)
        _set.options(self, options)
        _set.id(self, new_id())
        _set.created_at(self, datetime.now(UTC))
        _set.fingerprint(self, None)
        _set.lifecycle(self, Lifecycle())

    @classmethod
    def bash(
        cls,
        payload: str,
        *,
        title: str = "",
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: str | bytes | None = None,
        strict: bool = False,
        output_limit: int | None = None,
        grace: float = 2.0,
        **settings: Unpack[TaskSettings],
    ) -> Task[str]:
        """Make a task that runs ``bash -c payload``.

        Args:
            payload: the script.
            title, settings: see `Task`.
            cwd: folder to run in; None means the current folder of this process.
            env: changes to the environment of this process; a value of None removes the name.
            stdin: what the command reads; None means nothing (end of file at once).
            strict: run with ``-euo pipefail``.
            output_limit: bytes to keep of each stream, at least 2: the first and the last half.
                The whole output goes to a file. None keeps everything in memory.
            grace: seconds between TERM and KILL when the command is ended, at least 0.
        """
        options = command_options(
            cwd=cwd, env=env, stdin=stdin, strict=strict, output_limit=output_limit, grace=grace
        )
        return cast("Task[str]", cls(title, payload, TaskType.BASH, options=options, **settings))

    @classmethod
    def powershell(
        cls,
        payload: str,
        *,
        title: str = "",
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: str | bytes | None = None,
        output_limit: int | None = None,
        grace: float = 2.0,
        **settings: Unpack[TaskSettings],
    ) -> Task[str]:
        """Make a task that runs a PowerShell script; arguments as for `bash`."""
        options = command_options(
            cwd=cwd, env=env, stdin=stdin, output_limit=output_limit, grace=grace
        )
        return cast(
            "Task[str]", cls(title, payload, TaskType.POWERSHELL, options=options, **settings)
        )

    @staticmethod
    def service(
        payload: str,
        *,
        ready: AnyProbe | None = None,
        ready_timeout: float = READY_SECONDS,
        stop_signal: int = STOP_SIGNAL,
        title: str = "",
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: str | bytes | None = None,
        strict: bool = False,
        output_limit: int | None = None,
        grace: float = 2.0,
        **settings: Unpack[TaskSettings],
    ) -> Task[str]:
        """Make a task that keeps ``bash -c payload`` running while other tasks need it.

        It is RUNNING from its start. When it is ready, READY is announced and its dependents may
        start. When all that come after it, over any number of steps, have ended, it is stopped with
        its whole tree, and SUCCEEDS. It holds no worker. Run it in a graph, or with
        ``executor.running(service)``.

        The task is FAILED if the command ends before (``termination_reason`` "died"), or is not
        ready in time ("not_ready"). Before it is ready, its ``retry`` holds. Nothing is tried again
        after that: what comes after it and has not started is treated as if an upstream had failed.
        If nothing needs it, it is SKIPPED.

        Args:
            payload: the script, which has to stay in the foreground.
            ready: a probe of `ttasks.ready`, or any callable without arguments; called again and
                again, on a thread of its own, until it returns something true. What it raises
                means that the service is not ready yet. None means that it is ready at once.
            ready_timeout: seconds from the start until it must be ready, above 0.
            stop_signal: number of the signal that asks it to end, such as ``signal.SIGINT``;
                what has not ended after ``grace`` seconds is killed.
            title, cwd, env, stdin, strict, output_limit, grace: see `bash`.
            settings: see `Task`. ``timeout`` is the longest that it may run, stopping excluded; the
                executor's default does not hold for services. A place in a ``group`` is given back
                when it is ready. There is no ``reuse``.

        Example:
            >>> from ttasks import ready
            >>> port = ready.free_port()
            >>> Task.service(f"redis-server --port {port}", ready=ready.tcp(port)).type
            TaskType('service')
        """
        _refuse_reuse(settings)
        service = check_service(ready, ready_timeout)
        options = service_options(
            cwd=cwd,
            env=env,
            stdin=stdin,
            strict=strict,
            output_limit=output_limit,
            grace=grace,
            ready=ready,
            ready_timeout=service.ready_timeout,
            stop_signal=stop_signal,
        )
        task = object.__new__(ServiceTask)
        Task.__init__(task, title, payload, TaskType.SERVICE, options=options, **settings)
        _write(task, "probe", ready)
        return task

    @classmethod
    def prompt(
        cls,
        payload: str,
        *,
        title: str = "",
        model: str | None = None,
        provider: Mapping[str, Any] | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task[str]:
        """Make a task that asks a language model one question, without tools.

        An option that is None takes the value the handler was made with. The task fails if its
        provider does not know an option that is given.

        Args:
            payload: the question.
            title, settings: see `Task`.
            model: name of the model.
            provider: the Copilot SDK's setting for another model server, in place of the
                handler's. It must hold no key: name an environment variable as ``api_key_env``.
            system: instructions for the model, sent as the system message.
            temperature: 0 to 2.
            max_tokens: longest answer in tokens, at least 1.
        """
        options = prompt_options(
            model=model,
            provider=provider,
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        return cast("Task[str]", cls(title, payload, TaskType.PROMPT, options=options, **settings))

    @classmethod
    def agent(
        cls,
        payload: str,
        *,
        title: str = "",
        model: str | None = None,
        provider: Mapping[str, Any] | None = None,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        cwd: str | PathLike[str] | None = None,
        **settings: Unpack[TaskSettings],
    ) -> Task[str]:
        """Make a task that gives an agent with tools one turn; treat the payload as code.

        Unless the handler was made with ``permissions``, everything the agent asks permission
        for is approved: it runs commands and changes files as this process may.

        Args:
            payload: what to do.
            title, settings: see `Task`.
            model, provider, temperature, max_tokens: see `prompt`.
            system: instructions that are added to the agent's own.
            cwd: folder to work in; None means the handler's, or else that of this process.
        """
        options = agent_options(
            model=model,
            provider=provider,
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
            cwd=cwd,
        )
        return cast("Task[str]", cls(title, payload, TaskType.AGENT, options=options, **settings))

    @overload
    @staticmethod
    def python(
        func: Callable[..., Coroutine[Any, Any, R]],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        title: str | None = None,
        backend: str | None = None,
        capture_print: bool = False,
        service: bool = False,
        ready: AnyProbe | None = None,
        ready_timeout: float = READY_SECONDS,
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
        capture_print: bool = False,
        service: bool = False,
        ready: AnyProbe | None = None,
        ready_timeout: float = READY_SECONDS,
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
        capture_print: bool = False,
        service: bool = False,
        ready: AnyProbe | None = None,
        ready_timeout: float = READY_SECONDS,
        **settings: Unpack[PythonSettings],
    ) -> PythonTask[Any]:
        """Make a task that calls a function, plain or ``async def``.

        A task among the arguments, also inside lists, tuples and values of dicts, stands for its
        value, and ``graph.add`` makes it a dependency. ``ttasks.literal(task)`` passes the task.

        Args:
            func: the function; not a generator function.
            args: its positional arguments.
            kwargs: its keyword arguments; None means none.
            title: None means the name of the function.
            backend: "thread", "asyncio", or "process", which can really be ended (function,
                arguments and value have to pickle); None means "asyncio" for ``async def``, else
                "thread".
            capture_print: what the function prints to ``sys.stdout`` and ``sys.stderr`` becomes
                output of the task. That of its coroutines, and of threads that run in a copy of its
                context (``asyncio.to_thread``), does too; other threads and processes that it
                starts are not captured.
            service: the function stays: it runs until nothing that comes after it needs it, as the
                command of `service` does. A plain function gets the process backend, where it is
                ended with its process; a coroutine is cancelled.
            ready, ready_timeout: of a service; see `service`.
            settings: see `Task`.

        Raises:
            TypeError: the function cannot be called, or not with these arguments.
            ValueError: the backend is unknown or does not fit the function.
        """
        kept = None
        if check_bool("service", service):
            _refuse_reuse(settings)
            kept = check_service(ready, ready_timeout)
        elif ready is not None or ready_timeout != READY_SECONDS:
            raise ValueError("ready and ready_timeout are those of a service: add service=True")
        call = Call(func, args, kwargs, backend, capture_print=capture_print, service=kept)
        task: PythonTask[Any] = object.__new__(PythonTask)
        Task.__init__(task, title or name_of(func), call, TaskType.PYTHON, **settings)
        return task

    # What became of it

    @property
    def status(self) -> TaskStatus:
        """Where the task is in its life."""
        return self._lifecycle.status

    @property
    def result(self) -> TaskResult[R_co] | MaybeNone:
        """What the latest attempt gave; None before the first, while running, and if none ran."""
        return self._lifecycle.result

    @property
    def error(self) -> str | None:
        """Why the task did not succeed, or None.

        The message of the failure, or the reason why it was cancelled, blocked or skipped. Between
        two attempts that of the attempt that failed.
        """
        return self._lifecycle.error

    @property
    def blocked_by(self) -> str | None:
        """Id of the first upstream that made this task BLOCKED, else None."""
        return self._lifecycle.blocked_by

    @property
    def value(self) -> R_co:
        """The value of the result.

        Raises:
            TaskExecutionError: the task has not SUCCEEDED; the message says what it is instead.
        """
        result, status = self.result, self.status
        if result is not None and result.status is TaskStatus.SUCCEEDED:
            return cast(R_co, result.value)
        why = f": {self.error}" if self.error else ""
        raise TaskExecutionError(
            f"The value of task {self.title!r} ({self.id}) is missing: it is {status.value}{why}"
        )

    @property
    def is_pending(self) -> bool:
        """True while PENDING."""
        return self._lifecycle.status is TaskStatus.PENDING

    @property
    def is_running(self) -> bool:
        """True while RUNNING."""
        return self._lifecycle.status is TaskStatus.RUNNING

    @property
    def is_succeeded(self) -> bool:
        """True once SUCCEEDED."""
        return self._lifecycle.status is TaskStatus.SUCCEEDED

    @property
    def is_done(self) -> bool:
        """The same as ``is_succeeded``."""
        return self._lifecycle.status is TaskStatus.SUCCEEDED

    @property
    def is_failed(self) -> bool:
        """True while FAILED."""
        return self._lifecycle.status is TaskStatus.FAILED

    @property
    def is_cancelled(self) -> bool:
        """True once CANCELLED."""
        return self._lifecycle.status is TaskStatus.CANCELLED

    @property
    def is_blocked(self) -> bool:
        """True while BLOCKED."""
        return self._lifecycle.status is TaskStatus.BLOCKED

    @property
    def is_skipped(self) -> bool:
        """True while SKIPPED."""
        return self._lifecycle.status is TaskStatus.SKIPPED

    @property
    def is_retrying(self) -> bool:
        """True between two attempts: the last one failed, and another will follow.

        The task is FAILED while that is being announced, and PENDING from then on. It keeps the
        error and the result of the last attempt until the next one starts.
        """
        return self._lifecycle.is_retrying

    @property
    def is_terminal(self) -> bool:
        """True unless PENDING or RUNNING."""
        return not self._lifecycle.status.is_active

    def can_transition_to(self, status: TaskStatus) -> bool:
        """True if the lifecycle allows the move now; another thread may make one in between.

        Raises:
            TypeError: it is not a TaskStatus.
        """
        _check_status(status)
        return status in TRANSITIONS[self._lifecycle.status]

    def transition_to(self, status: TaskStatus, error: str | None = None) -> None:
        """Move to another status; executors do this for you.

        Entering RUNNING clears ``error``, ``result`` and ``blocked_by``; entering SUCCEEDED
        clears ``error``. Atomic: of two racing moves one wins and the other raises. Neither
        subscribers nor a store hear of it.

        Args:
            status: where to.
            error: message to keep with FAILED and CANCELLED.

        Raises:
            InvalidTransitionError: (a ValueError) the move is not allowed; nothing changed.
            TypeError: an argument has the wrong type.
        """
        _check_status(status)
        if error is not None:
            check_str("error", error)
        life = self._lifecycle
        if life.move(status, error) is None:
            raise InvalidTransitionError(self.id, self.title, life.status.value, status.value)
        if status is TaskStatus.CANCELLED:
            self._cancel_attempt()

    def cancel(self) -> None:
        """Become CANCELLED at once, and ask the attempt that is running, if any, to stop.

        Idempotent; keeps an existing error; does nothing to a task that SUCCEEDED. Prefer
        ``executor.cancel(task)``, which also tells subscribers and the store.
        """
        self._lifecycle.move(TaskStatus.CANCELLED, None)
        self._cancel_attempt()

    def _cancel_attempt(self) -> None:
        owner = self._lifecycle.owner
        if owner is not None:
            owner.cancel()

    # Object protocol

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ATTRIBUTES:
            if self._lifecycle.status is TaskStatus.SUCCEEDED:
                raise AttributeError(
                    f"Task {self.title!r} has succeeded and is read-only; cannot set {name!r}"
                )
            if name == "payload":
                check_payload(name, value, self.type)
            elif name == "options":
                value = check_options(name, value, self.type)
            else:
                value = ATTRIBUTES[name](name, value)
                if name == "type":
                    check_payload("payload", self.payload, value)
                    check_options("options", self.options, value)
            self._lifecycle.edited = True
        elif name in _READ_ONLY:
            raise AttributeError(f"Attribute {name!r} of a Task is read-only")
        _write(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Attribute {name!r} of a Task cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.title!r} {self.status.value}>"

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in (*ATTRIBUTES, *_FIXED)}
        life = self._lifecycle
        with life.lock:
            state |= {name: getattr(life, name) for name in _OUTCOME}
        extra = dict(getattr(self, "__dict__", {}))  # of a subclass without slots
        return state | {"options": dict(self.options), "extra": extra}

    def __setstate__(self, state: dict[str, Any]) -> None:
        life = Lifecycle()
        life.edited = True
        for name in _OUTCOME:
            setattr(life, name, state[name])
        _write(self, "_lifecycle", life)
        for name in (*ATTRIBUTES, *_FIXED):
            _write(self, name, state[name])
        _write(self, "options", MappingProxyType(state["options"]))
        for name, value in state["extra"].items():
            _write(self, name, value)


# Each sets one slot past `__setattr__`. With `object.__setattr__` making a task would take 1.3 us
# longer, of the 12 us that it takes in benchmarks/graphs.py.
_set: Any = type(
    "_Setters",
    (),
    {name.strip("_"): getattr(Task, name).__set__ for name in Task.__slots__[:-1]},
)


class ServiceTask(Task[str]):
    """A task made by `Task.service`.

    Attributes:
        probe: what was given as ``ready``. The options have all that a ledger keeps of it.
    """

    probe: AnyProbe | None = None


class PythonTask(Task[R_co]):
    """A task that calls a function; ``PythonTask[int]`` is one of a function that returns an int.

    `Task.python` and the decorator ``@task`` make them. The class can also be derived from: give
    the subclass a method ``run`` and, as class attributes, the settings that differ from the
    defaults (``title``, ``timeout``, ``retry``, ``backend``, and so on, as for `Task` and
    `Task.python`). They are checked when the class is made: a TypeError or ValueError says what is
    wrong. A likely misspelling of a setting, or another library's name for one (``retries``), is a
    TypeError too; names that begin with an underscore are never taken for a setting. Instances are
    made from the arguments of ``run``.

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
    capture_print: ClassVar[bool] = False
    if TYPE_CHECKING:
        retry: Any  # a class attribute may also be an int,
        group: Any  # and any iterable of str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in _checked_settings(cls).items():
            setattr(cls, name, value)  # as a task keeps it: it is read from here

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        run = getattr(self, "run", None)
        if run is None:
            raise TypeError(
                f"{cls.__qualname__} needs a method run(self, ...) that does the work; "
                "for a task of a plain function there is Task.python(func, args)"
            )
        given = {name: getattr(cls, name) for name in ATTRIBUTES}
        # An attribute that the class leaves alone is still the slot of Task.
        settings = {n: v for n, v in given.items() if not isinstance(v, MemberDescriptorType)}
        title = settings.pop("title", name_of(cls))
        call = Call(run, args, kwargs, cls.backend, capture_print=cls.capture_print)
        super().__init__(title, call, TaskType.PYTHON, **settings)

    @property
    def as_argument(self) -> R_co:
        """The task itself, which type checkers take for its value to come.

        For arguments of other tasks: ``load.task(rows.as_argument)`` is the same as
        ``load.task(rows)``, but checked.
        """
        return cast(R_co, self)


def _checked_settings(cls: type[PythonTask[Any]]) -> dict[str, Any]:
    """The settings in the body of a class of tasks, checked like its method ``run``.

    Raises:
        TypeError, ValueError: one is wrong, or an attribute has a name much like that of a setting.
    """
    settings = {}
    for name, value in vars(cls).items():
        if name in ("payload", "type"):
            raise TypeError(f"{cls.__qualname__} must not have a class attribute {name!r}")
        if name in FUNCTION_SETTINGS:
            settings[name] = value
        elif not (name.startswith("_") or name.isupper() or hasattr(type(value), "__get__")):
            if hasattr(Task, name):
                raise TypeError(
                    f"{cls.__qualname__} must not have a class attribute {name!r}: tasks have one"
                )
            hint = did_you_mean(meant_by(name, cutoff=0.8))
            if hint:
                raise TypeError(
                    f"{cls.__qualname__} has an attribute {name!r}, which is not a setting of a "
                    f"task{hint} (an attribute of your own may be named _{name})"
                )
    try:
        settings = check_settings(settings)
        if "title" in settings:
            settings["title"] = settings["title"] or name_of(cls)
        run = getattr(cls, "run", None)
        if run is not None:
            check_function("run", run, cls.backend)
        elif "backend" in settings:
            check_backend(cls.backend)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{cls.__qualname__}: {error}") from None
    return settings


# For the engine and for stores, not for users.

lifecycle_of: Callable[[Task], Lifecycle] = attrgetter("_lifecycle")
"""The status, result and owner of a task, with the moves that only the engine makes."""


def is_service(task: Task) -> bool:
    """True if the task stays until nothing needs it."""
    if task.type is TaskType.PYTHON:
        return type(task.payload) is Call and task.payload.service is not None
    return task.type is TaskType.SERVICE


def service_of(task: Task) -> Service | None:
    """How to tell that a task is ready which stays; None for any other task."""
    if not is_service(task):
        return None
    if task.type is TaskType.PYTHON:
        service: Service = task.payload.service
        return service
    probe = task.probe if isinstance(task, ServiceTask) else None
    ready = task.options.get("ready") if probe is None else probe
    return Service(ready, task.options.get("ready_timeout", READY_SECONDS))


def stamp(task: Task, fingerprint: str | None) -> None:
    """Set the fingerprint of a task, also of one that has SUCCEEDED."""
    _write(task, "fingerprint", fingerprint)


def replace_payload(task: Task, payload: Any) -> None:
    """Set the payload of a task that a store has just made, also of one that has SUCCEEDED."""
    _write(task, "payload", payload)


def view_of(task: AnyTask, changes: Mapping[str, Any]) -> AnyTask:
    """A task with the same id and the same live status and result, but some other attributes."""
    lifecycle_of(task).edited = True  # the text that was saved before may be another one
    view = object.__new__(type(task))
    for name in (*ATTRIBUTES, *_FIXED, "_lifecycle"):
        _write(view, name, changes[name] if name in changes else getattr(task, name))
    return view


def copy_of(task: AnyTask) -> AnyTask:
    """A new PENDING task that does the same: another id, and nothing of what became of this one."""
    fresh: dict[str, Any] = dict.fromkeys((*_OUTCOME, "fingerprint"))
    fresh |= {"id": new_id(), "created_at": datetime.now(UTC), "status": TaskStatus.PENDING}
    copy = object.__new__(type(task))
    copy.__setstate__(task.__getstate__() | fresh)
    return copy


def _refuse_reuse(settings: TaskSettings) -> None:
    if settings.get("reuse"):
        raise ValueError("reuse must be False for a service: a result does not stand for it")


def _check_status(status: object) -> None:
    if not isinstance(status, TaskStatus):
        raise wrong_type("status", status, "a TaskStatus")


def check_task(name: str, value: object) -> None:
    """Raise TypeError unless the value is a task."""
    if not isinstance(value, Task):
        raise wrong_type(name, value, "a Task")
