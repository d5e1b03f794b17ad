"""What a ledger keeps of an object, and what it says where it cannot."""

from __future__ import annotations

import copy
import enum
import functools
import pickle
import sys
import types
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from ttasks.engine.executor import TaskExecutor
from ttasks.errors import StoreError
from ttasks.model.event import TaskEvent, TaskEventType
from ttasks.model.policy import RetryPolicy
from ttasks.model.result import TaskResult
from ttasks.model.status import TaskStatus
from ttasks.model.task import Task, lifecycle_of
from ttasks.model.task_type import TaskType
from ttasks.stores.sqlite import NotStored, SQLiteStore

KIND = TaskType("kind")
Point = namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class SpecialTask(Task):
    """A task of a user's own class, with an attribute of its own."""


@pytest.fixture
def store() -> Iterator[SQLiteStore]:
    with SQLiteStore(":memory:") as store:
        yield store


def back(store: SQLiteStore, task: Task) -> Task:
    store.tasks.save(task)
    return store.tasks[task.id]


def with_result(**facts: Any) -> Task:
    task = Task("t", None, KIND)
    task.transition_to(TaskStatus.RUNNING)
    task.transition_to(TaskStatus.SUCCEEDED)
    now = datetime.now(UTC)
    result = TaskResult(task.id, TaskStatus.SUCCEEDED, now, now, 0.0, **facts)
    task.__setstate__(task.__getstate__() | {"result": result})
    return task


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


NOT_EXACT = {
    "tuple": (1, 2),
    "tuple inside": {"a": [(1,)]},
    "int as a key": {1: "a"},
    "NaN": float("nan"),
    "infinity": [float("inf")],
    "namedtuple": Point(1, 2),
    "enum": Colour.RED,
    "subclass of dict": OrderedDict(a=1),
    "bytes": b"x",
    "set": {1},
    "function": len,
    "lambda": lambda: None,
    "class": Point,
    "partial": functools.partial(print),
    "too deep": nested(100_000),
    "circle": circle(),
    "int of too many digits": 10**5000,
    "object": object(),
}


class TestWhatIsNotJson:
    @pytest.mark.parametrize("value", NOT_EXACT.values(), ids=NOT_EXACT)
    def test_a_value_has_a_placeholder_in_its_place(
        self, store: SQLiteStore, value: object
    ) -> None:
        result = back(store, with_result(value=value, raw=value)).result
        assert result is not None
        assert isinstance(result.value, NotStored)
        assert result.value.what == "value"
        assert result.raw == result.value

    @pytest.mark.parametrize("value", NOT_EXACT.values(), ids=NOT_EXACT)
    def test_a_payload_has_a_placeholder_in_its_place(
        self, store: SQLiteStore, value: object
    ) -> None:
        payload = back(store, Task("t", value, KIND)).payload
        assert isinstance(payload, NotStored)
        assert payload.what == "payload"

    def test_the_placeholder_names_the_type_and_never_the_content(self, store: SQLiteStore) -> None:
        assert repr(back(store, Task("t", ("secret",), KIND)).payload) == (
            "<not stored: payload, tuple>"
        )
        named = back(store, Task("t", functools.reduce, KIND)).payload
        assert repr(named) == "<not stored: payload, builtin_function_or_method _functools.reduce>"
        assert "TestWhatIsNotJson" in repr(
            back(store, Task("t", self.test_a_payload_has_a_placeholder_in_its_place, KIND)).payload
        )

    def test_using_the_placeholder_fails_and_says_what_to_do(self, store: SQLiteStore) -> None:
        payload = back(store, Task("t", len, KIND)).payload
        for use in (
            lambda: payload(1),
            lambda: payload["a"],
            lambda: list(payload),
            lambda: payload(a=1),
        ):
            with pytest.raises(StoreError, match="build the task anew"):
                use()
        with pytest.raises(AttributeError, match="build the task anew"):
            payload.func  # noqa: B018

    def test_the_placeholder_survives_copy_pickle_and_a_second_saving(
        self, store: SQLiteStore
    ) -> None:
        first = back(store, with_result(value=(1,), raw={1: 2}))
        assert first.result is not None
        for other in (copy.deepcopy(first.result), pickle.loads(pickle.dumps(first.result))):
            assert other.value == first.result.value
            assert hash(other.value) == hash(first.result.value)
        second = back(store, first)
        assert second.result == first.result
        assert back(store, Task("t", len, KIND)).payload != NotStored("payload", "tuple")
        assert NotStored("payload", "tuple") != "tuple"

    def test_a_raw_that_is_not_the_value_is_kept_by_itself(self, store: SQLiteStore) -> None:
        result = back(store, with_result(value=1, raw={"json": [1, "two"]})).result
        assert result is not None
        assert (result.value, result.raw) == (1, {"json": [1, "two"]})
        result = back(store, with_result(value="text", raw=[(1,)])).result
        assert result is not None
        assert (result.value, repr(result.raw)) == ("text", "<not stored: raw, list>")

    @pytest.mark.parametrize(
        "raw",
        [
            CompletedProcess(["a"], 0, b"bytes", None),
            CompletedProcess(["a", Path("b")], 0, "out", None),
            CompletedProcess(("a",), 0, "out", None),
        ],
        ids=["bytes", "path", "tuple"],
    )
    def test_an_odd_completed_process_is_not_kept(
        self, store: SQLiteStore, raw: CompletedProcess[Any]
    ) -> None:
        result = back(store, with_result(value="out", raw=raw)).result
        assert result is not None
        assert repr(result.raw) == "<not stored: raw, subprocess.CompletedProcess>"

    def test_the_row_says_whether_the_value_was_stored(self, tmp_path: Path) -> None:
        kinds = {}
        with SQLiteStore(tmp_path / "ledger") as store:
            for value in (None, "text", "out", [1], (1,)):
                task = with_result(value=value, output="out")
                store.tasks.save(task)
                with store._ledger.reading() as connection:
                    (kinds[value if value != [1] else "list"],) = connection.execute(
                        "SELECT value_kind FROM results JOIN tasks ON seq=task WHERE id=?",
                        (task.id,),
                    ).fetchone()
        assert kinds == {
            None: "none",
            "text": "text",
            "out": "output",
            "list": "json",
            (1,): "absent",
        }


