"""Rosters: written before a task starts, read only when their process is gone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ttasks import Task, TaskEventType, TaskExecutor
from ttasks.processes import ProcessIdentity
from ttasks.pytest_plugin.roster import (
    Roster,
    identity_of,
    identity_text,
    make_below,
    own_folder,
    sweep,
)
from ttasks.testing import EventRecorder


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_a_task_is_on_it_before_its_command_runs(tmp_path: Path) -> None:
    folder = tmp_path / "rosters"
    roster = Roster(folder)
    with TaskExecutor() as executor:
        executor.events.subscribe(roster, types=TaskEventType.STARTED)
        assert not folder.exists()
        task = Task.bash(f"cat {folder}/*")
        printed = executor.execute(task).output.splitlines()
    assert identity_of(printed[0]) == ProcessIdentity.current()
    assert printed[1:] == [task.id]
    roster.remove()
    roster.remove()
    assert not files(folder)


def dead() -> ProcessIdentity:
    """A process that is gone."""
    code = "from ttasks.pytest_plugin.roster import identity_text; print(identity_text())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = identity_of(done.stdout)
    assert found is not None
    return found


def test_only_those_of_processes_that_are_gone_are_swept(tmp_path: Path) -> None:
    recorder = EventRecorder()
    with TaskExecutor() as executor:
        executor.events.subscribe(recorder)
        mine, left = (Task.bash("echo up; exec sleep 600") for _ in range(2))
        futures = [executor.submit(task) for task in (mine, left)]
        for task in (mine, left):
            recorder.wait_for(task, TaskEventType.OUTPUT)
        (tmp_path / "a").write_text(f"{identity_text()}\n{mine.id}\n")
        (tmp_path / "b").write_text(f"{identity_text(dead())}\n{left.id}\n")
        (tmp_path / "c").write_text('{"pid')  # killed while it wrote
        elsewhere = {"host": "another", "boot": "x/y", "pid": 1, "started": "1"}
        (tmp_path / "d").write_text(f"{json.dumps(elsewhere)}\n{mine.id}\n")
        assert sweep(tmp_path) == 1
        assert futures[1].exception(10) is not None
        assert mine.is_running
        assert [path.name for path in files(tmp_path)] == ["a", "d"]
        executor.cancel(mine)


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert sweep(tmp_path / "none") == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_damaged_line_stands_for_nobody(text: str) -> None:
    assert identity_of(text) is None


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(PermissionError, match="is not a folder of this user alone"):
        own_folder(tmp_path / "link" / "home")
    assert own_folder(tmp_path / "own" / "home").is_dir()
    assert make_below(tmp_path / "a" / "b" / "c").is_dir()
