"""Text of tasks, made safe for one line of a terminal or a log; widths; durations."""

from __future__ import annotations

import re
from unicodedata import category, east_asian_width

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_CODES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links, …
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, movements, erasures
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
)
RESET = "\x1b[0m"


def clean(line: str, *, colour: bool = False) -> str:
    """A line without what would move the cursor, hide text or reach into the next line.

    Of a line that was written over and over with ``\\r``, what it said in the end.

    Args:
        line: without its newline.
        colour: keep colours; they end with the line.
    """
    if line.isprintable():
        return line
    line = line.rstrip("\r\n")
    if "\r" in line:
        line = line.rpartition("\r")[2]
    if not colour:
        return _CODES.sub("", line)
    line = _CODES.sub(lambda code: code[0] if _COLOUR.fullmatch(code[0]) else "", line)
    return line + RESET if "\x1b" in line else line


def one_line(text: str) -> str:
    """Any text as one clean line: its first line that is not blank."""
    if text.isprintable():
        return text
    for line in text.splitlines():
        cleaned = clean(line).strip()
        if cleaned:
            return cleaned.replace("\t", " ")
    return ""


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


def seconds(value: float) -> str:
    """A duration for people: ``0.42s``, ``12.3s``, ``4m 02s``, ``1h 05m``."""
    if value < 9.995:
        return f"{value:.2f}s"
    if value < 59.95:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    return f"{minutes // 60}h {minutes % 60:02}m"


def ticking(value: float, *, whole: bool = False) -> str:
    """A duration that goes on, without digits that nobody can read: ``0.4s``, ``12s``."""
    if value < 10 and not whole:
        return f"{value:.1f}s"
    return f"{max(1, round(value))}s" if value < 59.5 else seconds(value)


def joined(names: list[str], most: int = 3) -> str:
    """Names in a sentence: ``a, b and 4 more``."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def counted(number: int, noun: str) -> str:
    """A number with its noun: ``1 task``, ``1,200 tasks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
