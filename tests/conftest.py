"""What holds for every test: it leaves nothing behind, and how hard hypothesis tries."""

from __future__ import annotations

import _thread
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from types import ModuleType

import hypothesis
import psutil
import pytest

LEAK_WAIT_SECONDS = 2.0
FD_FOLDER = "/proc/self/fd"

# --- hypothesis ---------------------------------------------------------------------------------

# The everyday profile tries the same examples every time, so that a red test is caused by the
# change at hand; campaigns look for new ones.
hypothesis.settings.register_profile(
    "everyday", max_examples=50, derandomize=True, deadline=None, print_blob=True
)
for _name, _examples in {"small": 200, "full": 10_000}.items():
    hypothesis.settings.register_profile(
        f"campaign-{_name}",
        max_examples=_examples,
        deadline=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )


# pytest keeps the asserts that it has rewritten beside the tests; to rewrite all of them takes ten
# seconds. Many containers forbid to write bytecode; what tests start keeps to that.
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    # Coverage is measured here and not in the interpreters that tests start: it would change what
    # they import, how fast they are and what they print. The processes of xdist run tests.
    is_worker = hasattr(config, "workerinput")
    if is_worker or not getattr(config.option, "numprocesses", None):
        os.environ.pop("COVERAGE_PROCESS_START", None)
    # A shell lets what it starts in the background ignore Ctrl-C; the tests send it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    campaign = os.environ.get("TTASKS_CAMPAIGN", "")
    if campaign not in ("", "small", "full"):
        raise pytest.UsageError(f"TTASKS_CAMPAIGN is {campaign!r}: expected 'small' or 'full'")
    hypothesis.settings.load_profile(f"campaign-{campaign}" if campaign else "everyday")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what campaigns have counted (``record_property("counts", line)``)."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
    ]
    lines = [
        value for report in reports for name, value in report.user_properties if name == "counts"
    ]
    if lines:
        terminalreporter.section("counts")
        for line in lines:
            terminalreporter.write_line(str(line))


# --- worker processes ---------------------------------------------------------------------------


@pytest.fixture
def bare_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worker processes load the main script; that of a test run, pytest, takes them long."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))


# --- leaks --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Held:
    """What this process holds at one moment."""

    threads: frozenset[int]
    started_threads: int
    children: frozenset[int]
    descriptors: frozenset[int]

    @classmethod
    def now(cls) -> Held:
        return cls(
            threads=frozenset(t.ident for t in threading.enumerate() if t.ident is not None),
            started_threads=_thread._count(),  # also those that `threading` does not know
            children=frozenset(child_pids()),
            descriptors=frozenset(descriptors()),
        )

    def left_since(self, before: Held) -> bool:
        return (
            self.threads <= before.threads
            and self.started_threads <= before.started_threads
            and self.children <= before.children
            and self.descriptors <= before.descriptors
        )


def child_pids() -> list[int]:
    """Return the ids of the children, zombies included; one system call if there are none."""
    if hasattr(os, "waitid"):
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return []
    pids = linux_child_pids() or [child.pid for child in psutil.Process().children()]
    return [pid for pid in pids if pid not in own_helpers()]


def linux_child_pids() -> list[int]:
    """Return what the kernel lists, a hundred times faster than psutil; [] if it has no list."""
    pids: list[int] = []
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", encoding="ascii") as listed:
                pids += map(int, listed.read().split())
    except OSError:  # not Linux, not in this kernel, or a thread that just ended
        return []
    return pids


def own_helpers() -> set[int | None]:
    """Return the processes that multiprocessing keeps for the life of the interpreter."""
    return {resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid}


def descriptors() -> list[int]:
    """Return the open descriptors; none if this is not Linux."""
    try:
        listed = [int(name) for name in os.listdir(FD_FOLDER)]
    except OSError:
        return []
    return [number for number in listed if is_open(number)]


