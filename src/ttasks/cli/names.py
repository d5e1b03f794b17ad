"""The names that shells complete: a file beside the ledger, so that nothing needs to be imported.

A line for each name: ``task``, the TARGET and the name of a task; or ``run``, nothing, and the id
or key of a run. Columns are divided by tabs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ttasks.cli.ledgers import NAMES_SUFFIX
from ttasks.errors import StoreError
from ttasks.model.graph import state_of
from ttasks.report.labels import one_line

if TYPE_CHECKING:
    from ttasks.model.graph import TaskGraph
    from ttasks.stores.sqlite import SQLiteStore

MOST_TASKS = 1000
"""Tasks of a target that are completed."""

MOST_TARGETS = 20
"""Targets that are remembered, the latest first."""

_RUNS = 20


def remember(store: SQLiteStore, target: str, whole: TaskGraph, ran: TaskGraph) -> None:
    """Note the names of the tasks of a target, and of the latest runs.

    A file that cannot be written is no reason to fail: there is just nothing to complete.

    Args:
        store: whose ledger the file is beside.
        target: as it was given.
        whole, ran: its graph, and the part that has run, whose executor knows secrets to hide.
    """
    path = Path(store.path + NAMES_SUFFIX)
    shown = state_of(ran).title_of
    mine = dict.fromkeys(
        f"task\t{target}\t{one_line(task.key or shown(task))}" for task in list(whole)[:MOST_TASKS]
    )
    try:
        text = "\n".join([*_runs(store), *mine, *_others(path, target)]) + "\n"
        part = f"{path}.{os.urandom(4).hex()}"
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text.encode("utf-8", "replace"))
        os.replace(part, path)
    except (OSError, StoreError):
        pass


def _runs(store: SQLiteStore) -> list[str]:
    runs = store.runs.list(limit=_RUNS)
    keys = dict.fromkeys(key for run in runs if (key := run.graph_key) is not None)
    return [f"run\t\t{one_line(name)}" for name in ("latest", *keys, *[run.id for run in runs])]


def _others(path: Path, target: str) -> list[str]:
    """The lines of other targets, as far as they are remembered."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found: dict[str, list[str]] = {}
    for line in lines:
        kind, _, rest = line.partition("\t")
        name = rest.partition("\t")[0]
        if kind == "task" and name != target:
            found.setdefault(name, []).append(line)
    return [line for name in list(found)[: MOST_TARGETS - 1] for line in found[name]]
