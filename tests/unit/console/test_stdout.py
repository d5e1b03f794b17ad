"""Programs of their own: pipes that close, encodings, Ctrl-C, prints, and what stdout is for."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from consolekit import Text, executor, script, scripted
from support import Gate, wait
from ttasks import Task, TaskGraph
from ttasks.console import console

CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("LC_", "GITHUB_", "PYTHON")) and name not in ("CI", "LANG")
}


def program(folder: Path, text: str) -> Path:
    path = folder / "program.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


MANY = """
    import sys
    from ttasks import Task, TaskExecutor, TaskGraph
    from ttasks.console import console

    graph = TaskGraph("many")
    for number in range(200):
        graph.add(Task.python(print, (f"line {number}",), title=f"t{number}"))
    with TaskExecutor() as executor, console(executor, sys.argv[1]):
        graph.run(executor)
    sys.stderr.write(f"ok={graph.ok}\\n")
"""


@pytest.mark.parametrize("mode", ["plain", "stream", "grouped", "jsonl", "github"])
def test_a_reader_that_goes_away_does_not_stop_the_run(tmp_path: Path, mode: str) -> None:
    path = program(tmp_path, MANY)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {path} {mode} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=CLEAN,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "ok=True\n")
    assert len(done.stdout.splitlines()) == 1


def test_a_program_that_closes_its_stdout_does_not_stop_the_run(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        import os, sys
        from ttasks import Task, TaskExecutor, TaskGraph
        from ttasks.console import console

        def close():
            os.close(1)
            os.open("stolen", os.O_CREAT | os.O_WRONLY)  # gets the same number

        graph = TaskGraph("closed")
        first = graph.add(Task.python(close, title="first"))
        graph.add(Task.bash("echo out", title="second"), after=first)
        with TaskExecutor() as executor, console(executor, "stream"):
            graph.run(executor)
        assert graph.ok
        """,
    )
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=CLEAN,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "second │ out" in done.stdout
    assert (tmp_path / "stolen").read_text() == ""


