"""Resume across processes: what a killed one has left, and what one that lives is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ttasks
from commandkit import marked, token, wait_until
from support import EventRecorder
from ttasks import (
    GraphError,
    SQLiteStore,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
)
from ttasks.stores.sqlite.sealing import seal

__all__ = ["token"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

# One script for both: it runs the graph of the ledger and folder that it is given.
SCRIPT = """
import sys
from pathlib import Path
from ttasks import GraphError, SQLiteStore, Task, TaskEventType
from ttasks import TaskExecutor, TaskGraph, TaskStatus
from ttasks.stores.sqlite.sealing import seal

def build(folder):
    graph = TaskGraph("graph", key="k")
    log = f"{folder}/log"
    a = graph.add(Task.bash(f"echo a >> {log}", title="a"))
    b = graph.add(Task.bash(
        f"echo b >> {log}; [ -e {folder}/go ] || "
        f"{{ (setsid sleep 300 &) ; echo > {folder}/ready; sleep 300; true; }}", title="b",
    ), after=a)
    c = graph.add(Task.bash(f"echo c >> {log}", title="c"), after=b)
    graph.add(Task.bash(f"echo last >> {log}", title="last"), after=c, finally_=True)
    return graph

if __name__ == "__main__":
    graph = build(sys.argv[1])
    print(graph.id, flush=True)
    graph.run(TaskExecutor(SQLiteStore(sys.argv[1] + "/ledger")), resume=True)
"""
namespace: dict[str, Any] = {"__name__": "script"}
exec(SCRIPT, namespace)
build: Callable[[Path], TaskGraph] = namespace["build"]


class Host:
    """An interpreter that runs the script, up to the middle of its second task."""

    def __init__(self, folder: Path, token: str) -> None:
        source = Path(ttasks.__file__).parents[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        assert self.process.stdout is not None
        self.graph_id = self.process.stdout.readline().strip()
        wait_until((folder / "ready").exists, "the second task")
        # The interpreter, Bash and its two sleeps: the last one starts after the file was made.
        wait_until(lambda: len(marked(token)) == 4, "all processes of the second task")

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def host(token: str, tmp_path: Path) -> Iterator[Host]:
    found = Host(tmp_path, token)
    yield found
    found.kill()
    for pid in marked(token):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not marked(token), "the end of all processes")


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().split()


def test_a_resume_ends_what_a_killed_process_has_left_and_goes_on(
    host: Host, token: str, tmp_path: Path
) -> None:
    host.kill()
    assert len(marked(token)) == 3
    (tmp_path / "go").touch()
    left: list[list[int]] = []
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        executor.events.subscribe(
            lambda event: left.append(marked(token)) if event.task.title == "b" else None,
            types=[TaskEventType.STARTED],
        )
        recorder = EventRecorder(executor)
        graph = build(tmp_path).run(executor, resume=True)
        recorder.check(graph)
        assert graph.ok
        assert left == [[]]
        assert log(tmp_path) == ["a", "b", "b", "c", "last"]
        assert recorder.titles(TaskEventType.STARTED) == ["b", "c", "last"]
        assert recorder.titles(TaskEventType.FAILED) == []
        assert store.running() == []
        before = store.graphs[host.graph_id]
        b = list(before)[1]
        assert b.is_failed
        assert b.result is not None
        assert b.result.termination_reason == "interrupted"
        entries = store.events.read(task=b)
        assert [entry.type for entry in entries] == [TaskEventType.STARTED, TaskEventType.FAILED]
        assert entries[-1].previous_status is TaskStatus.RUNNING
        assert "interrupted" in (entries[-1].error or "")


def test_a_loaded_graph_of_a_killed_process_goes_on(host: Host, token: str, tmp_path: Path) -> None:
    host.kill()
    (tmp_path / "go").touch()
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        graph = store.graphs[host.graph_id]
        recorder = EventRecorder(executor)
        graph.run(executor)
        assert graph.ok
        assert log(tmp_path) == ["a", "b", "b", "c", "last"]
        assert recorder.titles(TaskEventType.FAILED) == ["b"]
        b = list(graph)[1]
        kinds = [entry.type.value for entry in store.events.read(task=b)]
        assert kinds == ["started", "failed", "started", "succeeded"]


def test_a_task_that_runs_in_a_process_that_lives_is_an_error_that_names_it(
    host: Host, token: str, tmp_path: Path
) -> None:
    before = marked(token)
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        seen = store.events.last, len(store.graphs), len(store.tasks)
        graphs = [(build(tmp_path), True), (store.graphs[host.graph_id], False)]
        for graph, resume in graphs:
            with pytest.raises(GraphError, match=f"running .* in process {host.process.pid} on"):
                graph.run(executor, resume=resume)
        assert all(task.is_pending for task in graphs[0][0])
        assert (store.events.last, len(store.graphs), len(store.tasks)) == seen
    assert marked(token) == before
    assert log(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("where", ["another machine", "another container of this machine"])
def test_a_process_that_cannot_be_seen_from_here_is_not_taken_for_dead(
    host: Host, token: str, tmp_path: Path, where: str
) -> None:
    host.kill()
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        with store._ledger.writing() as connection:
            (boot,) = connection.execute("SELECT boot FROM owners").fetchone()
            if where == "another machine":
                boot = "another boot"
            boot = f"{boot.partition('/')[0]}/pid:[1]"
            connection.execute("UPDATE owners SET host='elsewhere', boot=?", (boot,))
            seal(connection)
        with pytest.raises(GraphError, match="'elsewhere'.*unknown.*mark_interrupted"):
            build(tmp_path).run(executor, resume=True)
        with pytest.raises(GraphError, match="'elsewhere' .unknown.*save the task as FAILED"):
            TaskGraph.restore("new", store.graphs[host.graph_id].nodes()).run(executor)
        assert len(marked(token)) == 3
        (lost,) = store.runs.list()
        assert lost.outcome == "running"
        store.runs.mark_interrupted(lost)
        assert lost.outcome == "interrupted"
        assert store.check() == []
        (tmp_path / "go").touch()
        assert build(tmp_path).run(executor, resume=True).ok


def test_a_machine_that_was_renamed_is_still_the_same(
    host: Host, token: str, tmp_path: Path
) -> None:
    host.kill()
    (tmp_path / "go").touch()
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        with store._ledger.writing() as connection:
            connection.execute("UPDATE owners SET host='as it was called before'")
            seal(connection)
        assert build(tmp_path).run(executor, resume=True).ok
    assert log(tmp_path) == ["a", "b", "b", "c", "last"]


def test_a_recycled_pid_is_not_taken_for_the_owner(host: Host, token: str, tmp_path: Path) -> None:
    host.kill()
    (tmp_path / "go").touch()
    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        with store._ledger.writing() as connection:
            connection.execute("UPDATE owners SET pid=?", (os.getpid(),))
            seal(connection)
        assert build(tmp_path).run(executor, resume=True).ok
