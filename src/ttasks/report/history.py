"""Runs that a store knows: the one that is wanted, and those before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ttasks.model.checks import wrong_type
from ttasks.model.facts import RunFacts

EARLIER_RUNS = 20
"""How many earlier runs are used for medians."""

EARLIER_TASKS = 20_000
"""After this many tasks no further run is read, which would take seconds."""


def find_run(store: Any, run: str | None, key: str | None) -> RunFacts:
    """The facts of the run that is wanted; see `RunReport.from_store`."""
    runs = getattr(store, "runs", None)
    if runs is None:
        raise wrong_type("store", store, "a store with runs, such as SQLiteStore")
    if run is not None:
        return _by_id(runs, run)
    found = runs.latest(key=key)
    if found is not None:
        facts: RunFacts = found.facts()
        return facts
    if key is None:
        raise LookupError(
            "the store has no runs: nothing has run with it yet, or only with a version of ttasks "
            "that kept no runs"
        )
    raise LookupError(f"the store has no run of a graph with the key {key!r}{_known(runs)}")


def earlier_runs(store: Any, run: RunFacts, most: int = EARLIER_RUNS) -> Iterator[RunFacts]:
    """The facts of the runs of the same graph before this one, the latest first.

    Args:
        store: with runs. It may not know the run yet, if that has just begun.
        run: its facts.
        most: how many runs.
    """
    tasks = 0
    for item in _before(store.runs, run)[:most]:
        facts = item.facts()
        yield facts
        tasks += len(facts.tasks)
        if tasks >= EARLIER_TASKS:
            return


def earlier_heads(runs: Any, run: RunFacts, most: int) -> Iterator[RunFacts]:
    """The same without facts of tasks, one after the other as they are asked for.

    Args:
        runs: of a store.
        run, most: as for `earlier_runs`.
    """
    return (item.head() for item in _before(runs, run, most + 1)[:most])


def _before(runs: Any, run: RunFacts, limit: int | None = None) -> Any:
    """The runs of the same graph before this one, the latest first; among the latest so many."""
    about = {"graph": run.graph_id} if run.graph_key is None else {"key": run.graph_key}
    listed = runs.list(**about, limit=limit)
    later = [at for at, item in enumerate(listed) if item.id == run.id]
    return listed[later[0] + 1 :] if later else listed


def _by_id(runs: Any, name: str) -> RunFacts:
    """The facts of the run whose id is, or begins with, this text."""
    if name in runs:
        exact: RunFacts = runs[name].facts()
        return exact
    found = [run_id for run_id in runs if run_id.startswith(name)]
    if not found:
        raise LookupError(
            f"the store has no run whose id is or begins with {name!r}; it has {len(runs):,}"
        )
    if len(found) > 1:
        some = ", ".join(found[:5])
        raise LookupError(f"{len(found)} runs have ids that begin with {name!r}: {some}")
    only: RunFacts = runs[found[0]].facts()
    return only


def _known(runs: Any) -> str:
    """The keys of the latest runs, as the end of a sentence."""
    keys = {item.graph_key: None for item in runs.list(limit=100)}
    names = ", ".join(repr(key) for key in list(keys)[:5] if key is not None)
    return f"; it has runs of {names}" if names else ""
