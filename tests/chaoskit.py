"""What the campaigns of `crash/chaos.py` share: a graph whose tasks write a log, hosts, counts.

The log is independent of the library: a file that tasks and hosts append whole lines to, so that
their order is the order in which things happened::

    start TITLE      a task begins
    end TITLE        its last action
    beside TITLE     it begins although an earlier start of it still has a process
    announced TITLE  a subscriber was told that it SUCCEEDED
    begun            a run has begun

Hosts are forked from a program without threads that has imported everything, which is a hundred
times faster than new interpreters.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ttasks import (
    RetryPolicy,
    SQLiteStore,
    Task,
    TaskEvent,
    TaskEventType,
    TaskExecutor,
    TaskGraph,
    TaskStatus,
)

TOKEN = "TTASKS_CHAOS"
LINGERS = "TTASKS_CHAOS_LINGERS"
"""Names the task that does not end by itself in a run that is to be killed."""
KEY = "chaos"
PATIENCE = 30.0
"""Seconds after which a host hangs."""

SUCCEEDED, STARTED = TaskEventType.SUCCEEDED, TaskEventType.STARTED
ENDS = (SUCCEEDED, TaskEventType.FAILED, TaskEventType.CANCELLED)


# The tasks


def note(folder: str, *words: str) -> None:
    """Append a line to the log."""
    fd = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (" ".join(words) + "\n").encode())
    os.close(fd)


def work(folder: str, title: str, seconds: float, *, fails_once: bool = False) -> str:
    """A Python task, in a thread or a process."""
    fd = os.open(f"{folder}/lock.{title}", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            note(folder, "beside", title)
        note(folder, "start", title)
        time.sleep(seconds)
        if os.environ.get(LINGERS) == title:
            subprocess.Popen(["sleep", "300"], start_new_session=True, pass_fds=[fd])
            time.sleep(300)
        if fails_once and Path(folder, "log").read_text().split("\n").count(f"start {title}") == 1:
            raise ValueError("the first attempt fails")
        note(folder, "end", title)
    finally:
        # By hand: a command that is just being started has the descriptor for a moment.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
    return title


async def work_async(folder: str, title: str, seconds: float) -> str:
    note(folder, "start", title)
    await asyncio.sleep(seconds)
    note(folder, "end", title)
    return title


def command(folder: str, title: str, middle: str) -> Task:
    """A command whose processes all hold a lock."""
    script = (
        f"cd {folder} && exec 9> lock.{title} && {{ flock -n 9 || echo beside {title} >> log; }}; "
        f"echo start {title} >> log; {middle}; "
        f'if [ "${LINGERS}" = {title} ]; then (setsid sleep 300 &); sleep 300; fi; '
        f"echo end {title} >> log"
    )
    return Task.bash(script, title=title)


def build(folder: str, *, processes: bool = False) -> TaskGraph:
    """The graph; its titles are its keys."""
    graph = TaskGraph("chaos", key=KEY)
    first = graph.add(command(folder, "quick", ":"))
    thread = graph.add(Task.python(work, (folder, "thread", 0.01), title="thread"))
    retried = graph.add(
        Task.python(
            work,
            (folder, "retried", 0.0),
            {"fails_once": True},
            title="retried",
            retry=RetryPolicy(2, backoff=0.01),
        ),
        after=first,
    )
    tree = graph.add(
        command(folder, "tree", "setsid sleep 0.03 & sleep 0.02 & (setsid sleep 0.02 &); wait"),
        after=thread,
    )
    slow = graph.add(command(folder, "slow", "sleep 0.05"), after=[first, thread])
    loop = graph.add(Task.python(work_async, (folder, "loop", 0.02), title="loop"), after=first)
    chain = [tree, slow, loop, retried]
    for number in range(4):
        chain.append(graph.add(command(folder, f"chain{number}", ":"), after=chain[-2:]))
    if processes:
        chain.append(
            graph.add(
                Task.python(work, (folder, "process", 0.05), title="process", backend="process")
            )
        )
    graph.add(
        Task.python(work, (folder, "last", 0.01), title="last"), after=list(graph), finally_=True
    )
    return graph


class Host:
    """A program that runs the graph; its methods run in a forked process."""

    def __init__(self, folder: str, *, processes: bool = False, durability: str = "process"):
        self.folder = folder
        self.store = SQLiteStore(f"{folder}/ledger", durability=durability)
        self.executor = TaskExecutor(self.store)
        self.executor.events.subscribe(self.tell)
        self.graph = build(folder, processes=processes)
        self.ends: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def tell(self, event: TaskEvent) -> None:
        """A subscriber."""
        title = event.task.title
        with self._lock:
            if event.type is STARTED:
                if not self.starts:
                    note(self.folder, "begun")
                self.starts[title] += 1
            elif event.type in ENDS and event.attempt:
                self.ends[title] += 1
        if event.type is SUCCEEDED:
            note(self.folder, "announced", title)

    def check(self) -> list[str]:
        """What is wrong in this process after a run."""
        wrong = []
        with SQLiteStore(f"{self.folder}/ledger") as other:
            other.tasks.save(Task.bash("true", title="another"))  # anybody can write
            kept = {task.title: task.status for task in other.graphs[self.graph.id]}
        for task in self.graph:
            if task.is_running:
                wrong.append(f"{task.title} is RUNNING")
            if kept[task.title] is not task.status:
                wrong.append(f"{task.title} is {task.status.value}, saved {kept[task.title].value}")
            if self.starts[task.title] != self.ends[task.title]:
                wrong.append(f"{task.title} has {self.starts} starts, {self.ends} ends")
        return wrong


# Hosts


class Trouble(Exception):
    """Something that must not be."""


def fork(body: Callable[[], object]) -> int:
    """Run ``body`` in a new process; its status is 0, or 1 if it raised."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait_for(pid: int, patience: float = PATIENCE) -> int:
    """The status of a process that must end; raises Trouble if it hangs."""
    status = _ended(pid, patience)
    if status is not None:
        return os.waitstatus_to_exitcode(status)
    os.kill(pid, signal.SIGABRT)  # faulthandler shows the threads
    if _ended(pid, 0.5) is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    raise Trouble("hung")


