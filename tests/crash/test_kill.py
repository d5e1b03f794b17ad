"""``kill -9`` at every named point: the promise of the ledger holds.

`chaos.py` kills at random moments.

After each kill: the ledger passes integrity_check and opens; what was announced as SUCCEEDED is
SUCCEEDED in it, and never runs again; what the killed run had left running is gone once the next
one begins to work. In the end the resume completes, and the finally task has run after all else.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

import killed_host
import ttasks
from commandkit import marked, token
from killed_host import KEY, POINTS
from ttasks import SQLiteStore

__all__ = ["token"]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

WAIT = 120.0
EVERY_POINT = [f"{when} {name}" for name in POINTS for when in ("before", "after")]
TITLES = [task.title for task in killed_host.build(Path())]
FULL = os.environ.get("TTASKS_CAMPAIGN") == "full"


class Trial:
    """One ledger, and runs of one script that are killed."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder
        self.token = token
        self.kills = 0
        self.announced: dict[str, int] = {}  # title: how often its command had run by then
        self.orphans: list[psutil.Process] = []

    def run(self, point: str = "none", count: int = 0) -> bool:
        """Run the script; True if it was killed."""
        source = Path(ttasks.__file__).parents[1]
        env = {**os.environ, "PYTHONPATH": str(source)}
        done = subprocess.run(
            [sys.executable, killed_host.__file__, str(self.folder), point, str(count)],
            capture_output=True,
            text=True,
            env=env,
            timeout=WAIT,
        )
        said = done.stdout.splitlines()
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.returncode == 0, done.stderr
        assert killed or said[-1:] == ["ended"]
        if "begun" in said or not killed:
            assert not [item for item in self.orphans if lives(item)]
        self.kills += killed
        self.check(said)
        self.orphans = [psutil.Process(pid) for pid in marked(self.token) if psutil.pid_exists(pid)]
        return killed

    def check(self, said: list[str]) -> None:
        ran = self.ran()
        for title, times in self.announced.items():
            assert ran[title] == times, f"{title} was announced and ran again"
        for line in said:
            if line.startswith("done "):
                title = line.removeprefix("done ")
                assert title not in self.announced, f"{title} was announced twice"
                self.announced[title] = ran[title]
        path = self.folder / "ledger"
        if not path.exists():
            assert not said
            return
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        with SQLiteStore(path) as store:
            ids = store.graphs.keyed(KEY)
            assert ids or not said
            if ids:
                kept = {task.title for task in store.graphs[ids[0]].succeeded}
                assert self.announced.keys() <= kept, "an announced success was lost"
            for entry in store.events.read():
                assert entry.title in TITLES

    def ran(self) -> Counter[str]:
        """How often each command has run."""
        log = self.folder / "log"
        return Counter(log.read_text().split() if log.exists() else ())

    def finish(self) -> None:
        """Run it to the end and look at the whole."""
        assert not self.run()
        # What was committed, but not yet announced when the kill came, never is: 4 workers.
        assert len(TITLES) - 4 * self.kills <= len(self.announced) <= len(TITLES)
        ran = self.ran()
        assert sorted(ran) == sorted(TITLES)
        assert max(ran.values()) <= 1 + self.kills
        assert (self.folder / "log").read_text().split()[-1] == "last"
        assert marked(self.token) == []
        with SQLiteStore(self.folder / "ledger") as store:
            assert store.graphs[store.graphs.keyed(KEY)[0]].ok
            assert store.running() == []
            assert store.find_interrupted() == []
        assert not self.run()  # nothing is left to be done
        assert self.ran() == ran

    def end(self) -> None:
        for pid in marked(self.token):
            os.kill(pid, signal.SIGKILL)


def lives(process: psutil.Process) -> bool:
    """True if it is this very process still, and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def trial(tmp_path: Path, token: str) -> Iterator[Trial]:
    found = Trial(tmp_path, token)
    yield found
    found.end()


def kill_at_points(trial: Trial, points: list[str], chosen: random.Random) -> None:
    """Kill one run after the other, then finish."""
    for point in points:
        if not trial.run(point, chosen.randint(1, POINTS[point.partition(" ")[2]][2])):
            break  # it has run to the end without passing the point
    trial.finish()


def test_kills_at_named_points(trial: Trial) -> None:
    for point, count in (
        ("after graph-saved", 1),
        ("after event-written", 9),
        ("after command-started", 3),
        ("before interruption-written", 1),
        ("after committed", 20),
        ("before delivered", 7),
    ):
        assert trial.run(point, count), point
    trial.finish()


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100 if FULL else 2))
def test_random_points(trial: Trial, seed: int) -> None:
    chosen = random.Random(seed)
    kill_at_points(trial, chosen.sample(EVERY_POINT, 6), chosen)


@pytest.mark.campaign
@pytest.mark.parametrize("point", EVERY_POINT)
def test_every_named_point(trial: Trial, point: str) -> None:
    # The first kill leaves something to be found and ended, which many points need.
    assert trial.run("after command-started", 3)
    assert trial.run(point, 1), f"{point} was not passed"
    trial.finish()
