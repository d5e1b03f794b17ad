"""Completion, tried in the real shells: what is typed, then Tab, and what comes of it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ttasks.cli.names import MOST_TARGETS
from ttasks.cli.parsers import SHELLS

PROGRAM = """
from ttasks import Task, TaskGraph
graph = TaskGraph("names", key="nightly")
for title in ("fetch all", "build", "it's $HOME"):
    graph.add(Task.bash("true", title=title))
"""
CASES = [
    ("sh", "show"),
    ("run --fail-f", "--fail-fast"),
    ("run --console keep", "keep-order"),
    ("run prog", "prog.py"),
    ("run prog.py --only bu", "build"),
    ("run prog.py --only fe", "fetch all"),
    ("run prog.py --only it", "it's $HOME"),
    ("show ni", "nightly"),
    ("show lat", "latest"),
    ("logs latest bu", "build"),
    ("why bu", "build"),
    ("why build --run nig", "nightly"),
    ("compare latest nig", "nightly"),
    ("completion fi", "fish"),
]
LINES = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}


class Typed:
    """An interactive shell in a terminal."""

    def __init__(self, shell: str, folder: Path) -> None:
        self._terminal, inner = pty.openpty()
        self._process = subprocess.Popen(
            LINES[shell],
            cwd=folder,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "PS1": "$ "},
        )
        os.close(inner)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def read_until(self, text: str) -> str:
        """What was printed up to a text, which is not part of it."""
        give_up = time.monotonic() + 15
        while text not in self._seen:
            ready, _, _ = select.select([self._terminal], [], [], give_up - time.monotonic())
            assert ready, self._seen
            self._seen += os.read(self._terminal, 65536).decode(errors="replace")
        found, _, self._seen = self._seen.partition(text)
        return found

    def words(self, line: str) -> list[str]:
        """The words that a line has become after Tab."""
        # Ctrl-A goes to its beginning; the end of the output is not what was typed.
        self.type(f"{line}\t\x01printf '<%s>\\n' \x05 e''nd\n")
        printed = self.read_until("<end>")
        return [part for part in printed.replace("\r", "").split("\n") if part.startswith("<")]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@pytest.fixture
def script(cli: Any, folder: Any) -> Callable[[str], Path]:
    """Makes the script of a shell, in a folder whose ledger has a run."""
    folder.write("prog.py", PROGRAM)
    assert cli("run", "prog.py", "--console", "quiet").code == 0

    def write(shell: str) -> Path:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        file = folder.path / f"completion.{shell}"
        file.write_text(cli("completion", shell).out)
        return file

    return write


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes(folder: Any, script: Callable[[str], Path], shell: str) -> None:
    file = script(shell)
    typed = Typed(shell, folder.path)
    try:
        typed.type(f"source {file.name}; echo re''ady\n")
        typed.read_until("ready")
        for line, expected in CASES:
            words = typed.words(f"ttasks {line}")
            assert words[-1] == f"<{expected}>", (line, words)
    finally:
        typed.close()


def test_fish_completes(folder: Any, script: Callable[[str], Path]) -> None:
    file = script("fish")
    lines = "\n".join(f"complete -C 'ttasks {line}'; echo end" for line, _ in CASES)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {file.name}\n{lines}"],
        cwd=folder.path,
        env={"PATH": os.environ["PATH"], "HOME": str(folder.path), "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    found = done.stdout.split("end\n")
    for (line, expected), text in zip(CASES, found, strict=False):
        offered = [entry.partition("\t")[0] for entry in text.splitlines()]
        assert offered == [expected], line


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_command_and_option(
    cli: Any, script: Callable[[str], Path], shell: str
) -> None:
    text = script(shell).read_text()
    assert "@" not in text.replace('"${', "").replace("[@]", "")
    for word in ("compare", "older-than", "vacuum", "keep-order", "dry-run"):
        assert word in text


def test_an_unknown_shell_is_refused(cli: Any) -> None:
    assert cli("completion", "csh").code == 2


def test_names_are_kept_per_target_and_the_oldest_are_forgotten(cli: Any, folder: Any) -> None:
    folder.write("prog.py", PROGRAM)
    names = folder.path / "l.db.names"
    lines = [f"task\tother{number}.py\tx" for number in range(2 * MOST_TARGETS)]
    names.write_text("\n".join(lines))
    for _ in range(2):
        assert cli("run", "prog.py", "--store", "l.db", "--console", "quiet").code == 0
    kept = [line.split("\t") for line in names.read_text().splitlines()]
    assert [name for kind, target, name in kept if target == "prog.py"] == [
        *("fetch all", "build", "it's $HOME")
    ]
    assert len({target for kind, target, _ in kept if kind == "task"}) == MOST_TARGETS
    assert [name for kind, _, name in kept if kind == "run"][:2] == ["latest", "nightly"]
    assert names.stat().st_mode & 0o777 == 0o600
