"""What every store owes, as one class: inherit it and give it a `store` fixture to test your own.

It holds for stores that keep the objects themselves and for those that keep copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from threading import Barrier

import pytest

from storekit import HTTP, a_collection, ended, everything, finished, full_task, shape
from ttasks.model.graph import TaskGraph
from ttasks.model.policy import DependencyPolicy
from ttasks.model.result import Failure
from ttasks.model.status import TaskStatus
from ttasks.model.store import Store
from ttasks.model.task import Task
from ttasks.model.task_type import TaskType
from ttasks.stores.memory import InMemoryStore
from ttasks.stores.sqlite import SQLiteStore


class StoreContract:
    """The contract. A subclass has a fixture `store` that gives an empty one and closes it."""

    # Tasks

    def test_is_a_store(self, store: Store) -> None:
        assert isinstance(store, Store)

    def test_every_attribute_of_a_task_comes_back(self, store: Store) -> None:
        task = full_task()
        store.tasks.save(task)
        assert everything(store.tasks[task.id]) == everything(task)

    @pytest.mark.parametrize(
        "task",
        [
            Task.bash("echo 'ü'; exit 3", cwd="/tmp", env={"A": "b", "C": None}, stdin=b"\xff"),
            Task.powershell("Get-Item .", output_limit=100, grace=0.5),
            Task.prompt("What is the answer?", timeout=3),
            Task.agent("Find it.", model="x"),
            Task("undecodable \udcff", "payload \ud800", TaskType("odd \udcfe"), "d \udcff"),
            Task("none", None, HTTP),
            Task("empty", "", HTTP),
            Task("number", 2**70, HTTP),
        ],
        ids=lambda task: str(task.type.value.encode("ascii", "replace")),
    )
    def test_every_kind_of_task_comes_back(self, store: Store, task: Task) -> None:
        store.tasks.save(task)
        copy = store.tasks[task.id]
        assert everything(copy) == everything(task)
        assert type(copy.payload) is type(task.payload)
        assert copy.created_at.utcoffset() == timedelta(0)

    def test_every_status_comes_back(self, store: Store) -> None:
        moves = {
            TaskStatus.RUNNING: [TaskStatus.RUNNING],
            TaskStatus.CANCELLED: [TaskStatus.RUNNING, TaskStatus.CANCELLED],
            TaskStatus.FAILED: [TaskStatus.FAILED],
            TaskStatus.BLOCKED: [TaskStatus.BLOCKED],
            TaskStatus.SKIPPED: [TaskStatus.SKIPPED],
        }
        for status, path in moves.items():
            task = Task.bash("true")
            for step in path:
                task.transition_to(step, "because" if step.is_bad else None)
                store.tasks.save(task)
            copy = store.tasks[task.id]
            assert copy.status is status
            assert copy.error == task.error

    def test_blocked_by_comes_back(self, store: Store) -> None:
        task = Task.bash("true")
        task.__setstate__(
            task.__getstate__() | {"status": TaskStatus.BLOCKED, "blocked_by": "an id"}
        )
        store.tasks.save(task)
        assert store.tasks[task.id].blocked_by == "an id"

    @pytest.mark.parametrize(
        "value",
        [None, True, 0, -1, 2**80, 1.5, 1e300, "", "text", [], {}, [1, [2.0, {"k": None}]]],
        ids=repr,
    )
    def test_json_values_come_back_exactly(self, store: Store, value: object) -> None:
        task = finished(Task("t", None, HTTP), value=value, raw=value)
        store.tasks.save(task)
        result = store.tasks[task.id].result
        assert result is not None
        assert result.value == value
        assert type(result.value) is type(value)
        assert result.raw == value

    def test_the_result_of_a_command_comes_back(self, store: Store) -> None:
        completed = CompletedProcess(["bash", "-c", "x"], 0, "out\n", "err ü\n")
        task = finished(
            Task.bash("x"),
            output="out\n",
            error="err ü\n",
            returncode=0,
            raw=completed,
            value="out\n",
            attempts=3,
            reused=True,
            output_truncated=True,
            output_files={"stdout": "/tmp/stdout"},
            usage={"input": 3, "output": 4},
            attempt_durations=(0.5, 0.25, 1.5),
            total_duration=4.0,
        )
        store.tasks.save(task)
        assert everything(store.tasks[task.id]) == everything(task)

    @pytest.mark.parametrize(("stdout", "stderr"), [("", ""), ("a", "a"), (None, "b"), ("c", None)])
    def test_raw_streams_come_back_where_the_result_says_otherwise(
        self, store: Store, stdout: str | None, stderr: str | None
    ) -> None:
        raw = CompletedProcess("x", -9, stdout, stderr)
        task = finished(Task.bash("x"), output="o", error=None, returncode=-9, raw=raw, value="o")
        store.tasks.save(task)
        assert everything(store.tasks[task.id]) == everything(task)

    def test_a_failure_comes_back(self, store: Store) -> None:
        failure = Failure(
            "builtins.OSError", "no\udcff", "Traceback…", {"x": "1"}, (("title", "an id"),)
        )
        task = ended(
            Task.bash("x"),
            TaskStatus.FAILED,
            "no\udcff",
            error="no\udcff",
            termination_reason="handler",
            failure=failure,
            output="partial\udcff",
        )
        store.tasks.save(task)
        assert everything(store.tasks[task.id]) == everything(task)

    def test_saving_again_replaces(self, store: Store) -> None:
        task = Task.bash("true")
        store.tasks.save(task)
        task.title = "another"
        task.transition_to(TaskStatus.FAILED, "no")
        store.tasks.save(task)
        assert len(store.tasks) == 1
        assert everything(store.tasks[task.id]) == everything(task)

    # Both are mappings

    def test_a_new_store_is_empty(self, store: Store) -> None:
        for collection in (store.tasks, store.graphs):
            assert len(collection) == 0
            assert list(collection) == []

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    def test_membership_is_by_object_or_id(self, store: Store, which: str) -> None:
        collection, item, other = a_collection(store, which)
        assert item not in collection
        assert item.id not in collection
        collection.save(item)
        assert item in collection
        assert item.id in collection
        assert other not in collection
        for stranger in (None, 3, "", "\udcff", b"x", object(), TaskStatus.RUNNING):
            assert stranger not in collection

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    @pytest.mark.parametrize("key", ["unknown", "", "\udcff", "a\0b"])
    def test_an_unknown_id_is_a_key_error(self, store: Store, which: str, key: str) -> None:
        collection = getattr(store, which)
        with pytest.raises(KeyError):
            collection[key]
        with pytest.raises(KeyError):
            del collection[key]
        assert collection.get(key, 1) == 1

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    def test_assigning_is_saving_under_the_right_key(self, store: Store, which: str) -> None:
        collection, item, other = a_collection(store, which)
        collection[item.id] = item
        assert collection[item.id].id == item.id
        with pytest.raises(ValueError, match=item.id):
            collection["wrong"] = item
        with pytest.raises(ValueError, match=other.id):
            collection[item.id] = other
        assert list(collection) == [item.id]

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    @pytest.mark.parametrize(
        "wrong", [None, "text", 3, {}, [Task.bash("x")]], ids=lambda it: type(it).__name__
    )
    def test_what_is_of_a_wrong_type_is_a_type_error(
        self, store: Store, which: str, wrong: object
    ) -> None:
        collection = getattr(store, which)
        with pytest.raises(TypeError):
            collection.save(wrong)
        with pytest.raises(TypeError):
            collection["x"] = wrong
        assert len(collection) == 0

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    def test_the_other_collections_objects_are_a_type_error(self, store: Store, which: str) -> None:
        wrong = TaskGraph() if which == "tasks" else Task.bash("x")
        with pytest.raises(TypeError, match=type(wrong).__name__):
            getattr(store, which).save(wrong)

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    def test_iteration_is_in_the_order_of_first_saving(self, store: Store, which: str) -> None:
        collection, *_ = a_collection(store, which)
        items = [a_collection(store, which)[1] for _ in range(50)]
        for item in [*items, items[7]]:
            collection.save(item)
        assert list(collection) == [item.id for item in items]
        assert [item.id for item in collection.values()] == [item.id for item in items]
        del collection[items[3].id]
        assert len(collection) == 49
        assert items[3].id not in collection
        collection.save(items[3])
        assert list(collection)[-1] == items[3].id

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    def test_saving_while_iterating_is_allowed(self, store: Store, which: str) -> None:
        collection, *_ = a_collection(store, which)
        items = [a_collection(store, which)[1] for _ in range(20)]
        for item in items:
            collection.save(item)
        for key in collection:
            collection.save(collection[key])
        for key in collection:
            del collection[key]
        assert len(collection) == 0

    @pytest.mark.parametrize("which", ["tasks", "graphs"])
    def test_the_rest_of_a_mapping_works(self, store: Store, which: str) -> None:
        collection, item, other = a_collection(store, which)
        collection.update({item.id: item, other.id: other})
        assert collection.pop(item.id).id == item.id
        assert collection.popitem()[0] == other.id
        assert collection.setdefault(item.id, item).id == item.id
        collection.clear()
        assert len(collection) == 0

    # Graphs

    def test_a_graph_comes_back_with_its_edges_and_flags(self, store: Store) -> None:
        graph = TaskGraph("title \udcff", key="nightly")
        a, b, c, d = (Task.bash(f"echo {name}") for name in "abcd")
        graph.add(b, after=[a], on_dep_failure=DependencyPolicy.RUN_ANYWAY)
        graph.add(a)
        graph.add(c, after=[b, a], required=False)
        graph.add(d, after=[c, a, b], finally_=True, on_dep_failure=DependencyPolicy.ON_FAILURE)
        store.graphs.save(graph)
        copy = store.graphs[graph.id]
        assert (copy.id, copy.title, copy.key) == (graph.id, "title \udcff", "nightly")
        assert shape(copy) == shape(graph)
        assert [everything(task) for task in copy] == [everything(task) for task in graph]
        copy.validate()

    def test_an_empty_graph_comes_back(self, store: Store) -> None:
        graph = TaskGraph()
        store.graphs.save(graph)
        copy = store.graphs[graph.id]
        assert (copy.title, copy.key, len(copy)) == ("", None, 0)

    def test_a_dependency_that_is_not_in_the_graph_comes_back(self, store: Store) -> None:
        graph = TaskGraph()
        later = Task.bash("true")
        first = graph.add(Task.bash("true"), after=later)
        store.graphs.save(graph)
        copy = store.graphs[graph.id]
        assert shape(copy) == shape(graph)
        assert len(copy) == 1
        assert copy[first][0].title == later.title

    def test_the_tasks_of_a_graph_are_its_own_where_it_names_them_twice(self, store: Store) -> None:
        graph = TaskGraph()
        a = graph.add(Task.bash("true"))
        b = graph.add(Task.bash("true"), after=a)
        store.graphs.save(graph)
        copy = store.graphs[graph.id]
        assert copy[b][0] is next(iter(copy))

    def test_saving_a_graph_saves_its_tasks(self, store: Store) -> None:
        graph = TaskGraph()
        tasks = [graph.add(Task.bash("true")) for _ in range(3)]
        store.graphs.save(graph)
        assert list(store.tasks) == [task.id for task in tasks]

    def test_a_saved_task_is_seen_in_its_graphs(self, store: Store) -> None:
        graph, other = TaskGraph(), TaskGraph()
        task = graph.add(Task.bash("true"))
        other.add(task)
        store.graphs.save(graph)
        store.graphs.save(other)
        task.transition_to(TaskStatus.FAILED, "no")
        store.tasks.save(task)
        assert [item.error for item in store.graphs[graph.id]] == ["no"]
        assert [item.error for item in store.graphs[other.id]] == ["no"]

    def test_saving_a_graph_again_replaces_its_edges(self, store: Store) -> None:
        graph = TaskGraph("before")
        a = graph.add(Task.bash("true"))
        b = graph.add(Task.bash("true"), after=a)
        store.graphs.save(graph)
        graph.remove(b)
        graph.add(Task.bash("true"), finally_=True)
        graph.title = "after"
        store.graphs.save(graph)
        copy = store.graphs[graph.id]
        assert shape(copy) == shape(graph)
        assert copy.title == "after"
        assert b in store.tasks

    def test_deleting_a_graph_keeps_its_tasks(self, store: Store) -> None:
        graph = TaskGraph()
        task = graph.add(Task.bash("true"))
        store.graphs.save(graph)
        del store.graphs[graph.id]
        assert graph not in store.graphs
        assert task in store.tasks

    def test_a_graph_keeps_a_task_that_is_deleted(self, store: Store) -> None:
        graph = TaskGraph()
        task = graph.add(Task.bash("true"))
        store.graphs.save(graph)
        del store.tasks[task.id]
        assert task not in store.tasks
        assert len(store.tasks) == 0
        assert [item.id for item in store.graphs[graph.id]] == [task.id]
        with pytest.raises(KeyError):
            del store.tasks[task.id]
        store.tasks.save(task)
        assert list(store.tasks) == [task.id]

    def test_a_task_that_a_failing_save_of_a_graph_would_have_saved_is_not_there(
        self, store: Store
    ) -> None:
        with pytest.raises(TypeError):
            store.graphs.save(Task.bash("true"))  # type: ignore[arg-type]
        assert len(store.tasks) == 0

    # Threads

    def test_threads_lose_nothing(self, store: Store) -> None:
        threads, each = 8, 40
        barrier = Barrier(threads)

        def work(number: int) -> list[str]:
            barrier.wait()
            ids = []
            for at in range(each):
                task = Task.bash(f"echo {number} {at}")
                store.tasks.save(task)
                assert task.id in store.tasks
                task.transition_to(TaskStatus.RUNNING)
                store.tasks.save(task)
                finished_task = store.tasks[task.id]
                assert finished_task.status is TaskStatus.RUNNING
                ids.append(task.id)
            graph = TaskGraph(str(number))
            graph.add(Task.bash("true"))
            store.graphs.save(graph)
            return ids

        with ThreadPoolExecutor(threads) as pool:
            ids = [key for found in pool.map(work, range(threads)) for key in found]
        assert set(ids) <= set(store.tasks)
        assert len(store.tasks) == threads * each + threads
        assert len(store.graphs) == threads

    def test_closing_twice_is_allowed(self, store: Store) -> None:
        store.close()
        store.close()


class TestInMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return InMemoryStore()


class TestSQLiteStore(StoreContract):
    @pytest.fixture(params=["process", "power"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
        with SQLiteStore(tmp_path / "ledger", durability=request.param) as store:
            yield store


class TestSQLiteStoreInMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[Store]:
        with SQLiteStore(":memory:") as store:
            yield store
