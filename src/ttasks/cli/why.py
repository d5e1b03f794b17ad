"""``ttasks why``: one sentence on one task."""

from __future__ import annotations

from argparse import Namespace

from ttasks.cli import ledgers
from ttasks.cli.exits import OK
from ttasks.cli.logs import find_task
from ttasks.cli.output import say_json


def execute(options: Namespace) -> int:
    """Carry out the command."""
    with ledgers.open_existing(options.store) as store:
        facts = ledgers.find_run(store, options.run).facts()
    task = find_task(facts, options.task)
    sentence = facts.why(task.id)
    if options.json:
        content = {"run": facts.id, "task": task.id, "title": task.title, "why": sentence}
        say_json("why", {**content, "status": task.status.value})
    else:
        print(sentence)
    return OK
