"""Values and texts that are longer than SQLite takes: a task is saved without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ttasks import SQLiteStore, Task, TaskContext, TaskExecutor, TaskGraph, TaskType
from ttasks.stores.sqlite import NotStored, plain, transitions

KIND = TaskType("long")
LIMIT = 1000
LONG = "0123456789" * 500


def work(context: TaskContext) -> object:
    if context.title == "fails":
        raise ValueError(LONG)
    return {"text": LONG, "json": [LONG], "short": "x"}[context.title]


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (transitions, plain):
        monkeypatch.setattr(module, "LONGEST", LIMIT)


@pytest.mark.parametrize("title", ["text", "json", "fails"])
def test_a_task_is_saved_without_what_is_too_long(tmp_path: Path, title: str) -> None:
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        executor.register(KIND, work)
        task = Task(title, None, KIND)
        if title == "fails":
            with pytest.raises(ValueError):
                executor.execute(task)
        else:
            executor.execute(task)
        assert executor.persistence_errors == {}
        copy = store.tasks[task.id]
        assert copy.status is task.status
        assert copy.result is not None
        if title == "json":
            assert copy.result.value == NotStored("value", "list")
            assert copy.result.output == ""
        else:
            text = copy.result.output if title == "text" else copy.result.error
            assert text is not None
            assert text.startswith("01234")
            assert text.endswith("56789")
            assert "4500 characters are left out in the ledger" in text
            assert copy.result.output_truncated
        if title == "text":
            assert copy.result.value == NotStored("value", "str")
            with pytest.raises(AttributeError, match="too long"):
                copy.result.value.upper()


def test_a_resume_runs_such_a_task_again(tmp_path: Path) -> None:
    ran = []

    def count(context: TaskContext) -> object:
        ran.append(context.title)
        return work(context)

    def build() -> TaskGraph:
        graph = TaskGraph("long", key="long")
        for title in ("text", "json", "short"):
            graph.add(Task(title, None, KIND))
        return graph

    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        executor.register(KIND, count)
        build().run(executor)
        build().run(executor, resume=True)
    assert sorted(ran) == ["json", "json", "short", "text", "text"]


def test_a_payload_that_is_too_long_is_not_stored(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "ledger", pickle_values=True) as store:
        for payload in (LONG, [LONG], (LONG,)):
            task = Task("t", payload, KIND)
            store.tasks.save(task)
            assert isinstance(store.tasks[task.id].payload, NotStored)
