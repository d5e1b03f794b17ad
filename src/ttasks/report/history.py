"""Runs that a store knows: the one that is wanted, and those before it."""

from __future__ import annotations

from ttasks.model.facts import RunFacts
from ttasks.model.store import Store

EARLIER_RUNS = 20


def find_run(store: Store, run: str | None, key: str | None) -> RunFacts:
    raise NotImplementedError


def earlier_runs(store: Store, run: RunFacts) -> list[RunFacts]:
    raise NotImplementedError
