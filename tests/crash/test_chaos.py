"""The campaigns of `chaos.py`, in a small form, and in full where that is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ttasks

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

PROGRAM = Path(__file__).with_name("chaos.py")
FULL = os.environ.get("TTASKS_CAMPAIGN") == "full"
ROUNDS = {"kills": 60, "signals": 60, "entries": 60, "shortage": 8}
"""Of the small campaigns. In full they are 10,000 of each, or what an hour allows."""


def run(campaign: str, rounds: int, seconds: float, tell: Callable[[str, object], None]) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            campaign,
            f"--rounds={rounds}",
            f"--seconds={seconds}",
            "--jobs=2",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(ttasks.__file__).parents[1])},
    )
    tell("counts", done.stdout.splitlines()[-1] if done.stdout else "")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("campaign", ROUNDS)
def test_a_few_rounds(campaign: str, record_property: Callable[[str, object], None]) -> None:
    run(campaign, 4, 20, record_property)


@pytest.mark.campaign
@pytest.mark.parametrize("campaign", ROUNDS)
def test_campaign(campaign: str, record_property: Callable[[str, object], None]) -> None:
    rounds, seconds = (10_000, 3600) if FULL else (ROUNDS[campaign], 60)
    run(campaign, rounds, seconds, record_property)
