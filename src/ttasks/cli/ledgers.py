"""Ledgers and the runs in them, as they are named on the command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ttasks.cli.exits import CommandError
from ttasks.errors import did_you_mean

if TYPE_CHECKING:
    from ttasks.model.run import Run
    from ttasks.stores.sqlite import SQLiteStore

VARIABLE = "TTASKS_STORE"
DEFAULT = os.path.join(".ttasks", "ledger.sqlite")
NAMES_SUFFIX = ".names"
"""The file of the names that shells complete is called as the ledger, and this."""

LATEST = "latest"
SHORT = 8
"""Characters of an id that are shown."""

_NAMED_RUNS = 1000  # the latest, whose keys are known for a hint


def path_of(given: str | None) -> str:
    """The ledger that is meant: the option, or else the variable, or else the usual place."""
    return given or os.environ.get(VARIABLE) or DEFAULT


def open_existing(given: str | None, *, writes: bool = False) -> SQLiteStore:
    """Open a ledger that is there; reading must not make one.

    Args:
        given: see `path_of`.
        writes: the command writes it; any other can do with one that can only be read.

    Raises:
        CommandError: it is missing, or cannot be written.
        StoreError: it cannot be opened.
    """
    path = path_of(given)
    if not os.path.exists(path):
        raise CommandError(
            f"there is no ledger {path!r}; `ttasks run` makes one, or name another with "
            f"--store or the variable {VARIABLE}"
        )
    from ttasks.stores.sqlite import SQLiteStore

    places = (path, os.path.dirname(path) or os.curdir)
    can_write = all(os.access(place, os.W_OK) for place in places)
    if writes and not can_write:
        raise CommandError(f"the ledger {path!r}, or its folder, cannot be written; only read it")
    return SQLiteStore(path, read_only=not can_write)


def open_for_run(given: str | None) -> SQLiteStore:
    """Open a ledger; the usual one is made with its folder, which git is told to ignore.

    Raises:
        CommandError: the folder cannot be made.
        StoreError: it cannot be opened.
    """
    path = path_of(given)
    if path == DEFAULT:
        folder = os.path.dirname(path)
        ignore = os.path.join(folder, ".gitignore")
        try:
            os.makedirs(folder, exist_ok=True)
            if not os.path.exists(ignore):
                with open(ignore, "w", encoding="utf-8") as file:
                    file.write("*\n")
        except OSError as error:
            raise CommandError(
                f"cannot make the folder {folder!r} for the ledger ({error.strerror}); "
                "name another place with --store, or use --no-store"
            ) from None
    from ttasks.stores.sqlite import SQLiteStore

    return SQLiteStore(path)


def find_run(store: SQLiteStore, name: str) -> Run:
    """The run that is meant by an id, its beginning, a key (its latest run), or ``latest``.

    Raises:
        CommandError: there is none, or several begin so; near names are given.
    """
    runs = store.runs
    if name in runs:
        return runs[name]
    if name == LATEST:
        run = runs.latest()
    else:
        run = runs.latest(key=name) if name.strip() else None
    if run is not None:
        return run
    if name == LATEST:
        raise CommandError(f"the ledger {store.path!r} has no runs yet")
    found = [run_id for run_id in runs if run_id.startswith(name)]
    if len(found) == 1:
        return runs[found[0]]
    if found:
        some = ", ".join(found[:5])
        raise CommandError(f"{len(found)} runs have ids that begin with {name!r}: {some}")
    from ttasks.model.checks import near

    keys = {key for run in runs.list(limit=_NAMED_RUNS) if (key := run.graph_key) is not None}
    raise CommandError(
        f"no run has the id or key {name!r}; `ttasks list` shows the runs"
        f"{did_you_mean(near(name, {*keys, LATEST}))}"
    )
