"""Texts that all formats share."""

from __future__ import annotations

import pytest

from ttasks.report.labels import joined, one_line, percent, plain, seconds, tail_of


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x07link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never ended\nnext line\x07", "0;never ended\nnext line\ufffd"),
        ("\x9b2Jgone", "gone"),
        ("line\u2028separator \u202eright to left", "lineseparator right to left"),
        ("10 %\r50 %\r100 %\n", "100 %\n"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("nul \x00 bell \x07", "nul \ufffd bell \ufffd"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("Grüße 世界 🚀\n", "Grüße 世界 🚀\n"),
        ("non-breaking\u00a0space", "non-breaking\u00a0space"),
    ],
)
def test_plain_text_has_no_escapes_and_no_controls(raw: str, shown: str) -> None:
    assert plain(raw) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0s"),
        (0.0073, "7.3ms"),
        (0.00994, "9.9ms"),
        (0.00996, "0.01s"),
        (9.994, "9.99s"),
        (9.996, "10.0s"),
        (59.94, "59.9s"),
        (59.96, "1m 00s"),
        (3599.6, "1h 00m"),
        (90_000, "25h 00m"),
    ],
)
def test_seconds_for_people(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


def test_percent_for_people() -> None:
    assert [percent(value) for value in (None, 0.0, 0.704, 1.0)] == ["-", "0 %", "70 %", "100 %"]


def test_the_tail_of_a_text_is_its_last_whole_lines() -> None:
    text = "".join(f"line {number}\n" for number in range(100))
    assert tail_of(text, 2, 1000) == ("line 98\nline 99", True)
    assert tail_of(text, 1000, 20) == ("line 98\nline 99", True)
    assert tail_of("a\nb\n", 2, 1000) == ("a\nb", False)
    assert tail_of("", 2, 1000) == ("", False)


def test_the_tail_of_one_long_line_is_its_end() -> None:
    assert tail_of("x" * 1_000_000, 10, 5) == ("…xxxxx", True)


def test_one_line_is_the_first_that_is_not_blank() -> None:
    assert one_line("\n\n  first \nsecond") == "first"
    assert one_line("x" * 500, 10) == "x" * 9 + "…"
    assert one_line(" \n ") == ""
    assert one_line("\n  first\x1b[31m\tline\nsecond") == "first line"


def test_names_are_joined_as_in_a_sentence() -> None:
    assert joined([]) == ""
    assert [joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
    assert joined(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert joined(["a"] * 1202, 2) == "a, a and 1,200 more"
