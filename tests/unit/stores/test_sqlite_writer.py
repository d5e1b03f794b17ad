"""Group commit: shared transactions, nobody's work lost, nobody left waiting."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ttasks.errors import StoreError
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task
from ttasks.stores.sqlite import SQLiteStore
from ttasks.stores.sqlite import connection as connection_module
from ttasks.stores.sqlite.ledger import Ledger
from ttasks.stores.sqlite.writer import Writer, _Ticket


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(str(tmp_path / "ledger"), "process")
    with ledger.writing() as connection:
        connection.execute("CREATE TABLE notes (text TEXT UNIQUE)")
    yield ledger
    ledger.close()


@pytest.fixture
def writer(ledger: Ledger) -> Writer:
    return ledger.writer


def note(text: str) -> Callable[[sqlite3.Connection], str]:
    def work(connection: sqlite3.Connection) -> str:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))
        return text

    return work


def notes(ledger: Ledger) -> list[str]:
    with ledger.reading() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes").fetchall()]


class Convoy:
    """A write that waits in its work until others have queued up behind it."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.pool = ThreadPoolExecutor(8)
        self.leader = self.pool.submit(writer.write, self._work)
        assert self.entered.wait(10)

    def _work(self, connection: sqlite3.Connection) -> str:
        self.entered.set()
        assert self.go_on.wait(10)
        return "leader"

    def queue(self, *works: Callable[[sqlite3.Connection], object]) -> list[object]:
        """Queue works in this order, let the leader go on, and return what became of them."""
        futures = []
        for work in works:
            before = len(self.writer._queue)
            futures.append(self.pool.submit(self.writer.write, work))
            while len(self.writer._queue) == before:
                pass
        self.go_on.set()
        with self.pool:
            assert self.leader.result(10) == "leader"
            return [future.exception(10) or future.result() for future in futures]


def test_a_write_returns_what_its_work_returned(writer: Writer, ledger: Ledger) -> None:
    assert writer.write(note("a")) == "a"
    assert notes(ledger) == ["a"]


def test_writes_that_wait_share_one_transaction(writer: Writer, ledger: Ledger) -> None:
    statements: list[str] = []
    with ledger.writing() as connection:
        connection.set_trace_callback(statements.append)
    assert Convoy(writer).queue(note("a"), note("b"), note("c")) == ["a", "b", "c"]
    assert notes(ledger) == ["a", "b", "c"]
    assert [text for text in statements if text in ("BEGIN IMMEDIATE", "COMMIT")] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
    ] * 2


def test_a_write_that_fails_does_not_harm_its_companions(writer: Writer, ledger: Ledger) -> None:
    def wrong(connection: sqlite3.Connection) -> None:
        note("half")(connection)
        raise LookupError("wrong")

    first, error, again, last = Convoy(writer).queue(note("a"), wrong, note("a"), note("b"))
    assert (first, last) == ("a", "b")
    assert isinstance(error, LookupError)
    assert isinstance(again, StoreError)
    assert "UNIQUE" in str(again)
    assert notes(ledger) == ["a", "b"]


