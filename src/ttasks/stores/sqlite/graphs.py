"""The graphs of a ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any

from ttasks.model.checks import check_str
from ttasks.model.graph import Node, TaskGraph, state_of
from ttasks.model.policy import DependencyPolicy
from ttasks.model.task import Task
from ttasks.stores.sqlite import checksums
from ttasks.stores.sqlite.calls import connect
from ttasks.stores.sqlite.codec import COLUMNS as TASK_COLUMNS
from ttasks.stores.sqlite.codec import DAMAGE, PARTS, SELECTED, Row, save_tasks
from ttasks.stores.sqlite.connection import Connection
from ttasks.stores.sqlite.details import decode_error, encode_error
from ttasks.stores.sqlite.event_rows import delete_stray_events
from ttasks.stores.sqlite.graph_rows import COLUMNS, FIND_GRAPH, NODE, check_graph, check_nodes
from ttasks.stores.sqlite.outbox import prune_outbox
from ttasks.stores.sqlite.plain import (
    from_json,
    from_micros,
    from_optional,
    from_text,
    to_micros,
    to_optional,
    to_text,
)
from ttasks.stores.sqlite.run_rows import prune_runs
from ttasks.stores.sqlite.schema import check_structure
from ttasks.stores.sqlite.slots import prune_slots
from ttasks.stores.sqlite.tasks import LedgerCollection

_WRITE_GRAPH = f"INSERT OR REPLACE INTO graphs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_NEW_GRAPH = "SELECT coalesce(max(seq), 0) + 1 FROM graphs"
# A number says which was saved last: the clock may have been set back.
_LAST_SAVED = "SELECT coalesce(max(saved), 0) FROM graphs WHERE key IS ?"
_INSERT_NODE = """
INSERT INTO nodes (graph, task, position, member, finally, required, policy, after)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_SELECT_NODES = f"""
SELECT {SELECTED}, {", ".join(NODE)}
FROM nodes JOIN tasks ON tasks.seq=nodes.task {PARTS}
WHERE graph=? ORDER BY position
"""

_ACTIVE = "('pending', 'running')"

Values = tuple[Any, ...]


class LedgerGraphs(LedgerCollection[TaskGraph]):
    """Graphs by id; reading one gives a copy, with its tasks as they were saved last.

    Thread-safe. Each copy has tasks of its own.
    """

    _type, _number = TaskGraph, "seq"
    _select = f"SELECT {COLUMNS} FROM graphs"

    def _is_there(self, row: Sequence[Any]) -> bool:
        check_graph(row)
        return True

    def __len__(self) -> int:
        with self._ledger.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM graphs").fetchone()[0])

    def save(self, item: TaskGraph) -> None:
        """Insert or replace a graph, its edges and its tasks, all or nothing."""
        self._check(item)
        members, nodes = _encode_nodes(item)
        tasks = [self._encode(task) for task in members]
        now, shape = time_ns() // 1000, checksums.of_nodes(nodes)
        error = encode_error(state_of(item).error)
        created = to_micros(item.created_at)
        row = (item.id, to_text(item.title), to_optional(item.key), created, now, shape, error)
        self._ledger.writer.write(lambda connection: _save(connection, row, tasks, nodes))

    def save_outcome(self, item: TaskGraph) -> None:
        """Write the ``run_error`` of a graph, and nothing of its tasks.

        Does nothing if the graph was never saved.
        """
        self._check(item)
        error = encode_error(state_of(item).error)
        self._ledger.writer.write(lambda connection: _save_error(connection, item.id, error))

    def __getitem__(self, key: str) -> TaskGraph:
        graph = None
        if isinstance(key, str):
            with self._ledger.reading() as connection:
                connection.execute("BEGIN")  # both statements see the same state
                graph = connection.execute(FIND_GRAPH, (to_text(key),)).fetchone()
                if graph is not None:
                    rows = connection.execute(_SELECT_NODES, (graph[0],)).fetchall()
                connection.execute("COMMIT")
        if graph is None:
            raise KeyError(key)
        _, graph_id, title, graph_key, created_at, _, shape, error, *_ = graph
        check_graph(graph)
        nodes = _decode_nodes(rows, graph_id, shape, self._decode)
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
            raise checksums.damaged(f"graph {graph_id!r}", repr(problem)) from problem
        return found

    def keyed(self, key: str) -> list[str]:
        """Ids of the graphs with this key, the latest saved first; numbers tell, not the clock.

        Raises:
            StoreError: one of them is damaged, or others are and may be missing.
        """
        check_str("key", key)
        with self._ledger.reading() as connection:
            check_structure(connection, self._ledger.path, "graphs")
            # All of them: a condition would pass over a row whose key is damaged.
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM graphs ORDER BY saved DESC, seq DESC"
            ).fetchall()
        for row in rows:
            check_graph(row)
        return [row[1] for row in rows if row[3] == to_text(key)]

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


