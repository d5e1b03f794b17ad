"""Exit codes of the real command, signals, pipes and locales."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from ttasks.cli import exits, main
from ttasks.cli.parsers import make

WAITS = """
import os
from ttasks import Task, TaskGraph
graph = TaskGraph("waits", key="waits")
wait = graph.add(Task.bash("echo up > up; sleep 60", title="wait"))
graph.add(Task.bash("echo cleaned > cleaned", title="clean"), after=wait, finally_=True)
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "good.py"], 0),
        (["run", "bad.py"], 1),
        (["run", "raises.py"], 1),
        (["run", "no.py"], 2),
        (["run"], 2),
        ([], 2),
        (["rnu"], 2),
        (["run", "slow.py", "--timeout", "0.1"], 4),
        (["run", "good.py", "--skip", "*"], 5),
    ],
    ids=str,
)
def test_exit_codes(folder: Any, words: list[str], code: int) -> None:
    folder.build(code=0, name="good.py")
    folder.build(code=1, name="bad.py")
    folder.write("raises.py", "1 / 0")
    folder.write(
        "slow.py",
        "from ttasks import Task, TaskGraph\ng = TaskGraph()\ng.add(Task.bash('sleep 60'))\n",
    )
    assert folder.real(*words).code == code
    assert code in exits.CODES


def test_an_error_of_ours_is_told_as_one(
    cli: Any, folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttasks.cli.why.execute", lambda options: 1 / 0)
    done = cli("why", "x")
    assert done.code == exits.INTERNAL == 3
    assert "ZeroDivisionError" in done.err
    assert done.err.endswith("this is an error in ttasks itself; please report it\n")


def wait_for(folder: Any, process: subprocess.Popen[str], name: str) -> None:
    """Wait until a task has written a file."""
    while not (folder.path / name).exists():
        assert process.poll() is None, process.communicate()
        os.sched_yield()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_run_with_its_finally_tasks(
    folder: Any, number: signal.Signals, code: int
) -> None:
    folder.write("waits.py", WAITS)
    process = folder.start("run", "waits.py", "--report", "r.json")
    wait_for(folder, process, "up")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "")
    assert (folder.path / "cleaned").exists()
    assert "waits interrupted" in out
    report = json.loads((folder.path / "r.json").read_text())
    assert report["run"]["outcome"] == "interrupted"
    assert code in exits.CODES


def test_a_run_of_another_process_is_cancelled_and_cleans_up(folder: Any, cli: Any) -> None:
    folder.write("waits.py", WAITS)
    process = folder.start("run", "waits.py")
    wait_for(folder, process, "up")
    done = cli("cancel", "waits", "--wait", "--json")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")
    assert done.json["asked"]
    assert done.json["outcome"] == "cancelled"
    assert (folder.path / "cleaned").exists()
    assert "waits cancelled" in out


def test_a_reader_that_goes_away_ends_a_command_quietly(folder: Any) -> None:
    folder.build(code=1)
    read, write = os.pipe()
    os.close(read)
    for words, code in ((["run", "build.py", "--json", "--console", "quiet"], 1), (["show"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "ttasks", *words],
            cwd=folder.path,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr
    os.close(write)


@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_poor_locale_breaks_nothing(folder: Any, variables: dict[str, str]) -> None:
    folder.write(
        "prog.py",
        "from ttasks import Task, TaskGraph\ngraph = TaskGraph('größe')\n"
        "graph.add(Task.bash('echo ☃; exit 1', title='schnee ☃'))\n",
    )
    assert folder.real("run", "prog.py", **variables).code == 1
    for words in (["show"], ["logs"], ["why", "schnee ☃"]):
        done = folder.real(*words, **variables)
        assert (done.code, done.err) == (0, ""), words


def test_the_installed_script_is_the_same_command(folder: Any) -> None:
    script = os.path.join(os.path.dirname(sys.executable), "ttasks")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert done.stdout == folder.real("--version").out
    assert done.stdout.startswith("ttasks 0.")


def test_a_wrong_command_is_answered_with_the_near_ones(cli: Any) -> None:
    done = cli("shwo")
    assert done.code == 2
    assert done.err.endswith("ttasks: there is no command 'shwo'; did you mean 'show'?\n")
    assert "commands are run, schedule, list" in cli("zzz").err


def test_every_command_has_help(cli: Any) -> None:
    for name in make().commands:
        done = cli(name, "--help")
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("usage: ttasks ")


@pytest.mark.parametrize(
    "argv", [["--version"], ["--help"], ["run", "--help"], ["completion", "bash"], ["list"]]
)
def test_starting_imports_nothing_that_the_command_does_not_need(
    argv: list[str], folder: Any
) -> None:
    slow = ("sqlite3", "asyncio", "pathlib", "inspect", "importlib.metadata", "rich", "watchfiles")
    code = (
        "import sys\nfrom ttasks.cli import main\n"
        f"try: main({argv})\nexcept SystemExit: pass\n"
        f"print(*[n for n in ('ttasks.model.task', 'ttasks.engine', *{slow}) if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1:] == [""]


def test_main_takes_the_arguments_of_the_process(
    folder: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ttasks", "list"])
    assert main() == 2
    assert "there is no ledger" in capsys.readouterr().err
