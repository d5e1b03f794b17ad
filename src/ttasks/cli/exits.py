"""Exit codes, and the errors of the command line."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
INTERNAL = 3
TIMEOUT = 4
NOTHING = 5
SIGNAL = 128
"""Added to the number of a signal."""

CODES = {
    OK: "All went well.",
    FAILED: "The run failed, the program of TARGET raised, a report or a message could "
    "not be written or sent, or `check` found damage.",
    USAGE: "The command cannot be carried out as it was given: a wrong argument, name or file.",
    INTERNAL: "An error in ttasks itself. The traceback is for a bug report.",
    TIMEOUT: "The time limit of the run was up.",
    NOTHING: "Nothing was selected, so nothing ran.",
    SIGNAL + 1: "SIGHUP ended the run, after its finally tasks.",
    SIGNAL + 2: "Ctrl-C (SIGINT) ended the run, after its finally tasks.",
    SIGNAL + 15: "SIGTERM ended the run, after its finally tasks.",
}
"""What each exit code means."""


class CommandError(Exception):
    """Why a command is not carried out; the message is all that is shown.

    Attributes:
        code: exit code.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


class ProgramError(Exception):
    """The program of a TARGET raised ``cause``; its own traceback is shown.

    Attributes:
        cause: what it raised.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause
