"""The command line: ``ttasks`` and ``python -m ttasks``.

``app`` parses with ``parsers`` and imports the file of the command, one for each. Those that read
a ledger find it and its runs by ``ledgers``; those that take a TARGET load it by ``targets`` and
``parameters``; all print by ``output``.
"""

from importlib import resources

from ttasks.cli.app import main

__all__ = ["SCHEMA", "main"]

SCHEMA = resources.files(__name__) / "cli.schema.json"
"""The JSON Schema of what ``--json`` prints, a file of the package: ``SCHEMA.read_text()``."""
