"""What a killed task was running inside of itself is ended before a resume runs it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from commandkit import wait_until
from ttasks import SQLiteStore

HOST = r"""
import sys
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph
folder, kind = sys.argv[1:]
def nest():
    log = f"{folder}/log"
    # The first one sleeps until it is ended.
    sleep = f"[ $(wc -l < {log}) -gt 1 ] || sleep 60"
    inner = Task.bash(f"echo start >> {log}; {sleep}; echo end >> {log}", title="inner")
    if kind == "graph":
        graph = TaskGraph("inside")
        graph.add(inner)
        graph.run(executor)
    elif kind == "execute":
        executor.execute(inner)
    else:
        executor.submit(inner).result()
with SQLiteStore(folder + "/ledger") as store, TaskExecutor(store) as executor:
    graph = TaskGraph("outer", key="k")
    graph.add(Task.python(nest, title="outer"))
    graph.run(executor, resume=True)
    assert graph.ok
"""


@pytest.mark.parametrize("kind", ["graph", "execute", "submit"])
def test_what_ran_inside_of_a_killed_task_does_not_run_beside_the_resume(
    tmp_path: Path, kind: str
) -> None:
    command = [sys.executable, "-c", HOST, str(tmp_path), kind]
    host = subprocess.Popen(command)
    try:
        wait_until((tmp_path / "log").exists, "the start")
    finally:
        host.kill()
        host.wait()
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "log").read_text().split() == ["start", "start", "end"]
    with SQLiteStore(tmp_path / "ledger") as store:
        found = sorted((task.title, task.status.value) for task in store.tasks.values())
        assert store.running() == []
    assert found == [
        ("inner", "failed"),
        ("inner", "succeeded"),
        ("outer", "failed"),
        ("outer", "succeeded"),
    ]
