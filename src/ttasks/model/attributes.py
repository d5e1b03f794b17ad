"""The attributes of a task that can be written, each with its check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ttasks.model.checks import (
    check_bool,
    check_int,
    check_json,
    check_moment,
    check_number,
    check_optional_str,
    check_seconds,
    check_str,
    near,
    plain,
    wrong_type,
    wrong_value,
)
from ttasks.model.command import check_script, command_options, service_options
from ttasks.model.groups import check_group
from ttasks.model.policy import RetryPolicy
from ttasks.model.prompt import agent_options, prompt_options
from ttasks.model.snapshot import check_files, check_tools, check_variables
from ttasks.model.task_type import TaskType

COMMANDS = (TaskType.BASH, TaskType.POWERSHELL, TaskType.SERVICE)
TEXTS = frozenset({*COMMANDS, TaskType.PROMPT, TaskType.AGENT})
_OPTIONS: dict[TaskType, Callable[..., dict[str, Any]]] = {
    TaskType.BASH: command_options,
    TaskType.POWERSHELL: command_options,
    TaskType.SERVICE: service_options,
    TaskType.PROMPT: prompt_options,
    TaskType.AGENT: agent_options,
}
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


def check_task_type(name: str, value: object) -> TaskType:
    """A TaskType; the error for a str says how to make one."""
    if not isinstance(value, TaskType):
        hint = f"; write TaskType({value!r})" if isinstance(value, str) else ""
        raise TypeError(f"{name} must be a TaskType, got {type(value).__name__}: {value!r}{hint}")
    return value


def check_retry(name: str, value: object) -> RetryPolicy | None:
    """None or a RetryPolicy, which may be given as the number of attempts."""
    if value is None or isinstance(value, RetryPolicy):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, value, "a RetryPolicy, an int (the number of attempts) or None")
    return RetryPolicy(check_int(name, value, least=1))


def _anything(_name: str, value: object) -> object:
    return value


def check_options(name: str, value: object, type: TaskType) -> Mapping[str, Any]:
    """A read-only copy of the options of a task of this type."""
    if value is None:
        return NO_OPTIONS
    if not isinstance(value, Mapping):
        raise wrong_type(name, value, "a mapping of JSON values")
    for key in value:
        if not isinstance(key, str):
            raise wrong_type(f"a key of {name}", key, "a str")
    if value and type in _OPTIONS:
        value = _OPTIONS[type](**value)
    try:
        check_json(name, value)
    except RecursionError:
        raise wrong_value(name, value, "a JSON value that does not contain itself") from None
    return MappingProxyType(plain(value)) if value else NO_OPTIONS


# What a user may write, in the order of the constructor's parameters, each with the check of a new
# value. Those of payload and options depend on the type, see `check_payload` and `check_options`.
ATTRIBUTES: dict[str, Callable[[str, Any], Any]] = {
    "title": check_str,
    "payload": _anything,
    "type": check_task_type,
    "description": check_str,
    "timeout": check_seconds,
    "retry": check_retry,
    "priority": check_number,
    "deadline": check_moment,
    "group": check_group,
    "key": check_optional_str,
    "version": check_optional_str,
    "reuse": check_bool,
    "inputs": check_files,
    "outputs": check_files,
    "env_inputs": check_variables,
    "tools": check_tools,
    "options": _anything,
}


def check_payload(name: str, value: object, type: TaskType) -> None:
    """The payload of a task of this type: a str for commands and prompts, else anything."""
    if type in TEXTS:
        text = check_str(name, value)
        if type in COMMANDS:
            check_script(text)


_MEANT = {
    "name": "title",
    "retries": "retry",
    "max_attempts": "retry",
    "max_retries": "retry",
    "attempts": "retry",
    "groups": "group",
    "pool": "group",
    "queue": "group",
    "id": "key",
    "doc": "description",
    "executor": "backend",
    "mode": "backend",
    "cache": "reuse",
    "file_dep": "inputs",
    "sources": "inputs",
    "depends": "inputs",
    "targets": "outputs",
    "generates": "outputs",
}
"""Other common names of settings."""

FUNCTION_SETTINGS = frozenset(ATTRIBUTES) - {"payload", "type"} | {"backend", "capture_print"}
"""The settings of the tasks of a function."""


def meant_by(name: str, *, cutoff: float = 0.6) -> list[str]:
    """Settings of a function's tasks that a wrong name may mean."""
    if name in _MEANT:
        return [_MEANT[name]]
    return near(name, FUNCTION_SETTINGS, cutoff=cutoff)


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a function's tasks, all of them known, as `Task` would keep them."""
    checked = dict(settings)
    for name, value in settings.items():
        if name == "capture_print":
            check_bool(name, value)
        elif name == "options":
            checked[name] = check_options(name, value, TaskType.PYTHON)
        elif name in ATTRIBUTES and not (name == "title" and value is None):
            checked[name] = ATTRIBUTES[name](name, value)
    return checked


def title_of(payload: object, type: TaskType) -> str:
    """A title for a task that was given none."""
    text = payload.strip() if isinstance(payload, str) else ""
    first = text.split("\n", 1)[0]
    if len(first) > 60:
        first = first[:59] + "…"
    return first or type.value
