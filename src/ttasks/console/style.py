"""Style: colours and symbols, or their absence."""

from __future__ import annotations

from zlib import crc32

from ttasks.console.text import RESET
from ttasks.model.status import TaskStatus
from ttasks.report.labels import SYMBOLS as OF_STATUSES

# name: symbol, the word that stands for it in ASCII, colour
_MARKS = {
    "started": ("▸", "start", "dim"),
    "ready": ("●", "ready", "green"),
    "succeeded": (OF_STATUSES[TaskStatus.SUCCEEDED], "ok", "green"),
    "reused": ("↺", "reuse", "cyan"),
    "retry": ("↻", "retry", "yellow"),
    "failed": (OF_STATUSES[TaskStatus.FAILED], "FAIL", "red"),
    "optional": ("!", "fail", "yellow"),
    "cancelled": (OF_STATUSES[TaskStatus.CANCELLED], "stop", "yellow"),
    "blocked": (OF_STATUSES[TaskStatus.BLOCKED], "block", "yellow"),
    "skipped": (OF_STATUSES[TaskStatus.SKIPPED], "skip", "dim"),
    "note": ("!", "note", "yellow"),
}
_SIGNS = {
    "bar": ("│", "|"),
    "corner": ("╰", "`"),
    "rule": ("─", "-"),
    "full": ("━", "="),
    "ellipsis": ("…", "..."),
}
_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
_OF_TASKS = ("cyan", "magenta", "blue", "green", "yellow")
SYMBOLS = "".join(symbol for symbol, *_ in [*_MARKS.values(), *_SIGNS.values()])


class Style:
    """How things look. Immutable.

    Args:
        colour: use colours.
        symbols: use symbols beyond ASCII.
    """

    __slots__ = ("colour", "symbols")

    def __init__(self, *, colour: bool, symbols: bool) -> None:
        self.colour = colour
        self.symbols = symbols

    def paint(self, text: str, *names: str) -> str:
        """The text in these colours ("red", "bold", …)."""
        if not self.colour or not text or not names:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}{RESET}"

    def mark(self, name: str) -> str:
        """The sign of a change, painted: one column with symbols, five without."""
        symbol, word, colour = _MARKS[name]
        return self.paint(symbol if self.symbols else f"{word:<5}", colour)

    def sign(self, name: str) -> str:
        """A sign of the layout, such as "bar"."""
        return _SIGNS[name][0 if self.symbols else 1]

    def tell(self, text: str) -> str:
        """Text of the console's own, with ASCII in place of its symbols if need be."""
        if not self.symbols:
            for symbol, plain in _SIGNS.values():
                text = text.replace(symbol, plain)
        return text


def colour_of(name: str) -> str:
    """The colour that a task has whenever it is shown."""
    return _OF_TASKS[crc32(name.encode("utf-8", "replace")) % len(_OF_TASKS)]


def colour_of_mark(name: str) -> str:
    """The colour of a mark."""
    return _MARKS[name][2]
