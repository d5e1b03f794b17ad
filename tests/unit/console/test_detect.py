"""Mode, colours and symbols by the place that the output goes to."""

from __future__ import annotations

import pytest

from consolekit import Text
from ttasks.console import detect
from ttasks.console.detect import choose_mode, choose_symbols
from ttasks.report.terminal import is_terminal, wants_color

XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("variable", "value", "mode"),
    [
        ("GITHUB_ACTIONS", "true", "github"),
        ("GITLAB_CI", "true", "gitlab"),
        ("TF_BUILD", "True", "azure"),
        ("BUILDKITE", "true", "buildkite"),
        ("TEAMCITY_VERSION", "2025.11", "teamcity"),
        ("CI", "true", "plain"),
    ],
)
def test_auto_is_the_form_of_the_ci_system_also_in_a_terminal(
    variable: str, value: str, mode: str
) -> None:
    assert choose_mode(Text(terminal=True), {**XTERM, variable: value}) == mode
    assert choose_mode(Text(), {variable: value}) == mode


@pytest.mark.parametrize("value", ["", "0", "false", "False"])
def test_a_variable_that_says_no_is_no_ci(value: str) -> None:
    assert choose_mode(Text(terminal=True), {**XTERM, "CI": value}) == "live"


def test_auto_is_live_on_a_terminal_that_can_and_plain_elsewhere(monkeypatch) -> None:
    assert choose_mode(Text(terminal=True), XTERM) == "live"
    assert choose_mode(Text(), XTERM) == "plain"
    assert choose_mode(Text(terminal=True), {"TERM": "dumb"}) == "plain"
    assert choose_mode(Text(terminal=True), {}) == "plain"
    monkeypatch.setattr(detect, "find_spec", lambda name: None)  # as if rich were not there
    assert choose_mode(Text(terminal=True), XTERM) == "plain"


@pytest.mark.parametrize(
    ("argument", "environment", "terminal", "expected"),
    [
        (None, XTERM, True, True),
        (None, XTERM, False, False),
        (None, {"TERM": "dumb"}, True, False),
        (None, {}, True, False),
        (None, {**XTERM, "NO_COLOR": "1"}, True, False),
        (None, {**XTERM, "NO_COLOR": ""}, True, True),
        (None, {"FORCE_COLOR": "1"}, False, True),
        (None, {"FORCE_COLOR": "0"}, False, False),
        (None, {"CLICOLOR_FORCE": "1"}, False, True),
        (None, {"CLICOLOR_FORCE": "0"}, False, False),
        (None, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        (True, {"NO_COLOR": "1"}, False, True),
        (False, {**XTERM, "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colours_by_the_order_of_the_rules(
    argument: bool | None, environment: dict[str, str], terminal: bool, expected: bool
) -> None:
    assert wants_color(argument, Text(terminal=terminal), environment) is expected


def test_symbols_where_they_can_be_shown() -> None:
    assert choose_symbols(Text(terminal=True), XTERM)
    assert choose_symbols(Text(), {})
    assert not choose_symbols(Text(terminal=True), {"TERM": "dumb"})
    assert not choose_symbols(Text(encoding="ascii"), {})
    assert not choose_symbols(Text(encoding="latin-1"), {})
    assert not choose_symbols(Text(encoding="no such encoding"), {})
    assert not choose_symbols(Text(), {"LANG": "C"})
    assert not choose_symbols(Text(), {"LC_ALL": "POSIX", "LANG": "de_DE.UTF-8"})
    assert choose_symbols(Text(), {"LANG": "C.UTF-8"})


def test_a_closed_file_is_no_terminal() -> None:
    file = Text()
    file.close()
    assert not is_terminal(file)
