"""What commands print: tables that fit the terminal, and JSON."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TextIO

from ttasks.console.text import cells, fit, padded
from ttasks.report.labels import one_line
from ttasks.report.terminal import is_terminal

VERSION = 1
"""Of the JSON. It changes when something is removed or gets another meaning."""

_LEAST = (12, 4)  # columns that a cell is left: as long as that is enough, and at least


def say_json(kind: str, content: Mapping[str, Any], file: TextIO | None = None) -> None:
    """Print an object as ``cli.schema.json`` describes it, on one line.

    Args:
        kind, content: of the object.
        file: where; None means ``sys.stdout``.
    """
    document = {"format": f"ttasks-{kind}", "version": VERSION, **content}
    # In one piece, as several threads may print.
    print(json.dumps(document, allow_nan=False) + "\n", end="", file=file, flush=file is not None)


def moment(value: datetime | None) -> str | None:
    """A moment in ISO 8601; None stays None."""
    return None if value is None else value.isoformat()


def shown(value: datetime) -> str:
    """A moment for people, by the clock on their wall."""
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"


def width() -> int | None:
    """Columns of the terminal; None if this is none, as there nothing needs to fit."""
    if not is_terminal(sys.stdout):
        return None
    return max(40, shutil.get_terminal_size().columns)


def say_table(
    heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()
) -> None:
    """Print rows in columns; on a terminal no line is wider than that.

    Args:
        heads: of the columns; the last one gives way first, then the one before it.
        rows: cells; None is shown as ``-``.
        right: numbers of the columns that are aligned to the right.
    """
    table = [list(heads)]
    table += [["-" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(map(cells, column)) for column in zip(*table, strict=True)]
    _narrow(widths, width())
    ellipsis = "..." if os.environ.get("TERM") == "dumb" else "…"
    aligned = frozenset(right)
    for row in table:
        parts = []
        for number, (cell, room) in enumerate(zip(row, widths, strict=True)):
            text = fit(cell, room, ellipsis)
            gap = " " * (room - cells(text))
            parts.append(gap + text if number in aligned else padded(text, room))
        print("  ".join(parts).rstrip())


def _narrow(widths: list[int], room: int | None) -> None:
    """Take columns' width away, from the last one first, until a line fits."""
    if room is None:
        return
    excess = sum(widths) + 2 * (len(widths) - 1) - room
    for least in _LEAST:
        for number in reversed(range(len(widths))):
            cut = max(0, min(excess, widths[number] - least))
            widths[number] -= cut
            excess -= cut
