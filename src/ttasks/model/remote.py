"""RemoteTraceback: where an exception came from that was raised in another process."""

from __future__ import annotations

from collections.abc import Mapping


class RemoteTraceback(Exception):
    """The ``__cause__`` of an exception that was raised in a worker process; shows where.

    Attributes:
        text: the formatted traceback.
        locals: reprs of the variables of the wanted frame, if they were to be kept.
        location: where in the user's own code it was raised.
    """

    def __init__(
        self, text: str, locals: Mapping[str, str] | None = None, location: str = ""
    ) -> None:
        kept = dict(locals or {})
        super().__init__(text, kept, location)
        self.text = text
        self.locals = kept
        self.location = location

    def __str__(self) -> str:
        return f"in a worker process:\n{self.text}"
