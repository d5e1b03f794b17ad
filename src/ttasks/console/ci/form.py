"""Form: how one CI system wants its log, and how much it shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a system shows of one step.

    Attributes:
        errors, warnings: the maximum numbers of annotations.
        message: characters of an annotation.
        summary_bytes: size of the summary; 0 if it has none.
    """

    errors: int = 0
    warnings: int = 0
    message: int = 4000
    summary_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A root cause, as an annotation shows it.

    Attributes:
        title: name of the task.
        message: reason and last output, some lines.
        is_warning: it is an optional task.
        file, line: where, relative to the checkout; None if unknown.
    """

    title: str
    message: str
    is_warning: bool = False
    file: str | None = None
    line: int | None = None


# What one of the systems takes for a command wherever it stands in a line.
_COMMAND = re.compile(r"##(?=(?:vso|teamcity)?\[)", re.IGNORECASE)


class Form:
    """A CI system without any form of its own; the others are subclasses.

    Args:
        environment: of the process.

    Attributes:
        limits: see `Limits`.
        groups_everything: a task without output gets a group, too, because a group ends only where
            the next one begins.
    """

    limits = Limits()
    groups_everything = False

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def open(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """Lines that begin a group.

        Args:
            title: one clean line.
            number: of the group, from 1.
            now: seconds since the epoch.
            failed: the group is to be open from the start, or not to be one.
        """
        return [title]

    def close(self, title: str, number: int, now: float, *, failed: bool) -> list[str]:
        """Lines that end the group that ``open`` with the same arguments began."""
        return []

    def problem(self, problem: Problem) -> str | None:
        """The line of an annotation; None if there are none."""
        return None

    def heading(self, title: str) -> list[str]:
        """Lines that end the last group, where that is not done by ``close``."""
        return []

    def summary(self, markdown: str) -> list[str]:
        """Put a text into the summary of the step; returns lines to be printed for that.

        Raises:
            OSError: it could not be written.
        """
        return []

    def room_for_summary(self) -> int:
        """Bytes that the summary may have."""
        return self.limits.summary_bytes

    @staticmethod
    def harmless(line: str) -> str:
        """A line in which no system finds a command.

        Commands at the beginning of a line cannot occur: every line of a task follows a bar, and
        every line of the console a mark or spaces.
        """
        return _COMMAND.sub("# #", line) if "##" in line else line
