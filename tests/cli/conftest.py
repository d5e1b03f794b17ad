"""A folder of the user's, and the command line in it: in this process, or as a real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ttasks.cli import main

BUILD = """
from ttasks import Task, TaskGraph

graph = TaskGraph("build")
fetch = graph.add(Task.bash("echo fetched", title="fetch"))
test = graph.add(Task.bash("echo tested; exit {code}", title="test"), after=fetch)
graph.add(Task.bash("echo packed", title="pack"), after=test)
graph.add(Task.bash("echo dropped", title="drop"), after=test, finally_=True)
"""
"""A program whose ``test`` ends with an exit code."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which has to be JSON and nothing else."""
        return json.loads(self.out)


Cli = Callable[..., Done]


class Folder:
    """The working folder of the test."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> str:
        """Write a file, and return its name."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    def build(self, code: int = 1, name: str = "build.py") -> str:
        """Write `BUILD`."""
        return self.write(name, BUILD.format(code=code))

    def start(self, *argv: str, **variables: str) -> subprocess.Popen[str]:
        """Start the real command."""
        return subprocess.Popen(
            [sys.executable, "-m", "ttasks", *argv],
            cwd=self.path,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def real(self, *argv: str, **variables: str) -> Done:
        """Run the real command."""
        process = self.start(*argv, **variables)
        out, err = process.communicate(timeout=30)
        return Done(process.returncode, out, err)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """An empty working folder, and an environment without wishes."""
    monkeypatch.chdir(tmp_path)
    for name in ("TTASKS_STORE", "CI", "GITHUB_ACTIONS", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    return Folder(tmp_path)


@pytest.fixture
def cli(folder: Folder, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process; what it imports is forgotten after each command."""

    def run(*argv: str) -> Done:
        modules, path, arguments = dict(sys.modules), list(sys.path), list(sys.argv)
        capsys.readouterr()
        try:
            code = main(argv)
        except SystemExit as ending:  # of argparse
            code = ending.code if isinstance(ending.code, int) else 1
        finally:
            sys.path[:], sys.argv = path, arguments
            for name in set(sys.modules) - set(modules):
                if not name.startswith(("ttasks.", "rich", "jsonschema")):
                    file = getattr(sys.modules[name], "__file__", None) or ""
                    if file.startswith(str(folder.path)):
                        del sys.modules[name]
        found = capsys.readouterr()
        return Done(code, found.out, found.err)

    return run