class TestRetryOn:
    def test_classes_come_back_by_name(self, store: SQLiteStore) -> None:
        policy = RetryPolicy(2, retry_on=(OSError, StoreError, NotStoredHere.Inner))
        assert back(store, Task("t", None, KIND, retry=policy)).retry == policy

    def test_everything_else_of_a_policy_comes_back_as_well(self, store: SQLiteStore) -> None:
        policy = RetryPolicy(
            3, 1.0, increment=0.5, give_up_on=(KeyError,), retry_if=wanted, before_sleep=wanted
        )
        assert back(store, Task("t", None, KIND, retry=policy)).retry == policy
        assert back(store, Task("t", None, KIND, retry=4)).retry == RetryPolicy(4)

    def test_functions_without_a_name_are_left_out_with_a_warning(self, store: SQLiteStore) -> None:
        task = Task("t", None, KIND, retry=RetryPolicy(3, retry_if=lambda result: True))
        store.tasks.save(task)
        with pytest.warns(RuntimeWarning, match="retry_if of a stored task names .*<lambda>"):
            assert store.tasks[task.id].retry == RetryPolicy(3)

    def test_a_class_to_give_up_on_that_is_not_loaded_is_left_out(self, store: SQLiteStore) -> None:
        task = Task("t", None, KIND, retry=RetryPolicy(2, give_up_on=made_in("no_module_at_all")))
        store.tasks.save(task)
        with pytest.warns(RuntimeWarning, match="give_up_on .*left out"):
            assert store.tasks[task.id].retry == RetryPolicy(2)

    def test_a_module_that_is_not_loaded_is_not_loaded(self, store: SQLiteStore) -> None:
        task = Task("t", None, KIND, retry=RetryPolicy(2, retry_on=made_in("this_is_no_module")))
        store.tasks.save(task)
        with pytest.warns(RuntimeWarning, match="'Boom' of module 'this_is_no_module'"):
            copy = store.tasks[task.id]
        assert copy.retry == RetryPolicy(2, retry_on=Exception)
        assert "this_is_no_module" not in sys.modules

    def test_a_name_that_is_no_exception_is_not_taken(
        self, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = types.ModuleType("loaded")
        module.Boom = print  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "loaded", module)
        task = Task("t", None, KIND, retry=RetryPolicy(2, retry_on=made_in("loaded")))
        store.tasks.save(task)
        with pytest.warns(RuntimeWarning, match="Boom"):
            assert store.tasks[task.id].retry == RetryPolicy(2)


