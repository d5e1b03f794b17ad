"""The graphs of a ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from hashlib import blake2b
from time import time_ns
from typing import Any

from ttasks.errors import StoreError
from ttasks.model.checks import check_str
from ttasks.model.graph import Node, TaskGraph, state_of
from ttasks.model.policy import DependencyPolicy
from ttasks.model.task import Task
from ttasks.stores.sqlite.calls import connect
from ttasks.stores.sqlite.codec import COLUMNS, DAMAGE, PARTS, SELECTED, Row, save_task
from ttasks.stores.sqlite.details import decode_error, encode_error
from ttasks.stores.sqlite.plain import (
    from_json,
    from_micros,
    from_optional,
    from_text,
    to_micros,
    to_optional,
    to_text,
)
from ttasks.stores.sqlite.tasks import LedgerCollection

# A later save gets a later time even if the clock was set back: `keyed` sorts by it.
_UPSERT_GRAPH = """
INSERT INTO graphs (id, title, key, created_at, updated_at, shape, run_error)
VALUES (?, ?, ?, ?, max(?, (SELECT coalesce(max(updated_at) + 1, 0) FROM graphs WHERE key=?)), ?, ?)
ON CONFLICT (id) DO UPDATE SET title=excluded.title, key=excluded.key,
    updated_at=excluded.updated_at, shape=excluded.shape, run_error=excluded.run_error
