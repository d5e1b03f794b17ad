"""``ttasks compare``: what has changed from one run to another."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ttasks.cli import ledgers
from ttasks.cli.exits import OK
from ttasks.cli.output import say_json

if TYPE_CHECKING:
    from ttasks.report import TaskChange


def execute(options: Namespace) -> int:
    """Carry out the command."""
    from ttasks.report import RunReport

    with ledgers.open_existing(options.store) as store:
        earlier = RunReport(ledgers.find_run(store, options.earlier).facts())
        later = RunReport(ledgers.find_run(store, options.later).facts())
    found = later.compare(earlier)
    if not options.json:
        print(found.to_text(), end="")
        return OK
    kinds = ("newly_failed", "mended", "slower", "faster", "added", "gone")
    changes = {kind: [_change_json(item) for item in getattr(found, kind)] for kind in kinds}
    say_json(
        "comparison",
        {
            "earlier": earlier.facts.id,
            "later": later.facts.id,
            "seconds_before": found.seconds_before,
            "seconds_after": found.seconds_after,
            "reused_before": found.reused_before,
            "reused_after": found.reused_after,
            **changes,
        },
    )
    return OK


def _change_json(change: TaskChange) -> dict[str, Any]:
    return {
        "title": change.title,
        "path": list(change.path),
        "before": change.before,
        "after": change.after,
        "status_before": change.status_before and change.status_before.value,
        "status_after": change.status_after and change.status_after.value,
        "seconds_before": change.seconds_before,
        "seconds_after": change.seconds_after,
    }
