"""``--watch``: which changes lead to a run, that none is lost, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ttasks.cli import watch as module
from ttasks.cli.watch import Changes, loop

pytest.importorskip("watchfiles")


def paths(folder: Any, *names: str) -> list[str]:
    return [str(folder.path / name) for name in names]


def test_what_was_written_with_the_same_content_has_not_changed(folder: Any) -> None:
    changes = Changes([])
    found = paths(folder, folder.write("a.txt", "one"))
    assert changes.real(found) == found
    assert changes.real(found) == []
    folder.write("a.txt", "two")
    assert changes.real(found) == found
    (folder.path / "a.txt").unlink()
    assert changes.real(found) == found
    assert changes.real([str(folder.path)]) == []


def test_what_a_run_writes_does_not_matter(folder: Any) -> None:
    options = Namespace(store=None, logs="logs", report=["out/r.xml"])
    changes = Changes(module._own_files(options))
    for name in (".ttasks/ledger.sqlite-wal", "logs/1/a.log", "out/r.xml", "out/.r.xml.1a2b"):
        assert changes.real(paths(folder, folder.write(name, "x"))) == [], name
    kept = paths(folder, folder.write("logs.py", "x"), folder.write("out/q.xml", "x"))
    assert changes.real(kept) == kept


def test_what_git_ignores_does_not_matter(folder: Any) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    folder.write(".gitignore", "*.o\n")
    found = paths(folder, folder.write("a.c", "x"), folder.write("a.o", "x"))
    assert Changes([]).real(found) == found[:1]


def test_a_change_during_a_run_leads_to_the_next(folder: Any) -> None:
    ran: list[int] = []
    found = paths(folder, folder.write("a.txt", "one"))
    changed_while_running = iter([[], found, [], found])

    def batches() -> Iterator[list[str]]:
        yield from changed_while_running

    received: list[int] = []
    loop(lambda: ran.append(1), batches(), Changes([]), received)
    assert len(ran) == 2  # the first, and that for the change; the same content is no change


def test_a_signal_ends_it_after_the_run(folder: Any) -> None:
    ran: list[int] = []
    received = [2]
    loop(lambda: ran.append(1), iter([paths(folder, "a.txt")]), Changes([]), received)
    assert ran == [1]


def test_the_arguments_of_a_run_are_those_without_watch() -> None:
    found = module._without_watch(["run", "-w", "a.py", "--watch", "--", "--watch", "x=1"])
    assert found == ["run", "a.py", "--", "--watch", "x=1"]


def test_the_folder_of_a_target_elsewhere_is_watched_too(folder: Any) -> None:
    (folder.path / "here").mkdir()
    file = folder.path / folder.write("there/a.py", "")
    os.chdir(folder.path / "here")
    assert module._folders(f"{file}:graph") == [Path.cwd(), file.parent]
    assert module._folders("package.a:graph") == [Path.cwd()]


def test_a_missing_extra_is_named(cli: Any, folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = cli("run", folder.build(), "--watch")
    assert done.code == 2
    assert "pip install 'ttasks[watch]'" in done.err
    assert "--watch runs again and again" in cli("run", "build.py", "-w", "--json").err


def test_the_real_command_runs_again_for_a_change_made_while_it_ran(folder: Any) -> None:
    os.mkfifo(folder.path / "go")
    folder.write(
        "prog.py",
        """
        from ttasks import Task, TaskGraph
        graph = TaskGraph("watched")
        read = graph.add(Task.bash("cat source > go; cat go", title="read"))
        graph.add(Task.bash("echo cleaned > .ttasks/cleaned", title="clean"), after=read,
                  finally_=True)
        """,
    )
    folder.write("source", "one")
    process = folder.start("run", "prog.py", "--watch", "--console", "stream")
    gate = folder.path / "go"
    assert gate.read_text() == "one"  # the first run reads
    folder.write("source", "two")  # and goes on
    gate.write_text("x")
    assert gate.read_text() == "two"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "ttasks: changed: source" in err
    assert (folder.path / ".ttasks" / "cleaned").exists()
    assert out.count("clean") >= 2


def test_only_tasks_whose_inputs_have_changed_run_again(folder: Any) -> None:
    gate = folder.path / ".ttasks" / "go"  # where changes do not matter
    gate.parent.mkdir()
    os.mkfifo(gate)
    folder.write(
        "prog.py",
        """
        from ttasks import Task, TaskGraph
        graph = TaskGraph("watched")
        for name in ("left", "right"):
            graph.add(Task.bash(f"echo {name} $(cat {name}.in) > .ttasks/go", title=name, key=name,
                                reuse=True, inputs=f"{name}.in"))
        """,
    )
    for name in ("left", "right"):
        folder.write(f"{name}.in", "one")
    process = folder.start("run", "prog.py", "--watch", "--jobs", "1", "--console", "stream")
    assert gate.read_text() == "left one\n"
    assert gate.read_text() == "right one\n"
    folder.write("right.in", "two")
    assert gate.read_text() == "right two\n"  # a task that nobody reads from would never end
    lines = iter(process.stdout.readline, "")
    assert any("1 succeeded, 1 reused" in line for line in lines)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
