"""``ttasks run --dry-run``: what would run, in which order, why, and for how long."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from ttasks.cli.exits import OK, CommandError
from ttasks.cli.output import say_json, say_table
from ttasks.engine.looks import Looks
from ttasks.engine.resume import adopt, latest, reuse, stamp_all, unique_keys, why_declared_run
from ttasks.engine.snapshots import Snapshots
from ttasks.errors import DeclarationError
from ttasks.model.graph import topology_of
from ttasks.model.running import CACHE_ON
from ttasks.model.topology import in_order
from ttasks.report.labels import count, seconds
from ttasks.report.numbers import longest, medians_of, name_of

if TYPE_CHECKING:
    from ttasks.model.graph import Node, TaskGraph
    from ttasks.model.run import Reason
    from ttasks.model.topology import Topology
    from ttasks.stores.sqlite import SQLiteStore

_RUNS = 5  # earlier ones, whose medians are told
_WHY = {
    "first": "there is no earlier result to reuse",
    "unsuccessful": "it did not succeed in the previous run",
    "unrecorded": "its inputs changed while it last ran",
    "value": "its earlier value was not stored",
}


def show_plan(
    graph: TaskGraph, options: Namespace, store: SQLiteStore | None, stdout: TextIO
) -> int:
    """Print what a run of this graph would do; its tasks must not be used afterwards."""
    nodes, topology = graph.nodes(), topology_of(graph)
    reasons = _prepare(graph, nodes, topology, options, store)
    earlier = () if store is None else store.runs.list(key=graph.key, limit=_RUNS)
    usual = medians_of(run.facts() for run in earlier)
    order = [at for at in in_order(topology) if not nodes[at].task.is_succeeded]
    path = (graph.title,) if graph.title else ()
    times = {at: usual.get(name_of(nodes[at].task.key, path, nodes[at].task.title)) for at in order}
    workers = options.jobs or min(32, (os.cpu_count() or 1) + 4)
    known = {at: time for at, time in times.items() if time is not None}
    expected = _expected(order, topology, known, workers) if known else None
    with redirect_stdout(stdout):
        if options.json:
            tasks = [
                _task_json(nodes[at], times[at], _why(nodes[at], reasons.get(at), options))
                for at in order
            ]
            say_json("plan", {"key": graph.key, "tasks": tasks, "seconds": expected})
            return OK
        say_table(
            ("TASK", "USUALLY", "WHY"),
            [
                (
                    nodes[at].task.title,
                    seconds(times[at]),
                    _why(nodes[at], reasons.get(at), options),
                )
                for at in order
            ],
            right=(1,),
        )
    rest = len(nodes) - len(order)
    text = f"{count(len(order), 'task')} would run"
    text += f", {rest:,} would be taken over from the ledger" if rest else ""
    text += f"; about {seconds(expected)}" if expected is not None else ""
    print(text, file=sys.stderr)
    return OK


def _prepare(
    graph: TaskGraph,
    nodes: Sequence[Node],
    topology: Topology,
    options: Namespace,
    store: SQLiteStore | None,
) -> Mapping[int, Reason]:
    """Take over what a run would, and say why of the rest."""
    if store is None:
        return {}
    looks = Looks(lambda: Snapshots(store))
    try:
        stamp_all(nodes, topology, looks)
    except DeclarationError as error:
        raise CommandError(str(error)) from None
    reasons: dict[int, Reason] = {}
    if options.resume or options.failed:
        before = latest(graph, store)
        if before is None:
            reasons = dict.fromkeys(range(len(nodes)), ("first", ()))
        else:
            _, reasons = adopt(nodes, topology, unique_keys(graph), before, looks)
    if options.cache == CACHE_ON:
        reuse(nodes, topology, store, looks)
        if not reasons and graph.key is not None:
            keys = unique_keys(graph)
            reasons = why_declared_run(graph, nodes, topology, keys, store, looks)
    looks.keep()
    return reasons


def _why(node: Node, reason: Reason | None, options: Namespace) -> str:
    """Why a task would run."""
    if reason is None:
        if node.finally_:
            return "it cleans up"
        is_part = options.only or options.skip or options.from_ or options.until
        return "it is selected" if is_part else "every task runs"
    word, names = reason
    if word == "changed":
        return f"changed: {', '.join(names)}"
    if word in ("inputs", "outputs"):
        return f"its {word}: {', '.join(names)}"
    if word == "upstream":
        return f"after {', '.join(map(repr, names))}"
    return _WHY[word]


def _expected(
    order: Sequence[int], topology: Topology, usual: Mapping[int, float], workers: int
) -> float:
    """Seconds that it takes: the work over all workers, or the longest path."""
    weights = [usual.get(at, 0.0) for at in range(len(topology.dependencies))]
    path = max(longest(order, topology.dependencies, weights), default=0.0)
    return max(sum(usual.values()) / workers, path)


def _task_json(node: Node, usually: float | None, why: str) -> dict[str, Any]:
    return {
        "title": node.task.title,
        "key": node.task.key,
        "type": node.task.type.value,
        "finally": node.finally_,
        "seconds": usually,
        "why": why,
    }
