"""Rows of ``graphs`` and ``nodes``, without the tasks that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.connection import Connection
from ttasks.stores.sqlite.plain import to_text

COLUMNS = "seq, id, title, key, created_at, updated_at, shape, run_error, saved, checksum"
"""The columns that `check_graph` expects."""
FIND_GRAPH = f"SELECT {COLUMNS} FROM graphs WHERE id=?"
NODE = ("position", "member", "finally", "required", "policy", "after", "tasks.id")
"""The columns that `check_nodes` expects first, for a SELECT from ``nodes`` and ``tasks``."""
_IN_SHORT = f"""
SELECT {", ".join(NODE)}, tasks.status, tasks.checksum
FROM nodes LEFT JOIN tasks ON tasks.seq=nodes.task WHERE graph=? ORDER BY position
"""


def check_graph(row: Sequence[Any]) -> None:
    """Check a row of ``graphs``.

    Raises:
        StoreError: it is damaged.
    """
    checksums.check(row[-1], checksums.of_columns(*row[:-1]), f"graph {row[1]!r}")


def check_nodes(rows: Sequence[Sequence[Any]], graph_id: str, shape: str) -> None:
    """Check all nodes of a graph, in their order, by the digest in its row.

    Raises:
        StoreError: one is damaged, missing, or of another graph.
    """
    if checksums.of_nodes(row[: len(NODE)] for row in rows) != shape:
        raise checksums.damaged(f"graph {graph_id!r}", "its nodes are not those that were saved")


def statuses(connection: Connection, key: str) -> list[str] | None:
    """The status of each task of a graph, all rows checked as far; None if there is no graph.

    Raises:
        StoreError: one is damaged.
    """
    connection.execute("BEGIN")  # both statements see the same state
    graph = connection.execute(FIND_GRAPH, (to_text(key),)).fetchone()
    rows = [] if graph is None else connection.execute(_IN_SHORT, (graph[0],)).fetchall()
    connection.execute("COMMIT")
    if graph is None:
        return None
    check_graph(graph)
    check_nodes(rows, graph[1], graph[6])
    for *_, task_id, status, checksum in rows:
        checksums.check_status(checksum, status, f"task {task_id!r}")
    return [row[-2] for row in rows]
