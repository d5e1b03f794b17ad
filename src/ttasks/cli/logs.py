"""``ttasks logs``: the output of the tasks of a run."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ttasks.cli import ledgers
from ttasks.cli.exits import OK, CommandError
from ttasks.cli.output import say_json
from ttasks.console.text import RESET, clean
from ttasks.report.labels import one_line
from ttasks.report.terminal import wants_color

if TYPE_CHECKING:
    from ttasks.model.facts import RunFacts, TaskFacts


def execute(options: Namespace) -> int:
    """Carry out the command."""
    with ledgers.open_existing(options.store) as store:
        run = ledgers.find_run(store, options.run)
        facts = run.facts()
    tasks = [find_task(facts, options.task)] if options.task is not None else _ran(facts)
    if options.json:
        say_json("logs", {"run": run.id, "tasks": [_log_json(task) for task in tasks]})
    elif options.task is not None:
        for line in _lines(tasks[0]):
            print(line)
    else:
        _print_all(tasks)
    return OK


def find_task(facts: RunFacts, name: str) -> TaskFacts:
    """The task of a run with this key, title or id.

    Raises:
        CommandError: there is none (near names are given), or there are several.
    """
    try:
        return facts.find(name)
    except LookupError as error:
        raise CommandError(str(error.args[0])) from None


def _ran(facts: RunFacts) -> list[TaskFacts]:
    return [task for task in facts.tasks.values() if task.attempts]


def _print_all(tasks: list[TaskFacts]) -> None:
    bold = "\x1b[1m" if wants_color(None, sys.stdout, os.environ) else ""
    for number, task in enumerate(tasks):
        status = task.status.value
        print(
            f"{'' if not number else chr(10)}{bold}{one_line(task.title)}{bold and RESET}: {status}"
        )
        for line in _lines(task):
            print(f"  {line}")


def _lines(task: TaskFacts) -> list[str]:
    """Output and error; a terminal obeys nothing in them."""
    text = task.output
    if task.error is not None and task.error.strip() not in text:
        text += ("" if text.endswith("\n") or not text else "\n") + task.error
    if task.output_truncated:
        text += f"\n(the middle was left out; all of it: {task.log_file or 'not kept'})"
    return [clean(line) for line in text.splitlines()]


def _log_json(task: TaskFacts) -> dict[str, Any]:
    return {
        "id": task.id,
        "title": task.title,
        "key": task.key,
        "status": task.status.value,
        "output": task.output,
        "truncated": task.output_truncated,
        "error": task.error,
        "returncode": task.returncode,
        "log_file": task.log_file,
    }
