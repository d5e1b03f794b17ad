"""Tests of the console decide themselves what their environment is."""

from __future__ import annotations

import pytest

from ttasks.console.detect import CI_SYSTEMS


@pytest.fixture(autouse=True)
def a_terminal_without_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CI_SYSTEMS, "CI", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LANG", "C.UTF-8")
