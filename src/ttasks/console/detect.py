"""Which mode and which symbols fit the place that the output goes to."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from io import BufferedIOBase, RawIOBase
from typing import TextIO

from ttasks.console.style import SYMBOLS
from ttasks.report.terminal import is_dumb, is_set, is_terminal

CI_SYSTEMS = {
    "GITHUB_ACTIONS": "github",
    "GITLAB_CI": "gitlab",
    "TF_BUILD": "azure",
    "BUILDKITE": "buildkite",
    "TEAMCITY_VERSION": "teamcity",
}
"""Environment variable to mode, of all CI systems."""

MODES = (
    *("auto", "live", "plain", "stream", "grouped", "keep-order", "quiet", "jsonl"),
    *CI_SYSTEMS.values(),
)
"""What ``mode`` may be."""


def choose_mode(stream: TextIO | None, environment: Mapping[str, str]) -> str:
    """What ``auto`` stands for.

    CI comes first, since some of the systems run their steps in a terminal.
    """
    for variable, mode in CI_SYSTEMS.items():
        if is_set(environment, variable):
            return mode
    if is_set(environment, "CI") or not can_draw(stream, environment):
        return "plain"
    return "plain" if find_spec("rich") is None else "live"


def can_draw(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """True if the stream is a terminal whose cursor can be moved."""
    return is_terminal(stream) and not is_dumb(environment)


def choose_symbols(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Whether symbols beyond ASCII can be shown."""
    if is_terminal(stream) and is_dumb(environment):
        return False
    # Python takes UTF-8 in this locale, but who asks for it in so many words means ASCII.
    if (environment.get("LC_ALL") or environment.get("LANG")) in ("C", "POSIX"):
        return False
    try:
        SYMBOLS.encode(getattr(stream, "encoding", None) or "utf-8")  # a StringIO has none
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def is_binary(file: object) -> bool:
    """True if bytes, and no text, can be written to a file."""
    # Named temporary files are wrappers of the real one.
    return any(
        isinstance(found, (BufferedIOBase, RawIOBase))
        for found in (file, getattr(file, "file", None))
    )
