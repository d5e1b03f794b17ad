"""Text of tasks is made safe for one line; widths are those of a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttasks.console.text import cells, clean, fit, padded, ticking


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain", "plain"),
        ("tab\tstays", "tab\tstays"),
        ("10%\r50%\r100%", "100%"),
        ("done\r", "done"),
        ("\x1b[2K\x1b[1Gdone", "done"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("up\x1b[3Aand away", "upand away"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;http://localhost\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ends", "0;never ends"),
        ("\x9b2Jgone", "gone"),
        ("bell\x07 null\x00 back\x08", "bell null back"),
        ("line\u2028separator \u202eright to left", "lineseparator right to left"),
        ("\x1bcreset", "reset"),
        ("\x1b", ""),
    ],
)
def test_what_moves_the_cursor_is_removed(line: str, expected: str) -> None:
    assert clean(line) == expected


def test_colours_are_kept_on_request_and_end_with_the_line() -> None:
    assert clean("\x1b[1;31mred\x1b[2J", colour=True) == "\x1b[1;31mred\x1b[0m"
    assert clean("no colour", colour=True) == "no colour"


@given(st.text())
def test_nothing_is_left_that_a_terminal_would_obey(text: str) -> None:
    cleaned = clean(text.replace("\n", ""))
    assert not any((c < " " and c != "\t") or "\x7f" <= c <= "\x9f" for c in cleaned)


@given(st.text(), st.integers(0, 30))
def test_a_text_that_is_fitted_fits(text: str, width: int) -> None:
    assert cells(fit(clean(text.replace("\n", "")), width)) <= width


def test_widths_are_those_of_a_terminal() -> None:
    assert [cells(text) for text in ("abc", "日本", "e\u0301", "")] == [3, 4, 1, 0]
    assert fit("日本語", 5) == "日本…"
    assert fit("abcdef", 3, "...") == "..."
    assert padded("日", 4) == "日  "


def test_durations_that_go_on_have_no_digits_that_nobody_can_read() -> None:
    assert [ticking(t) for t in (0.04, 9.99, 59.4, 61)] == ["0.0s", "10.0s", "59s", "1m 01s"]
    assert ticking(0.2, whole=True) == "1s"
