"""What a stream can show: whether it is a terminal, and whether to use colours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

_FALSE = ("", "0", "false", "no", "off")


def is_terminal(stream: TextIO | None) -> bool:
    """True if the stream is a terminal."""
    try:
        return stream is not None and stream.isatty()
    except Exception:  # no real file, closed, or a class of the user's
        return False


def is_dumb(environment: Mapping[str, str]) -> bool:
    """True if the terminal of this environment shows text only."""
    return environment.get("TERM", "dumb") in ("", "dumb")


def is_set(environment: Mapping[str, str], variable: str) -> bool:
    """True if a variable is there and does not say no."""
    return environment.get(variable, "").lower() not in _FALSE


def wants_color(color: bool | None, stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Whether to use colours: the argument, the variables, then what the stream is.

    Args:
        color: of the caller; None asks NO_COLOR, FORCE_COLOR and CLICOLOR_FORCE, in this order,
            and then whether the stream is a terminal that is not dumb.
        stream: where the text goes.
        environment: variables of the process.
    """
    if color is not None:
        return color
    if environment.get("NO_COLOR"):
        return False
    if is_set(environment, "FORCE_COLOR") or is_set(environment, "CLICOLOR_FORCE"):
        return True
    return is_terminal(stream) and not is_dumb(environment)
