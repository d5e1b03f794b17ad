"""Words and texts that all formats and the console share: durations, symbols, safe text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ttasks.model.codes import ESCAPES
from ttasks.model.status import TaskStatus

SYMBOLS = {
    TaskStatus.SUCCEEDED: "✓",
    TaskStatus.FAILED: "✗",
    TaskStatus.CANCELLED: "⊘",
    TaskStatus.BLOCKED: "■",
    TaskStatus.SKIPPED: "↷",
    TaskStatus.RUNNING: "▶",
    TaskStatus.PENDING: "·",
}

OUTCOMES = {
    "ok": "succeeded",
    "failed": "failed",
    "cancelled": "was cancelled",
    "timeout": "ran out of time",
    "interrupted": "was interrupted",
    "running": "is running",
}
"""What a run did, by its outcome."""

_OTHER_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


class Tail(NamedTuple):
    """The end of a text, and whether something before it was left out."""

    text: str
    is_cut: bool


def plain(text: str) -> str:
    """Return the text without terminal sequences and without characters that XML forbids.

    Escape sequences and marks of text direction are removed. Of a line that was overwritten with a
    carriage return, the last state is kept. Other control characters, and halves of
    surrogate pairs, become U+FFFD.
    """
    if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable():
        return text  # as nearly all is
    text = ESCAPES.sub("", text)
    if "\r" in text:
        text = "\n".join(last_writing(line) for line in text.replace("\r\n", "\n").split("\n"))
    return _OTHER_CONTROLS.sub(_REPLACEMENT, text)


def last_writing(line: str) -> str:
    """The last state of a line that was overwritten with ``\\r``."""
    return line.rstrip("\r").rpartition("\r")[2]


def encodable(text: str) -> str:
    """The text with U+FFFD for halves of surrogate pairs, which UTF-8 cannot write."""
    return text if text.isascii() else _SURROGATES.sub(_REPLACEMENT, text)


def one_line(text: str, limit: int = 200) -> str:
    """The first line that is not blank, `plain` and without tabs, up to ``limit`` characters."""
    if len(text) <= limit and text.isprintable():
        return text.strip()
    # A million characters need not be looked at for the first 200.
    lines = plain(text[: 20 * limit]).strip().splitlines()
    return shortened(lines[0].strip().replace("\t", " "), limit) if lines else ""


def shortened(text: str, limit: int) -> str:
    """The text, with an ellipsis for the end of one that is longer than ``limit``."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def tail_of(text: str, lines: int, characters: int) -> Tail:
    """The last lines of a text, at most ``characters`` of them.

    Looks at no more of the text than at twice as much as it returns.
    """
    if len(text) <= characters and text.count("\n") <= lines:
        return Tail(plain(text).rstrip("\n"), False)
    end = text[-2 * characters - 2 :]
    is_cut = len(end) < len(text)
    kept = plain(end).rstrip("\n").split("\n")
    if len(kept) > lines:
        kept, is_cut = kept[-lines:], True
    joined = "\n".join(kept)
    if len(joined) > characters:
        joined, is_cut = joined[-characters:], True
        # A line that was cut in two is left out, unless it is all there is.
        first, newline, rest = joined.partition("\n")
        joined = rest if newline and rest else "…" + first
    return Tail(joined, is_cut)


def seconds(value: float | None) -> str:
    """A duration for people: ``7.3ms``, ``0.42s``, ``12.3s``, ``2m 05s``, ``1h 02m``."""
    if value is None:
        return "-"
    if value < 0.00995:
        return f"{1000 * value:.1f}ms" if value else "0s"
    if value < 9.995:
        return f"{value:.2f}s"
    if value < 59.95:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


def rounded(moment: float | None) -> float | None:
    """Seconds for programs, down to microseconds."""
    return None if moment is None else round(moment, 6)


def percent(share: float | None) -> str:
    """A fraction as a percentage for people: ``71 %``."""
    return "-" if share is None else f"{100 * share:.0f} %"


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 task``, ``2 tasks``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def joined(names: Sequence[str], most: int = 3) -> str:
    """Names in a sentence: ``a``, ``a and b``, ``a, b and 1,200 more``."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
