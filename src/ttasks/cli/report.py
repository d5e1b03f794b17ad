"""``ttasks report``: reports of a run in files, or on stdout."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ttasks.cli import ledgers
from ttasks.cli.exits import OK, CommandError
from ttasks.cli.output import width


def execute(options: Namespace) -> int:
    """Carry out the command."""
    check_reports(options.output)
    from ttasks.report import RunReport

    with ledgers.open_existing(options.store) as store:
        run = ledgers.find_run(store, options.run)
        report = RunReport.from_store(store, run.id)
    for file in options.output:
        try:
            report.write(file)
        except OSError as error:
            raise CommandError(str(error)) from None
    if options.json:
        print(report.to_json(), end="")
    elif not options.output:
        print(report.to_text(width() or 100), end="")
    return OK


def check_reports(files: list[str]) -> None:
    """Refuse files of reports that could not be written.

    Raises:
        CommandError: a suffix is unknown, or a folder is missing.
    """
    from ttasks.report.run_report import format_of

    for file in files:
        try:
            format_of(Path(file))
        except ValueError as error:
            raise CommandError(str(error)) from None
        if not Path(file).parent.is_dir():
            raise CommandError(f"there is no folder {str(Path(file).parent)!r} for {file!r}")
