"""What stands in a text without being read: codes for terminals, and characters without a shape."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

_STRING = r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"
_CONTENT = r"[^\n\x07\x1b\x90\x98\x9c-\x9f]"
_MARKS = r"\u2028-\u202e\u2066-\u2069"
# Controls but for tabs and ends of lines, marks, and characters of no width.
_INVISIBLE = rf"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u200b-\u200f\u2060-\u2064\ufeff{_MARKS}"


def _codes(others: str, most: str = "*", end: str = "") -> re.Pattern[str]:
    """Matches one code whose parts are up to ``most`` characters long, or one of the others."""
    return re.compile(
        rf"{_STRING}{_CONTENT}{most}(?:\x07|\x1b\\|\x9c{end})"  # links, titles of windows, …
        rf"|(?:\x1b\[|\x9b)[0-?]{most}[ -/]{most}[@-~]?"  # colours, movements, erasures
        rf"|\x1b[ -/]{most}[0-~]?"
        rf"|[{others}]"
    )


ESCAPES = _codes(_MARKS)
"""Codes for terminals, and marks of lines and of directions, which only some programs see."""

CODE_CHARACTERS = 64 * 1024
"""Characters of the longest code, or row of codes, that text is read across."""

_MOST = f"{{0,{CODE_CHARACTERS}}}"
_INVISIBLES = re.compile(f"[{_INVISIBLE}]+")
_INTRODUCERS = re.compile(r"[\x1b\x90\x98\x9b\x9d-\x9f]")
_WHOLE = _codes(_INVISIBLE, _MOST)
_GOING_ON = _codes(_INVISIBLE, _MOST, r"|\x1b?\Z")  # the end may be the beginning of a code
_OPEN = re.compile(
    rf"{_STRING}{_CONTENT}{_MOST}\x1b?|(?:\x1b\[|\x9b)[0-?]{_MOST}[ -/]{_MOST}|\x1b[ -/]{_MOST}"
)
_BARRIER = "\0"  # stands in no readable text

_Span = tuple[int, int]


class Readable(NamedTuple):
    """What can be read of a text, and where that stands in the text.

    Attributes:
        text: without codes and without invisible characters.
        end: how much of the whole text was looked at; less than all if it ends in an open code.
        codes: where the codes begin and end.
        parts: where the parts between them begin, in ``text`` and in the whole text.
    """

    text: str
    end: int
    codes: tuple[list[int], list[int]]
    parts: tuple[list[int], list[int]]

    def at(self, position: int) -> int:
        """Where a position of the readable text is in the whole text."""
        if position >= len(self.text):
            return self.end
        begins, places = self.parts
        part = bisect_right(begins, position) - 1
        return places[part] + position - begins[part]

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """Where a part of the readable text is in the whole text, with the codes inside."""
        return self.at(begin), self.at(end - 1) + 1

    def outside(self, position: int) -> int:
        """A position in the whole text, or the beginning of the code that it is inside of."""
        begins, ends = self.codes
        code = bisect_right(begins, position) - 1
        return begins[code] if code >= 0 and position < ends[code] else position


def readings(text: str, last: bool = True) -> list[Readable]:
    """What can be read of a text, if that is not all of it.

    With codes left out, and with only the characters left out that are invisible themselves: a
    lone escape character begins a code which the text after it was not meant for.

    Args:
        text: the whole text.
        last: False if it goes on. Only the first reading may then leave out its end.
    """
    if text.replace("\n", "").replace("\t", "").replace("\r", "").isprintable():
        return []  # as nearly all is
    rows = [row.span() for row in _INVISIBLES.finditer(text)]
    if not rows:
        return []
    alone = _reading(text, rows, True)
    if not _INTRODUCERS.search(text):
        return [alone]
    return [_reading(text, _codes_in(text, rows, last), last), alone]


def _codes_in(text: str, rows: list[_Span], last: bool) -> list[_Span]:
    """The codes that begin in rows of invisible characters: much quicker than a search for them."""
    code_at = (_WHOLE if last else _GOING_ON).match
    codes: list[_Span] = []
    at = 0
    for begin, end in rows:
        at = max(at, begin)
        while at < end:
            code = code_at(text, at)
            assert code is not None
            codes.append(code.span())
            at = code.end()
    return codes


def _reading(text: str, codes: list[_Span], last: bool) -> Readable:
    end = len(text)
    if not last and codes and codes[-1][1] == end and _OPEN.fullmatch(text, codes[-1][0]):
        end = codes.pop()[0]
    begins, ends = [begin for begin, _ in codes], [to for _, to in codes]
    places = [0, *ends]
    parts = [text[at:to] for at, to in zip(places, [*begins, end], strict=True)]
    if sum(ends) - sum(begins) > CODE_CHARACTERS:
        _divide(parts, places, codes)
    sizes = list(accumulate(map(len, parts), initial=0))
    return Readable("".join(parts), end, (begins, ends), (sizes[:-1], places))


def _divide(parts: list[str], places: list[int], codes: list[_Span]) -> None:
    """Put a barrier behind each row of codes that is too long to be read across."""
    row = 0
    for number, (begin, end) in enumerate(codes, 1):
        row += end - begin
        if parts[number] or number == len(codes):
            if row > CODE_CHARACTERS:
                parts[number] = _BARRIER + parts[number]
                places[number] -= 1
            row = 0