def _save(connection: Connection, row: Values, tasks: list[Row], nodes: list[Values]) -> None:
    graph_id, title, key, created_at, updated_at, shape, error = row
    known = connection.execute(FIND_GRAPH, (graph_id,)).fetchone()
    if known is None:
        (seq,) = connection.execute(_NEW_GRAPH).fetchone()
    else:
        seq, created_at = known[0], known[4]
    (saved,) = connection.execute(_LAST_SAVED, (key,)).fetchone()
    if not isinstance(saved, int):
        raise checksums.damaged(f"a graph with the key {key!r}", f"saved is {saved!r}")
    _write(connection, (seq, graph_id, title, key, created_at, updated_at, shape, error, saved + 1))
    numbers = save_tasks(connection, tasks, new=known is None)
    if known is not None and known[6] == shape:
        return
    _delete_nodes(connection, seq)
    # The nodes are in the order of the tasks; their ids come last.
    rows = ((seq, number, *node[:-1]) for number, node in zip(numbers, nodes, strict=True))
    connection.executemany(_INSERT_NODE, rows)


def _save_error(connection: sqlite3.Connection, graph_id: str, error: str | None) -> None:
    row = connection.execute(FIND_GRAPH, (graph_id,)).fetchone()
    if row is not None:
        check_graph(row)
        _write(connection, (*row[:7], error, row[8]))


def _write(connection: sqlite3.Connection, columns: Values) -> None:
    connection.execute(_WRITE_GRAPH, (*columns, checksums.of_columns(*columns)))


def delete_graph(connection: sqlite3.Connection, key: str) -> bool:
    """Delete a graph but not its tasks; False if there is none."""
    found = connection.execute("SELECT seq FROM graphs WHERE id=?", (to_text(key),)).fetchone()
    if found is None:
        return False
    _delete_nodes(connection, found[0])
    connection.execute("DELETE FROM graphs WHERE seq=?", found)
    return True


def prune(connection: sqlite3.Connection, path: str, before: int) -> int:
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
    delete_stray_events(connection, path)
    prune_runs(connection, before)
    prune_slots(connection, before)
    prune_outbox(connection, before)
    return deleted


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
    rows: list[Any], graph_id: str, shape: str, decode: Callable[[Sequence[Any]], Task]
) -> list[Node]:
    width = len(TASK_COLUMNS)
    what = f"graph {graph_id!r}"
    check_nodes([row[width:] for row in rows], graph_id, shape)
    tasks: list[Task] = [decode(row) for row in rows]
    connect(tasks)
    nodes = []
    try:
        for task, row in zip(tasks, rows, strict=True):
            _, member, finally_, required, policy, after, _ = row[width:]
            if member:
                upstream = tuple(tasks[at] for at in from_json(after))
                nodes.append(
                    Node(task, upstream, bool(finally_), bool(required), DependencyPolicy(policy))
                )
    except DAMAGE as error:
        raise checksums.damaged(what, repr(error)) from error
    return nodes
