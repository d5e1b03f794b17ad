"""Text that is printed after a console has closed reaches the file that it stood for."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from consolekit import LOGGER, Text, executor, script, scripted
from support import WAIT
from ttasks import TaskGraph
from ttasks.console import console


def stdout_of(monkeypatch: pytest.MonkeyPatch) -> Text:
    """A new sys.stdout; made in the test, since pytest puts its own there after the fixtures."""
    file = Text()
    monkeypatch.setattr("sys.stdout", file)
    return file


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger(LOGGER)
    before = found.handlers[:]
    yield found
    found.handlers[:] = before


def test_a_file_that_was_kept_goes_on_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = stdout_of(monkeypatch)
    with executor() as running, console(running, "plain"):
        kept = sys.stdout
        assert kept is not stdout
        print("inside")
    assert sys.stdout is stdout
    print("kept", file=kept)
    kept.write("no newline")
    kept.flush()
    kept.writelines(["\n", "last\n"])
    assert stdout.getvalue() == "inside\nkept\nno newline\nlast\n"


def test_a_logging_handler_made_inside_goes_on_to_write(
    monkeypatch: pytest.MonkeyPatch, logger: logging.Logger
) -> None:
    stdout = stdout_of(monkeypatch)
    with executor() as running, console(running, "plain"):
        handler = logging.StreamHandler(sys.stdout)
        logger.addHandler(handler)
        logger.warning("inside")
    logger.warning("after")
    assert stdout.getvalue() == "inside\nafter\n"


def test_consoles_closed_in_the_order_of_their_opening_give_stdout_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdout = stdout_of(monkeypatch)
    root = logging.getLogger()
    handler = logging.StreamHandler(stdout)
    root.addHandler(handler)
    try:
        with executor() as running, contextlib.ExitStack() as stack:
            first = stack.enter_context(console(running, "plain"))
            second = stack.enter_context(console(running, "plain"))
            print("both")
            first.close()
            print("second")
            second.close()
            print("none")
        assert sys.stdout is stdout
        assert handler.stream is stdout
    finally:
        root.removeHandler(handler)
    assert stdout.getvalue() == "both\nsecond\nnone\n"


def test_redirect_stdout_around_the_end_of_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = stdout_of(monkeypatch)
    elsewhere = io.StringIO()
    with executor() as running:
        shown = console(running, "plain")
        with shown:
            redirected = contextlib.redirect_stdout(elsewhere)
            redirected.__enter__()
            print("redirected")
        redirected.__exit__(None, None, None)
    print("after")
    assert elsewhere.getvalue() == "redirected\n"
    assert stdout.getvalue() == "after\n"


def test_nothing_is_lost_while_other_threads_print_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdout = stdout_of(monkeypatch)
    started, closed = threading.Barrier(5), threading.Event()
    printed: dict[str, int] = {}

    def prints(kept: io.TextIOBase, name: str) -> None:
        printed[name] = 0
        started.wait(WAIT)
        is_last = False
        while not is_last:
            is_last = closed.is_set()
            kept.write(f"{name}:{printed[name]}\n")
            printed[name] += 1

    with executor() as running:
        with console(running, "plain"):
            threads = [threading.Thread(target=prints, args=(sys.stdout, n)) for n in "abcd"]
            for thread in threads:
                thread.start()
            started.wait(WAIT)
        closed.set()
        for thread in threads:
            thread.join(WAIT)
    expected = {f"{name}:{number}" for name, most in printed.items() for number in range(most)}
    assert sorted(stdout.getvalue().split()) == sorted(expected)


def test_a_program_without_stdout_is_quiet(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "import sys\n"
        "from ttasks import Task, TaskExecutor, TaskGraph\n"
        "from ttasks.console import console\n"
        "assert sys.stdout is None\n"
        "graph = TaskGraph('quiet')\n"
        "graph.add(Task.bash('echo out', title='says'))\n"
        "with TaskExecutor() as executor, console(executor, sys.argv[1]):\n"
        "    print('mine')\n"
        "    graph.run(executor)\n"
        "sys.stderr.write(f'ok={graph.ok}\\n')\n",
        encoding="utf-8",
    )
    for mode in ("auto", "live", "stream", "github"):
        done = subprocess.run(
            ["bash", "-c", f"exec {sys.executable} {path} {mode} >&-"],
            capture_output=True,
            text=True,
            env={name: text for name, text in os.environ.items() if "GITHUB" not in name},
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "ok=True\n")


def test_events_of_runs_still_reach_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = stdout_of(monkeypatch)
    graph = TaskGraph("release")
    graph.add(scripted("task", script()))
    with executor() as running, console(running, "jsonl"):
        graph.run(running)
    text = stdout.getvalue()
    assert '"event": "run_started"' in text
    assert '"event": "run_ended"' in text
