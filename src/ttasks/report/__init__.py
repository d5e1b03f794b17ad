"""Reports of runs: `RunReport` and its formats, a file each, made from RunFacts.

``facts`` → ``entries`` and ``numbers`` → ``content`` → a format. Nothing here starts, waits or
locks.
"""

from importlib import resources

from ttasks.report.compare import Change, Comparison
from ttasks.report.entries import ReportAttempt, ReportEntry
from ttasks.report.numbers import RunNumbers, Saving, Slower
from ttasks.report.run_report import RunReport

__all__ = [
    "SCHEMA",
    "Change",
    "Comparison",
    "ReportAttempt",
    "ReportEntry",
    "RunNumbers",
    "RunReport",
    "Saving",
    "Slower",
]

SCHEMA = resources.files(__name__) / "report.schema.json"
"""The JSON Schema of `RunReport.to_json`, a file of the package: ``SCHEMA.read_text()``."""
