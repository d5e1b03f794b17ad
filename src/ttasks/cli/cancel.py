"""``ttasks cancel``: stop a run, also one of another process."""

from __future__ import annotations

from argparse import Namespace

from ttasks.cli import ledgers
from ttasks.cli.exits import OK, CommandError
from ttasks.cli.output import say_json
from ttasks.errors import GraphError


def execute(options: Namespace) -> int:
    """Carry out the command."""
    with ledgers.open_existing(options.store, writes=True) as store:
        run = ledgers.find_run(store, options.run)
        was_running = not run.done
        try:
            run.cancel()
        except GraphError as error:
            raise CommandError(str(error)) from None
        if options.wait:
            run.wait()
        head = run.head()
    name = f"run {head.id[: ledgers.SHORT]} of {head.title!r}"
    if options.json:
        say_json("cancel", {"run": head.id, "asked": was_running, "outcome": head.outcome})
    elif was_running:
        print(f"asked {name} to stop; {_state(head.outcome)}")
    else:
        print(f"{name} had ended before: {head.outcome}")
    return OK


def _state(outcome: str) -> str:
    return "it is running" if outcome == "running" else f"it has ended: {outcome}"