@pytest.mark.parametrize(
    "environment",
    [
        {"LANG": "C"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_ascii_in_a_locale_without_more(tmp_path: Path, environment: dict[str, str]) -> None:
    path = program(
        tmp_path,
        """
        from ttasks import Task, TaskExecutor
        from ttasks.console import console

        with TaskExecutor() as executor, console(executor, "stream"):
            task = Task.bash("printf 'd\\\\303\\\\251j\\\\n'; exit 1", title="été")
            executor.submit(task).exception()
        """,
    )
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        env=CLEAN | environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"| d" in done.stdout
    assert b"FAIL" in done.stdout


def test_ctrl_c_says_what_is_ended_and_what_is_cleaned_up(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        import sys
        from ttasks import Task, TaskExecutor, TaskGraph
        from ttasks.console import console

        graph = TaskGraph("deploy")
        build = graph.add(Task.bash("echo building; sleep 60", title="build"))
        graph.add(Task.bash("true", title="push"), after=build)
        graph.add(Task.bash("echo dropped", title="drop"), after=build, finally_=True)
        try:
            with TaskExecutor() as executor, console(executor, "stream"):
                graph.run(executor)
        except KeyboardInterrupt:
            sys.exit(130)
        """,
    )
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=CLEAN,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        while "building" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        lines = [line.rstrip() for line in process.stdout]
    assert process.returncode == 130
    assert "⊘          Interrupted" in lines
    assert "  ending 1 task: build" in lines
    assert "  then cleaning up: drop" in lines
    assert "  Ctrl-C again to kill what is left" in lines
    assert "drop   │ dropped" in lines
    assert "deploy interrupted" in lines[-1]
    assert "2 cancelled, 1 succeeded" in lines[-1]


# --- prints -------------------------------------------------------------------------------------


def test_lines_of_the_program_are_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Text()
    monkeypatch.setattr("sys.stdout", file)
    with executor() as running, console(running, "plain"):
        print("before")
        running.execute(scripted("task", script()))
        print("no newline", end="")
    assert sys.stdout is file
    lines = [line for line in file.getvalue().splitlines() if line]
    assert lines[0] == "before"
    assert "no newline" in lines
    assert lines.index("no newline") > lines.index("▸          task")


def test_what_a_python_task_prints_is_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Text()
    monkeypatch.setattr("sys.stdout", file)
    with executor(redact=["hunter2"]) as running, console(running, "stream"):
        running.execute(Task.python(print, ("password hunter2",), title="says"))
    assert "says   │ password ***" in file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        ("plain", "password ***"),
        ("quiet", "password ***"),
        ("stream", "says   │ password ***"),
        ("grouped", "  │ password ***"),
        ("keep-order", "  │ password ***"),
        ("github", "  │ password ***"),
        ("jsonl", '{"event": "printed", "text": "password ***"}'),
    ],
)
def test_each_mode_has_its_place_for_what_a_python_task_prints(
    mode: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, stderr = Text(), Text()
    monkeypatch.setattr("sys.stdout", file)
    monkeypatch.setattr("sys.stderr", stderr)

    def says() -> None:
        print("password hunter2")
        print("elsewhere", file=sys.stderr)

    with executor(redact=["hunter2"]) as running, console(running, mode):
        result = running.execute(Task.python(says, title="says"))
    text = re.sub('"time": "[^"]*", ', "", file.getvalue())
    assert line in text.splitlines()
    assert stderr.getvalue() == "elsewhere\n"
    assert result.output == ""


def test_a_file_of_ones_own_leaves_stdout_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, file = Text(), io.StringIO()
    monkeypatch.setattr("sys.stdout", stdout)
    with executor() as running, console(running, "plain", file=file):
        assert sys.stdout is stdout
        print("mine")
        running.execute(scripted("task", script()))
    assert stdout.getvalue() == "mine\n"
    assert "task" in file.getvalue()


def test_who_has_put_another_file_in_its_place_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    other = io.StringIO()
    monkeypatch.setattr("sys.stdout", Text())
    with executor() as running, console(running, "quiet"):
        monkeypatch.setattr("sys.stdout", other)
    assert sys.stdout is other


def test_a_forked_child_prints_for_itself(tmp_path: Path) -> None:
    path = program(
        tmp_path,
        """
        import os, sys
        from ttasks import TaskExecutor
        from ttasks.console import console

        with TaskExecutor() as executor, console(executor, "plain"):
            pid = os.fork()
            if not pid:
                print("from the child", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
        """,
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)],
        capture_output=True,
        text=True,
        env=CLEAN,
        timeout=60,
        check=False,
    )
    assert done.stdout == "from the child\n"


def test_a_file_that_raises_costs_the_run_nothing() -> None:
    class Broken(Text):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    graph = TaskGraph("broken")
    graph.add(scripted("task", script("out\n")))
    with executor() as running, console(running, "stream", file=Broken()):
        graph.run(running)
    assert graph.ok


def test_output_that_nobody_takes_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from ttasks.console import writer

    monkeypatch.setattr(writer, "QUEUE_LIMIT", 10_000)
    gate = Gate()

    class Slow(Text):
        def write(self, text: str) -> int:
            if "first" in text:
                gate.reached.set()
                wait(gate.opened)
            return super().write(text)

    file = Slow()
    with executor() as running, console(running, "stream", file=file):
        future = running.submit(scripted("flood", _flood_after(gate)))
        running.submit(scripted("first", script("first\n")))
        future.result(10)
        gate.open()
    text = file.getvalue()
    assert "lines of flood not shown" in text
    lines = [line for line in text.splitlines() if line.startswith("flood") and "│" in line]
    missing = next(line for line in text.splitlines() if "not shown" in line)
    number = int(missing.split()[1].replace(",", ""))
    assert len(lines) + number == 5000


def _flood_after(gate: Gate):
    def flood(context) -> None:
        gate.wait_reached()  # the reader is stuck
        for number in range(5000):
            context.emit_output(f"line {number}\n")

    return flood
