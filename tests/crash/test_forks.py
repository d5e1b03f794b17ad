"""User code that calls ``os.fork`` and goes on in the new process: the rest runs only once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ttasks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

PRELUDE = """
import asyncio, os, sys, warnings
from ttasks import SQLiteStore, Task, TaskEventType, TaskExecutor
from ttasks import TaskGraph, TaskRejectedError, TaskType

warnings.simplefilter("ignore")  # from 3.12 on, of forks in a program with threads
CUSTOM = TaskType("custom")

def fork():
    # True in the new process. The status of that one is printed in the old one.
    pid = os.fork()
    if pid:
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return pid == 0

def handler(context):
    step = globals().get("do_" + context.title)
    os.write(1, f"ran {context.title}\\n".encode())
    return step(context) if step else None

def tell(event):
    os.write(1, f"{event.type.value} {event.task.title}\\n".encode())

guards = []
graph = TaskGraph()
a = graph.add(Task("a", None, CUSTOM))
b = graph.add(Task("b", None, CUSTOM), after=a)
beside = graph.add(Task("beside", None, CUSTOM))
last = graph.add(Task("last", None, CUSTOM), after=[b, beside], finally_=True)
"""

END = """
executor = TaskExecutor(guards=guards)
executor.register(CUSTOM, handler)
executor.events.subscribe(tell, types=[TaskEventType.SUCCEEDED, TaskEventType.FAILED])
graph.run(executor)
executor.shutdown()
os.write(1, b"over\\n")
"""

WAYS = {
    "a handler that returns": "def do_a(context): fork()",
    "a handler that raises": """
        def do_a(context):
            if fork():
                raise ValueError("in the copy")
        """,
    "a handler that gives a coroutine": """
        async def nothing(): pass
        def do_a(context):
            fork()
            return nothing()
        """,
    "a coroutine that returns": """
        async def do_a(context):
            fork()
        """,
    "a coroutine that goes on": """
        async def do_a(context):
            fork()
            await asyncio.sleep(0)  # needs no loop
        """,
    "a coroutine that raises": """
        async def do_a(context):
            await asyncio.sleep(0)
            if fork():
                raise ValueError("in the copy")
        """,
    "a coroutine in a thread": """
        async def do_a(context):
            await asyncio.to_thread(fork)
        """,
    "a guard": "guards = [lambda context: context.title == 'a' and fork() and None]",
    "a guard that raises": """
        def guard(context):
            if context.title == "a" and fork():
                raise TaskRejectedError("in the copy")
        guards = [guard]
        """,
    "a subscriber": """
        said = tell
        def tell(event):
            said(event)
            if event.task is a:
                fork()
        """,
}

ONCE = sorted(
    [
        *(f"ran {title}" for title in ("a", "b", "beside", "last")),
        *(f"succeeded {title}" for title in ("a", "b", "beside", "last")),
        "over",
    ]
)


def run(*code: str) -> subprocess.CompletedProcess[str]:
    script = "\n".join(textwrap.dedent(part) for part in (PRELUDE, *code))
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(ttasks.__file__).parents[1])},
    )


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_that_goes_on_runs_nothing_but_the_code_that_forked(way: str) -> None:
    done = run(WAYS[way], END)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.startswith("status")] == ["status 1"]
    assert sorted(line for line in said if not line.startswith("status")) == ONCE
    assert done.stderr.count("called os.fork()") == 1
    assert ("raised" in done.stderr) == ("raises" in way)


def test_a_copy_in_a_worker_process_ends_too(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from ttasks import *\n"
        "def forks():\n"
        "    pid = os.fork()\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 'the copy'\n"
        "if __name__ == '__main__':\n"
        "    with TaskExecutor() as executor:\n"
        "        print(executor.execute(Task.python(forks, backend='process')).value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(ttasks.__file__).parents[1])},
    )
    assert done.stdout == "1\n", done.stderr
    assert "forks called os.fork() and returned" in done.stderr


def test_a_copy_that_exits_keeps_its_status_and_says_nothing() -> None:
    done = run("def do_a(context): fork() and sys.exit(7)", END)
    said = done.stdout.splitlines()
    assert "status 7" in said
    assert sorted(line for line in said if not line.startswith("status")) == ONCE
    assert done.stderr == ""


def test_a_program_may_fork_outside_of_tasks_and_run_them_in_both() -> None:
    done = run("fork()", END)
    assert done.returncode == 0
    assert "status 0" in done.stdout
    assert done.stdout.count("over") == 2
    assert done.stderr == ""


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_copy_imports_nothing_when_it_collects_a_ledger(is_closed: bool, tmp_path: Path) -> None:
    done = run(
        f"""
        import gc
        store = SQLiteStore({str(tmp_path / "ledger")!r})
        store.tasks.save(Task.bash("true"))
        {"store.close()" if is_closed else ""}
        if os.fork() == 0:
            class NoImports:
                def find_spec(self, *names):
                    print("imports", names, flush=True)
            sys.meta_path.insert(0, NoImports())
            del store
            gc.collect()
            os._exit(0)
        os.wait()
        store.close()
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
