"""Values that are no JSON, kept as pickles for those who ask for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import executor_with, make
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph

TUPLE = (1, {"a": {2, 3}})


def saved(path: Path, value: object, *, pickle_values: bool) -> Task:
    with SQLiteStore(path, pickle_values=pickle_values) as store:
        executor = executor_with(lambda context: value, store=store)[0]
        task = make("t")
        executor.execute(task)
    return task


def loaded(path: Path, task: Task, *, pickle_values: bool) -> object:
    with SQLiteStore(path, pickle_values=pickle_values) as store:
        result = store.tasks[task.id].result
    assert result is not None
    return result.value


def test_a_value_that_is_no_json_comes_back_if_both_ask_for_pickles(tmp_path: Path) -> None:
    task = saved(tmp_path / "ledger", TUPLE, pickle_values=True)
    assert loaded(tmp_path / "ledger", task, pickle_values=True) == TUPLE


@pytest.mark.parametrize(("writes", "reads"), [(True, False), (False, True), (False, False)])
def test_without_being_asked_nothing_is_pickled_or_read_from_a_pickle(
    tmp_path: Path, writes: bool, reads: bool
) -> None:
    task = saved(tmp_path / "ledger", TUPLE, pickle_values=writes)
    value = loaded(tmp_path / "ledger", task, pickle_values=reads)
    assert "not stored" in repr(value)
    assert ("pickle_values=True" in repr(value)) is writes


def test_what_cannot_be_pickled_is_not_stored_and_the_task_succeeds(tmp_path: Path) -> None:
    task = saved(tmp_path / "ledger", lambda: None, pickle_values=True)
    assert task.is_done
    assert "not stored" in repr(loaded(tmp_path / "ledger", task, pickle_values=True))


def test_json_stays_json(tmp_path: Path) -> None:
    task = saved(tmp_path / "ledger", [1, "a"], pickle_values=True)
    assert loaded(tmp_path / "ledger", task, pickle_values=False) == [1, "a"]


def test_a_resume_takes_over_a_pickled_value(tmp_path: Path) -> None:
    calls: list[str] = []

    def run() -> Task:
        with SQLiteStore(tmp_path / "ledger", pickle_values=True) as store:
            executor = TaskExecutor.empty(store)
            executor.register(make("t").type, lambda context: (calls.append("x"), 1))
            graph = TaskGraph(key="g")
            task = graph.add(make("t"))
            graph.run(executor, resume=True)
        return task

    assert run().result.value == run().result.value  # type: ignore[union-attr]
    assert calls == ["x"]


@pytest.mark.parametrize("value", [1, "yes", None])
def test_pickle_values_is_a_bool(value: object) -> None:
    with pytest.raises(TypeError, match="pickle_values must be a bool"):
        SQLiteStore(":memory:", pickle_values=value)  # type: ignore[arg-type]