"""
_INSERT_NODE = """
INSERT INTO nodes (graph, task, position, member, finally, required, policy, after)
SELECT ?, seq, ?, ?, ?, ?, ?, ? FROM tasks WHERE id=?
"""
_SELECT_NODES = f"""
SELECT {SELECTED}, member, finally, required, policy, after
FROM nodes JOIN tasks ON tasks.seq=nodes.task {PARTS}
WHERE graph=? ORDER BY position
"""

_ACTIVE = "('pending', 'running')"

Values = tuple[Any, ...]


class LedgerGraphs(LedgerCollection[TaskGraph]):
    """Graphs by id; reading one gives a copy, with its tasks as they were saved last.

    Thread-safe. Each copy has tasks of its own.
    """

    _type, _table, _counts = TaskGraph, "graphs", "1"

    def save(self, item: TaskGraph) -> None:
        """Insert or replace a graph, its edges and its tasks, all or nothing."""
        self._check(item)
        members, nodes = _encode_nodes(item)
        tasks = [self._encode(task) for task in members]
        now = time_ns() // 1000
        shape = blake2b(repr(nodes).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        key, error = to_optional(item.key), encode_error(state_of(item).error)
        created = to_micros(item.created_at)
        row = (item.id, to_text(item.title), key, created, now, key, shape, error)
        self._ledger.writer.write(lambda connection: _save(connection, row, tasks, nodes, shape))

    def save_outcome(self, item: TaskGraph) -> None:
        """Write the ``run_error`` of a graph, and nothing of its tasks.

        Does nothing if the graph was never saved.
        """
        self._check(item)
        row = (encode_error(state_of(item).error), item.id)
        self._ledger.writer.write(
            lambda connection: connection.execute("UPDATE graphs SET run_error=? WHERE id=?", row)
        )

    def __getitem__(self, key: str) -> TaskGraph:
        graph = None
        if isinstance(key, str):
            with self._ledger.reading() as connection:
                connection.execute("BEGIN")  # both statements see the same state
                graph = connection.execute(
                    "SELECT seq, id, title, key, run_error, created_at FROM graphs WHERE id=?",
                    (to_text(key),),
                ).fetchone()
                if graph is not None:
                    rows = connection.execute(_SELECT_NODES, (graph[0],)).fetchall()
                connection.execute("COMMIT")
        if graph is None:
            raise KeyError(key)
        _, graph_id, title, graph_key, error, created_at = graph
        nodes = _decode_nodes(rows, graph_id, self._decode)
        try:
            found = TaskGraph.restore(
                graph_id,
                nodes,
                from_text(title),
                from_optional(graph_key),
                from_micros(created_at),
            )
            state_of(found).error = decode_error(error)
        except DAMAGE as problem:
            raise StoreError(
                f"The ledger's row of graph {graph_id!r} is damaged: {problem!r}"
            ) from problem
        return found

    def keyed(self, key: str) -> list[str]:
        """Ids of the graphs with this key, the latest saved first."""
        check_str("key", key)
        with self._ledger.reading() as connection:
            rows = connection.execute(
                "SELECT id FROM graphs WHERE key=? ORDER BY updated_at DESC, seq DESC",
                (to_text(key),),
            ).fetchall()
        return [graph_id for (graph_id,) in rows]

    def __delitem__(self, key: str) -> None:
        if not isinstance(key, str) or not self._ledger.writer.write(
            lambda connection: delete_graph(connection, key)
        ):
            raise KeyError(key)


def _encode_nodes(graph: TaskGraph) -> tuple[list[Task], list[Values]]:
    """The tasks that a graph needs, and the rows of its nodes.

    A dependency outside of the graph gets a node as well, which is no member, so that every edge is
    the number of a node.
    """
    members = graph.nodes()
    tasks = {node.task.id: node.task for node in members}
    for node in members:
        for upstream in node.after:
            tasks.setdefault(upstream.id, upstream)
    number = {task_id: at for at, task_id in enumerate(tasks)}
    nodes: list[Values] = [
        (
            at,
            1,
            int(node.finally_),
            int(node.required),
            node.policy.value,
            f"[{','.join([str(number[upstream.id]) for upstream in node.after])}]",
            node.task.id,
        )
        for at, node in enumerate(members)
    ]
    for task_id in list(tasks)[len(members) :]:
        nodes.append((number[task_id], 0, 0, 0, DependencyPolicy.BLOCK.value, "[]", task_id))
    return list(tasks.values()), nodes


def _save(
    connection: sqlite3.Connection,
    row: Values,
    tasks: list[Row],
    nodes: list[Values],
    shape: str,
) -> None:
    known = connection.execute("SELECT shape FROM graphs WHERE id=?", (row[0],)).fetchone()
    connection.execute(_UPSERT_GRAPH, row)
    for task in tasks:
        save_task(connection, task, new=known is None)
    if known == (shape,):
        return
    (seq,) = connection.execute("SELECT seq FROM graphs WHERE id=?", (row[0],)).fetchone()
    _delete_nodes(connection, seq)
    connection.executemany(_INSERT_NODE, [(seq, *node) for node in nodes])


def delete_graph(connection: sqlite3.Connection, key: str) -> bool:
    """Delete a graph but not its tasks; False if there is none."""
    found = connection.execute("SELECT seq FROM graphs WHERE id=?", (to_text(key),)).fetchone()
    if found is None:
        return False
    _delete_nodes(connection, found[0])
    connection.execute("DELETE FROM graphs WHERE seq=?", found)
    return True


def prune(connection: sqlite3.Connection, before: int) -> int:
    """Delete old graphs that have ended, then old tasks; return the number of tasks."""
    old = connection.execute(
        f"""
        SELECT id FROM graphs WHERE updated_at<? AND NOT EXISTS (
            SELECT 1 FROM nodes JOIN tasks ON tasks.seq=task
            WHERE graph=graphs.seq AND member AND (status IN {_ACTIVE} OR tasks.updated_at>=?)
        )
        """,
        (before, before),
    ).fetchall()
    for (graph_id,) in old:
        delete_graph(connection, graph_id)
    deleted = connection.execute(
        f"""
        DELETE FROM tasks WHERE status NOT IN {_ACTIVE} AND updated_at<? AND NOT EXISTS (
            SELECT 1 FROM nodes WHERE task=tasks.seq
        )
        """,
        (before,),
    ).rowcount
    delete_stray_events(connection)
    return deleted


def delete_stray_events(connection: sqlite3.Connection) -> None:
    """Delete the events of deleted tasks; not the newest event, whose number would be reused."""
    connection.execute(
        """
        DELETE FROM events WHERE seq < (SELECT max(seq) FROM events) AND NOT EXISTS (
            SELECT 1 FROM tasks WHERE tasks.seq=task
        )
        """
    )


def _delete_nodes(connection: sqlite3.Connection, graph: int) -> None:
    """Delete the nodes of a graph, and deleted tasks that no other graph has."""
    hidden = connection.execute(
        "SELECT seq FROM nodes JOIN tasks ON seq=task WHERE graph=? AND NOT listed", (graph,)
    ).fetchall()
    connection.execute("DELETE FROM nodes WHERE graph=?", (graph,))
    for seq in hidden:
        if not connection.execute("SELECT 1 FROM nodes WHERE task=?", seq).fetchone():
            connection.execute("DELETE FROM tasks WHERE seq=?", seq)


def _decode_nodes(
    rows: list[Any], graph_id: str, decode: Callable[[Sequence[Any]], Task]
) -> list[Node]:
    width = len(COLUMNS)
    tasks: list[Task] = [decode(row) for row in rows]
    connect(tasks)
    nodes = []
    try:
        for task, row in zip(tasks, rows, strict=True):
            member, finally_, required, policy, after = row[width:]
            if member:
                upstream = tuple(tasks[at] for at in from_json(after))
                nodes.append(
                    Node(task, upstream, bool(finally_), bool(required), DependencyPolicy(policy))
                )
    except DAMAGE as error:
        raise StoreError(
            f"The ledger's rows of graph {graph_id!r} are damaged: {error!r}"
        ) from error
    return nodes
