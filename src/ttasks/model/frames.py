"""Values as bounded text: local variables where an exception was raised, values of tasks."""

from __future__ import annotations

from reprlib import Repr
from typing import TYPE_CHECKING

from ttasks.errors import type_name
from ttasks.model.redact import unused

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from ttasks.model.redact import Redactor

LOCAL_LIMIT = 500
"""Characters of one repr that are kept."""

NAME_LIMIT = 100
"""Variables that are kept."""

_TEXT_LIMIT = 4096
"""Characters of one str that are examined. Far more than are kept, so that a secret that is cut at
this limit does not show."""


def captured_locals(trace: TracebackType | None, redactor: Redactor | None) -> dict[str, str]:
    """Reprs of the variables of the innermost user frame by name, bounded, without secrets.

    Names that become equal are numbered.

    Never fails: what has no repr is described by what its ``__repr__`` raised.
    """
    frame = _user_frame(trace)
    if frame is None:
        return {}
    shortened = _Shortened(redactor)
    found: dict[str, str] = {}
    for name, value in list(frame.f_locals.items())[:NAME_LIMIT]:
        text = shortened.repr(value)
        shown = name
        if redactor is not None:
            text = redactor.text(text)
            shown = unused(redactor.text(name), found)
        found[shown] = text if len(text) <= LOCAL_LIMIT else text[: LOCAL_LIMIT - 1] + "…"
    return found


def short_repr(value: object, redactor: Redactor | None = None) -> str:
    """The repr of a value, bounded, without secrets; never fails."""
    text = _Shortened(redactor).repr(value)
    if redactor is not None:
        text = redactor.text(text)
    return text if len(text) <= LOCAL_LIMIT else text[: LOCAL_LIMIT - 1] + "…"


def _user_frame(trace: TracebackType | None) -> FrameType | None:
    """The innermost frame that is not this library's own."""
    user = None
    while trace is not None:
        frame = trace.tb_frame
        if not str(frame.f_globals.get("__name__", "")).startswith("ttasks."):
            user = frame
        trace = trace.tb_next
    return user


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
