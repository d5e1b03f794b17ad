"""What rows hold as JSON: rare attributes of a task or result, and the error of a run.

Usual values are left out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from fnmatch import translate
from operator import attrgetter
from subprocess import CompletedProcess
from typing import Any
from warnings import warn

from ttasks.errors import GraphError, StoreError, TaskCancelled, TaskTimeoutError, describe
from ttasks.model.attributes import COMMANDS
from ttasks.model.checks import check_str, wrong_type
from ttasks.model.policy import RetryPolicy
from ttasks.model.result import Failure, TaskResult
from ttasks.model.snapshot import DECLARATIONS, Snapshot
from ttasks.model.task import Task
from ttasks.stores.sqlite.plain import NotStored, exact_json, from_json, kind_of, to_json

_DETAILS = (
    "description",
    "timeout",
    "retry",
    "priority",
    "deadline",
    "group",
    "version",
    "reuse",
    *DECLARATIONS,
    "options",
)
_get_details = attrgetter(*_DETAILS)

IsSecret = Callable[[str], object]
"""Whether the name of an environment variable says that its value is a secret."""

SECRET_VARIABLES = (
    *("*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*CREDENTIAL*"),
    *("*_KEY", "*APIKEY*"),
)
"""Patterns of such names, as for `fnmatch`, whatever their case."""


def secret_names(patterns: Iterable[str]) -> IsSecret:
    """Whether a name fits one of these patterns.

    Raises:
        TypeError, ValueError: they are no patterns.
    """
    if isinstance(patterns, str) or not isinstance(patterns, Iterable):
        raise wrong_type("secret_variables", patterns, "an iterable of patterns such as '*TOKEN*'")
    checked = [check_str("a pattern in secret_variables", item, empty=False) for item in patterns]
    joined = "|".join(translate(pattern) for pattern in checked)
    return re.compile(joined or r"(?!)", re.IGNORECASE).match


# The name in the JSON, the attribute, and the value that is left out, as most results have it.
_FACTS = (
    ("returncode", "returncode", None),
    ("attempts", "attempts", 1),
    ("reason", "termination_reason", None),
    ("failure", "failure", None),
    ("reused", "reused", False),
    ("truncated", "output_truncated", False),
    ("files", "output_files", None),
    ("usage", "usage", None),
    ("attempt_durations", "attempt_durations", ()),
    ("total_duration", "total_duration", None),
    ("shown", "shown_value", None),
    ("snapshot", "snapshot", None),
)
USUAL_FACTS = tuple(usual for _, _, usual in _FACTS)
get_facts = attrgetter(*(attribute for _, attribute, _ in _FACTS))


def encode_details(task: Task, is_secret: IsSecret) -> str | None:
    """JSON of the rarely used attributes that differ from their defaults.

    The values of variables whose names are secret are left out, see `_without_secrets`.
    """
    values = _get_details(task)
    if not any(values):
        return None
    details = {name: value for name, value in zip(_DETAILS, values, strict=True) if value}
    if "options" in details:
        details["options"] = dict(details["options"])
        if task.type in COMMANDS and "env" in task.options:
            details["options"] = _without_secrets(task.options, is_secret)
    if "deadline" in details:
        details["deadline"] = details["deadline"].isoformat()
    if "retry" in details:
        details["retry"] = _encode_retry(details["retry"])
    return to_json(details)


def decode_details(text: str | None) -> dict[str, Any]:
    """The attributes in the JSON of `encode_details`."""
    details = from_json(text) or {}
    deadline = details.get("deadline")
    group = details.get("group")
    retry = details.get("retry")
    return {
        "description": details.get("description", ""),
        "timeout": details.get("timeout"),
        "priority": details.get("priority", 0.0),
        "group": tuple(group) if isinstance(group, list) else group,
        "version": details.get("version"),
        "reuse": details.get("reuse", False),
        **{name: tuple(details.get(name, ())) for name in DECLARATIONS},
        "options": details.get("options", {}),
        "deadline": None if deadline is None else datetime.fromisoformat(deadline),
        "retry": None if retry is None else _decode_retry(retry),
    }


def _without_secrets(options: Mapping[str, Any], is_secret: IsSecret) -> dict[str, Any]:
    """The options of a command, with the names of secret variables in ``env_from``."""
    env: dict[str, str | None] = options["env"]
    names = [name for name, value in env.items() if value is not None and is_secret(name)]
    kept = {name: value for name, value in env.items() if name not in names}
    names = list(dict.fromkeys([*options.get("env_from", ()), *names]))
    return {**options, "env": kept, "env_from": names} if names else dict(options)


_CLASSES = ("retry_on", "give_up_on")
_FUNCTIONS = ("retry_if", "before_sleep")


def _encode_retry(policy: RetryPolicy) -> dict[str, Any]:
    facts = {name: getattr(policy, name) for name in policy.__slots__}
    for name in _CLASSES:
        facts[name] = [_name_of(item) for item in facts[name]]
    for name in _FUNCTIONS:
        facts[name] = None if facts[name] is None else _name_of(facts[name])
    return facts


def _decode_retry(facts: dict[str, Any]) -> RetryPolicy:
    facts = {"give_up_on": (), **facts}
    for name in _CLASSES:
        found = [_exception(name, item) for item in facts[name]]
        facts[name] = tuple(item for item in found if item is not None)
    for name in _FUNCTIONS:
        if facts.get(name) is not None:
            facts[name] = _function(name, facts[name])
    return RetryPolicy(**facts)


def _name_of(item: Any) -> str:
    module = getattr(item, "__module__", "")
    return f"{module}:{getattr(item, '__qualname__', type(item).__qualname__)}"


def _exception(option: str, name: str) -> type[BaseException] | None:
    """The class of this name, if it is loaded.

    Otherwise, with a warning, what lets the task be retried too often rather than never.
    """
    found = _loaded(name)
    if isinstance(found, type) and issubclass(found, BaseException):
        return found
    instead = Exception if option == "retry_on" else None
    _warn_of(option, name, "Exception takes its place" if instead else "it is left out")
    return instead


def _function(option: str, name: str) -> Any:
    found = _loaded(name)
    if callable(found):
        return found
    _warn_of(option, name, "it is left out")
    return None


def _loaded(name: str) -> Any:
    """What has this name in a module that is loaded; None if nothing has.

    Reading a ledger must not run code.
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        # `vars`, because `getattr` on a module may import another.
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found