def is_open(descriptor: int) -> bool:
    """Tell whether it is open still: the one that read the folder is not."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def kept_descriptors() -> set[int | None]:
    """Return the descriptors that belong to the helpers of multiprocessing."""
    server = forkserver._forkserver
    return {resource_tracker._resource_tracker._fd, server._forkserver_alive_fd}


def describe_leaks(before: Held) -> list[str]:
    """Return a line for everything that is held now and was not before."""
    now = Held.now()
    lines = [
        f"thread {thread.name!r} (daemon={thread.daemon})"
        for thread in threading.enumerate()
        if thread.ident in now.threads - before.threads
    ]
    unknown = now.started_threads - before.started_threads - len(lines)
    if unknown > 0:
        lines.append(f"{unknown} thread(s) that `threading` does not know")
    for pid in sorted(now.children - before.children):
        try:
            process = psutil.Process(pid)
            lines.append(f"process {pid} ({process.status()}): {command_of(process)}")
        except psutil.NoSuchProcess:
            continue
    for number in sorted(now.descriptors - before.descriptors):
        if number in kept_descriptors():
            continue
        try:
            lines.append(f"descriptor {number}: {os.readlink(f'{FD_FOLDER}/{number}')}")
        except OSError:  # closed by now
            continue
    return lines


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.ZombieProcess:
        return "ended, but nobody waited for it"


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it leaves a thread, a child process or (on Linux) a descriptor behind.

    What is ending by itself has two seconds for it. The mark `leaves_behind(reason)` exempts a
    test. As the first fixture of a test this is torn down last, after all that the test asked for.
    """
    mark = request.node.get_closest_marker("leaves_behind")
    if mark is not None:
        if not (mark.args and isinstance(mark.args[0], str) and mark.args[0].strip()):
            pytest.fail("the mark leaves_behind needs a reason", pytrace=False)
        yield
        return
    before = Held.now()
    yield
    if Held.now().left_since(before):
        return
    give_up = time.monotonic() + LEAK_WAIT_SECONDS
    while leaks := describe_leaks(before):
        if time.monotonic() >= give_up:
            gc.collect()
            hint = "" if describe_leaks(before) else "\n(until the garbage collector ran)"
            pytest.fail("the test left behind:\n  " + "\n  ".join(leaks) + hint, pytrace=False)
        time.sleep(0.002)


# --- stray processes ----------------------------------------------------------------------------

# Every process that a test starts inherits this, also one that left its group and its parent.
STRAY_MARK = "TTASKS_TEST_RUN"


@pytest.fixture(scope="session", autouse=True)
def no_stray_process() -> Iterator[None]:
    """Fail the run if a process survives it that no longer is a child, such as a daemon."""
    # A run inside a test (pytester) must not take its own run's processes for strays.
    token = f"{os.getpid()}-{time.time_ns()}"
    outer = os.environ.get(STRAY_MARK)
    os.environ[STRAY_MARK] = token
    yield
    if outer is None:
        del os.environ[STRAY_MARK]
    else:
        os.environ[STRAY_MARK] = outer
    give_up = time.monotonic() + LEAK_WAIT_SECONDS
    while strays := marked_processes(token):
        if time.monotonic() >= give_up:
            lines = [describe_stray(process) for process in strays]
            for process in strays:
                process.kill()
            pytest.fail("processes survived the tests:\n  " + "\n  ".join(lines), pytrace=False)
        time.sleep(0.05)


def describe_stray(process: psutil.Process) -> str:
    # pytest names the running test in the environment.
    test = process.info["environ"].get("PYTEST_CURRENT_TEST", "an unknown test")
    return f"process {process.pid} of {test}: {' '.join(process.info['cmdline'] or ())}"


def marked_processes(token: str) -> list[psutil.Process]:
    """Return the running processes with this mark in their environment, without multiprocessing's.

    Only Linux is asked: elsewhere a foreign environment is mostly unreadable.
    """
    if not sys.platform.startswith("linux"):
        return []
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get(STRAY_MARK) == token
        and process.pid not in own_helpers()
        and process.status() != psutil.STATUS_ZOMBIE
    ]
