"""The chaos campaigns: kills, signals, a signal at every function, descriptors or processes short.

    python tests/crash/chaos.py [kills|signals|entries|shortage ...] [options]

Each prints one line of counts, and what went wrong above it; the status is 1 if anything did.

- ``kills``: hosts are killed (SIGKILL) at random moments and resumed, at last to the end.
- ``signals``: hosts get SIGINT, SIGTERM and SIGHUP at random moments, singly and in bursts.
- ``entries``: SIGINT arrives at the entry of each Python function in turn, in the main thread.
- ``shortage``: hosts run with a random small number of free descriptors or, in every second round
  and unless this is root, whom that limit does not concern, of free processes and threads.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ttasks
from chaoskit import (
    LINGERS,
    PATIENCE,
    Findings,
    Host,
    Trouble,
    build,
    chosen,
    descriptors,
    fork,
    left,
    marked,
    note,
    read_log,
    wait_for,
)
from ttasks import Task, TaskCancelled, TaskExecutionError, TaskExecutor, TaskGraph

# Everything that hosts import later, so that a fork has it.
from ttasks.backends import child, loop_thread, process, worker  # noqa: F401
from ttasks.commands import command as command_module
from ttasks.engine import bridge, graph_run, resume  # noqa: F401
from ttasks.trees import end_orphans  # noqa: F401

LIBRARY = str(Path(ttasks.__file__).parent) + os.sep
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Options(argparse.Namespace):
    rounds: int
    seconds: float
    seed: int
    jobs: int
    job = 0


# Kills


def kills(options: Options) -> Findings:
    """Kill hosts; a round is one kill."""
    findings = Findings("lost", "rerun", "beside", "left", "hung", "broken")
    number = 0
    for number in rounds(options, findings, "kills"):
        if findings.tried["kills"] >= options.rounds:
            break
        with folder() as where, marked(f"{os.getpid()}-{number}"):
            kill_and_resume(where, number, options, findings)
    return findings


def kill_and_resume(where: str, number: int, options: Options, findings: Findings) -> None:
    chance = chosen(options.seed, number)
    told = f"seed {options.seed}, round {number}"
    processes = chance.random() < 0.1
    durability = chance.choice(["process", "process", "process", "power"])

    def run() -> None:
        host = Host(where, processes=processes, durability=durability)
        host.graph.run(host.executor, resume=True)
        host.executor.shutdown()
        assert host.graph.ok, [(task.title, task.error) for task in host.graph]

    for _ in range(chance.randint(1, 8)):
        with lingering(chance.choice(LINGERING[: 4 + processes])):
            pid = fork(run)
        time.sleep(chance.uniform(0, 1.0 if processes else 0.45))
        os.kill(pid, signal.SIGKILL)
        findings.tried["kills"] += wait_for(pid) == -signal.SIGKILL
    try:
        if wait_for(fork(run), 4 * PATIENCE):
            findings.note("broken", f"the last resume failed ({told})")
            return
    except Trouble as trouble:
        findings.note("hung", f"{trouble} ({told})")
        return
    findings.tried["resumes to the end"] += 1
    check_left(findings, told)
    read_log(where, build(where, processes=processes), findings, told)


LINGERING = ("", "slow", "tree", "chain2", "process")


@contextmanager
def lingering(title: str) -> Iterator[None]:
    """In hosts that are forked in this block the task of this title does not end."""
    os.environ[LINGERS] = title
    try:
        yield
    finally:
        del os.environ[LINGERS]


def check_left(findings: Findings, told: str) -> None:
    """Nothing that carries the token may live; what was just killed has a moment."""
    token = os.environ["TTASKS_CHAOS"]
    give_up = time.monotonic() + 3
    while pids := left(token):
        if time.monotonic() > give_up:
            lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
            findings.note("left", f"{lines} ({told})")
            return
        time.sleep(0.01)


# Signals


def signals(options: Options) -> Findings:
    """Send signals to hosts; a round is one signal."""
    findings = Findings("hung", "left", "wrong")
    for number in rounds(options, findings, "signals"):
        if findings.tried["signals"] >= options.rounds:
            break
        chance = chosen(options.seed, number)
        told = f"seed {options.seed}, round {number}"
        with folder() as where, marked(f"{os.getpid()}-{number}"):
            pid = fork(lambda where=where: interrupted_run(where))  # type: ignore[misc]
            await_log(where, pid)
            time.sleep(chance.uniform(0, 0.25) ** 1.3)
            for _ in range(chance.choice([1, 1, 1, 2, 3, 5])):
                sent = chance.choice(SIGNALS)
                note(where, "signal", sent.name)
                os.kill(pid, sent)
                findings.tried["signals"] += 1
                time.sleep(chance.choice([0, 0, 0.001, 0.01, 0.1]) * chance.random())
            finish(pid, findings, told)
            check_left(findings, told)
        findings.tried["hosts"] += 1
    return findings


def await_log(where: str, pid: int) -> None:
    """Wait until a host is ready for signals."""
    give_up = time.monotonic() + PATIENCE
    while not Path(where, "log").exists() and time.monotonic() < give_up:
        time.sleep(0.0005)


def finish(pid: int, findings: Findings, told: str) -> None:
    try:
        status = wait_for(pid)
    except Trouble as trouble:
        findings.note("hung", f"{trouble} ({told})")
    else:
        if status:
            findings.note("wrong", f"status {status} ({told})")


class Interruptible:
    """Signals raise KeyboardInterrupt in a function that it calls, and nowhere else."""

    def __init__(self) -> None:
        self._code: CodeType | None = None
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def call(self, function: Callable[[], object]) -> None:
        """Call a function, which may be interrupted."""
        self._code = function.__code__
        with suppress(KeyboardInterrupt, TaskCancelled):
            function()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code is self._code:
                raise KeyboardInterrupt
            frame = frame.f_back


def interrupted_run(where: str) -> None:
    """A host that gets signals, and checks itself."""
    before = descriptors()
    host = Host(where)
    guard = Interruptible()
    note(where, "ready")
    guard.call(lambda: host.graph.run(host.executor, handle_sigterm=True))
    host.executor.shutdown()
    wrong = host.check() if host.graph.id in host.store.graphs else []
    last = host.graph.find("last") if hasattr(host.graph, "find") else list(host.graph)[-1]
    if host.starts and most_interrupts(where) < 2 and not last.is_succeeded:
        wrong.append(f"last is {last.status.value} after one signal")
    host.store.close()
    wrong += after(before)
    assert not wrong, wrong


def most_interrupts(where: str) -> int:
    """How many of the signals that were sent may count; from the second on all is killed."""
    sent = [line for line in Path(where, "log").read_text().split("\n") if "signal" in line]
    hangups = sent.count("signal SIGHUP")
    return len(sent) - hangups + (hangups > 0)


def after(before: set[int]) -> list[str]:
    """What this process still has."""
    wrong = []
    give_up = time.monotonic() + 5
    while names := [one.name for one in threading.enumerate() if one.name.startswith("ttasks")]:
        if time.monotonic() > give_up:
            wrong.append(f"threads {names}")
            break
        time.sleep(0.001)
    if more := descriptors() - before:
        wrong.append(f"descriptors {[os.readlink(f'/proc/self/fd/{fd}') for fd in more]}")
    return wrong


# A signal at every function


def entries(options: Options) -> Findings:
    """A signal at the entry of each function, in several scenarios; a round is one signal."""
    findings = Findings("hung", "left", "wrong")
    began = time.monotonic()
    for name, scenario in SCENARIOS.items():
        total = count_entries(scenario)
        step = max(1, len(SCENARIOS) * total // (options.rounds * options.jobs))
        begin = 1 + (options.seed % step) * options.jobs + options.job
        findings.tried[f"entries of {name}"] = 0
        for number in range(begin, total + 1, step * options.jobs):
            if time.monotonic() - began > options.seconds:
                return findings
            told = f"{name}, entry {number} of {total}"
            with folder() as where, marked(f"{os.getpid()}-{name}-{number}"):
                pid = fork(lambda where=where: injected(where, scenario, number))  # type: ignore[misc]  # noqa: B023
                finish(pid, findings, told)
                check_left(findings, told)
            findings.tried[f"entries of {name}"] += 1
    return findings


class Injector:
    """Sends this process a signal when the main thread enters the function of this number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.count = 0
        self.place = ""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self._is_counted(frame):
            return
        self.count += 1
        if self.count == self.number:
            sys.setprofile(None)
            self.place = f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"
            signal.raise_signal(signal.SIGINT)

    @staticmethod
    def _is_counted(frame: FrameType) -> bool:
        name = frame.f_code.co_filename
        return name.startswith(LIBRARY) or name.endswith(("threading.py", "contextlib.py"))


