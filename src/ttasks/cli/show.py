"""``ttasks show``: what became of the tasks of a run."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from ttasks.cli import ledgers
from ttasks.cli.exits import OK
from ttasks.cli.output import width
from ttasks.report.terminal import wants_color


def execute(options: Namespace) -> int:
    """Carry out the command."""
    from ttasks.report import RunReport

    with ledgers.open_existing(options.store) as store:
        report = RunReport(ledgers.find_run(store, options.run).facts())
    if options.json:
        print(report.to_json(), end="")
    else:
        colour = wants_color(None, sys.stdout, os.environ)
        print(report.to_text(width() or 100, colour), end="")
    return OK
