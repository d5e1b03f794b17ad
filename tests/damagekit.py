"""A ledger with something of everything in it, ways to damage it, and all that can be read of it.

    python damagekit.py PATH VARIANT

writes the ledger, and ends by SIGKILL while a task is running. The ledgers of the variants differ:
"killed" has only what every one has, "pruned" also has gaps in its events and events of deleted
tasks, "wide" has so many rows that most trees have several levels.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from storekit import everything, shape
from ttasks import (
    DependencyPolicy,
    RetryPolicy,
    SQLiteStore,
    StoreError,
    Task,
    TaskContext,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
    TaskType,
)
from ttasks.model.slots import Claim, SlotRequest

KIND = TaskType("work")
KEY = "nightly"
VALUES: dict[str, Any] = {
    "json": {"a": [1, None, "x"]},
    "text": "ünï" * 20,
    "none": None,
    "large": "line of output\n" * 2000,  # more than a page
    "number": 3.5,
    "absent": object(),
    "odd": "\udcff",
}
VARIANTS = ("killed", "pruned", "wide")
STEPS = {"killed": 18, "pruned": 12, "wide": 150}
ROWS = 24


def build(variant: str) -> TaskGraph:
    """Tasks that succeed, fail once or always, are blocked and skipped; and the last one."""
    graph = TaskGraph("everything", key=KEY)
    made = {title: graph.add(Task(title, f"do {title}", KIND)) for title in VALUES}
    above = made["json"]
    for title in [f"step {at}" for at in range(STEPS[variant])]:
        above = graph.add(Task(title, {"of": [title]}, KIND, group="db"), after=above)
    failed = graph.add(
        Task("failed", ["a", 1], KIND, key="own", retry=RetryPolicy(2)), after=made["json"]
    )
    graph.add(Task("blocked", "", KIND), after=failed)
    graph.add(Task("skipped", "", KIND), after=failed, on_dep_failure=DependencyPolicy.SKIP)
    graph.add(Task("hangs", "", KIND), after=[above, failed], on_dep_failure=DependencyPolicy.SKIP)
    graph.add(
        Task("kills", "", KIND, version="2", options={"n": [1]}),
        after=[*made.values(), above, failed],
        on_dep_failure=DependencyPolicy.RUN_ANYWAY,
    )
    graph.add(Task("last", None, KIND), after=list(graph), finally_=True, required=False)
    return graph


def work(context: TaskContext) -> Any:
    """What every task does."""
    context.emit_output(f"output of {context.title}\n")
    if context.title == "failed":
        raise ValueError("always")
    return VALUES.get(context.title, context.title)


def write(path: Path, variant: str) -> None:
    """Fill a ledger, and die."""

    def die(context: TaskContext) -> Any:
        if context.title == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        return work(context)

    with SQLiteStore(path, journal_output=True) as store, TaskExecutor(store) as executor:
        older = TaskGraph("older", key=KEY)
        older.add(Task("json", "not the same", KIND))
        store.graphs.save(older)
        hidden = older.nodes()[0].task
        del store.tasks[hidden.id]
        for number in range(3):
            store.tasks.save(Task.bash(f"exit {number}", title=f"bash {number}", env={"A": "b"}))
        executor.register(KIND, die)
        for slot in range(6):
            for name in ("nightly", "hourly"):
                (claim,) = store.slots.claim([SlotRequest(name, slot * 3600_000_000)])
                assert isinstance(claim, Claim)
                store.slots.begin(claim, f"graph-{slot}")
                if slot != 5:
                    store.slots.end(claim, "ok" if slot % 2 else "skipped")
        for number in range(3):
            rows = store.outbox.add(f"run {number}", f"msg_{number}", ["mail", "chät"], 10**15)
            store.outbox.save(*[row._replace(content="x" * 999 * number) for row in rows[:number]])
        store.outbox.release(rows[0])
        if variant == "pruned":
            for turn in range(3):
                tasks = [Task("gone", "", KIND), Task("stays", "", KIND), Task("gone", "", KIND)]
                for task in tasks:
                    executor.execute(task)
                del store.tasks[tasks[0].id]
                if turn < 2:
                    store.vacuum()  # its events go, too
                del store.tasks[tasks[2].id]
        build(variant).run(executor, 2)


# Reading

Part = tuple[str, Callable[[SQLiteStore], Any]]
PARTS: tuple[Part, ...] = (
    ("tasks", lambda store: [everything(task) for task in store.tasks.values()]),
    ("ids", lambda store: (list(store.tasks), list(store.graphs))),
    ("length", lambda store: (len(store.tasks), len(store.graphs))),
    ("counts", lambda store: store.tasks.counts()),
    ("lists", lambda store: list(_pages(store))),
    ("graphs", lambda store: [_graph(store.graphs[key]) for key in store.graphs]),
    ("keyed", lambda store: store.graphs.keyed(KEY)),
    ("by status", lambda store: [store.tasks.list(one).tasks for one in TaskStatus]),
    ("counts by graph", lambda store: [store.tasks.counts(key) for key in store.graphs]),
    ("events", lambda store: store.events.read()),
    ("events by task", lambda store: [store.events.read(task=key) for key in store.tasks]),
    ("events by graph", lambda store: [store.events.read(graph=key) for key in store.graphs]),
    ("last event", lambda store: store.events.last),
    ("running", lambda store: store.running()),
    ("runs", lambda store: [repr(store.runs[key].facts()) for key in store.runs]),
    ("list of runs", lambda store: ([run.id for run in store.runs.list()], len(store.runs))),
    ("slots", lambda store: store.slots.list()),
    ("open slots", lambda store: store.slots.held_elsewhere(["nightly", "hourly"])),
    ("outbox", lambda store: store.outbox.rows()),
    ("length of the outbox", lambda store: len(store.outbox)),
    ("runs by key", lambda store: [run.id for run in store.runs.list(key=KEY)]),
)


def _pages(store: SQLiteStore) -> Iterator[Any]:
    after = None
    while True:
        page = store.tasks.list(limit=7, after=after)
        yield from page.tasks
        after = page.after
        if after is None:
            return


def _succeeded(store: SQLiteStore, fingerprint: str) -> Any:
    task = store.tasks.succeeded(fingerprint)
    return None if task is None else everything(task)


def _graph(graph: TaskGraph) -> Any:
    tasks = [everything(task) for task in graph]
    return graph.id, graph.title, graph.key, repr(graph.run_error), shape(graph), tasks


class Expected:
    """What a sound ledger gives.

    Attributes:
        parts: by name of the part.
        fingerprints: of what SUCCEEDED, with the id of the task that is found by it.
        ran: titles of the tasks that a resume runs.
        values: of all tasks after it, by title.
    """

    def __init__(self, path: Path, copy: Path, variant: str) -> None:
        self.variant = variant
        with SQLiteStore(path) as store:
            self.parts = {name: read(store) for name, read in PARTS}
            tasks = list(store.tasks.values())
            self.fingerprints = {
                task.fingerprint: everything(task)
                for task in tasks
                if task.is_succeeded and task.fingerprint is not None and task.title != "absent"
            }
            assert store.check() == []
        copy.write_bytes(path.read_bytes())
        self.ran, self.values = resume(copy, variant)
        assert len(tasks) >= ROWS
        assert {"kills", "failed", "last", "absent"} <= self.ran < {task.title for task in tasks}


def resume(path: Path, variant: str) -> tuple[set[str], dict[str, Any]]:
    """Run the graph again with ``resume=True``; the titles that ran, and all values."""
    ran: set[str] = set()

    def record(context: TaskContext) -> Any:
        ran.add(context.title)
        return work(context)

    with SQLiteStore(path) as store, TaskExecutor(store) as executor:
        executor.register(KIND, record)
        graph = build(variant).run(executor, 2, resume=True)
    values = {}
    for task in graph:
        result = task.result
        values[task.title] = (task.status, None if result is None else result.value)
    return ran, values


def look(path: Path, expected: Expected, *, resumes: bool = True) -> tuple[bool, list[str]]:
    """Read everything and resume; whether anything was refused, and what was wrong."""
    refused, wrong = False, []

    def attempt(name: str, read: Callable[[], Any], right: Any) -> None:
        nonlocal refused
        try:
            found = read()
        except StoreError:
            refused = True
        except pytest.fail.Exception:
            raise
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
        else:
            if found != right:
                wrong.append(f"{name} is another")

    try:
        store = SQLiteStore(path)
    except StoreError:
        refused = True
    except Exception as error:
        return False, [f"open: {error!r}"]
    else:
        with store:
            for name, read in PARTS:
                attempt(name, partial(read, store), expected.parts[name])
            for fingerprint, task in expected.fingerprints.items():
                attempt("succeeded", partial(_succeeded, store, fingerprint), task)
            try:
                is_sound = not store.check()
            except Exception as error:
                wrong.append(f"check: {error!r}")
            else:
                if is_sound and refused:
                    wrong.append("check finds nothing")
    if resumes:
        attempt("resume", lambda: resume(path, expected.variant), (expected.ran, expected.values))
    return refused, wrong


# Damaging

TABLES = {
    "tasks": "seq",
    "works": "task",
    "results": "task",
    "graphs": "seq",
    "owners": "seq",
    "events": "seq",
    "runs": "seq",
    "slots": "seq",
    "outbox": "seq",
}


def flip_bytes(path: Path, chosen: random.Random) -> str:
    """Change a few bytes anywhere."""
    data = bytearray(path.read_bytes())
    places = [chosen.randrange(len(data)) for _ in range(chosen.choice([1, 1, 2, 4, 16]))]
    for place in places:
        data[place] ^= chosen.choice([1 << chosen.randrange(8), chosen.randrange(1, 256)])
    path.write_bytes(data)
    return f"bytes {sorted(places)}"


def cut(path: Path, chosen: random.Random) -> str:
    """Cut the end off, mostly at a page."""
    size = path.stat().st_size
    page = _page_size(path)
    end = chosen.choice([size - page * chosen.randint(1, 4), chosen.randrange(size)])
    os.truncate(path, end)
    return f"cut at {end} of {size}"


def zero_page(path: Path, chosen: random.Random) -> str:
    """Fill a page, or part of one, with zeros."""
    data = bytearray(path.read_bytes())
    page = _page_size(path)
    begin = chosen.randrange(len(data) // page) * page
    if chosen.random() < 0.3:
        begin += chosen.randrange(page // 512) * 512
        page = 512
    data[begin : begin + page] = bytes(page)
    path.write_bytes(data)
    return f"zeros at {begin}, {page} bytes"


def swap_pages(path: Path, chosen: random.Random) -> str:
    """Exchange two pages."""
    data = bytearray(path.read_bytes())
    page = _page_size(path)
    one, other = (place * page for place in chosen.sample(range(len(data) // page), 2))
    data[one : one + page], data[other : other + page] = (
        data[other : other + page],
        data[one : one + page],
    )
    path.write_bytes(data)
    return f"pages at {one} and {other} exchanged"


def swap_rows(path: Path, chosen: random.Random) -> str:
    """Exchange what two rows hold, also their checksums, or two columns of them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        table, key = chosen.choice(list(TABLES.items()))
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description if column[0] != key]
        rows = {row[0]: row[1:] for row in cursor}
        if len(rows) < 2:
            return f"nothing to exchange in {table}"
        one, other = chosen.sample(sorted(rows), 2)
        some = names if chosen.random() < 0.5 else chosen.sample(names, 2)
        for place in (one, other):  # ids are unique
            if "id" in some:
                connection.execute(f"UPDATE {table} SET id=? WHERE {key}=?", (f"{place}", place))
        for place, source in ((one, other), (other, one)):
            values = dict(zip(names, rows[source], strict=True))
            text = f"UPDATE {table} SET {', '.join(f'{name}=?' for name in some)} WHERE {key}=?"
            with suppress(sqlite3.IntegrityError):  # so are the slots of a schedule
                connection.execute(text, (*(values[name] for name in some), place))
    return f"rows {one} and {other} of {table}: {some}"


