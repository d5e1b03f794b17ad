"""``ttasks events``: what happened in a run, in order."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from ttasks.cli import ledgers
from ttasks.cli.exits import OK
from ttasks.cli.output import moment, say_json
from ttasks.report.labels import one_line

if TYPE_CHECKING:
    from ttasks.stores.sqlite.journal import JournalEntry


def execute(options: Namespace) -> int:
    """Carry out the command."""
    with ledgers.open_existing(options.store) as store:
        run = ledgers.find_run(store, options.run)
        if options.follow:
            entries = store.events.follow(run=run, until=lambda: run.done)
        else:
            entries = iter(store.events.read(run=run))
        for entry in entries:
            if options.json:
                say_json("event", _event_json(run.id, entry))
            else:
                print(_line(entry), flush=options.follow)
    return OK


def _line(entry: JournalEntry) -> str:
    clock = f"{entry.timestamp.astimezone():%H:%M:%S.%f}"[:-3]
    attempt = f" (attempt {entry.attempt})" if entry.attempt > 1 else ""
    line = f"{clock}  {entry.type.value:<9}  {one_line(entry.title)}{attempt}"
    if entry.output_chunk is not None:
        return f"{line}: {one_line(entry.output_chunk)}"
    if entry.retry_in is not None:
        line += f", again in {entry.retry_in:g} s"
    return line if entry.error is None else f"{line}: {one_line(entry.error)}"


def _event_json(run_id: str, entry: JournalEntry) -> dict[str, Any]:
    return {
        "run": run_id,
        "seq": entry.seq,
        "time": moment(entry.timestamp),
        "event": entry.type.value,
        "task": entry.task_id,
        "title": entry.title,
        "previous": entry.previous_status.value,
        "status": entry.status.value,
        "attempt": entry.attempt,
        "error": entry.error,
        "retry_in": entry.retry_in,
        "percent": entry.progress_percent,
        "message": entry.progress_message,
        "stream": entry.output_stream,
        "text": entry.output_chunk,
    }