Scenario = Callable[[Host], object]


def run_graph(host: Host) -> None:
    host.graph.run(host.executor)


def run_and_resume(host: Host) -> None:
    host.graph.run(host.executor, resume=True)


def execute(host: Host) -> None:
    for task in (Task.bash("echo hi"), Task.python(len, ("a",)), Task.bash("exit 1")):
        try:
            host.executor.execute(task)
        except TaskExecutionError:
            pass


def submit(host: Host) -> None:
    futures = [host.executor.submit(Task.bash("true")) for _ in range(3)]
    host.executor.cancel(Task.bash("true"))
    host.executor.shutdown()
    for future in futures:
        future.result()


def save_and_load(host: Host) -> None:
    graph = TaskGraph("saved")
    for _ in range(3):
        graph.add(Task.bash("true"))
    host.store.graphs.save(graph)
    assert len(host.store.graphs[graph.id]) == 3
    for task in list(host.store.graphs[graph.id]):
        host.store.tasks.save(task)
    del host.store.graphs[graph.id]


def one_command(host: Host) -> None:
    command_module.run(["/bin/bash", "-c", "sleep 30 & echo hi; exec sleep 30"], timeout=0.05)


SCENARIOS: dict[str, Scenario] = {
    "graph.run": run_graph,
    "graph.run(resume=True)": run_and_resume,
    "execute": execute,
    "submit": submit,
    "store": save_and_load,
    "command": one_command,
}


