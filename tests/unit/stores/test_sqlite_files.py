"""Files that are no ledger, or cannot be one: a clear error, and nothing touched or damaged."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ttasks.engine.executor import TaskExecutor
from ttasks.errors import StoreError, StoreVersionError
from ttasks.model.event import TaskEventType
from ttasks.model.graph import TaskGraph
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.stores.sqlite import SQLiteStore, schema

UNPRIVILEGED = 65534
FIXTURES = Path(__file__).parents[2] / "fixtures"


def database(path: Path, script: str = "CREATE TABLE mine (a)") -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in sorted(os.listdir(folder))}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(UNPRIVILEGED)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter, which pytest's are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


class TestWrongFiles:
    @pytest.mark.parametrize(
        "content",
        [b"x", b"plain text\n" * 1000, b"\0" * 5000, b"SQLite format 3\0", b"SQLite format 3\0x"],
        ids=["a byte", "text", "zeros", "magic", "magic and more"],
    )
    def test_what_is_no_database_is_not_touched(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "file"
        path.write_bytes(content)
        with pytest.raises(StoreError, match=f"{str(path)!r}.*no SQLite database"):
            SQLiteStore(path)
        assert contents(tmp_path) == {"file": content}

    @pytest.mark.parametrize("mode", ["delete", "wal"])
    def test_a_database_of_somebody_else_is_not_touched(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "file"
        database(path, f"PRAGMA journal_mode={mode}; CREATE TABLE tasks (id)")
        before = contents(tmp_path)
        with pytest.raises(StoreError, match="no ledger of ttasks"):
            SQLiteStore(path)
        assert contents(tmp_path) == before

    def test_a_ledger_of_a_newer_version_is_not_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        SQLiteStore(path).close()
        database(path, "PRAGMA user_version=99")
        before = contents(tmp_path)
        with pytest.raises(StoreVersionError, match="version 99") as caught:
            SQLiteStore(path)
        assert (caught.value.found, caught.value.supported) == (99, len(schema.MIGRATIONS))
        assert contents(tmp_path) == before

    def test_a_newer_version_is_seen_in_the_write_ahead_log(self, tmp_path: Path) -> None:
        with SQLiteStore(tmp_path / "file") as store:
            with closing(sqlite3.connect(tmp_path / "file")) as other:
                other.execute("PRAGMA user_version=99")
                with pytest.raises(StoreVersionError):
                    SQLiteStore(tmp_path / "file")
            del store

    def test_an_empty_file_becomes_a_ledger(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with SQLiteStore(tmp_path / "file") as store:
            assert len(store.tasks) == 0

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs")
    def test_what_is_no_regular_file_is_refused(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
            with pytest.raises(StoreError, match="no regular file"):
                SQLiteStore(path)

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="there is no folder .*missing'"):
            SQLiteStore(tmp_path / "missing" / "file")
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="Not a directory"):
            SQLiteStore(tmp_path / "file" / "file")
        assert os.listdir(tmp_path) == ["file"]

    def test_a_second_store_does_not_take_the_locks_of_the_first(self, tmp_path: Path) -> None:
        # POSIX locks go when *any* descriptor of the file is closed. Without its lock, the first
        # one's log would be taken away when another process closes the file.
        path = tmp_path / "file"
        with SQLiteStore(path) as first:
            first.tasks.save(Task.bash("true"))
            SQLiteStore(path).close()
            code = (
                "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
                "c.execute('PRAGMA user_version').fetchone(); c.close()"
            )
            subprocess.run([sys.executable, "-c", code, path], check=True)
            assert (tmp_path / "file-wal").exists()
            first.tasks.save(Task.bash("true"))
        with SQLiteStore(path) as again:
            assert len(again.tasks) == 2


class TestArguments:
    @pytest.mark.parametrize("path", [None, 3, b"bytes", ["x"]], ids=repr)
    def test_a_path_of_a_wrong_type_is_a_type_error(self, path: object) -> None:
        with pytest.raises(TypeError, match="path"):
            SQLiteStore(path)  # type: ignore[arg-type]

    @pytest.mark.parametrize("path", ["", "a\0b"], ids=repr)
    def test_a_path_that_names_no_file_is_a_value_error(self, path: str) -> None:
        with pytest.raises(ValueError, match="path"):
            SQLiteStore(path)

    def test_durability_is_checked_before_anything_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="'process' or 'power', got 'full'"):
            SQLiteStore(tmp_path / "file", durability="full")
        with pytest.raises(TypeError, match="durability"):
            SQLiteStore(tmp_path / "file", durability=True)  # type: ignore[arg-type]
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        "name", ["a b", "a?mode=memory", "a%20b", "a#b", "é\U0001f600", "file:x", "und\udcff"]
    )
    def test_a_file_may_have_any_name(self, tmp_path: Path, name: str) -> None:
        task = Task.bash("true")
        with SQLiteStore(tmp_path / name) as store:
            store.tasks.save(task)
        assert os.listdir(tmp_path) == [name]
        with SQLiteStore(str(tmp_path / name)) as store:
            assert task in store.tasks
            assert store.path == str(tmp_path / name)

    def test_a_relative_path_is_taken_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with SQLiteStore("ledger") as store:
            monkeypatch.chdir("/")
            store.tasks.save(Task.bash("true"))
            assert len(store.tasks) == 1
        assert os.listdir(tmp_path) == ["ledger"]

    @pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
    def test_durability_decides_when_the_disk_is_synced(
        self, tmp_path: Path, durability: str, level: int
    ) -> None:
        with SQLiteStore(tmp_path / "file", durability=durability) as store:
            with store._ledger.writing() as connection:
                assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
                assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert repr(store) == f"<SQLiteStore {store.path!r} {durability}>"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no POSIX rights")
class TestReadOnly:
    def test_a_read_only_file_is_a_store_error(self, open_folder: Path) -> None:
        path = open_folder / "ledger"
        SQLiteStore(path).close()
        open_folder.chmod(0o777)
        path.chmod(0o444)
        before = path.read_bytes()
        with as_nobody(), pytest.raises(StoreError, match="cannot be written"):
            SQLiteStore(path)
        assert path.read_bytes() == before

    def test_a_read_only_folder_is_a_store_error(self, open_folder: Path) -> None:
        path = open_folder / "ledger"
        SQLiteStore(path).close()
        path.chmod(0o666)
        open_folder.chmod(0o555)
        for name in ("ledger", "new"):
            with as_nobody(), pytest.raises(StoreError, match="writ|be opened"):
                SQLiteStore(open_folder / name)
        assert os.listdir(open_folder) == ["ledger"]

    def test_an_unreadable_file_is_a_store_error(self, open_folder: Path) -> None:
        path = open_folder / "ledger"
        SQLiteStore(path).close()
        path.chmod(0)
        with as_nobody(), pytest.raises(StoreError, match="cannot be opened"):
            SQLiteStore(path)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no POSIX rights")
class TestRights:
    def test_a_new_ledger_and_its_neighbours_are_for_their_owner_only(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            with SQLiteStore(tmp_path / "ledger") as store:
                store.tasks.save(Task.bash("true"))
                modes = {name: (tmp_path / name).stat().st_mode for name in os.listdir(tmp_path)}
        finally:
            os.umask(before)
        expected = ("ledger", "ledger-wal", "ledger-shm")
        assert {name: stat.S_IMODE(mode) for name, mode in modes.items()} == dict.fromkeys(
            expected, 0o600
        )

    def test_a_ledger_that_is_there_keeps_its_rights(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        SQLiteStore(path).close()
        path.chmod(0o640)
        SQLiteStore(path).close()
        assert stat.S_IMODE(path.stat().st_mode) == 0o640

    @pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS)))
    def test_a_ledger_that_is_brought_forward_is_for_its_owner_only(
        self, tmp_path: Path, version: int
    ) -> None:
        path = tmp_path / "ledger"
        shutil.copy(FIXTURES / f"ledger-v{version}.db", path)
        for name in ("ledger", "ledger-wal", "ledger-shm"):  # as another process has left them
            (tmp_path / name).touch()
            (tmp_path / name).chmod(0o644)
        with SQLiteStore(path) as store:
            store.tasks.save(Task.bash("true"))
            for name in ("ledger", "ledger-wal", "ledger-shm"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name

    def test_a_new_ledger_is_never_readable_by_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modes = []

        def look(connection: sqlite3.Connection, path: str) -> bool:
            modes.append(stat.S_IMODE(os.stat(path).st_mode))
            return upgrade(connection, path)

        upgrade = schema.upgrade
        monkeypatch.setattr(schema, "upgrade", look)
        before = os.umask(0)
        try:
            SQLiteStore(tmp_path / "ledger").close()
        finally:
            os.umask(before)
        assert modes == [0o600]
        assert os.listdir(tmp_path) == ["ledger"]

    def test_a_file_that_others_have_put_beside_a_copy_is_not_used(self, tmp_path: Path) -> None:
        with SQLiteStore(tmp_path / "ledger") as store:
            store.tasks.save(Task.bash("true"))
            (tmp_path / "other").write_text("of somebody else")
            (tmp_path / "copy.part").symlink_to(tmp_path / "other")
            (tmp_path / "copy").symlink_to(tmp_path / "other")
            store.backup(tmp_path / "copy")
        assert (tmp_path / "other").read_text() == "of somebody else"
        assert stat.S_IMODE((tmp_path / "copy").lstat().st_mode) == 0o600
        with SQLiteStore(tmp_path / "copy") as copy:
            assert len(copy.tasks) == 1


class TestGone:
    @pytest.mark.parametrize("how", ["deleted", "replaced"])
    def test_a_ledger_that_is_gone_is_noticed_and_the_work_goes_on(
        self, tmp_path: Path, how: str
    ) -> None:
        path = tmp_path / "ledger"
        failed = []
        with SQLiteStore(path) as store:
            executor = TaskExecutor.empty(store)
            executor.register(TaskType("gone"), lambda context: "done")
            executor.events.subscribe(failed.append, types=[TaskEventType.PERSISTENCE_FAILED])
            executor.execute(Task("before", None, TaskType("gone")))
            path.rename(tmp_path / "elsewhere")
            store._ledger.writer._look_at = 0.0  # as after a tenth of a second
            if how == "replaced":
                SQLiteStore(path).close()
            assert executor.execute(Task("after", None, TaskType("gone"))).value == "done"
            assert "deleted or replaced" in (failed[0].error or "")
            with pytest.raises(StoreError, match="deleted or replaced"):
                store.tasks.save(Task.bash("true"))
            with pytest.warns(RuntimeWarning, match="1 task could not be saved"):
                executor.shutdown()


class TestBackup:
    def test_a_backup_is_a_ledger_of_its_own(self, tmp_path: Path) -> None:
        (tmp_path / "copy").write_text("what is replaced")
        with SQLiteStore(tmp_path / "ledger") as store:
            tasks = [Task.bash(f"echo {at}") for at in range(50)]
            for task in tasks:
                store.tasks.save(task)
            store.backup(tmp_path / "copy")
            store.tasks.save(Task.bash("true"))
            with SQLiteStore(tmp_path / "copy") as copy:
                assert list(copy.tasks.values()) == tasks
            assert len(store.tasks) == 51
            assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600
        assert sorted(os.listdir(tmp_path)) == ["copy", "ledger"]

    def test_a_store_in_memory_can_be_written_to_a_file(self, tmp_path: Path) -> None:
        task = Task.bash("true")
        with SQLiteStore(":memory:") as store:
            store.tasks.save(task)
            store.backup(tmp_path / "copy")
        with SQLiteStore(tmp_path / "copy") as copy:
            assert list(copy.tasks) == [task.id]

    def test_a_copy_that_cannot_be_written_is_a_store_error(self, tmp_path: Path) -> None:
        with SQLiteStore(tmp_path / "ledger") as store:
            with pytest.raises(StoreError, match="Cannot write the copy"):
                store.backup(tmp_path / "missing" / "copy")
            with pytest.raises(TypeError):
                store.backup(3)  # type: ignore[arg-type]
            store.tasks.save(Task.bash("true"))

    def test_a_ledger_is_not_replaced_by_its_own_copy(self, tmp_path: Path) -> None:
        with SQLiteStore(tmp_path / "ledger") as store:
            with pytest.raises(StoreError, match="the ledger itself"):
                store.backup(tmp_path / "ledger")
            store.tasks.save(Task.bash("true"))


class TestTooBig:
    def test_a_value_over_the_limit_of_sqlite_is_called_that(self, tmp_path: Path) -> None:
        with SQLiteStore(tmp_path / "ledger") as store:
            with store._ledger.writing() as connection:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
            with pytest.raises(StoreError, match="larger than SQLite takes"):
                store.tasks.save(Task.bash("x" * 200_000))
            assert len(store.tasks) == 0
            store.tasks.save(Task.bash("x"))

    def test_so_is_one_over_the_limit_of_python(self, tmp_path: Path) -> None:
        with SQLiteStore(tmp_path / "ledger") as store:

            def work(connection: sqlite3.Connection) -> None:
                raise OverflowError("string longer than INT_MAX bytes")

            with pytest.raises(StoreError, match="larger than SQLite takes"):
                store._ledger.writer.write(work)


class TestFullDisk:
    def fill(self, store: SQLiteStore) -> tuple[list[Task], StoreError]:
        saved: list[Task] = []
        for _ in range(1000):
            task = Task.bash("x" * 20_000)
            try:
                store.tasks.save(task)
            except StoreError as error:
                return saved, error
            saved.append(task)
        raise AssertionError("the disk was never full")

    def check(self, path: Path, limit: str) -> None:
        with SQLiteStore(path) as store:
            with store._ledger.writing() as connection:
                connection.execute(limit)
            saved, error = self.fill(store)
            assert "full" in str(error)
            graph = TaskGraph()
            for _ in range(3):
                graph.add(Task.bash("y" * 20_000))
            with pytest.raises(StoreError, match="full"):
                store.graphs.save(graph)
            assert list(store.tasks) == [task.id for task in saved]
            assert len(store.graphs) == 0
            for task in saved[:10]:
                del store.tasks[task.id]
            with store._ledger.writing() as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            store.tasks.save(Task.bash("z" * 20_000))
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def test_a_ledger_that_may_not_grow_is_a_store_error_and_stays_sound(
        self, tmp_path: Path
    ) -> None:
        self.check(tmp_path / "ledger", "PRAGMA max_page_count=100")

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a tmpfs")
    def test_a_full_disk_is_a_store_error_and_the_ledger_stays_sound(self, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a tmpfs cannot be mounted here")
        try:
            with SQLiteStore(disk / "ledger") as store:
                saved, error = self.fill(store)
                assert "full" in str(error) or "error of reading or writing" in str(error)
                assert list(store.tasks) == [task.id for task in saved]
            with SQLiteStore(disk / "ledger") as store:
                assert list(store.tasks) == [task.id for task in saved]
                assert [task.payload for task in store.tasks.values()] == [
                    task.payload for task in saved
                ]
        finally:
            subprocess.run(["umount", str(disk)], check=True)


class TestDamage:
    def test_a_table_that_was_dropped_is_a_store_error(self, tmp_path: Path) -> None:
        with SQLiteStore(tmp_path / "ledger") as store:
            task = Task.bash("true")
            graph = TaskGraph()
            graph.add(task)
            store.graphs.save(graph)
            database(tmp_path / "ledger", "DROP TABLE nodes")
            with pytest.raises(StoreError, match="somebody else: no such table: nodes"):
                store.graphs[graph.id]
            with pytest.raises(StoreError, match="no such table"):
                del store.tasks[task.id]
            assert task in store.tasks
            database(tmp_path / "ledger", "DROP TABLE tasks")
            for use in (
                lambda: store.tasks.save(task),
                lambda: store.graphs.save(graph),
                lambda: len(store.tasks),
                lambda: list(store.tasks),
                lambda: store.tasks[task.id],
            ):
                with pytest.raises(StoreError, match="no such table"):
                    use()


class TestVersions:
    def test_an_older_ledger_is_brought_forward_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "ledger"
        task = Task.bash("true")
        with SQLiteStore(path) as store:
            store.tasks.save(task)
        calls = []

        def migrate(connection: sqlite3.Connection) -> None:
            calls.append(1)
            connection.execute("ALTER TABLE tasks ADD COLUMN colour TEXT DEFAULT 'red'")

        monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, migrate))
        for _ in range(2):
            with SQLiteStore(path) as store:
                assert store.tasks[task.id].title == "true"
                with store._ledger.reading() as connection:
                    assert connection.execute("SELECT colour FROM tasks").fetchone() == ("red",)
                    version = connection.execute("PRAGMA user_version").fetchone()
                    assert version == (len(schema.MIGRATIONS),)
        assert calls == [1]

    def test_a_migration_that_fails_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "ledger"
        SQLiteStore(path).close()
        before = path.read_bytes()

        def migrate(connection: sqlite3.Connection) -> None:
            connection.execute("DROP TABLE events")
            connection.execute("SELECT * FROM missing")

        with monkeypatch.context() as patch:
            patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, migrate))
            with pytest.raises(StoreError, match="no such table: missing"):
                SQLiteStore(path)
        with SQLiteStore(path) as store:
            assert len(store.tasks) == 0
        assert path.read_bytes() == before


class TestReading:
    @pytest.fixture
    def ledger(self, open_folder: Path) -> Path:
        path = open_folder / "ledger.db"
        graph = TaskGraph("graph", key="k")
        graph.add(Task.python(int, title="a"))
        with SQLiteStore(path) as store, TaskExecutor(store) as executor:
            graph.run(executor)
        path.chmod(0o444)
        return path

    def test_everything_is_read_and_nothing_written(self, ledger: Path) -> None:
        before = contents(ledger.parent)
        with as_nobody(), SQLiteStore(ledger, read_only=True) as store:
            (graph,) = store.graphs.values()
            (run,) = store.runs.values()
            assert graph.ok
            assert run.outcome == "ok"
            assert run.facts().find("a").status.value == "succeeded"
            assert len(list(store.events.read())) == 2
            assert store.check() == []
            for write in (lambda: store.graphs.save(graph), store.vacuum, store.tasks.clear):
                with pytest.raises(StoreError, match="opened to be read only"):
                    write()
        assert contents(ledger.parent) == before

    def test_what_another_process_writes_meanwhile_is_seen(self, ledger: Path) -> None:
        ledger.chmod(0o644)
        with SQLiteStore(ledger, read_only=True) as store, SQLiteStore(ledger) as writing:
            for _ in range(2):
                task = Task.python(int)
                writing.tasks.save(task)
                assert task in store.tasks

    def test_a_file_that_changes_while_it_is_read_is_not_believed(self, ledger: Path) -> None:
        with SQLiteStore(ledger, read_only=True) as store:
            tasks = iter(store.runs.values())
            with (
                pytest.raises(StoreError, match="was written while it was read"),
                store._ledger.reading(),
            ):
                os.utime(ledger, ns=(1, 1))
            assert next(tasks).outcome == "ok"

    def test_a_log_that_its_process_left_is_told_where_nothing_can_be_made(
        self, ledger: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path(f"{ledger}-wal").write_bytes(b"left")
        monkeypatch.setattr("ttasks.stores.sqlite.ledger.os.access", lambda *_: False)
        with pytest.raises(StoreError, match="left a log .* copy both"):
            SQLiteStore(ledger, read_only=True)

    def test_one_that_must_be_upgraded_says_so(self, tmp_path: Path) -> None:
        path = tmp_path / "old.db"
        shutil.copy(FIXTURES / "ledger-v2.db", path)
        with pytest.raises(StoreError, match="has to be upgraded"):
            SQLiteStore(path, read_only=True)

    def test_there_must_be_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="There is no ledger .* to read"):
            SQLiteStore(tmp_path / "none.db", read_only=True)
        assert os.listdir(tmp_path) == []
        with pytest.raises(TypeError, match="read_only"):
            SQLiteStore(tmp_path / "none.db", read_only=1)  # type: ignore[arg-type]
