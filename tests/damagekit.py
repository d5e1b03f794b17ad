"""A ledger with something of everything in it, ways to damage it, and all that can be read of it.

    python damagekit.py PATH

writes the ledger, and ends by SIGKILL while a task is running.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

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
    TaskType,
)

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
STEPS = [f"step {at}" for at in range(18)]
ROWS = 30


def build() -> TaskGraph:
    """Tasks that succeed, fail once or always, are blocked and skipped; and the last one."""
    graph = TaskGraph("everything", key=KEY)
    made = {title: graph.add(Task(title, f"do {title}", KIND)) for title in VALUES}
    above = made["json"]
    for title in STEPS:
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


def write(path: Path) -> None:
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
        build().run(executor, 2)


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
    ("events", lambda store: store.events.read()),
    ("running", lambda store: store.running()),
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

    def __init__(self, path: Path, copy: Path) -> None:
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
        self.ran, self.values = resume(copy)
        assert len(tasks) >= ROWS
        assert {"kills", "failed", "last", "absent"} <= self.ran < {task.title for task in tasks}


def resume(path: Path) -> tuple[set[str], dict[str, Any]]:
    """Run the graph again with ``resume=True``; the titles that ran, and all values."""
    ran: set[str] = set()

    def record(context: TaskContext) -> Any:
        ran.add(context.title)
        return work(context)

    with SQLiteStore(path) as store, TaskExecutor(store) as executor:
        executor.register(KIND, record)
        graph = build().run(executor, 2, resume=True)
    values = {}
    for task in graph:
        result = task.result
        values[task.title] = (task.status, None if result is None else result.value)
    return ran, values


def look(path: Path, expected: Expected) -> tuple[bool, list[str]]:
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
    attempt("resume", lambda: resume(path), (expected.ran, expected.values))
    return refused, wrong


# Damaging

TABLES = {
    "tasks": "seq",
    "works": "task",
    "results": "task",
    "graphs": "seq",
    "owners": "seq",
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
            connection.execute(text, (*(values[name] for name in some), place))
    return f"rows {one} and {other} of {table}: {some}"


WAYS = (flip_bytes, flip_bytes, flip_bytes, cut, zero_page, swap_pages, swap_rows)


def _page_size(path: Path) -> int:
    with path.open("rb") as file:
        return int.from_bytes(file.read(18)[16:18], "big")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