def count_entries(scenario: Scenario) -> int:
    """How many functions a scenario enters in the main thread."""
    read, write = os.pipe()
    with folder() as where:

        def count() -> None:
            host, injector = Host(where), Injector(0)
            sys.setprofile(injector)
            scenario(host)
            sys.setprofile(None)
            os.write(write, str(injector.count).encode())

        assert wait_for(fork(count)) == 0
    total = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    return total


def injected(where: str, scenario: Scenario, number: int) -> None:
    """A host that gets a signal at the entry of a function, and checks itself."""
    before = descriptors()
    host = Host(where)
    injector, guard = Injector(number), Interruptible()

    def profiled() -> None:
        sys.setprofile(injector)
        scenario(host)

    guard.call(profiled)
    sys.setprofile(None)
    host.executor.shutdown()
    task = Task.bash("true")
    host.store.tasks.save(task)  # the store works
    with TaskExecutor(host.store) as executor:  # and so does another executor
        executor.execute(task)
    wrong = host.check() if host.graph.id in host.store.graphs else []
    last = list(host.graph)[-1]
    if host.graph.id in host.store.graphs and not last.is_succeeded:
        wrong.append(f"last is {last.status.value}")
    host.store.close()
    wrong += after(before)
    assert not wrong, (injector.place, wrong)


# Short of descriptors or processes


