"""``ttasks report``: reports of a run in files, or on stdout."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from ttasks.cli import ledgers
from ttasks.cli.exits import OK, CommandError
from ttasks.cli.output import width
from ttasks.cli.run import check_reports
from ttasks.report.terminal import wants_color


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
        colour = wants_color(None, sys.stdout, os.environ)
        print(report.to_text(width() or 100, colour), end="")
    return OK
