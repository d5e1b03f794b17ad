"""What fails inside a console, of the library or of the user, costs no more than it must."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pytest

from consolekit import Text, executor, script, scripted, shown, terminal
from ttasks import TaskGraph
from ttasks.console import console
from ttasks.console.live import Live
from ttasks.console.style import Style
from ttasks.console.views import View
from ttasks.console.wording import Wording, again


def graph_of(*titles: str) -> TaskGraph:
    graph = TaskGraph("graph")
    for title in titles:
        graph.add(scripted(title, script("out\n")))
    return graph


# --- views --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("a mistake"), SystemExit("a mistake")])
def test_a_mistake_in_a_view_is_told_once_and_the_rest_is_shown(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = View.change

    def fails_for_bad(self, row, event) -> None:
        if row.name.startswith("bad"):
            raise error
        change(self, row, event)

    stderr = Text()
    monkeypatch.setattr(View, "change", fails_for_bad)
    monkeypatch.setattr("sys.stderr", stderr)
    text = shown(graph_of("bad 1", "good 1", "bad 2", "good 2"), "plain", executor())
    assert "good 1" in text
    assert "good 2" in text
    assert "4 succeeded" in text
    assert stderr.getvalue().count(f"{type(error).__name__}: a mistake") == 1
    assert stderr.getvalue().startswith("ttasks: the console goes on after its first error:\nTrace")


@pytest.mark.parametrize("name", ["close", "let_go", "end"])
def test_a_mistake_at_the_end_keeps_what_was_before(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments) -> None:
        raise RuntimeError("a mistake")

    stderr = Text()
    monkeypatch.setattr(View, name, fails)
    monkeypatch.setattr("sys.stderr", stderr)
    text = shown(graph_of("first"), "plain", executor())
    assert "✓" in text
    assert "a mistake" in stderr.getvalue()


def test_a_failure_that_cannot_be_shown_keeps_what_is_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_arguments, **_options) -> list[str]:
        raise RuntimeError("a mistake")

    graph = graph_of("before")
    graph.add(scripted("fails", script(fails=ValueError("no"))))
    graph.add(scripted("after", script()))
    monkeypatch.setattr(Wording, "consequences", fails)
    monkeypatch.setattr("sys.stderr", None)  # and nobody to tell
    text = shown(graph, "plain", executor())
    for name in ("before", "fails  ValueError: no", "after"):
        assert name in text


def test_a_footer_that_fails_keeps_the_lines_above(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments) -> list[str]:
        raise RuntimeError("a mistake")

    stderr = Text()
    monkeypatch.setattr(Live, "footer", fails)
    monkeypatch.setattr("sys.stderr", stderr)
    with terminal() as screen:
        with executor() as running, console(running, "live", file=screen.file):
            graph_of("first", "second").run(running)
        lines = "\n".join(screen.everything())
    assert "first" in lines
    assert "second" in lines
    assert "2 succeeded" in lines
    assert stderr.getvalue().count("RuntimeError: a mistake") == 1


# --- what the user gives ------------------------------------------------------------------------


@pytest.mark.parametrize("command", [5, b"make", ["make"], object()])
def test_a_rerun_that_gives_no_text_is_ignored(command: object) -> None:
    graph = TaskGraph("fails")
    graph.add(scripted("lint", script(fails=ValueError("no"))))
    text = shown(graph, "plain", executor(), rerun=lambda _task: command)
    assert "again" not in text
    assert "1 failed" in text


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), TypeError("no"), AttributeError("no"), SystemExit(3)]
)
@pytest.mark.parametrize("method", ["write", "flush", "isatty", "fileno"])
def test_a_file_that_raises_anything_is_given_up_quietly(
    method: str, error: BaseException, capfd: pytest.CaptureFixture[str]
) -> None:
    if method != "write" and isinstance(error, SystemExit):
        return  # on the thread of the caller: that is for the caller

    def fails(*_arguments) -> None:
        raise error

    file = Text()
    setattr(file, method, fails)
    graph = graph_of("first", "second")
    with executor() as running, console(running, "stream", file=file):
        graph.run(running)
    assert graph.ok
    assert capfd.readouterr().err == ""


def test_a_binary_file_is_refused_at_once(tmp_path: Path) -> None:
    with (
        executor() as running,
        open(tmp_path / "raw", "wb", buffering=0) as raw,
        open(tmp_path / "buffered", "wb") as buffered,
        tempfile.NamedTemporaryFile() as named,
    ):
        for file in (io.BytesIO(), raw, buffered, named):
            with pytest.raises(TypeError, match="file must be a text file or None, got "):
                console(running, file=file)


def test_a_named_temporary_file_for_text_is_taken() -> None:
    with tempfile.NamedTemporaryFile("w+", encoding="utf-8") as file:
        with executor() as running, console(running, "plain", file=file):
            graph_of("first").run(running)
        file.seek(0)
        assert "1 succeeded" in file.read()


# --- characters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "cp1252"])
def test_what_cannot_be_encoded_is_replaced(encoding: str) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    graph = TaskGraph("graph")
    graph.add(scripted("first", script("a\udc80日b\n")))
    graph.add(scripted("second", script("whole\n")))
    with executor() as running, console(running, "stream", file=file):
        graph.run(running, 1)
    text = raw.getvalue().decode(encoding)
    assert ("a?日b" if encoding == "utf-8" else "a??b") in text
    assert "whole" in text
    assert "2 succeeded" in text


def test_a_file_that_does_not_say_its_encoding_gets_ascii_if_it_must() -> None:
    class Plain:
        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text.encode("ascii").decode()
            return len(text)

        def flush(self) -> None:
            pass

    file = Plain()
    with executor() as running, console(running, "stream", file=file):
        graph_of("été").run(running)
    assert "?t?" in file.text
    assert "1 succeeded" in file.text


def test_why_a_run_is_stopped_keeps_its_capital_letters() -> None:
    from datetime import UTC, datetime

    from ttasks.console.board import Board
    from ttasks.console.rows import Section

    section = Section("id", "graph", 0.0, datetime.now(UTC))
    section.stopped = "stopped: task 'Build API' failed: HTTP 500"
    wording = Wording(Style(colour=False, symbols=True), again, pytest.fail)
    assert wording.stopping(Board(), section)[0].endswith("Task 'Build API' failed: HTTP 500")
