"""Text in a terminal: lines that are safe to print, widths, and durations that go on."""

from __future__ import annotations

import re
from unicodedata import category, east_asian_width

from ttasks.model.codes import ESCAPES
from ttasks.report.labels import last_writing, seconds

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1a\x1c-\x1f\x7f-\x9f]")  # but for that of colours
RESET = "\x1b[0m"


def clean(line: str, *, colour: bool = False) -> str:
    """A line without what would move the cursor, hide text or reach into the next line.

    It is what `ttasks.report.labels.plain` makes of it, but control characters are left out, as a
    terminal shows nothing for them.

    Args:
        line: without its newline.
        colour: keep colours; they end with the line.
    """
    if line.isprintable():
        return line
    line = ESCAPES.sub(_colour_of if colour else "", last_writing(line.rstrip("\r\n")))
    line = _CONTROLS.sub("", line)
    return line + RESET if "\x1b" in line else line


def _colour_of(code: re.Match[str]) -> str:
    return code[0] if _COLOUR.fullmatch(code[0]) else ""


def cells(text: str) -> int:
    """Columns that a clean text takes in a terminal."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def fit(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, or as much of its beginning as fits in ``width`` columns, with an ellipsis."""
    if cells(text) <= width:
        return text
    room = width - cells(ellipsis)
    if room < 0:
        return ellipsis[: max(width, 0)]
    taken = []
    for character in text:
        room -= _cells_of(character)
        if room < 0:
            break
        taken.append(character)
    return "".join(taken) + ellipsis


def padded(text: str, width: int) -> str:
    """The text with spaces up to ``width`` columns."""
    return text + " " * (width - cells(text))


def ticking(value: float, *, whole: bool = False) -> str:
    """A duration that goes on, without digits that nobody can read: ``0.4s``, ``12s``."""
    if value < 10 and not whole:
        return f"{value:.1f}s"
    return f"{max(1, round(value))}s" if value < 59.5 else seconds(value)
