"""Values of variables whose names say that they are secrets are not kept in a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph, TaskStatus

SECRET = "hunter2-hunter2"
NAMES = ("API_TOKEN", "client_secret", "PGPASSWORD", "AWS_ACCESS_KEY", "DEPLOY_KEY", "NPM_Passwd")
ENV = {**dict.fromkeys(NAMES, SECRET), "KEYBOARD": "de", "GONE_TOKEN": None}
PRINT = "echo $API_TOKEN $KEYBOARD >> log; echo $API_TOKEN"


def build(folder: Path) -> TaskGraph:
    graph = TaskGraph("secrets", key="secrets")
    first = graph.add(Task.bash(PRINT, env={"API_TOKEN": SECRET, "KEYBOARD": "de"}, cwd=folder))
    graph.add(Task.bash(f"{PRINT}; true", env={"API_TOKEN": SECRET}, cwd=folder), after=first)
    return graph


def stored(path: Path) -> bytes:
    """All bytes of a ledger that is closed."""
    assert not Path(f"{path}-wal").exists()
    return path.read_bytes()


def test_only_the_names_of_secret_variables_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    task = Task.bash("true", env=ENV)
    with SQLiteStore(path) as store:
        store.tasks.save(task)
        kept = store.tasks[task.id].options
        store.tasks.save(store.tasks[task.id])
        assert store.tasks[task.id].options == kept
    assert kept == {"env": {"KEYBOARD": "de", "GONE_TOKEN": None}, "env_from": list(NAMES)}
    assert task.options["env"] == ENV  # the task itself is not changed
    data = stored(path)
    assert SECRET.encode() not in data
    assert b"DEPLOY_KEY" in data


@pytest.mark.parametrize(
    ("patterns", "names"), [((), []), (["KEY*"], ["KEYBOARD"]), (["*_token"], ["API_TOKEN"])]
)
def test_the_names_can_be_changed(tmp_path: Path, patterns: Any, names: list[str]) -> None:
    task = Task.bash("true", env={"API_TOKEN": SECRET, "KEYBOARD": "de"})
    with SQLiteStore(tmp_path / "ledger", secret_variables=patterns) as store:
        store.tasks.save(task)
        assert store.tasks[task.id].options.get("env_from", []) == names


@pytest.mark.parametrize("patterns", ["*TOKEN*", 3, [b"x"], [""], None])
def test_wrong_patterns_are_refused(tmp_path: Path, patterns: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="secret_variables"):
        SQLiteStore(tmp_path / "ledger", secret_variables=patterns)
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_graph_takes_them_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build(tmp_path)
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        store.graphs.save(graph)
        monkeypatch.setenv("API_TOKEN", "of this process")
        loaded = store.graphs[graph.id].run(executor)
        assert [task.value for task in loaded] == ["of this process\n"] * 2
        assert (tmp_path / "log").read_text() == "of this process de\nof this process\n"


def test_or_says_which_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build(tmp_path)
    monkeypatch.delenv("API_TOKEN", raising=False)
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        store.graphs.save(graph)
        loaded = store.graphs[graph.id]
        loaded.run(executor)
        first, second = loaded
        assert "the environment has no API_TOKEN" in (first.error or "")
        assert second.status is TaskStatus.BLOCKED
        assert not (tmp_path / "log").exists()
        for task in loaded:  # what is missing can be given by hand, too
            task.options = {**task.options, "env": {"API_TOKEN": "given"}}
        assert loaded.run(executor).ok
        assert first.value == "given\n"


def test_a_loaded_graph_that_ran_with_the_same_values_is_the_same_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = build(tmp_path)
    monkeypatch.setenv("API_TOKEN", SECRET)
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        store.graphs.save(graph)
        assert store.graphs[graph.id].run(executor).ok
        again = build(tmp_path).run(executor, resume=True)
        assert [task.result.reused for task in again if task.result is not None] == [True, True]
