"""``ttasks list``: the runs of a ledger, or the tasks of a target."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from ttasks.cli import ledgers
from ttasks.cli.exits import OK, CommandError
from ttasks.cli.output import moment, say_json, say_table, shown
from ttasks.errors import GraphError
from ttasks.report.labels import seconds

if TYPE_CHECKING:
    from ttasks.model.graph import Node


def execute(options: Namespace) -> int:
    """Carry out the command."""
    if options.target is None:
        if options.words:
            raise CommandError("parameters after `--` need a TARGET")
        return _list_runs(options)
    return _list_tasks(options)


def _list_runs(options: Namespace) -> int:
    with ledgers.open_existing(options.store) as store:
        runs = store.runs.list(key=options.key, limit=options.limit)
        heads = [run.head() for run in runs]
    if options.json:
        say_json("runs", {"runs": [run_json(head) for head in heads]})
        return OK
    if not heads:
        print("no runs" if options.key is None else f"no runs of the key {options.key!r}")
        return OK
    columns = ["RUN", "NO.", "STARTED", "TOOK", "OUTCOME", "TITLE"]
    rows = [
        [
            head.id[: ledgers.SHORT],
            head.number,
            shown(head.started_at),
            seconds(head.elapsed),
            head.outcome,
            head.title,
        ]
        for head in heads
    ]
    if any(head.schedule for head in heads):
        columns += ["SCHEDULE", "SLOT"]
        for row, head in zip(rows, heads, strict=True):
            row += [head.schedule, None if head.slot is None else shown(head.slot)]
    say_table(columns, rows, right=(1, 3))
    return OK


def run_json(head: Any) -> dict[str, Any]:
    """A run without its tasks."""
    return {
        "id": head.id,
        "number": head.number,
        "key": head.graph_key,
        "title": head.title,
        "outcome": head.outcome,
        "error": head.error,
        "started_at": moment(head.started_at),
        "ended_at": moment(head.ended_at),
        "seconds": head.elapsed,
        "host": head.host,
        "pid": head.pid,
        "schedule": head.schedule,
        "slot": moment(head.slot),
    }


def _list_tasks(options: Namespace) -> int:
    from ttasks.cli.targets import load

    with redirect_stdout(sys.stderr if options.json else sys.stdout):
        graph = load(options.target).graph(options.words)
    try:
        graph.validate()
    except GraphError as error:
        raise CommandError(str(error)) from None
    nodes = graph.nodes()
    if options.json:
        tasks = [_task_json(node) for node in nodes]
        say_json("tasks", {"key": graph.key, "title": graph.title, "tasks": tasks})
        return OK
    say_table(
        ("TASK", "KEY", "TYPE", "AFTER"),
        [
            (
                node.task.title + _flags(node),
                node.task.key,
                node.task.type.value,
                ", ".join(end.title for end in node.after) or None,
            )
            for node in nodes
        ],
    )
    return OK


def _flags(node: Node) -> str:
    flags = [*(["finally"] if node.finally_ else []), *([] if node.required else ["optional"])]
    return f" ({', '.join(flags)})" if flags else ""


def _task_json(node: Node) -> dict[str, Any]:
    return {
        "title": node.task.title,
        "key": node.task.key,
        "type": node.task.type.value,
        "after": [end.key or end.title for end in node.after],
        "finally": node.finally_,
        "required": node.required,
    }
