"""The report as text."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from reportkit import golden, hostile, release, reported, simulate, work

COLOR = re.compile("\x1b\\[[0-9;]*m")


def test_text_is_that_of_the_golden_file() -> None:
    text = reported(release()).to_text(100, False)
    assert text == golden("release.txt", text)


def test_colours_change_nothing_but_the_colours() -> None:
    report = reported(release())
    painted = report.to_text(100, True)
    assert "\x1b[1;31m" in painted
    assert COLOR.sub("", painted) == report.to_text(100, False)


@pytest.mark.parametrize("width", [40, 57, 100, 250])
def test_no_line_of_the_table_is_wider_than_asked_for(width: int) -> None:
    for facts in (release(), hostile()):
        text = reported(facts).to_text(width, False)
        table = text[text.index("  Status") :].split("\n\n")[0]
        assert max(map(len, table.splitlines())) <= width


@pytest.mark.parametrize(("width", "error"), [(39, ValueError), (0, ValueError), ("80", TypeError)])
def test_a_wrong_width_is_an_error(width: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="width must be an int"):
        reported(release()).to_text(width, False)  # type: ignore[arg-type]


def test_a_wrong_colour_is_an_error() -> None:
    with pytest.raises(TypeError, match="color must be a bool"):
        reported(release()).to_text(100, "always")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variables", "terminal", "colored"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, False, True),
        ({"CLICOLOR_FORCE": "0"}, False, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour_is_chosen_by_environment_and_terminal(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], terminal: bool, colored: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", **variables}.items():
        monkeypatch.setenv(name, value)
    output = io.StringIO()
    monkeypatch.setattr(output, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stdout", output)
    assert ("\x1b[" in reported(release()).to_text()) == colored


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    report = reported(simulate([work("x" * 200)]))
    assert report.to_text(color=False) == report.to_text(60, False)


def test_a_nested_task_is_named_after_its_graph_also_in_a_run_without_a_title() -> None:
    outer = simulate([work("a")], title="", path=())
    inner = simulate([work("b")], title="inner", path=("inner",))
    report = reported(replace(outer, tasks={**outer.tasks, **inner.tasks}))
    for text in (report.to_text(100, False), report.to_markdown(), report.to_html()):
        assert "inner / b" in text
