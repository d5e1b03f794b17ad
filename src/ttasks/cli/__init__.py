"""The command line: ``ttasks`` and ``python -m ttasks``.

``app`` parses with ``parsers`` and imports the file of the command, one for each. Those that read
a ledger find it and its runs by ``ledgers``; those that take a TARGET load it by ``targets`` and
``parameters``; all print by ``output``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttasks.cli.app import main

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    SCHEMA: Traversable
    """The JSON Schema of what ``--json`` prints, a file of the package: ``SCHEMA.read_text()``."""

__all__ = ["SCHEMA", "main"]


def __getattr__(name: str) -> Any:
    if name == "SCHEMA":
        from importlib import resources  # takes as long as the rest of this package

        return resources.files(__name__) / "cli.schema.json"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