class Cell(NamedTuple):
    """One column of one row, and what stands there."""

    table: str
    column: str
    key: dict[str, Any]
    value: Any


def cells(path: Path, chosen: random.Random, most: int) -> list[Cell]:
    """The columns of ``most`` rows of each table, and those of the first and the last row."""
    found = []
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'"):
            about = connection.execute(f"PRAGMA table_info({table})").fetchall()
            keys = [row["name"] for row in about if row["pk"]] or ["name"]
            rows = connection.execute(f"SELECT * FROM {table}").fetchall()
            some = dict.fromkeys(rows[:1] + rows[-1:] + chosen.sample(rows, min(most, len(rows))))
            for row in some:
                key = {name: row[name] for name in keys}
                found += [Cell(table, name, key, row[name]) for name in row.keys()]  # noqa: SIM118
    return found


def others(value: Any) -> list[Any]:
    """Values that are not this one, of all types, near and far."""
    found: list[Any] = [None, 0, 1, 10**6, -1, "x", b"x", 1.5, *map(str, TaskStatus)]
    if isinstance(value, int):
        found += [value + 1, value - 1, value ^ 1 << 20, value ^ 64, value * 256, -value, ~value]
    elif isinstance(value, str):
        found += [value[:-1], value + "a", chr(ord(value[0]) ^ 1) + value[1:], value.encode()]
    return [one for one in found if type(one) is not type(value) or one != value]


def change(path: Path, cell: Cell, value: Any) -> bool:
    """Write another value, and into the indexes; False if the schema forbids it."""
    where = " AND ".join(f"{name} IS ?" for name in cell.key)
    sql = f"UPDATE {cell.table} SET {cell.column}=? WHERE {where}"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            connection.execute(sql, (value, *cell.key.values()))
        except sqlite3.IntegrityError:
            return False
        return True


def remove(path: Path, cell: Cell) -> None:
    """Remove the row."""
    where = " AND ".join(f"{name} IS ?" for name in cell.key)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"DELETE FROM {cell.table} WHERE {where}", [*cell.key.values()])


WAYS = (flip_bytes, flip_bytes, flip_bytes, cut, zero_page, swap_pages, swap_rows)


def _page_size(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(18)[16:18], "big")


if __name__ == "__main__":
    write(Path(sys.argv[1]), sys.argv[2])
