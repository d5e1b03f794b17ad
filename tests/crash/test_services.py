"""Services whose host is killed, stopped by Ctrl-C, or started again and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ttasks
from commandkit import marked, token, wait_until
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph, ready

__all__ = ["token"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

PARTS = 5
KILLS = 100 // PARTS
STARTS = 1_000 // PARTS
SCRIPT = """
import sys
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph, ready

folder = sys.argv[1]
graph = TaskGraph("services", key="services")
server = graph.add(Task.service(
    f"setsid sleep 300 & echo up; sleep 300", title="server", ready=ready.output("up"),
))
use = graph.add(Task.bash(
    f"echo use >> {folder}/log; [ -e {folder}/go ] || {{ touch {folder}/reached; sleep 300; }}",
    title="use",
), after=server)
graph.add(Task.bash(f"echo clean >> {folder}/log", title="clean"), after=use, finally_=True)
with SQLiteStore(folder + "/ledger") as store, TaskExecutor(store) as executor:
    graph.run(executor, resume=True)
print(*(f"{task.title}={task.status.value}" for task in graph))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    """Start a host; in its environment a mark that all its processes inherit."""
    source = Path(ttasks.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
    )


def strike(folder: Path, number: int) -> str:
    """Send a signal to a host while its service is used; returns what it printed."""
    (folder / "reached").unlink(missing_ok=True)
    host = start(folder)
    try:
        wait_until((folder / "reached").exists)
        host.send_signal(number)
        return host.communicate(timeout=20)[0]
    finally:
        host.kill()
        host.wait()


def test_a_resume_ends_the_service_of_a_killed_host_and_starts_it_anew(
    tmp_path: Path, token: str
) -> None:
    strike(tmp_path, signal.SIGKILL)
    assert marked(token)  # the service, and what it has started in a session of its own
    (tmp_path / "go").touch()
    host = start(tmp_path)
    assert host.communicate(timeout=20)[0].split() == [
        *("server=succeeded", "use=succeeded", "clean=succeeded"),
    ]
    assert (tmp_path / "log").read_text().split() == ["use", "use", "clean"]
    assert marked(token) == []
    with SQLiteStore(tmp_path / "ledger") as store:
        runs = store.runs.list(key="services")
        assert [run.outcome for run in runs] == ["ok", "interrupted"]
        assert runs[1].facts().find("server").up is not None


def test_ctrl_c_ends_a_service_after_the_finally_tasks(tmp_path: Path, token: str) -> None:
    strike(tmp_path, signal.SIGINT)
    assert marked(token) == []
    assert (tmp_path / "log").read_text().split() == ["use", "clean"]
    with SQLiteStore(tmp_path / "ledger") as store:
        (run,) = store.runs.list(key="services")
        states = {task.title: task.status.value for task in run.facts().tasks.values()}
        assert states == {"server": "cancelled", "use": "cancelled", "clean": "succeeded"}


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_a_hundred_kills_leave_nothing_behind(part: int, tmp_path: Path, token: str) -> None:
    for _ in range(KILLS):
        strike(tmp_path, signal.SIGKILL)
    (tmp_path / "go").touch()
    host = start(tmp_path)
    assert "use=succeeded" in host.communicate(timeout=20)[0]
    assert marked(token) == []


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(PARTS))
def test_a_thousand_starts_leave_nothing_behind(part: int, token: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    probe = ready.output("up")
    with TaskExecutor() as executor:
        for number in range(STARTS // 10):
            graph = TaskGraph(f"start {part}.{number}")
            services = [
                graph.add(Task.service("sleep 300 & echo up; sleep 300", ready=probe))
                for _ in range(10)
            ]
            graph.add(Task.python(str), after=services)
            assert graph.run(executor).ok
    assert marked(token) == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [name for name in threading.enumerate() if name.name.startswith("ttasks")]


def test_a_block_that_is_never_left_does_not_keep_the_interpreter(token: str) -> None:
    script = (
        "from ttasks import Task, TaskExecutor\n"
        "TaskExecutor().running(Task.service('sleep 300')).__enter__()\n"
    )
    source = Path(ttasks.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=20, check=True)
    assert marked(token) == []
