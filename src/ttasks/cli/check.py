"""``ttasks check``: whether a ledger is sound."""

from __future__ import annotations

from argparse import Namespace

from ttasks.cli import ledgers
from ttasks.cli.exits import FAILED, OK
from ttasks.cli.output import say_json
from ttasks.errors import StoreError, StoreVersionError
from ttasks.report.labels import count


def execute(options: Namespace) -> int:
    """Carry out the command."""
    try:
        with ledgers.open_existing(options.ledger) as store:
            problems = store.check()
    except StoreVersionError:
        raise
    except StoreError as error:
        problems = [str(error)]
    path = ledgers.path_of(options.ledger)
    if options.json:
        say_json("check", {"ledger": path, "ok": not problems, "problems": problems})
    elif problems:
        print("\n".join(problems))
        print(f"{path}: {count(len(problems), 'problem')}")
    else:
        print(f"{path} is sound")
    return FAILED if problems else OK
