"""One owner of a graph key, over processes that begin at the same moment, live and are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import pytest

import ttasks
from commandkit import wait_until
from support import WAIT
from ttasks import GraphError, SQLiteStore, Task, TaskExecutor, TaskGraph
from ttasks.processes import host_name

SCRIPT = """
import json, os, sys, time
from pathlib import Path
from ttasks import GraphError, SQLiteStore, Task, TaskExecutor, TaskGraph

folder, mode = Path(sys.argv[1]), sys.argv[2]

def alone():
    # Fails if another process is in here.
    fd = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
    while mode == "refuse" and not (folder / "release").exists():
        time.sleep(0.005)  # until the others have been told
    os.close(fd)
    os.unlink(folder / "inside")

def hang():
    (folder / "hangs").touch()
    time.sleep(300)

graph = TaskGraph("graph", key="k")
graph.add(Task.python(hang if mode == "hang" else alone))
with SQLiteStore(folder / "ledger") as store, TaskExecutor(store) as executor:
    print("ready", flush=True)
    sys.stdin.readline()
    said = {"pid": os.getpid()}
    try:
        graph.run(executor, wait=mode == "wait")
    except GraphError as error:
        said["error"] = str(error)
    else:
        said["outcome"] = graph.latest_run.outcome
    print(json.dumps(said), flush=True)
"""


class Racers:
    """Interpreters with the script, which all begin when they are told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def add(self, mode: str) -> subprocess.Popen[str]:
        source = Path(ttasks.__file__).parents[1]
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(self.folder), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def go(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def refusals(self, count: int) -> list[dict[str, Any]]:
        """The first answers; the processes that give them are done."""
        found = []
        with DefaultSelector() as selector:
            for process in self.processes:
                assert process.stdout is not None
                selector.register(process.stdout, EVENT_READ, process)
            while len(found) < count:
                ready = selector.select(WAIT)
                assert ready, "nobody was refused"
                for key, _ in ready:
                    selector.unregister(key.fileobj)
                    self.processes.remove(key.data)
                    found.append(json.loads(key.data.communicate(timeout=WAIT)[0]))
        return found

    def answers(self) -> list[dict[str, Any]]:
        found = [json.loads(process.communicate(timeout=WAIT)[0]) for process in self.processes]
        self.processes.clear()
        return found

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def racers(tmp_path: Path) -> Iterator[Racers]:
    found = Racers(tmp_path)
    yield found
    found.end()


@pytest.mark.parametrize("attempt", range(4))
def test_of_processes_that_begin_at_once_one_runs_and_the_others_are_told_who(
    racers: Racers, attempt: int
) -> None:
    for _ in range(3):
        racers.add("refuse")
    racers.go()
    refused = racers.refusals(2)
    (racers.folder / "release").touch()
    (winner,) = racers.answers()
    assert winner["outcome"] == "ok"
    for answer in refused:
        assert f"in process {winner['pid']} on {host_name()!r}" in answer["error"]
    with SQLiteStore(racers.folder / "ledger") as store:
        assert [item.outcome for item in store.runs.list()] == ["ok"]


def test_processes_that_wait_run_one_after_the_other(racers: Racers) -> None:
    for _ in range(4):
        racers.add("wait")
    racers.go()
    assert [answer.get("outcome") for answer in racers.answers()] == ["ok"] * 4
    with SQLiteStore(racers.folder / "ledger") as store:
        runs = store.runs.list(key="k")
        assert [item.number for item in runs] == [4, 3, 2, 1]
        assert len({item.facts().pid for item in runs}) == 4


def test_a_killed_run_reads_as_interrupted_and_its_key_is_free_at_once(racers: Racers) -> None:
    host = racers.add("hang")
    racers.go()
    wait_until((racers.folder / "hangs").exists, "the task")
    graph = TaskGraph("graph", key="k")
    graph.add(Task.bash("true"))
    with SQLiteStore(racers.folder / "ledger") as store, TaskExecutor(store) as executor:
        (lost,) = store.runs.list()
        facts = lost.facts()
        assert (facts.outcome, facts.pid, facts.host) == ("running", host.pid, host_name())
        (task,) = facts.tasks.values()
        assert (task.status.value, task.spans[-1].end) == ("running", None)
        with pytest.raises(GraphError, match=f"in process {host.pid} on"):
            graph.run(executor)
        assert lost.outcome == "running"
        host.kill()
        host.communicate()
        assert lost.wait(1)
        assert (lost.outcome, lost.done, lost.ok) == ("interrupted", True, False)
        facts = lost.facts()
        assert "did not end before the run was interrupted" in lost.why("hang")
        assert facts.elapsed == max(span.start for span in facts.tasks[task.id].spans)
        assert graph.run(executor).ok
        assert [item.outcome for item in store.runs.list(key="k")] == ["ok", "interrupted"]
