"""What tests of commands share: a mark on all they start, waiting for facts, running a host."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ttasks.commands import command, libc

TOKEN = "TTASKS_TEST_TOKEN"
DEADLINE_SECONDS = 20.0
BASH = "/bin/bash"
FLAGS = 5  # of the numbers after the state in /proc/PID/stat
KERNEL_THREAD = 0x200000
"""The flag of what has no environment."""


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Marks every process that the test starts; at its end none of them may run any more."""
    value = uuid.uuid4().hex
    monkeypatch.setenv(TOKEN, value)
    yield value
    left = marked(value)
    for pid in left:
        os.kill(pid, 9)
    assert not left, f"processes left behind: {left}"


@pytest.fixture(params=["libc", "popen"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once for each way to start processes that this machine has."""
    if request.param == "libc":
        if libc.load() is None:
            pytest.skip("the C library lacks something")
    else:
        monkeypatch.setattr(libc, "load", lambda: None)
    return str(request.param)


def marked(value: str) -> list[int]:
    """Pids of the running processes that carry the token; Linux only."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            state, *numbers = Path(f"/proc/{name}/stat").read_bytes().rpartition(b") ")[2].split()
            if state in b"ZX" or int(numbers[FLAGS]) & KERNEL_THREAD:
                continue
            # It is empty for the moment in which a process becomes another program.
            environ = next(filter(None, (_environ(name) for _ in range(20))), b"")
        except OSError:
            continue
        if f"{TOKEN}={value}".encode() in environ:
            found.append(int(name))
    return found


def _environ(pid: str) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def wait_until(fact: Callable[[], Any], what: str = "it") -> None:
    """Return as soon as ``fact()`` is true; fail if that takes far too long."""
    give_up = time.monotonic() + DEADLINE_SECONDS
    while not fact():
        assert time.monotonic() < give_up, f"waited too long for {what}"
        time.sleep(0.002)


def bash(script: str, **options: Any) -> command.Outcome:
    """Run a script with the runner under test."""
    return command.run([BASH, "-c", "--", script], **options)


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start ``function`` in a thread; its result, or the exception, ends up in the list."""
    box: list[Any] = []

    def target() -> None:
        try:
            box.append(function())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    return thread, box


def run_host(
    code: str, *, timeout: float = 30.0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run Python code in an interpreter of its own, with this library importable."""
    script = "from ttasks.commands import command\n" + textwrap.dedent(code)
    source = Path(command.__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=env,
        **options,
    )