def _warn_of(option: str, name: str, instead: str) -> None:
    module, _, path = name.partition(":")
    warn(
        f"{option} of a stored task names {path!r} of module {module!r}, which is not loaded; "
        f"{instead} (import the module before you read the ledger)",
        RuntimeWarning,
        stacklevel=2,
    )


def encode_facts(task_id: str, result: TaskResult, known: tuple[Any, ...]) -> dict[str, Any]:
    """The facts of a result that differ from the usual, ready for JSON."""
    facts: dict[str, Any] = {
        name: value for (name, _, usual), value in zip(_FACTS, known, strict=True) if value != usual
    }
    if result.task_id != task_id:
        facts["task_id"] = result.task_id
    if result.failure is not None:
        facts["failure"] = _encode_failure(result.failure)
    for name in facts.keys() & {"files", "usage"}:
        facts[name] = dict(facts[name])
    if result.raw is not None:
        facts["raw"] = _encode_raw(result)
    return facts


def decode_facts(
    facts: Mapping[str, Any], value: Any, output: str, error: str | None
) -> dict[str, Any]:
    """The attributes in the facts of `encode_facts`."""
    known = {attribute: facts.get(name, usual) for name, attribute, usual in _FACTS}
    if known["failure"] is not None:
        known["failure"] = _decode_failure(known["failure"])
    known["attempt_durations"] = tuple(known["attempt_durations"])
    if known["snapshot"] is not None:
        known["snapshot"] = Snapshot(*known["snapshot"])
    return known | {"raw": _decode_raw(facts.get("raw"), value, output, error)}


