"""What the tests of the pytest plugin share."""

from __future__ import annotations

import subprocess
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

Inner = Callable[..., pytest.RunResult]
"""Runs pytest with the text of a file of tests, options, and the text of a conftest."""


def start(
    pytester: pytest.Pytester, command: list[str], tests: str, conftest: str = ""
) -> subprocess.Popen[str]:
    """Start a pytest as the leader of a process group of its own, as a terminal does."""
    pytester.makepyfile(test_it=textwrap.dedent(tests))
    pytester.makeconftest(textwrap.dedent(conftest))
    return subprocess.Popen(
        command,
        cwd=pytester.path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_file(path: Path, process: subprocess.Popen[str], seconds: float = 30.0) -> None:
    """Wait until a process has made a file."""
    end = time.monotonic() + seconds
    while not path.exists() or (path.stat().st_size == 0 and path.name == "pid"):
        if process.poll() is not None or time.monotonic() >= end:
            process.kill()
            pytest.fail(f"{path.name} was not made:\n{process.communicate()[0]}", pytrace=False)
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """True if no process with this id runs."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process without warning."""
    process.kill()
    process.communicate(timeout=10)