def test_many_that_wait_for_a_locked_file_give_up_together(
    writer: Writer, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []

    def give_up(path: str, action: object) -> object:
        waits.append(path)
        raise StoreError("other processes keep it locked")

    monkeypatch.setattr("ttasks.stores.sqlite.writer.patiently", give_up)
    waiting = _Ticket(note("a"))  # of another thread
    writer._queue.append(waiting)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        thread = ThreadPoolExecutor(1)
        with thread, pytest.raises(StoreError, match="keep it locked") as caught:
            thread.submit(writer.write, note("b")).result(10)
        blocker.execute("ROLLBACK")
    assert len(waits) == 1
    assert str(waiting.error) == str(caught.value)
    assert waiting.error is not caught.value
    assert notes(ledger) == []
    assert writer.write(note("c")) == "c"


def test_an_interrupted_write_leaves_nobody_waiting(writer: Writer, ledger: Ledger) -> None:
    def interrupt(connection: sqlite3.Connection) -> None:
        note("half")(connection)
        raise KeyboardInterrupt

    interrupted, *others = Convoy(writer).queue(interrupt, note("a"), note("b"))
    assert isinstance(interrupted, KeyboardInterrupt)
    assert others == ["a", "b"]
    assert notes(ledger) == ["a", "b"]
    assert writer.write(note("c")) == "c"


def test_threads_under_load_lose_nothing_and_share_commits(writer: Writer, ledger: Ledger) -> None:
    def work(number: int) -> None:
        for at in range(50):
            writer.write(note(f"{number} {at}"))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(notes(ledger)) == 800


def test_a_reader_does_not_wait_for_the_writer(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        task = Task.bash("true")
        store.tasks.save(task)
        with store._ledger.writing() as connection:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("UPDATE works SET title='not yet'")
            assert store.tasks[task.id].title == "true"
            connection.execute("ROLLBACK")


def test_idle_readers_are_few(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        barrier = threading.Barrier(12)

        def read(_: int) -> None:
            with store._ledger.reading():
                barrier.wait()

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(read, range(12)))
        assert len(store._ledger._connections.idle) == 4


class TestClosing:
    def test_a_closed_store_says_so(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path / "ledger")
        store.close()
        for use in (
            lambda: store.tasks.save(Task.bash("true")),
            lambda: len(store.tasks),
            lambda: store.graphs["x"],
            lambda: "x" in store.tasks,
        ):
            with pytest.raises(StoreError, match="is closed"):
                use()

    def test_a_store_that_is_forgotten_closes_its_file(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path / "ledger")
        store.tasks.save(Task.bash("true"))
        assert len(store.tasks) == 1
        tasks = store.tasks
        del store
        gc.collect()
        assert len(tasks) == 1  # the collection is enough to keep it open
        del tasks
        gc.collect()  # the fixtures look for descriptors and warnings
        assert os.listdir(tmp_path) == ["ledger"]

    def test_what_was_saved_is_there_after_opening_again(self, tmp_path: Path) -> None:
        task = Task.bash("true")
        for _ in range(3):
            with SQLiteStore(tmp_path / "ledger") as store:
                store.tasks.save(task)
                assert list(store.tasks) == [task.id]
        assert os.listdir(tmp_path) == ["ledger"]


# Several processes


def save_many(path: Path, count: int, name: str) -> None:
    with SQLiteStore(path) as store:
        for at in range(count):
            task = Task.bash(f"echo {name} {at}", title=name)
            store.tasks.save(task)
            task.transition_to(TaskStatus.RUNNING)
            store.tasks.save(task)


def run_processes(context: multiprocessing.context.BaseContext, *args: tuple[object, ...]) -> None:
    processes = [context.Process(target=save_many, args=item) for item in args]  # type: ignore[attr-defined]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
        process.close()


def test_four_processes_lose_nothing(tmp_path: Path) -> None:
    # They also race for who makes the file.
    path = tmp_path / "ledger"
    run_processes(
        multiprocessing.get_context("fork"), *((path, 150, str(number)) for number in range(4))
    )
    with SQLiteStore(path) as store:
        assert len(store.tasks) == 600
        assert all(task.is_running for task in store.tasks.values())
    assert integrity(path) == "ok"


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def test_a_lock_that_another_process_keeps_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with SQLiteStore(path) as store:
        blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        blocker.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, lambda: blocker.execute("COMMIT"))
        timer.start()
        store.tasks.save(Task.bash("true"))
        timer.join()
        blocker.close()
        assert len(store.tasks) == 1


def test_a_lock_that_is_never_given_up_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "LOCK_TIMEOUT_SECONDS", 0.05)
    path = tmp_path / "ledger"
    with SQLiteStore(path) as store:
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="other processes keep it locked"):
            store.tasks.save(Task.bash("true"))
        blocker.execute("COMMIT")
        blocker.close()
        store.tasks.save(Task.bash("true"))
        assert len(store.tasks) == 1


# Forks

# The child ends as an interpreter does that nobody hurries: hooks run, and all objects go.
FORK = """
import os, sys, threading
from ttasks import SQLiteStore, StoreError, Task
from ttasks.stores.sqlite.sealing import seal

store = SQLiteStore(sys.argv[1])
store.tasks.save(Task.bash("true", title="before"))
assert len(store.tasks) == 1
entered, go_on = threading.Event(), threading.Event()

def work(connection):
    connection.execute("UPDATE works SET title='meanwhile'")
    seal(connection)
    entered.set()
    go_on.wait(10)

thread = threading.Thread(target=lambda: store._ledger.writer.write(work))
if sys.argv[2] == "busy":
    thread.start()
    entered.wait(10)
pid = os.fork()
if pid == 0:
    for use in (
        lambda: store.tasks.save(Task.bash("true")),
        lambda: len(store.tasks),
        lambda: store.graphs["x"],
        lambda: store.running(),
        lambda: store.vacuum(),
        lambda: sys.argv[1] == ":memory:" or SQLiteStore(sys.argv[1]),
    ):
        try:
            if use() is True:
                continue
        except StoreError as error:
            assert "forked" in str(error), error
        else:
            os._exit(2)
    store.close()
    SQLiteStore(sys.argv[1] + ".other").close()
    del store
    sys.exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
go_on.set()
if sys.argv[2] == "busy":
    thread.join()
for _ in range(20):
    store.tasks.save(Task.bash("true", title="after"))
assert len(store.tasks) == 21
assert (store._ledger.path == ":memory:") or os.path.exists(store.path + "-wal")
store.close()
sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
class TestFork:
    @pytest.mark.parametrize("state", ["idle", "busy"])
    def test_a_child_gets_an_error_and_does_no_harm(self, tmp_path: Path, state: str) -> None:
        path = tmp_path / "ledger"
        done = subprocess.run(
            # On 3.12 and later a fork with threads warns, and that is what is tried here.
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, path, state],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert integrity(path) == "ok"
        with SQLiteStore(path) as store:
            first = "before" if state == "idle" else "meanwhile"
            assert [task.title for task in store.tasks.values()] == [first, *["after"] * 20]

    def test_a_store_in_memory_belongs_to_the_parent(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", FORK, ":memory:", "idle"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