def _encode_failure(failure: Failure) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": failure.type, "message": failure.message}
    if failure.traceback:
        facts["traceback"] = failure.traceback
    if failure.locals:
        facts["locals"] = dict(failure.locals)
    for name in ("downstream", "location", "function", "args"):
        if getattr(failure, name):
            facts[name] = getattr(failure, name)
    if failure.kwargs:
        facts["kwargs"] = dict(failure.kwargs)
    return facts


def _decode_failure(facts: dict[str, Any]) -> Failure:
    return Failure(
        type=facts["type"],
        message=facts["message"],
        traceback=facts.get("traceback", ""),
        locals=facts.get("locals", {}),
        downstream=tuple((title, task_id) for title, task_id in facts.get("downstream", ())),
        location=facts.get("location", ""),
        function=facts.get("function", ""),
        args=tuple(facts.get("args", ())),
        kwargs=facts.get("kwargs", {}),
    )


# The raw result: {"is": "value"} where it is the value itself, {"process": …} for a command, whose
# streams mostly stand in the row already, {"json": …} or {"absent": kind}.


def _encode_raw(result: TaskResult) -> dict[str, Any]:
    raw = result.raw
    if raw is result.value or (type(raw) is str and raw == result.value):
        return {"is": "value"}
    if issubclass(type(raw), CompletedProcess):  # `isinstance` would ask the object
        streams = [_encode_stream(text, result) for text in (raw.stdout, raw.stderr)]
        facts = [raw.args, raw.returncode, *streams]
        if None not in streams and exact_json(facts) is not None:
            return {"process": facts}
    elif exact_json(raw) is not None:
        return {"json": raw}
    return {"absent": kind_of(raw)}


def _decode_raw(facts: dict[str, Any] | None, value: Any, output: str, error: str | None) -> Any:
    if facts is None:
        return None
    if "is" in facts:
        return value
    if "process" in facts:
        args, returncode, stdout, stderr = facts["process"]
        places = {"none": None, "output": output, "error": error}
        return CompletedProcess(
            args,
            returncode,
            stdout[0] if isinstance(stdout, list) else places[stdout],
            stderr[0] if isinstance(stderr, list) else places[stderr],
        )
    if "json" in facts:
        return facts["json"]
    return NotStored("raw", facts["absent"])


def _encode_stream(text: object, result: TaskResult) -> str | list[str] | None:
    """Where else in the row a stream stands, or the stream in a list; None if it is no text."""
    if text is None:
        return "none"
    if type(text) is not str:
        return None
    if text and text == result.output:
        return "output"
    if text and text == result.error:
        return "error"
    return [text]


# The error of a run as a whole. Errors of the engine come back as they were, all others as a
# GraphError with their text.


def encode_error(error: BaseException | None) -> str | None:
    """JSON of an error; None for None."""
    if error is None:
        return None
    facts: dict[str, Any] = {"type": type(error).__name__, "message": describe(error)}
    if isinstance(error, TaskTimeoutError):
        facts |= {"seconds": error.seconds, "what": error.what}
    return to_json(facts)


def decode_error(text: str | None) -> BaseException | None:
    """The error in the JSON of `encode_error`."""
    if text is None:
        return None
    facts = from_json(text)
    kind, message = facts["type"], facts["message"]
    if kind == "TaskTimeoutError":
        return TaskTimeoutError(facts["seconds"], what=facts["what"])
    known = {item.__name__: item for item in (TaskCancelled, StoreError)}
    if kind in known:
        return known[kind](message)
    return GraphError(message if kind == "GraphError" else f"{kind}: {message}")