def wanted(*args: Any) -> bool:
    return False


class NotStoredHere:
    class Inner(Exception):
        pass


def made_in(module: str) -> type[Exception]:
    return type("Boom", (Exception,), {"__module__": module, "__qualname__": "Boom"})


class TestSnapshots:
    def test_what_comes_out_is_a_copy(self, store: SQLiteStore) -> None:
        task = Task("t", {"a": [1]}, KIND)
        store.tasks.save(task)
        one, two = store.tasks[task.id], store.tasks[task.id]
        assert one == two == task
        assert one is not two
        one.payload["a"].append(2)
        one.title = "changed"
        assert (two.payload, two.title) == ({"a": [1]}, "t")
        assert store.tasks[task.id].title == "t"

    def test_a_copy_can_be_run_and_saved(self, store: SQLiteStore) -> None:
        task = back(store, Task.bash("true"))
        task.transition_to(TaskStatus.RUNNING)
        assert back(store, task).status is TaskStatus.RUNNING

    def test_a_success_is_never_replaced_by_an_older_state(self, store: SQLiteStore) -> None:
        task = Task("t", None, KIND)
        older = back(store, task)
        task.transition_to(TaskStatus.RUNNING)
        task.transition_to(TaskStatus.SUCCEEDED)
        store.tasks.save(task)
        for move in (TaskStatus.RUNNING, TaskStatus.FAILED):
            older.transition_to(move)
            store.tasks.save(older)
            assert store.tasks[task.id].status is TaskStatus.SUCCEEDED

    def test_a_task_of_a_subclass_comes_back_as_a_task(self, store: SQLiteStore) -> None:
        task = SpecialTask("t", "payload", KIND)
        task.mine = 3  # type: ignore[attr-defined]
        copy = back(store, task)
        assert type(copy) is Task
        assert (copy.id, copy.payload) == (task.id, "payload")


