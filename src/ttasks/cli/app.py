"""The way from arguments to an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from ttasks.cli.exits import INTERNAL, OK, SIGNAL, USAGE, CommandError, ProgramError
from ttasks.errors import MissingExtraError, StoreError

if TYPE_CHECKING:
    from argparse import Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Never raises but for errors of argparse, which end in SystemExit with the code 2.

    Args:
        argv: arguments without the name of the program; None means those of this process.
    """
    from ttasks.cli.parsers import parse

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # LANG=C, say: a mark must not end a command
    options = parse(list(sys.argv[1:] if argv is None else argv))
    code = OK  # of a command whose reader has gone: it had what it wanted
    try:
        code = _carry_out(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    return code


def _carry_out(options: Namespace) -> int:
    try:
        module = import_module(f"ttasks.cli.{options.module}")
        code: int = module.execute(options)
        return code
    except CommandError as error:
        return _refuse(str(error), error.code)
    except (StoreError, MissingExtraError) as error:
        return _refuse(str(error), USAGE)
    except ProgramError as error:
        from ttasks.cli.targets import print_error

        return print_error(error.cause)
    except KeyboardInterrupt:
        return SIGNAL + 2
    except BrokenPipeError:
        raise
    except Exception:
        import traceback

        traceback.print_exc()
        return _refuse("this is an error in ttasks itself; please report it", INTERNAL)


def _refuse(message: str, code: int) -> int:
    print(f"ttasks: {message}", file=sys.stderr)
    return code


def _drop_stdout() -> None:
    """Have nothing to flush at the end of the interpreter, as the reader has gone."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass
