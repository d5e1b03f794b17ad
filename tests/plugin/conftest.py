"""What the tests of the pytest plugin share: a pytest inside, in a process of its own."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from pluginkit import Inner

OPTIONS = ("-p", "ttasks", "-p", "no:cacheprovider")
"""Plugins are not found by themselves in there: the others would take longer than the tests."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of the pytest inside, which is empty at first."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    return folder


@pytest.fixture
def inner(pytester: pytest.Pytester, temporary: Path) -> Inner:
    """Run pytest with a file of tests and a conftest, and return what it printed."""

    def run(tests: str, *options: str, conftest: str = "") -> pytest.RunResult:
        pytester.makepyfile(test_it=textwrap.dedent(tests))
        pytester.makeconftest(textwrap.dedent(conftest))
        return pytester.runpytest_subprocess(*OPTIONS, *options, timeout=60)

    return run


@pytest.fixture
def command(pytester: pytest.Pytester, temporary: Path) -> list[str]:
    """The command for a pytest inside that a test wants to start by itself."""
    base = str(pytester.path / "base")
    return [sys.executable, "-m", "pytest", *OPTIONS, f"--basetemp={base}"]
