"""Short of descriptors, threads or processes: every task ends, and says why; nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

import ttasks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")

# In an interpreter of its own, which has imported no more than what every program imports.
DESCRIPTORS = """
import gc, os, resource, sys
from ttasks import SQLiteStore, StoreError, Task, TaskCancelled, TaskExecutionError
from ttasks import TaskExecutor, TaskGraph, TaskType

def one():
    return 1

def open_ones():
    return {int(name) for name in os.listdir("/proc/self/fd")}

def attempt(kind, free, path):
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        for _ in range(free):
            os.close(taken.pop())
    try:
        with TaskExecutor(SQLiteStore(path) if kind == "ledger" else None) as executor:
            task = Task.python(one, backend="process", timeout=60)
            if kind != "process":
                task = Task.bash("echo 1")
            try:
                return str(executor.execute(task).value).strip()
            finally:
                assert task.is_terminal or task.is_pending, task
                if executor.store is not None:
                    executor.store.close()
    except (TaskExecutionError, StoreError, OSError, ImportError) as error:
        return f"{type(error).__name__} {error}"
    finally:
        for fd in taken:
            os.close(fd)

if __name__ == "__main__":
    kind, folder, *numbers = sys.argv[1:]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    before = None
    for free in map(int, numbers):
        print(free, attempt(kind, free, f"{folder}/{free}"), flush=True)
        gc.collect()
        if before is None or kind == "process" and free < 20:
            before = open_ones()  # the first time, multiprocessing starts a helper
        assert open_ones() == before, (free, open_ones(), before)
"""

# The limit counts the threads of a user, and means nothing to root. So root becomes somebody else,
# who has no other threads, when all modules that take part have been imported.
PROCESSES = """
import os, resource, sys, threading
from ttasks import *

CUSTOM = TaskType("custom")

def threads():
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                found += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            pass
    return found

def limit(free):
    resource.setrlimit(resource.RLIMIT_NPROC, (threads() + free, HARD))

def attempt(kind, free):
    limit(free)
    try:
        with TaskExecutor() as executor:
            executor.register(CUSTOM, lambda context: 1)
            graph = TaskGraph()
            task = graph.add(Task.bash("echo 1") if kind == "bash" else Task("a", None, CUSTOM))
            last = graph.add(Task("last", None, CUSTOM), finally_=True)
            graph.run(executor, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (SOFT, HARD))
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        assert children.read() == ""
    assert threading.active_count() == 1
    return f"{task.status.value} {last.status.value} {str(task.error or task.value).strip()}"

kind, *numbers = sys.argv[1:]
TaskGraph.of([Task.bash("true")]).run(TaskExecutor())
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
SOFT, HARD = resource.getrlimit(resource.RLIMIT_NPROC)
limit(0)
try:
    threading.Thread(target=int).start()
except RuntimeError:
    resource.setrlimit(resource.RLIMIT_NPROC, (SOFT, HARD))
    for free in map(int, numbers):
        print(free, attempt(kind, free), flush=True)
else:
    print("no effect")
"""

THREADS = """
import sys, threading
from ttasks import SQLiteStore, StoreError, Task, TaskCancelled, TaskExecutionError
from ttasks import TaskExecutor, TaskGraph, TaskType

CUSTOM = TaskType("custom")

def refuse(self):
    raise RuntimeError("can't start new thread")

start, threading.Thread.start = threading.Thread.start, refuse
executor = TaskExecutor()
executor.register(CUSTOM, lambda context: None)
task = Task("a", None, CUSTOM)
try:
    executor.execute(task)
except TaskCancelled as error:
    print(error)
print(task.error)
graph = TaskGraph()
graph.add(Task("b", None, CUSTOM))
graph.add(Task("c", None, CUSTOM), finally_=True)
graph.run(executor)
print(graph.run_error)
print([one.error for one in graph])
task = Task("d", None, CUSTOM)
print(executor.submit(task).exception(), task.status.value)
threading.Thread.start = start
print(executor.execute(task).status.value)
executor.shutdown()
"""


def run(folder: Path, code: str, *arguments: object) -> list[str]:
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(ttasks.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "numbers"),
    [("bash", range(9)), ("process", (0, 1, 2, 4, 6, 8, 9)), ("ledger", range(14))],
)
def test_a_task_without_enough_descriptors_ends_and_says_so(
    kind: str, numbers: Sequence[int], tmp_path: Path
) -> None:
    lines = run(tmp_path, DESCRIPTORS, kind, tmp_path, *numbers, 25)
    told = [line.split(maxsplit=1) for line in lines]
    assert [int(free) for free, _ in told] == [*numbers, 25]
    assert told[-1] == ["25", "1"]
    for free, said in told:
        assert said == "1" or "open" in said, free
    assert told[0][1] != "1"


def test_without_any_thread_a_run_says_why_it_ended(tmp_path: Path) -> None:
    why = "no thread could be started for the run"
    assert run(tmp_path, THREADS) == [
        why,
        why,
        why,
        str([why, why]),
        "can't start new thread pending",
        "succeeded",
    ]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads /proc")
@pytest.mark.parametrize("kind", ["bash", "custom"])
def test_a_task_without_enough_processes_ends_and_says_so(kind: str, tmp_path: Path) -> None:
    lines = run(tmp_path, PROCESSES, kind, *range(9), 25)
    if lines == ["no effect"]:
        pytest.skip("RLIMIT_NPROC has no effect here")
    told = [line.split(maxsplit=3) for line in lines]
    assert [int(free) for free, *_ in told] == [*range(9), 25]
    for free, status, _, said in told:
        known = "limit of processes" in said or "no thread could be started" in said
        assert (status, said) == ("succeeded", "1") or known, free
    assert kind != "bash" or told[0][1] != "succeeded"
    assert told[-1][1] == "succeeded"