def _ended(pid: int, patience: float) -> int | None:
    """The wait status of a child once it has ended, or None if it goes on for longer."""
    give_up = time.monotonic() + patience
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        if time.monotonic() > give_up:
            return None
        time.sleep(0.001)


def left(token: str) -> list[int]:
    """Pids of the processes that carry the token, but for this one."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with suppress(OSError):
            environ = Path(f"/proc/{name}/environ").read_bytes()
            state = Path(f"/proc/{name}/stat").read_bytes().rpartition(b") ")[2][:1]
            if f"{TOKEN}={token}".encode() in environ and state not in b"ZX":
                found.append(int(name))
    return found


@contextmanager
def marked(token: str) -> Iterator[None]:
    """What is started in this block carries the token. Kills what is left, at the end."""
    os.environ[TOKEN] = token
    try:
        yield
    finally:
        del os.environ[TOKEN]
        for pid in left(token):
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


# What the log says


class Findings:
    """Counts of what was tried and of what went wrong."""

    def __init__(self, *names: str) -> None:
        self.tried: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter(dict.fromkeys(names, 0))
        self.notes: list[str] = []

    def note(self, name: str, text: str) -> None:
        """Count something wrong."""
        self.wrong[name] += 1
        if len(self.notes) < 50:
            self.notes.append(f"{name}: {text}")

    def add(self, other: Findings) -> None:
        """Add the counts of another process."""
        self.tried.update(other.tried)
        for name, count in other.wrong.items():
            self.wrong[name] += count
        self.notes += other.notes

    def line(self, title: str) -> str:
        """All in one line."""
        tried = ", ".join(f"{count:,} {name}" for name, count in self.tried.items())
        wrong = ", ".join(f"{count:,} {name}" for name, count in self.wrong.items())
        return f"{title}: {tried}: {wrong}"


def read_log(
    folder: str, graph: TaskGraph, findings: Findings, where: str, again: tuple[str, ...] = ()
) -> None:
    """Check the log of a graph that has been run to its end; some titles may run ``again``."""
    lines = Path(folder, "log").read_text().split("\n")[:-1]
    titles = {task.title for task in graph}
    announced: set[str] = set()
    ended: set[str] = set()
    for line in lines:
        what, _, title = line.partition(" ")
        if title in again:
            ended.add(title)
        elif what == "beside":
            findings.note("beside", f"{title} ({where})")
        elif what == "start" and title in announced:
            findings.note("rerun", f"{title} ({where})")
        elif what == "end":
            ended.add(title)
        elif what == "announced":
            if title in announced:
                findings.note("rerun", f"{title} was announced twice ({where})")
            announced.add(title)
    for title in sorted(titles - ended):
        findings.note("lost", f"{title} never came to its end ({where})")
    with SQLiteStore(f"{folder}/ledger") as store:
        latest = store.graphs[store.graphs.keyed(KEY)[0]]
        kept = {task.title: task.status for task in latest}
    for title in sorted(titles):
        if kept.get(title) is not TaskStatus.SUCCEEDED:
            findings.note("lost", f"{title} is {kept.get(title)} in the end ({where})")


def descriptors() -> set[int]:
    """The open descriptors of this process."""
    gc.collect()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            os.fstat(int(name))
            found.add(int(name))
    return found


def chosen(seed: int, number: int) -> random.Random:
    """The random choices of a round; the same for the same numbers."""
    return random.Random(f"{seed}/{number}")


Body = Callable[[], Any]
