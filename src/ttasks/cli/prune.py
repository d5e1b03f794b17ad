"""``ttasks prune``: delete what is old."""

from __future__ import annotations

import re
from argparse import Namespace
from datetime import UTC, datetime, timedelta

from ttasks.cli import ledgers
from ttasks.cli.exits import OK, CommandError
from ttasks.cli.output import moment, say_json
from ttasks.report.labels import count

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def execute(options: Namespace) -> int:
    """Carry out the command."""
    before = _moment_before(options.older_than)
    with ledgers.open_existing(options.store, writes=True) as store:
        runs = len(store.runs)
        tasks = store.prune(before)
        runs -= len(store.runs)
        if options.vacuum:
            store.vacuum()
    if options.json:
        say_json("pruned", {"before": moment(before), "tasks": tasks, "runs": runs})
    else:
        print(f"deleted {count(tasks, 'task')} and {count(runs, 'run')}")
    return OK


def _moment_before(age: str) -> datetime:
    found = _AGE.fullmatch(age)
    if found is None:
        raise CommandError(f"--older-than {age!r} is no age; write 90s, 30m, 12h, 30d or 8w")
    try:
        return datetime.now(UTC) - timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    except OverflowError:
        raise CommandError(f"--older-than {age!r} is before the year 1") from None