def shortage(options: Options) -> Findings:
    """Run graphs with few free descriptors or processes; a round is one run."""
    findings = Findings("hung", "left", "wrong", "rerun", "lost", "beside")
    findings.tried["short of processes"] = 0
    for number in rounds(options, findings, "runs"):
        if findings.tried["runs"] >= options.rounds:
            break
        chance = chosen(options.seed, number)
        told = f"seed {options.seed}, round {number}"
        if number % 2 and os.getuid() != 0:
            take = partial(leave_processes, chance.randint(0, 30))
            findings.tried["short of processes"] += 1
        else:
            take = partial(leave_descriptors, chance.randint(8, 60))
        with folder() as where, marked(f"{os.getpid()}-{number}"):
            finish(fork(lambda where=where, take=take: short_run(where, take)), findings, told)  # type: ignore[misc]
            check_left(findings, told)
            finish(fork(lambda where=where: whole_run(where)), findings, told)  # type: ignore[misc]
            # Cleanup is done again after a run that has done more.
            read_log(where, build(where), findings, told, again=("last",))
        findings.tried["runs"] += 1
    return findings


def leave_descriptors(free: int) -> list[int]:
    """Use all descriptors up to a limit, but for a few; those that were taken."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    taken: list[int] = []
    try:
        while True:
            taken.append(os.dup(2))
    except OSError:
        for _ in range(min(free, len(taken))):
            os.close(taken.pop())
    return taken


def leave_processes(free: int) -> list[int]:
    """Allow this user only a few processes and threads more than there are."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (count + free, hard))
    return []


def short_run(where: str, take: Callable[[], list[int]]) -> None:
    """Every task ends; which of them succeed is up to the moment."""
    taken = take()
    try:
        host = Host(where)
        host.graph.run(host.executor)
        host.executor.shutdown()
    except (OSError, ttasks.StoreError, ttasks.GraphError, ImportError):
        return  # before anything has started
    finally:
        for fd in taken:
            os.close(fd)
    running = [task.title for task in host.graph if task.is_running or task.is_pending]
    assert not running, running


def whole_run(where: str) -> None:
    host = Host(where)
    host.graph.run(host.executor, resume=True)
    host.executor.shutdown()
    assert host.graph.ok, [(task.title, task.error) for task in host.graph]


# All


def rounds(options: Options, findings: Findings, what: str) -> Iterator[int]:
    """Numbers until the time is over; says now and then how far it is."""
    began = told = time.monotonic()
    number = 0
    findings.tried[what] = 0
    while time.monotonic() - began < options.seconds:
        yield number
        number += 1
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(findings.line("so far"), file=sys.stderr, flush=True)


@contextmanager
def folder() -> Iterator[str]:
    """A new folder, which is removed."""
    path = tempfile.mkdtemp(prefix="chaos-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def in_jobs(campaign: Callable[[Options], Findings], options: Options) -> Findings:
    """Run a campaign in several processes, and add up what they found."""
    if options.jobs == 1:
        return campaign(options)
    mine = Options(**vars(options))
    mine.rounds = -(-options.rounds // options.jobs)
    total = Findings()
    with folder() as where:

        def run(job: int) -> None:
            mine.seed, mine.job = options.seed * options.jobs + job, job
            Path(where, str(job)).write_bytes(pickle.dumps(campaign(mine)))

        pids = [fork(partial(run, job)) for job in range(options.jobs)]
        for job, pid in enumerate(pids):
            if os.waitpid(pid, 0)[1]:
                total.note("lost reports", f"of job {job}")
            else:
                total.add(pickle.loads(Path(where, str(job)).read_bytes()))
    return total


CAMPAIGNS: dict[str, Callable[[Options], Findings]] = {
    "kills": kills,
    "signals": signals,
    "entries": entries,
    "shortage": shortage,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("campaigns", nargs="*", choices=[*CAMPAIGNS, []], help="all if none")
    parser.add_argument("--rounds", type=int, default=10_000, help="of each campaign")
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most for each campaign")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="at once, each with a seed of its own")
    options = parser.parse_args(namespace=Options())
    faulthandler.enable()
    failed = False
    for name in options.campaigns or CAMPAIGNS:
        findings = in_jobs(CAMPAIGNS[name], options)
        for line in findings.notes:
            print(line)
        print(findings.line(name), flush=True)
        failed = failed or any(findings.wrong.values())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
