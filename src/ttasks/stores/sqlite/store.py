"""SQLiteStore: a store in one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ttasks.errors import StoreError
from ttasks.model.checks import check_bool, check_moment, wrong_type, wrong_value
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.notes import Notes
from ttasks.model.status import RUNNING
from ttasks.model.task import Task, lifecycle_of
from ttasks.processes import Liveness
from ttasks.stores.sqlite.codec import (
    Row,
    decode_task,
    encode_task,
    save_task,
)
from ttasks.stores.sqlite.connection import (
    MEMORY,
    Connection,
    connect,
    identity,
    make_private,
    patiently,
    translated,
)
from ttasks.stores.sqlite.details import SECRET_VARIABLES, secret_names
from ttasks.stores.sqlite.event_rows import delete_stray_events
from ttasks.stores.sqlite.graphs import LedgerGraphs, prune
from ttasks.stores.sqlite.journal import LIFECYCLE, Journal
from ttasks.stores.sqlite.ledger import DURABILITIES, Ledger
from ttasks.stores.sqlite.outbox import Outbox
from ttasks.stores.sqlite.owners import Owners, RunningTask
from ttasks.stores.sqlite.plain import to_micros
from ttasks.stores.sqlite.runs import LedgerRuns, UnderWay
from ttasks.stores.sqlite.slots import LedgerSlots
from ttasks.stores.sqlite.tasks import LedgerTasks
from ttasks.stores.sqlite.transitions import (
    EventRow,
    State,
    encode_event,
    encode_state,
    insert_events,
    update_state,
)

if TYPE_CHECKING:
    from ttasks.model.run import Run


class SQLiteStore:
    """Keeps tasks and graphs in one SQLite file, and returns copies of what was saved.

    Thread-safe, and several processes on one machine may use the same file at once. A process that
    is forked while the store is open gets a StoreError from it: start processes by spawn or
    forkserver, or open the store after the fork. While the file is open there are two more beside
    it (``-wal`` and ``-shm``); keep them together.

    Values, payloads and raw results are kept if JSON represents them exactly (no tuples, and only
    str keys); otherwise a `NotStored` takes their place. A subclass of
    Task comes back as a Task.

    Args:
        path: the file; if it is missing or empty, it becomes a new ledger. Only its owner can read
            a new ledger, which may hold secrets, or an older one that has been upgraded. If you
            change the permissions later, they are kept, and the files beside it get the same.
            ":memory:" keeps everything in memory, for this store alone.
        durability: what a save survives once it has returned: "process" the end of this process,
            even by ``kill -9``; "power" a crash of the system or a power failure as well, which
            costs a sync of the disk per commit. The file stays sound either way.
        journal_output: keep OUTPUT events in the journal, too.
        pickle_values: keep values that are not JSON as pickles, and read pickles. Reading a pickle
            can run any code, so do this only with ledgers that nobody else can have written to. A
            value that cannot be pickled is a `NotStored`, and so is a pickle without this option.
        secret_variables: patterns, as for `fnmatch`, of the names of variables whose values in
            ``env=`` are not stored. A task that comes from the ledger has these names in its option
            ``env_from``: its command takes the values from the environment of the process that runs
            it, or fails and says which are missing. An empty tuple stores all.
        read_only: only read the file, which must be there; what would write raises StoreError. The
            file and its folder need not be writable.

    Raises:
        TypeError, ValueError: an argument is wrong.
        StoreVersionError: the ledger was written by a newer ttasks; it was not touched.
        StoreError: the file is not a ledger (it was not touched), or cannot be opened or written.

    Example:
        >>> with SQLiteStore(":memory:") as store:
        ...     task = Task.bash("true")
        ...     store.tasks.save(task)
        ...     store.tasks[task.id] == task
        True
    """

    SECRET_VARIABLES = SECRET_VARIABLES
    """The default of ``secret_variables``."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: str = "process",
        journal_output: bool = False,
        pickle_values: bool = False,
        secret_variables: Iterable[str] = SECRET_VARIABLES,
        read_only: bool = False,
    ) -> None:
        name = os.fspath(path) if isinstance(path, os.PathLike) else path
        if not isinstance(name, str):
            raise wrong_type("path", path, "a str or a PathLike of str")
        if not name or "\0" in name:
            raise wrong_value("path", path, "the path of a file")
        if not isinstance(durability, str):
            raise wrong_type("durability", durability, "a str")
        if durability not in DURABILITIES:
            raise wrong_value("durability", durability, " or ".join(map(repr, DURABILITIES)))
        check_bool("journal_output", journal_output)
        self._pickle_values = check_bool("pickle_values", pickle_values)
        self._is_secret = secret_names(secret_variables)
        self._path = name if name == MEMORY else os.path.abspath(name)
        self._durability = durability
        if check_bool("read_only", read_only) and not os.path.exists(self._path):
            raise StoreError(f"There is no ledger {self._path!r} to read")
        self._ledger = Ledger(self._path, durability, read_only=read_only)
        self._owners = Owners(self._ledger)
        self._tasks = LedgerTasks(self._ledger, self._encode, self._decode)
        self._graphs = LedgerGraphs(self._ledger, self._encode, self._decode)
        kinds = LIFECYCLE | {TaskEventType.OUTPUT} if journal_output else LIFECYCLE
        self._events = Journal(self._ledger, kinds)
        self._runs = LedgerRuns(self._ledger, self._owners, self._graphs, self._tasks)
        self._slots = LedgerSlots(self._ledger, self._owners)
        self._outbox = Outbox(self._ledger, self._owners)

    def _own(self, task: Task) -> int | None:
        """The row of this process if it runs the task; otherwise None."""
        # Only the task that is being executed has an owner; a copy of it has none.
        if lifecycle_of(task).owner is None:
            return None
        return self._owners.row or self._owners.mine()

    def _encode(self, task: Task) -> Row:
        return encode_task(task, self._own(task), self._pickle_values, self._is_secret)

    def _decode(self, row: Sequence[Any]) -> Task:
        return decode_task(row, self._pickle_values)

    @property
    def path(self) -> str:
        """Absolute path of the file, or ":memory:"."""
        return self._path

    @property
    def durability(self) -> str:
        """What a save survives: "process" or "power"."""
        return self._durability

    @property
    def tasks(self) -> LedgerTasks:
        """Tasks by id."""
        return self._tasks

    @property
    def graphs(self) -> LedgerGraphs:
        """Graphs by id; saving one saves its tasks."""
        return self._graphs

    @property
    def events(self) -> Journal:
        """What happened, in order; can be read during a run, even from another process."""
        return self._events

    @property
    def runs(self) -> LedgerRuns:
        """Runs of graphs and of single tasks, the latest first; also those of other processes."""
        return self._runs

    @property
    def slots(self) -> LedgerSlots:
        """The moments of schedules that were run, or were not, and by which process."""
        return self._slots

    @property
    def outbox(self) -> Outbox:
        """Messages about runs that have not been sent yet; see `ttasks.notify`."""
        return self._outbox

    def record(self, task: Task, *events: TaskEvent, notes: Notes | None = None) -> None:
        """Save a task and its events in one transaction, perhaps together with other threads.

        When this returns, both are committed; if it raises, neither is. The attributes of a task
        that was saved before are written only if one was assigned to since the task was made
        (``save`` also notices a payload that was changed in place).

        Args:
            task: the task.
            events: of this task.
            notes: what its run has noted of it, to be kept with the events.
        """
        if not isinstance(task, Task):
            raise wrong_type("task", task, "a Task")
        run = events[0].run if events else None
        if notes is None or run is None:
            self._write(task, events)
            return
        known = self._runs.under_way.get(run.id)
        if known is None or known.is_single:
            self._write_single(task, events, run, known, notes)
        else:
            self._write(task, events, known.seq, notes)

    def _write_single(
        self,
        task: Task,
        events: Sequence[TaskEvent],
        run: Run,
        known: UnderWay | None,
        notes: Notes,
    ) -> None:
        """`_write` for a task whose run is its own: it begins and ends with that."""
        begin = self._runs.beginning(run) if known is None else None
        name = run.id if known is None else known.seq
        try:
            self._write(task, events, name, notes, begin)
        except BaseException:
            if begin is not None:
                self._runs.let_go(run)
            raise
        if events[0].status is not RUNNING and events[0].retry_in is None:
            self._runs.let_go(run)

    def _write(
        self,
        task: Task,
        events: Sequence[TaskEvent],
        run: int | str | None = None,
        notes: Notes | None = None,
        begin: Callable[[Connection], None] | None = None,
    ) -> None:
        """Write a task and events of it.

        Args:
            task, events: these.
            run, notes: see `encode_event`.
            begin: comes before the events.
        """
        write, owner = self._ledger.writer.write, self._own(task)
        journal: list[EventRow] = []
        for event in events:
            journal.append(encode_event(event, run, notes))
        state = encode_state(task, owner, self._pickle_values)
        # Not comparing the attributes makes a transition noticeably cheaper.
        if not lifecycle_of(task).edited:
            if begin is None:
                is_written = write(update_state, state, journal)
            else:
                is_written = write(_begin_run, begin, state, journal)
            if is_written:
                return
        row = encode_task(task, owner, self._pickle_values, self._is_secret)

        def save(connection: Connection) -> None:
            save_task(connection, row)
            if begin is not None:
                begin(connection)
            insert_events(connection, journal)

        write(save)

    def running(self) -> list[RunningTask]:
        """The tasks that are RUNNING according to the ledger, each with its process.

        In the order of first saving.
        """
        return self._owners.running()

    def find_interrupted(self) -> list[Task]:
        """Copies of the tasks that are RUNNING according to the ledger, but whose process is gone.

        A process on another host or in another container cannot be checked, so its tasks are not
        among them; see ``running``.
        """
        gone = [item.task_id for item in self.running() if item.liveness is Liveness.GONE]
        found = (self._tasks.get(task_id) for task_id in gone)
        return [task for task in found if task is not None and task.is_running]

    def prune(self, before: datetime) -> int:
        """Delete graphs and tasks that have ended and were last saved before ``before``.

        First graphs without PENDING or RUNNING tasks, then tasks (with their events) that are
        neither and in no graph. Messages of the outbox about runs that ended before that moment
        are deleted, too.

        Args:
            before: aware.

        Returns:
            The number of tasks that were deleted.
        """
        if check_moment("before", before) is None:
            raise wrong_type("before", before, "an aware datetime")
        micros = to_micros(before)
        return int(self._ledger.writer.write(lambda at: prune(at, self._path, micros)))

    def check(self) -> list[str]:
        """Read everything, and return a line for each damaged or missing row.

        Every read checks the rows that it reads, and raises StoreError for a damaged one. This
        method reads the whole file and also finds missing rows. Files of up to 4 MiB are checked
        for missing rows whenever they are opened.

        Example:
            >>> with SQLiteStore(":memory:") as store:
            ...     store.check()
            []
        """
        from ttasks.stores.sqlite.check import Check

        check = Check(self._ledger, self._decode, self._graphs, self._runs)
        check.run()
        return check.problems

    def vacuum(self) -> None:
        """Return the space of deleted rows to the disk. Writers wait meanwhile.

        Needs temporary disk space of about twice the size of the file.

        Raises:
            StoreError: there is not enough space, or others are using the file.
        """
        self._ledger.writer.write(lambda at: delete_stray_events(at, self._path))
        with self._ledger.writing() as connection, translated(self._path):
            patiently(self._path, lambda: connection.execute("VACUUM"))
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the ledger as it is now, even while it is used.

        Do not copy the file yourself: a process that opens the file of its own ledger by other
        means, and closes it again, drops the locks of the store, and other processes may then
        overwrite what it writes. The copy can be read by its owner only, and appears when it is
        complete.

        Args:
            path: where to write it; an existing file is replaced.

        Raises:
            TypeError: the path is of a wrong type.
            StoreError: the copy cannot be written.
        """
        target = os.path.abspath(os.fspath(path))
        if not isinstance(target, str):
            raise wrong_type("path", path, "a str or a PathLike of str")
        if identity(target) == identity(self._path) is not None:
            raise StoreError(f"Cannot write the copy {target!r}: that is the ledger itself")
        part = None
        try:
            part = make_private(target)
            with self._ledger.reading() as source, translated(part), closing(connect(part)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode=DELETE").fetchone()  # one file, for one process
            os.replace(part, target)
        except OSError as error:
            raise StoreError(f"Cannot write the copy {target!r}: {error.strerror}") from error
        finally:
            if part is not None:
                with suppress(OSError):
                    os.unlink(part)

    def close(self) -> None:
        """Close the file; idempotent. Nothing is lost by not calling it.

        Waits for a write in progress. Later calls raise StoreError.
        """
        self._ledger.close()

    def __enter__(self) -> SQLiteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path!r} {self._durability}>"


def _begin_run(
    connection: Connection,
    begin: Callable[[Connection], None],
    state: State,
    events: Sequence[EventRow],
) -> bool:
    """`update_state`; before the events, the run of a single task gets its row."""
    if not update_state(connection, state):
        return False
    begin(connection)
    insert_events(connection, events)
    return True
