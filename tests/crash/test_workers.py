"""A worker process that holds the interpreter lock ends with its host, and what it forked too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

import ttasks
from commandkit import marked, token, wait_until
from ttasks import SQLiteStore, TaskExecutor

__all__ = ["token"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

# The call starts three processes, each in a session of its own: one executes a program, two are
# forked, and one of these is an orphan. Then it holds the interpreter lock for as long as it can.
SCRIPT = """
import os, re, subprocess, sys, threading, time
from pathlib import Path
from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph

def leave(folder):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        (Path(folder) / "forked").write_text(str(os.getpid()))
    time.sleep(300)

def hold(folder):
    if (Path(folder) / "ready").exists():
        return "done"
    subprocess.Popen(["sleep", "300"], stdout=subprocess.DEVNULL, start_new_session=True)
    leave(folder)
    if os.fork() == 0:
        leave(folder)
        os._exit(0)
    os.wait()
    (Path(folder) / "ready").touch()
    re.match("(a|a?)+$", "a" * 60 + "b")

def build(folder):
    graph = TaskGraph("graph", key="k")
    graph.add(Task.python(hold, (folder,), title="hold", backend="process"))
    return graph

if __name__ == "__main__":
    with TaskExecutor(SQLiteStore(sys.argv[1] + "/ledger")) as executor:
        graph = build(sys.argv[1])
        if sys.argv[2] == "cancel":
            def cancel():
                while not (Path(sys.argv[1]) / "ready").exists():
                    time.sleep(0.01)
                graph.cancel()
            threading.Thread(target=cancel, daemon=True).start()
        graph.run(executor)
    print("ended", flush=True)
    sys.stdin.read()
"""


class Host:
    """An interpreter whose worker holds the lock."""

    def __init__(self, folder: Path, token: str, how: str) -> None:
        (folder / "holds.py").write_text(SCRIPT)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(folder / "holds.py"), str(folder), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(ttasks.__file__).parents[1])},
        )
        wait_until((folder / "ready").exists, "the call")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(autouse=True)
def helper() -> None:
    """Have what multiprocessing keeps for the life of this interpreter started before the token."""
    resource_tracker.ensure_running()


@pytest.fixture
def left(token: str) -> Iterator[str]:
    yield token
    for pid in marked(token):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not marked(token), "the end of all processes")


def test_it_ends_with_its_host_and_a_resume_ends_the_rest(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path, left, "run")
    # The host, what keeps its resources, the worker and the five.
    wait_until(lambda: len(marked(left)) == 8, "all processes")
    host.kill()
    wait_until(lambda: len(marked(left)) == 1, "the end of all but the program")
    monkeypatch.syspath_prepend(tmp_path)
    import holds  # type: ignore[import-not-found]

    with SQLiteStore(tmp_path / "ledger") as store, TaskExecutor(store) as executor:
        graph = holds.build(str(tmp_path))
        ends: list[list[int]] = []
        executor.events.subscribe(lambda event: ends.append(marked(left)))
        graph.run(executor, resume=True)
        assert [task.value for task in graph] == ["done"]
    del sys.modules["holds"]
    assert ends[0] == []
    assert marked(left) == []


def test_its_end_is_that_of_what_it_has_forked(left: str, tmp_path: Path) -> None:
    host = Host(tmp_path, left, "cancel")
    assert host.process.stdout is not None
    assert host.process.stdout.readline() == "ended\n"
    # The host, and what multiprocessing keeps until its end.
    wait_until(lambda: len(marked(left)) == 2, "the end of all processes of the task")
    host.process.communicate()
