"""Task: a unit of work."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from os import PathLike
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from ttasks.errors import InvalidTransitionError
from ttasks.model.attributes import (
    ATTRIBUTES,
    check_options,
    check_retry,
    check_task_payload,
    check_task_type,
    title_of,
)
from ttasks.model.checks import (
    check_bool,
    check_moment,
    check_number,
    check_optional_str,
    check_seconds,
    check_str,
    wrong_type,
)
from ttasks.model.command import command_options
from ttasks.model.ids import new_id
from ttasks.model.lifecycle import Lifecycle
from ttasks.model.policy import RetryPolicy
from ttasks.model.prompt import agent_options, prompt_options
from ttasks.model.result import TaskResult
from ttasks.model.status import TRANSITIONS, TaskStatus
from ttasks.model.task_type import TaskType

_READ_ONLY = frozenset(
    {"id", "created_at", "fingerprint", "status", "result", "error", "blocked_by"}
)
_OUTCOME = ("error", "result", "blocked_by")
_write = object.__setattr__


class TaskSettings(TypedDict, total=False):
    """Keyword arguments that every way of making a task takes; see `Task`."""

    retry: RetryPolicy | None
    priority: float
    deadline: datetime | None
    group: str | None
    key: str | None
    version: str | None
    reuse: bool


class Task:
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

    __slots__ = (
        "__weakref__",
        "_lifecycle",
        "created_at",
        "deadline",
        "description",
        "fingerprint",
        "group",
        "id",
        "key",
        "options",
        "payload",
        "priority",
        "retry",
        "reuse",
        "timeout",
        "title",
        "type",
        "version",
    )

    id: str
    title: str
    payload: Any
    type: TaskType
    description: str
    timeout: float | None
    retry: RetryPolicy | None
    priority: float
    deadline: datetime | None
    group: str | None
    key: str | None
    version: str | None
    reuse: bool
    options: Mapping[str, Any]
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
        retry: RetryPolicy | None = None,
        priority: float = 0.0,
        deadline: datetime | None = None,
        group: str | None = None,
        key: str | None = None,
        version: str | None = None,
        reuse: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        check_str("title", title)
        check_str("description", description)
        check_task_type("type", type)
        check_task_payload("payload", payload, type)
        _write(self, "id", new_id())
        _write(self, "title", title or title_of(payload, type))
        _write(self, "payload", payload)
        _write(self, "type", type)
        _write(self, "description", description)
        _write(self, "timeout", check_seconds("timeout", timeout))
        _write(self, "retry", check_retry("retry", retry))
        _write(self, "priority", check_number("priority", priority))
        _write(self, "deadline", check_moment("deadline", deadline))
        _write(self, "group", check_optional_str("group", group))
        _write(self, "key", check_optional_str("key", key))
        _write(self, "version", check_optional_str("version", version))
        _write(self, "reuse", check_bool("reuse", reuse))
        _write(self, "options", check_options("options", options, type))
        _write(self, "created_at", datetime.now(UTC))
        _write(self, "fingerprint", None)
        _write(self, "_lifecycle", Lifecycle())

    # How to make one

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

    # What became of it

    @property
    def status(self) -> TaskStatus:
        """Where the task is in its life."""
        return self._lifecycle.status

    @property
    def result(self) -> TaskResult | None:
        """What the latest execution gave; None before, while running, and if it never ran."""
        return self._lifecycle.result

    @property
    def error(self) -> str | None:
        """Message of the failure or cancellation, else None."""
        return self._lifecycle.error

    @property
    def blocked_by(self) -> str | None:
        """Id of the first upstream that made this task BLOCKED, else None."""
        return self._lifecycle.blocked_by

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
    def is_terminal(self) -> bool:
        """True unless PENDING or RUNNING."""
        return not self._lifecycle.status.is_active

    def can_transition_to(self, status: TaskStatus) -> bool:
        """True if the lifecycle allows the move now; another thread may make one in between."""
        return status in TRANSITIONS[self._lifecycle.status]

    def transition_to(self, status: TaskStatus, error: str | None = None) -> None:
        """Move to another status; executors do this for you.

        Entering RUNNING clears error, result and ``blocked_by``; entering SUCCEEDED clears the
        error. Atomic: of two racing moves one wins and the other raises. It tells no subscriber
        and no store.

        Args:
            status: where to.
            error: message to keep with FAILED and CANCELLED.

        Raises:
            InvalidTransitionError: (a ValueError) the move is not allowed; nothing changed.
            TypeError: an argument has the wrong type.
        """
        if not isinstance(status, TaskStatus):
            raise wrong_type("status", status, "a TaskStatus")
        if error is not None:
            check_str("error", error)
        life = self._lifecycle
        if life.move(status, error) is None:
            raise InvalidTransitionError(self.id, self.title, life.status.value, status.value)
        if status is TaskStatus.CANCELLED:
            self._end_attempt()

    def cancel(self) -> None:
        """Become CANCELLED at once, and ask the attempt that is running, if any, to stop.

        Idempotent; keeps an existing error; does nothing to a task that SUCCEEDED. Prefer
        ``executor.cancel(task)``, which also tells subscribers and the store.
        """
        self._lifecycle.move(TaskStatus.CANCELLED, None)
        self._end_attempt()

    def _end_attempt(self) -> None:
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
            check = ATTRIBUTES[name]
            if check is not None:
                value = check(name, value)
                if name == "type":
                    check_task_payload("payload", self.payload, value)
                    check_options("options", self.options, value)
            elif name == "payload":
                check_task_payload(name, value, self.type)
            else:
                value = check_options(name, value, self.type)
        elif name in _READ_ONLY:
            raise AttributeError(f"Attribute {name!r} of a Task is read-only")
        _write(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Attribute {name!r} of a Task cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Task):
            return self.id == other.id
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.title!r} {self.status.value}>"

    def stamp(self, fingerprint: str | None) -> None:
        """Set the fingerprint; for the engine."""
        _write(self, "fingerprint", fingerprint)

    def take_over(self, result: TaskResult) -> bool:
        """Become SUCCEEDED with the result of an earlier task; False if not PENDING any more."""
        return self._lifecycle.take_over(result)

    def view(self, changes: Mapping[str, Any]) -> Task:
        """The same task with other texts: same id, same live status and result; for the engine."""
        view = object.__new__(type(self))
        for name in (*ATTRIBUTES, "id", "created_at", "fingerprint", "_lifecycle"):
            _write(view, name, changes[name] if name in changes else getattr(self, name))
        return view

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in ATTRIBUTES}
        life = self._lifecycle
        with life.lock:
            state |= {name: getattr(life, name) for name in ("status", *_OUTCOME)}
        extra = getattr(self, "__dict__", {})
        return state | {
            "id": self.id,
            "created_at": self.created_at,
            "fingerprint": self.fingerprint,
            "options": dict(self.options),
            "extra": dict(extra),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        life = Lifecycle()
        life.status = state["status"]
        for name in _OUTCOME:
            setattr(life, name, state[name])
        _write(self, "_lifecycle", life)
        for name in (*ATTRIBUTES, "id", "created_at", "fingerprint"):
            _write(self, name, state[name])
        _write(self, "options", MappingProxyType(state["options"]))
        for name, value in state["extra"].items():
            _write(self, name, value)
