"""TaskBase: the attributes of a task, how they are set, and what makes two tasks equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from ttasks.model.attributes import (
    ATTRIBUTES,
    NO_OPTIONS,
    TEXTS,
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
)
from ttasks.model.ids import new_id
from ttasks.model.lifecycle import Lifecycle
from ttasks.model.policy import RetryPolicy
from ttasks.model.state import TaskState
from ttasks.model.status import TaskStatus
from ttasks.model.task_type import TaskType

_READ_ONLY = frozenset(
    {"id", "created_at", "fingerprint", "status", "result", "error", "blocked_by"}
)
_write = object.__setattr__


def _setter(name: str) -> Callable[[Any, Any], None]:
    """What sets a slot of a task."""
    setter: Callable[[Any, Any], None] = TaskBase.__dict__[name].__set__
    return setter


class TaskBase(TaskState):
    """What `ttasks.model.task.Task` is, without the ways to make one."""

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
        # What is as usual is not worth a call: graphs of 100,000 tasks are made here.
        if title.__class__ is not str or description.__class__ is not str:
            check_str("title", title)
            check_str("description", description)
        if type.__class__ is not TaskType:
            check_task_type("type", type)
        if type in TEXTS:
            check_task_payload("payload", payload, type)
        if priority.__class__ is not float or not isfinite(priority):
            priority = check_number("priority", priority)
        timeout = None if timeout is None else check_seconds("timeout", timeout)
        retry = None if retry is None else check_retry("retry", retry)
        deadline = None if deadline is None else check_moment("deadline", deadline)
        group = None if group is None else check_optional_str("group", group)
        key = None if key is None else check_optional_str("key", key)
        version = None if version is None else check_optional_str("version", version)
        reuse = False if reuse is False else check_bool("reuse", reuse)
        options = NO_OPTIONS if options is None else check_options("options", options, type)
        # Past `__setattr__`, and faster than through `object.__setattr__`.
        _set_id(self, new_id())
        _set_title(self, title or title_of(payload, type))
        _set_payload(self, payload)
        _set_type(self, type)
        _set_description(self, description)
        _set_timeout(self, timeout)
        _set_retry(self, retry)
        _set_priority(self, priority)
        _set_deadline(self, deadline)
        _set_group(self, group)
        _set_key(self, key)
        _set_version(self, version)
        _set_reuse(self, reuse)
        _set_options(self, options)
        _set_created_at(self, datetime.now(UTC))
        _set_fingerprint(self, None)
        _set_lifecycle(self, Lifecycle())

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
            self._lifecycle.edited = True
        elif name in _READ_ONLY:
            raise AttributeError(f"Attribute {name!r} of a Task is read-only")
        _write(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Attribute {name!r} of a Task cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TaskBase):
            return self.id == other.id
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.title!r} {self.status.value}>"


# The errors of its arguments are to name the class that people know.
TaskBase.__init__.__qualname__ = "Task.__init__"

_set_id = _setter("id")
_set_title = _setter("title")
_set_payload = _setter("payload")
_set_type = _setter("type")
_set_description = _setter("description")
_set_timeout = _setter("timeout")
_set_retry = _setter("retry")
_set_priority = _setter("priority")
_set_deadline = _setter("deadline")
_set_group = _setter("group")
_set_key = _setter("key")
_set_version = _setter("version")
_set_reuse = _setter("reuse")
_set_options = _setter("options")
_set_created_at = _setter("created_at")
_set_fingerprint = _setter("fingerprint")
_set_lifecycle = _setter("_lifecycle")
