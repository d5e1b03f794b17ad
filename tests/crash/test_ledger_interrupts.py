"""An interrupt anywhere in a write leaves nothing open, nothing half-written and nobody waiting.

A KeyboardInterrupt is raised at each place of the write path in turn: where the interpreter looks
for signals (after calls and where functions begin), and, stricter than that, before each line.
"""

from __future__ import annotations

import dis
import gc
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import ttasks.stores.sqlite
from ttasks import SQLiteStore, StoreError, Task, TaskEvent, TaskEventType, TaskGraph, TaskStatus
from ttasks.stores.sqlite.writer import Writer, _Ticket

FOLDER = os.path.dirname(ttasks.stores.sqlite.__file__) + os.sep
Place = tuple[str, int, str]


class Interrupter:
    """Raises KeyboardInterrupt at the place of a number; counts, and says where it was."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.place: Place | None = None

    def _pass(self, frame: FrameType, what: str) -> None:
        if not frame.f_code.co_filename.startswith(FOLDER):
            return
        self.left -= 1
        if self.left == 0:
            self.place = (os.path.basename(frame.f_code.co_filename), frame.f_lineno, what)
            raise KeyboardInterrupt

    def at_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event in ("call", "line") and not (event == "line" and is_end_of_with(frame)):
            self._pass(frame, event)
        return self.at_line

    def at_call(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "c_call":  # no signal is looked for before a call
            self._pass(frame, event)


def is_end_of_with(frame: FrameType) -> bool:
    """True if a line is reached for the second time, to release what it took.

    No signal is looked for between the end of a block and the call that releases a lock.
    """
    return frame.f_lasti in ends_of_with(frame.f_code)


def ends_of_with(code: CodeType) -> set[int]:
    if code not in _ends:
        found = list(dis.get_instructions(code))
        nones = [item.opname == "LOAD_CONST" and item.argval is None for item in found]
        _ends[code] = {
            item.offset for at, item in enumerate(found) if nones[at : at + 3] == [True] * 3
        }
    return _ends[code]


_ends: dict[CodeType, set[int]] = {}


@contextmanager
def interrupted(mode: str, number: int) -> Iterator[Interrupter]:
    interrupter = Interrupter(number)
    install = sys.settrace if mode == "lines" else sys.setprofile
    before = sys.gettrace() if mode == "lines" else sys.getprofile()
    install(interrupter.at_line if mode == "lines" else interrupter.at_call)
    try:
        yield interrupter
    except KeyboardInterrupt:
        pass
    finally:
        install(before)


def everywhere(mode: str, action: Callable[[], object], check: Callable[[bool], object]) -> int:
    """Interrupt ``action`` at each place, and check each time; the number of places.

    ``check`` gets whether the action ended without an interrupt.
    """
    for number in range(1, 10_000):
        ended = False
        with interrupted(mode, number) as interrupter:
            action()
            ended = True
        try:
            check(ended)
        except BaseException as error:
            error.add_note(f"interrupted at {interrupter.place}")
            raise
        if interrupter.place is None:
            return number - 1
    raise AssertionError("it never ended")


class Ledger:
    """A ledger with a task in it that is to start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SQLiteStore(path)
        self.writer: Writer = self.store._ledger.writer
        self.new_task()

    def new_task(self) -> None:
        self.task = Task.bash("true")
        self.store.tasks.save(self.task)
        self.task.transition_to(TaskStatus.RUNNING)

    def record(self) -> None:
        event = TaskEvent(
            TaskEventType.STARTED,
            self.task.id,
            self.task,
            datetime.now(UTC),
            TaskStatus.PENDING,
            TaskStatus.RUNNING,
        )
        self.store.record(self.task, event)

    def written(self) -> bool:
        """Whether the record is there; never half of it."""
        with closing(sqlite3.connect(self.path)) as other:
            (status,) = other.execute(
                "SELECT status FROM tasks WHERE id=?", (self.task.id,)
            ).fetchone()
            (events,) = other.execute(
                "SELECT count(*) FROM events JOIN tasks ON tasks.seq=task WHERE id=?",
                (self.task.id,),
            ).fetchone()
        assert (status, events) in (("pending", 0), ("running", 1))
        return bool(events)

    def check(self) -> None:
        """Others can write at once, also in this process."""
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        assert not self.writer._lock.locked()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(self.store.tasks.save, Task.bash("true")).result(10)
        assert not self.writer._queue


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger")
    yield ledger
    if not ledger.writer._lock.locked():  # else the test has failed, and this would wait for ever
        ledger.store.close()


@pytest.mark.parametrize("mode", ["lines", "calls"])
class TestInterrupts:
    def test_of_a_record(self, ledger: Ledger, mode: str) -> None:
        outcomes = set()

        def check(ended: bool) -> None:
            written = ledger.written()
            assert written or not ended
            ledger.check()
            assert ledger.written() is written  # what was given up is not written later
            outcomes.add((ended, written))
            ledger.new_task()

        places = everywhere(mode, ledger.record, check)
        assert places > 20
        assert outcomes == {(True, True), (False, True), (False, False)}

    def test_of_a_write_that_fails(self, ledger: Ledger, mode: str) -> None:
        other = Task.bash("true")

        def fail() -> None:
            event = TaskEvent(
                TaskEventType.STARTED,
                other.id,
                other,
                datetime.now(UTC),
                TaskStatus.PENDING,
                TaskStatus.RUNNING,
            )
            with pytest.raises(StoreError, match="has no task"):
                ledger.store.record(ledger.task, event)

        def check(ended: bool) -> None:
            assert not ledger.written()
            ledger.check()

        assert everywhere(mode, fail, check) > 20

    def test_of_a_write_for_two(self, ledger: Ledger, mode: str) -> None:
        with ledger.writer.exclusive() as connection:
            connection.execute("CREATE TABLE notes (number)")
        tickets: list[_Ticket] = []  # of threads that wait for the lock

        def wait() -> None:
            sql = f"INSERT INTO notes VALUES ({len(tickets)})"
            tickets.append(_Ticket(lambda connection: connection.execute(sql)))
            ledger.writer._queue.append(tickets[-1])

        def notes() -> list[int]:
            with closing(sqlite3.connect(ledger.path)) as other:
                return [at for (at,) in other.execute("SELECT number FROM notes").fetchall()]

        def check(ended: bool) -> None:
            is_waiting = tickets[-1] in ledger.writer._queue
            assert len(notes()) == len(tickets) - is_waiting
            assert ledger.written() or not ended
            ledger.check()  # which writes for it, if that is still to be done
            assert notes() == list(range(len(tickets)))
            ledger.new_task()
            wait()

        wait()
        assert everywhere(mode, ledger.record, check) > 20

    # A connection that was opened a moment before the interrupt is closed by the garbage collector,
    # of which Python 3.13 warns.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_of_saving_and_reading_a_graph(self, ledger: Ledger, mode: str) -> None:
        graph = TaskGraph("title")
        tasks = [graph.add(Task.bash("true")) for _ in range(3)]

        def use() -> None:
            ledger.store.graphs.save(graph)
            assert len(ledger.store.graphs[graph.id]) == 3

        def check(ended: bool) -> None:
            ledger.check()
            if graph.id in ledger.store.graphs:
                assert list(ledger.store.graphs[graph.id]) == tasks
                del ledger.store.graphs[graph.id]
            else:
                assert not ended
                assert not any(task in ledger.store.tasks for task in tasks)
            for task in tasks:
                ledger.store.tasks.pop(task.id, None)

        assert everywhere(mode, use, check) > 20
        gc.collect()  # a reader may have been opened just before an interrupt
