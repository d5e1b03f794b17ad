"""Where an exception was raised: its traceback, the user's own frame, local variables, arguments.

These, and values of tasks, become text of bounded length, without secrets.
"""

from __future__ import annotations

import os
from reprlib import Repr
from typing import TYPE_CHECKING

from ttasks.errors import type_name
from ttasks.model.call import Call, name_of
from ttasks.model.checks import check_str, wrong_type
from ttasks.model.redact import unused

if TYPE_CHECKING:
    from collections.abc import Callable
    from traceback import TracebackException
    from types import TracebackType

    from ttasks.model.redact import Redactor

LOCAL_LIMIT = 500
"""Characters of the repr of one variable or argument that are kept."""

NAME_LIMIT = 100
"""Variables, and arguments, that are kept."""

_TEXT_LIMIT = 4096
"""Characters of one str that are examined. Far more than are kept, so that a secret that is cut at
this limit does not show."""

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))

Frames = bool | str
"""Which frame is looked at: False for none, True for the innermost one of the user's own code, or
part of the name of a module or file for the innermost one there."""


def check_frames(name: str, value: object) -> Frames:
    """A bool, or a str that is not blank."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise wrong_type(name, value, "a bool, or part of the name of a module or file")
    return check_str(name, value, empty=False)


def captured_locals(
    trace: TracebackType | None, redactor: Redactor | None, wanted: Frames = True
) -> dict[str, str]:
    """Reprs of the variables of the wanted frame by name, bounded, without secrets.

    Names that become equal are numbered.

    Never fails: what has no repr is described by what its ``__repr__`` raised.
    """
    if isinstance(wanted, str):
        place = _innermost(trace, lambda place: _is_named(place, wanted))
    else:
        place = _innermost(trace, _is_users) if wanted else None
    if place is None:
        return {}
    shown = _Shown(redactor)
    found: dict[str, str] = {}
    for name, value in list(place.tb_frame.f_locals.items())[:NAME_LIMIT]:
        hidden = name if redactor is None else unused(redactor.text(name), found)
        found[hidden] = shown.text(value)
    return found


def location_of(trace: TracebackType | None) -> str:
    """Where in the user's own code it was raised, as ``file:line in function``.

    Without such a frame the innermost one outside of this library; empty if there is none.
    """
    place = _innermost(trace, _is_users) or _innermost(trace, lambda place: not _is_own(place))
    if place is None:
        return ""
    code = place.tb_frame.f_code
    return f"{code.co_filename}:{place.tb_lineno} in {code.co_qualname}"


def described_call(
    payload: object, redactor: Redactor | None
) -> tuple[str, tuple[str, ...], dict[str, str]]:
    """Function and arguments of a call, with values in place of tasks; empty for what is none."""
    if type(payload) is not Call:
        return "", (), {}
    name, module = name_of(payload.func), getattr(payload.func, "__module__", None)
    if isinstance(module, str) and not name.startswith("lambda at "):
        name = f"{module}.{name}"
    args, kwargs = payload.bind(lambda task: task.value if task.is_succeeded else task)
    shown = _Shown(redactor)
    named = list(kwargs.items())[:NAME_LIMIT]
    return (
        name,
        tuple(shown.text(value) for value in args[:NAME_LIMIT]),
        {key: shown.text(value) for key, value in named},
    )


def formatted(error: BaseException, trace: TracebackType | None) -> str:
    """The traceback as text, causes included, without the frames of this library."""
    from traceback import TracebackException

    described = TracebackException(type(error), error, trace, compact=True)
    _leave_out_own(described)
    return "".join(described.format())


def _leave_out_own(described: TracebackException) -> None:
    from traceback import StackSummary

    seen = set()
    left: list[TracebackException | None] = [described]
    while left:
        item = left.pop()
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        kept = [frame for frame in item.stack if not frame.filename.startswith(_OWN)]
        item.stack = StackSummary.from_list(kept)
        left += [item.__cause__, item.__context__, *(item.exceptions or ())]


def short_repr(value: object, redactor: Redactor | None = None) -> str:
    """The repr of a value, bounded, without secrets; never fails."""
    return _Shown(redactor).text(value)


def _innermost(
    trace: TracebackType | None, wanted: Callable[[TracebackType], bool]
) -> TracebackType | None:
    found = None
    while trace is not None:
        if wanted(trace):
            found = trace
        trace = trace.tb_next
    return found


def _is_own(place: TracebackType) -> bool:
    return place.tb_frame.f_code.co_filename.startswith(_OWN)


def _is_users(place: TracebackType) -> bool:
    """True unless it is code of this library, of the standard one or of an installed package."""
    file = place.tb_frame.f_code.co_filename
    return not (
        file.startswith((_OWN, _STANDARD, "<frozen "))
        or any(folder in file for folder in _INSTALLED)
    )


def _is_named(place: TracebackType, part: str) -> bool:
    frame = place.tb_frame
    return part in frame.f_code.co_filename or part in str(frame.f_globals.get("__name__", ""))


class _Shown:
    """Makes bounded reprs without secrets."""

    def __init__(self, redactor: Redactor | None) -> None:
        self._redactor = redactor
        self._shortened = _Shortened(redactor)

    def text(self, value: object) -> str:
        text = self._shortened.repr(value)
        if self._redactor is not None:
            text = self._redactor.text(text)
        return text if len(text) <= LOCAL_LIMIT else text[: LOCAL_LIMIT - 1] + "…"


class _Shortened(Repr):
    """Reprs of bounded cost for containers and strs, whatever they contain."""

    def __init__(self, redactor: Redactor | None) -> None:
        super().__init__()
        self._redactor = redactor
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 20
        self.maxdeque = self.maxarray = 20
        self.maxlong = 200
        self.maxstring = self.maxother = 2 * _TEXT_LIMIT

    def repr1(self, x: object, level: int) -> str:
        try:
            return super().repr1(x, level)
        except BaseException as error:  # must not hide the failure itself
            return f"<repr raised {type_name(error)}>"

    def repr_instance(self, x: object, level: int) -> str:
        text = repr(x)
        return text if len(text) <= self.maxother else text[: self.maxother] + "…"

    def repr_str(self, x: str, level: int) -> str:
        head = x[:_TEXT_LIMIT]
        if self._redactor is not None:
            head = self._redactor.text(head)
        return repr(head) if len(x) <= _TEXT_LIMIT else repr(head) + "…"
