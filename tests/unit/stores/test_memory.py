"""InMemoryStore: what is its own, beside what every store owes: it keeps the objects themselves."""

from __future__ import annotations

from threading import Barrier, Thread

import pytest

from ttasks import InMemoryStore, Store, Task, TaskGraph, TaskStatus, TaskType

WORK = TaskType("work")


def work(title: str = "work") -> Task:
    return Task(title, None, WORK)


def test_it_is_a_store() -> None:
    assert isinstance(InMemoryStore(), Store)


def test_what_comes_out_is_what_went_in() -> None:
    store = InMemoryStore()
    task, graph = work(), TaskGraph()
    store.tasks.save(task)
    store.graphs.save(graph)
    assert store.tasks[task.id] is task
    assert store.graphs[graph.id] is graph


def test_a_change_is_seen_without_saving() -> None:
    store = InMemoryStore()
    task = work()
    store.tasks.save(task)
    task.transition_to(TaskStatus.RUNNING)
    assert store.tasks[task.id].is_running


def test_the_tasks_of_a_saved_graph_are_the_graphs_own() -> None:
    store = InMemoryStore()
    graph = TaskGraph()
    first = graph.add(work())
    second = graph.add(work(), after=[first])
    store.graphs[graph.id] = graph
    assert store.tasks[first.id] is first
    assert store.tasks[second.id] is second
    assert list(store.tasks) == [first.id, second.id]


def test_tasks_added_to_a_graph_later_are_saved_with_it_again() -> None:
    store = InMemoryStore()
    graph = TaskGraph()
    store.graphs.save(graph)
    task = graph.add(work())
    assert task not in store.tasks
    store.graphs.save(graph)
    assert task in store.tasks


def test_two_stores_share_nothing() -> None:
    one, other = InMemoryStore(), InMemoryStore()
    task = work()
    one.tasks.save(task)
    assert task in one.tasks
    assert task not in other.tasks


def test_collections_belong_to_their_store() -> None:
    store = InMemoryStore()
    with pytest.raises(AttributeError):
        store.tasks = {}  # type: ignore[misc, assignment]
    with pytest.raises(AttributeError):
        store.graphs = {}  # type: ignore[misc, assignment]


def test_it_remembers_after_it_was_closed() -> None:
    store = InMemoryStore()
    task = work()
    store.tasks.save(task)
    store.close()
    assert store.tasks[task.id] is task


@pytest.mark.parametrize("value", [None, 5, "task", WORK])
@pytest.mark.parametrize("which", ["tasks", "graphs"])
def test_what_cannot_be_saved_is_named_and_changes_nothing(which: str, value: object) -> None:
    store = InMemoryStore()
    collection = getattr(store, which)
    for save in (collection.save, lambda item: collection.__setitem__("id", item)):
        with pytest.raises(TypeError) as caught:
            save(value)
        assert "item" in str(caught.value)
        assert repr(value) in str(caught.value)
    assert len(store.tasks) == len(store.graphs) == 0


@pytest.mark.parametrize("key", ["", "other", 5, None])
def test_a_wrong_key_is_named_and_changes_nothing(key: object) -> None:
    store = InMemoryStore()
    task, graph = work(), TaskGraph()
    graph.add(task)
    for collection, item in ((store.tasks, task), (store.graphs, graph)):
        with pytest.raises(ValueError) as caught:
            collection[key] = item  # type: ignore[index, assignment]
        assert "key" in str(caught.value)
        assert repr(key) in str(caught.value)
        assert item.id in str(caught.value)
    assert len(store.tasks) == len(store.graphs) == 0


def test_threads_save_read_and_delete_at_once() -> None:
    threads_count, rounds = 4, 200
    store = InMemoryStore()
    kept = [[work() for _ in range(rounds)] for _ in range(threads_count)]
    barrier = Barrier(threads_count, timeout=30)
    trouble: list[BaseException] = []

    def use(mine: list[Task]) -> None:
        barrier.wait()
        try:
            for task in mine:
                passing = work()
                store.tasks.save(task)
                store.tasks.save(passing)
                assert store.tasks[task.id] is task
                assert task.id in list(store.tasks)
                del store.tasks[passing.id]
        except BaseException as error:
            trouble.append(error)

    threads = [Thread(target=use, args=(mine,)) for mine in kept]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    assert set(store.tasks) == {task.id for mine in kept for task in mine}
