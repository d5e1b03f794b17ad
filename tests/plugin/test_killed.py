"""Campaign: whenever pytest is killed, the next one leaves nothing of it."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pluginkit import Inner, start, wait_for_file

KILLS = {"small": 8, "full": 100}
LONGEST_SECONDS = {"worker": 1.0, "run": 2.0}
MARK = "TTASKS_KILLED_CAMPAIGN"

CONFTEST = """
    import sys
    from ttasks import Task, TaskGraph, ready
    from ttasks.pytest_plugin import graph_fixture

    def build(tmp_path_factory):
        folder = tmp_path_factory.mktemp("data")
        graph = TaskGraph("servers")
        port = ready.free_port()
        made = graph.add(Task.bash("sleep 0.1; touch made", title="make", cwd=folder))
        web = graph.add(
            Task.service(
                f"setsid sleep 601 & exec {sys.executable} -u -m http.server {port} -b 127.0.0.1",
                ready=ready.tcp(port), title="web", cwd=folder,
            ),
            after=made,
        )
        graph.add(Task.bash("sleep 0.1", title="last", cwd=folder), after=web, finally_=True)
        return graph, port

    servers = graph_fixture(build, share="SHARE")
"""
TESTS = """
    import pathlib, pytest
    from ttasks import Task

    @pytest.mark.parametrize("number", range(20))
    def test_it(servers, task_executor, number):
        pathlib.Path("reached").touch()
        task_executor.submit(Task.bash("sleep 602"))
        task_executor.execute(Task.bash("sleep 0.05"))
"""


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("share", "options"),
    [("worker", ()), ("run", ("-p", "xdist", "-n", "2"))],
    ids=["alone", "xdist"],
)
def test_nothing_is_left_after_kills(
    inner: Inner,
    pytester: pytest.Pytester,
    command: list[str],
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
    share: str,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setenv(MARK, str(pytester.path))
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    kills = KILLS[os.environ.get("TTASKS_CAMPAIGN") or "small"] // 2
    seen: Counter[str] = Counter()
    for _ in range(kills):
        process = start(pytester, [*command, *options], TESTS, CONFTEST.replace("SHARE", share))
        if chance.random() < 0.5:  # else while it starts, or whenever that is on a busy machine
            wait_for_file(pytester.path / "reached", process)
        time.sleep(chance.uniform(0.0, LONGEST_SECONDS[share]))
        workers = [child for child in psutil.Process(process.pid).children() if is_worker(child)]
        if workers and chance.random() < 0.5:
            chance.choice(workers).kill()  # pytest replaces it, until it is killed itself
            time.sleep(chance.uniform(0.0, 1.0))
        process.kill()
        process.wait(10)
        seen["processes that outlived pytest"] += len(marked(pytester.path))
        process.communicate(timeout=60)  # until the workers of xdist have let go of its output
        (pytester.path / "reached").unlink(missing_ok=True)
        inner("def test_nothing(): pass").assert_outcomes(passed=1)
        # Workers of xdist end by themselves when they lose their pytest; what they had may be left.
        psutil.wait_procs([each for each in marked(pytester.path) if is_worker(each)], 20)
        inner("def test_nothing(): pass").assert_outcomes(passed=1)
        left = marked(pytester.path)
        assert not left, f"seed {seed}: {[' '.join(each.cmdline()) for each in left]}"
        assert not list(temporary.glob("ttasks*/*")), f"seed {seed}"
    counts = ", ".join(f"{number} {what}" for what, number in seen.items())
    record_property("counts", f"plugin, {share}: {kills} kills, {counts}, seed {seed}")


def is_worker(process: psutil.Process) -> bool:
    try:
        return "execnet" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def marked(folder: Path) -> list[psutil.Process]:
    """The processes that were started below a pytest of this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get(MARK) == str(folder)
                and process.status() != psutil.STATUS_ZOMBIE
                and process.pid != os.getpid()
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found
