"""``ttasks show``: what became of the tasks of a run."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from ttasks.cli import ledgers
from ttasks.cli.exits import OK
from ttasks.cli.output import shown, width
from ttasks.model.status import TaskStatus
from ttasks.report.labels import OUTCOMES, SYMBOLS, one_line, seconds

if TYPE_CHECKING:
    from ttasks.model.facts import RunFacts
    from ttasks.stores.sqlite import SQLiteStore

MOST_TASKS = 500
"""Tasks of a run that are all shown; those of a larger one take seconds to read."""


def execute(options: Namespace) -> int:
    """Carry out the command."""
    with ledgers.open_existing(options.store) as store:
        run = ledgers.find_run(store, options.run)
        head = run.head()
        if sum(head.counts.values()) > MOST_TASKS and not (options.json or options.all):
            _print_summary(head, store)
            return OK
        facts = run.facts()
    from ttasks.report import RunReport

    report = RunReport(facts)
    if options.json:
        print(report.to_json(), end="")
    else:
        print(report.to_text(width() or 100), end="")
    return OK


def _print_summary(head: RunFacts, store: SQLiteStore) -> None:
    """Print counts and failures, which are read without the other tasks."""
    outcome = OUTCOMES.get(head.outcome, head.outcome)
    print(f"{one_line(head.title)} {outcome} in {seconds(head.elapsed)}")
    print(f"run {head.number}, started {shown(head.started_at)}")
    counts = [(head.counts.get(status.value, 0), status.value) for status in TaskStatus]
    print(", ".join(f"{number:,} {status}" for number, status in counts if number))
    if head.failed:
        print()
    for task_id in head.failed:
        task = store.tasks.get(task_id)
        if task is not None:
            print(f"{SYMBOLS[task.status]} {one_line(task.title)}: {one_line(task.error or '')}")
    rest = head.counts.get(TaskStatus.FAILED.value, 0) - len(head.failed)
    if rest > 0:
        print(f"  and {rest:,} more")
    short = head.id[: ledgers.SHORT]
    print(f"\n`ttasks show {short} --all` shows every task, `ttasks report {short} -o FILE` too")