class TestWhatIsWritten:
    def test_saving_writes_a_payload_that_was_changed_in_place(self, store: SQLiteStore) -> None:
        task = Task("t", {"a": 1}, KIND)
        back(store, task)
        task.payload["a"] = 2
        assert back(store, task).payload == {"a": 2}

    @pytest.mark.parametrize("change", [{"title": "new"}, {"payload": "new"}, {"timeout": 3.0}])
    def test_recording_writes_what_was_assigned(
        self, store: SQLiteStore, change: dict[str, Any]
    ) -> None:
        task = Task("t", "payload", KIND)
        store.tasks.save(task)
        for name, value in change.items():
            setattr(task, name, value)
        task.transition_to(TaskStatus.RUNNING)
        store.record(task)
        copy = store.tasks[task.id]
        assert {name: getattr(copy, name) for name in change} == change
        assert copy.is_running

    def test_recording_writes_all_of_a_task_that_is_new(self, store: SQLiteStore) -> None:
        task = Task("t", "payload", KIND, key="key", timeout=2)
        store.record(task)
        copy = store.tasks[task.id]
        assert (copy.payload, copy.key, copy.timeout) == ("payload", "key", 2)

    @pytest.mark.parametrize("text", ["", "0", "None"])
    def test_a_text_that_looks_like_nothing_comes_back(self, store: SQLiteStore, text: str) -> None:
        task = Task(text, text, KIND, key=text or "0", description=text)
        task.transition_to(TaskStatus.RUNNING)
        task.transition_to(TaskStatus.FAILED, text)
        now = datetime.now(UTC)
        lifecycle_of(task).result = TaskResult(
            task_id=task.id,
            status=TaskStatus.FAILED,
            started_at=now,
            finished_at=now,
            duration=0.0,
            output=text,
            error=text,
            value=text,
        )
        running, failed = TaskStatus.RUNNING, TaskStatus.FAILED
        event = TaskEvent(TaskEventType.FAILED, task.id, task, now, running, failed, error=text)
        store.record(task, event)
        copy, (entry,) = store.tasks[task.id], store.events.read()
        assert (copy.error, copy.key, copy.description) == (text, text or "0", text)
        assert copy.result == task.result
        assert entry.error == text
        assert store.check() == []

    def test_secrets_of_a_task_that_was_saved_with_them_are_hidden(
        self, store: SQLiteStore
    ) -> None:
        task = Task("t", "hunter2", KIND)
        store.tasks.save(task)
        with TaskExecutor(store, redact=["hunter2"]) as executor:
            executor.register(KIND, lambda context: None)
            executor.execute(task)
        assert store.tasks[task.id].payload == "***"

    def test_a_task_that_was_saved_before_gets_its_fingerprint(self, store: SQLiteStore) -> None:
        task = Task("t", "payload", KIND)
        store.tasks.save(task)
        with TaskExecutor(store) as executor:
            executor.register(KIND, lambda context: None)
            executor.execute(task)
            equal = Task("t", "payload", KIND, reuse=True)
            assert executor.execute(equal).reused

    @pytest.mark.parametrize("seconds", [float("inf"), 3])
    def test_odd_durations_come_back(self, store: SQLiteStore, seconds: float) -> None:
        task = with_result(value=1)
        assert task.result is not None
        result = replace(task.result, duration=seconds)
        task.__setstate__(task.__getstate__() | {"result": result})
        assert back(store, task).result == result

    def test_a_task_that_runs_again_has_no_result(self, store: SQLiteStore) -> None:
        task = Task("t", None, KIND)
        with TaskExecutor(store) as executor:
            executor.register(KIND, lambda context: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                executor.execute(task)
        assert store.tasks[task.id].result is not None
        task.transition_to(TaskStatus.RUNNING)
        store.record(task)
        assert store.tasks[task.id].result is None
        task.transition_to(TaskStatus.FAILED, "no")
        store.record(task)
        copy = store.tasks[task.id]
        assert (copy.result, copy.error) == (None, "no")

    def test_an_older_state_does_not_bring_its_result(self, store: SQLiteStore) -> None:
        done = with_result(value=1)
        store.tasks.save(done)
        older = with_result(value=2)
        older.__setstate__(
            older.__getstate__() | {"id": done.id, "status": TaskStatus.FAILED, "title": "older"}
        )
        store.record(older)
        copy = store.tasks[done.id]
        assert copy.result is not None
        assert (copy.status, copy.result.value, copy.title) == (TaskStatus.SUCCEEDED, 1, "t")


def test_a_missing_work_is_damage_until_its_task_is_saved_again(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        tasks = [Task(str(at), None, KIND) for at in range(9)]
        for task in tasks:
            store.tasks.save(task)
        with store._ledger.writing() as connection:
            connection.execute("DELETE FROM works WHERE title='4'")
        first = store.tasks.list(limit=4, newest_first=False)
        assert [item.title for item in first.tasks] == ["0", "1", "2", "3"]
        for read in (
            lambda: store.tasks.list(newest_first=False, after=first.after),
            lambda: store.tasks[tasks[4].id],
        ):
            with pytest.raises(StoreError, match=f"task '{tasks[4].id}' is damaged"):
                read()
        assert back(store, tasks[4]).title == "4"
        assert len(store.tasks.list().tasks) == 9


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("status", "odd"),
        ("created_at", 10**18),
        ("details", "{"),
        ("details", '{"deadline": "never"}'),
        ("details", '{"retry": {"retry_on": [], "max_attempts": -1}}'),
        ("result", "[]"),
        ("result", '{"status": "odd"}'),
    ],
)
def test_a_row_that_makes_no_sense_is_a_store_error(
    tmp_path: Path, column: str, text: object
) -> None:
    with SQLiteStore(tmp_path / "ledger") as store:
        task = with_result(value=[1])
        store.tasks.save(task)
        with store._ledger.writing() as connection:
            table = {"details": "works", "result": "results"}.get(column, "tasks")
            connection.execute(f"UPDATE {table} SET {column}=?", (text,))
        with pytest.raises(StoreError, match=f"task '{task.id}' is damaged"):
            store.tasks[task.id]
