"""Patterns of secrets, bounded in the time that they take.

A pattern such as ``(a|aa)+$`` may take exponential time, in which the standard library's ``re``
holds the interpreter lock. So the package ``regex`` (the extra ``redact``) is used if it is
installed: it has a time limit, and lets other threads run. ``re`` is used without it, and for
patterns that ``regex`` does not accept or might read differently.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

LINE_SECONDS = 0.1
"""How long a pattern may look at one line. A line that takes longer is hidden as a whole."""

TEXT_SECONDS = 1.0
"""Seconds that all such lines of one text may take; then each further line is hidden without a
search."""

Find = Callable[[str, float], Iterator[Any]]
"""Finds the matches in a line within so many seconds, or raises TimeoutError."""

# A class of characters in POSIX' form, and what might be taken for a fuzzy match.
_AMBIGUOUS = re.compile(r"\[\[:|\{[^{}]*[sdie<]")
_FLAGS = ("ASCII", "DOTALL", "IGNORECASE", "MULTILINE", "VERBOSE")


@lru_cache(maxsize=256)
def bounded(pattern: re.Pattern[str]) -> Find:
    """What finds the matches of a pattern."""

    def unbounded(line: str, seconds: float) -> Iterator[Any]:
        return pattern.finditer(line)

    try:
        import regex
    except ImportError:
        return unbounded
    if _AMBIGUOUS.search(pattern.pattern):
        return unbounded
    flags = 0
    for name in _FLAGS:
        if pattern.flags & getattr(re, name):
            flags |= getattr(regex, name)
    try:
        compiled: Any = regex.compile(pattern.pattern, flags)
    except (regex.error, ValueError):
        return unbounded

    def find(line: str, seconds: float) -> Iterator[Any]:
        matches: Iterator[Any] = compiled.finditer(line, timeout=seconds, concurrent=True)
        return matches

    return find


class LineSearch:
    """Looks for patterns in the lines of one text, within the time that they have. One owner."""

    __slots__ = ("_finds", "_seconds")

    def __init__(self, patterns: tuple[re.Pattern[str], ...]) -> None:
        self._finds = [bounded(pattern) for pattern in patterns]
        self._seconds = TEXT_SECONDS

    def spans(self, line: str) -> list[tuple[int, int]]:
        """Where the matches are; the whole line if there was no time to find out."""
        spans: list[tuple[int, int]] = []
        for find in self._finds:
            try:
                if self._seconds <= 0:
                    raise TimeoutError
                spans.extend(
                    match.span()
                    for match in find(line, LINE_SECONDS)
                    if match.end() > match.start()
                )
            except TimeoutError:
                self._seconds -= LINE_SECONDS
                return [(0, len(line))]
        return spans
