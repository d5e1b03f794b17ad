"""Reports of runs: `RunReport` and its formats, a file each, made from RunFacts.

``facts`` → ``entries`` and ``numbers`` → ``content`` → a format. Nothing here starts, waits or
locks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from ttasks.report.compare import RunComparison, TaskChange
    from ttasks.report.entries import ReportAttempt, ReportEntry
    from ttasks.report.numbers import RunNumbers, SlowerTask, TaskSaving
    from ttasks.report.run_report import RunReport

    SCHEMA: Traversable
    """The JSON Schema of `RunReport.to_json`, a file of the package: ``SCHEMA.read_text()``."""

__all__ = [
    "SCHEMA",
    "TaskChange",
    "RunComparison",
    "ReportAttempt",
    "ReportEntry",
    "RunNumbers",
    "RunReport",
    "TaskSaving",
    "SlowerTask",
]

# Who only wants words of `labels` does not wait for all formats.
_HOMES = {
    "TaskChange": "compare",
    "RunComparison": "compare",
    "ReportAttempt": "entries",
    "ReportEntry": "entries",
    "RunNumbers": "numbers",
    "RunReport": "run_report",
    "TaskSaving": "numbers",
    "SlowerTask": "numbers",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ttasks.report.{_HOMES[name]}"), name)
    if name == "SCHEMA":
        from importlib import resources

        return resources.files(__name__) / "report.schema.json"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
