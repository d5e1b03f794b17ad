"""Reports of runs: `RunReport` and its formats, a file each, made from RunFacts.

``facts`` → ``entries`` and ``numbers`` → ``content`` → a format. Nothing here starts, waits or
locks.
"""

from importlib import resources

from ttasks.report.compare import RunComparison, TaskChange
from ttasks.report.entries import ReportAttempt, ReportEntry
from ttasks.report.numbers import RunNumbers, SlowerTask, TaskSaving
from ttasks.report.run_report import RunReport

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

SCHEMA = resources.files(__name__) / "report.schema.json"
"""The JSON Schema of `RunReport.to_json`, a file of the package: ``SCHEMA.read_text()``."""
