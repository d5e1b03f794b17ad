"""``ttasks completion``: scripts that complete commands in bash, zsh and fish.

A script has the commands and options in it, made from the parsers, and takes names of tasks and
runs from the file that `names` keeps. So a shell starts no Python and imports no program.
"""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Callable, Iterable
from pkgutil import get_data  # importlib.resources takes longer than the command

from ttasks.cli.exits import OK
from ttasks.cli.ledgers import DEFAULT, NAMES_SUFFIX
from ttasks.cli.parser import Parser
from ttasks.cli.parsers import make
from ttasks.console.detect import MODES

_KINDS = {
    "NAME": "task",
    "TASK": "task",
    "RUN": "run",
    "EARLIER": "run",
    "LATER": "run",
    "KEY": "run",
    "MODE": "mode",
    "FOLDER": "folder",
    "FILE": "file",
    "LEDGER": "file",
    "TARGET": "file",
    "CHANNEL": "file",
}
"""What is completed, by the word that stands for an argument in the help. Others are not."""


def execute(options: Namespace) -> int:
    """Carry out the command."""
    print(_WRITERS[options.shell](make()), end="")
    return OK


def _template(name: str, **parts: str) -> str:
    text = (get_data("ttasks.cli", f"completions/{name}") or b"").decode()
    for part, value in {"NAMES": DEFAULT + NAMES_SUFFIX, "SUFFIX": NAMES_SUFFIX, **parts}.items():
        text = text.replace(f"@{part}@", value)
    return text


def _kind(metavar: object) -> str | None:
    return _KINDS.get(str(metavar))


def _options(parser: Parser) -> list[tuple[list[str], str | None, str, bool]]:
    """Names of each option, the kind of its value, what it does, and whether it has a value."""
    return [
        (
            list(action.option_strings),
            _kind(action.metavar or action.dest.upper()),
            action.help or "",
            action.nargs != 0,
        )
        for action in parser.arguments
        if action.option_strings
    ]


def _places(parser: Parser) -> list[str]:
    """The kinds of its arguments that are no options, in their order."""
    found = []
    for action in parser.arguments:
        if not action.option_strings:
            choices = " ".join(map(str, action.choices)) if action.choices else None
            found.append(f"={choices}" if choices else _kind(action.metavar) or "none")
    return found


def _modes() -> str:
    return " ".join(MODES)


def _facts(parser: Parser) -> Iterable[str]:
    """A line of a shell's table for each command: its options, which take values, its places."""
    for name, command in parser.commands.items():
        options = _options(command)
        flags = " ".join(flag for names, *_ in options for flag in names)
        values = " ".join(
            f"{flag}={kind or 'none'}"
            for names, kind, _, has_value in options
            if has_value
            for flag in names
        )
        yield f"{name}|{flags}|{values}|{'|'.join(_places(command))}"


def _bash(parser: Parser) -> str:
    table = "\n".join(_facts(parser))
    return _template("ttasks.bash", COMMANDS=" ".join(parser.commands), TABLE=table, MODES=_modes())


def _zsh(parser: Parser) -> str:
    """Options with their descriptions, for ``_arguments``."""
    cases = []
    commands = []
    for name, command in parser.commands.items():
        commands.append(shlex.quote(f"{name}:{command.description}"))
        words = []
        for names, kind, text, has_value in _options(command):
            brief = _brief(text, "[]:\\")
            # An option that may be given again is not left out once it is there.
            again = "*" if "again" in text or kind == "task" else ""
            value = f":{kind or 'value'}:{_ZSH.get(kind or '', ' ')}" if has_value else ""
            words += [shlex.quote(f"{again}{flag}[{brief}]{value}") for flag in names]
        for number, kind in enumerate(_places(command), 1):
            if kind.startswith("="):
                action, kind = f"({kind[1:]})", "choice"
            else:
                action = _ZSH.get(kind, " ")
            words.append(shlex.quote(f"{number}::{kind}:{action}"))
        lines = " \\\n        ".join(words)
        cases.append(f"    {name})\n      _arguments -s : \\\n        {lines}\n      ;;")
    return _template(
        "ttasks.zsh", COMMANDS="\n    ".join(commands), CASES="\n".join(cases), MODES=_modes()
    )


_ZSH = {
    # With a space before it, a function gets no arguments but these.
    "task": " _ttasks_names task",
    "run": " _ttasks_names run",
    "mode": "_ttasks_modes",
    "file": "_files",
    "folder": "_files -/",
}


def _fish(parser: Parser) -> str:
    lines = []
    for name, command in parser.commands.items():
        text = _brief(command.description or "", "")
        lines.append(
            f"complete -c ttasks -n __fish_use_subcommand -f -a {name} -d {shlex.quote(text)}"
        )
        here = f"complete -c ttasks -n '__fish_seen_subcommand_from {name}'"
        for names, kind, text, has_value in _options(command):
            flags = " ".join(
                f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in names
            )
            value = f" -r {_FISH.get(kind or '', '-f')}" if has_value else ""
            lines.append(f"{here} {flags}{value} -d {shlex.quote(_brief(text, ''))}")
        kinds = _places(command)
        if not any(kind == "file" for kind in kinds):
            lines.append(f"{here} -f")
        for kind in dict.fromkeys(kinds):
            if kind.startswith("="):
                lines.append(f"{here} -f -a '{kind[1:]}'")
            elif kind in ("task", "run"):
                lines.append(f"{here} {_FISH[kind]}")
    return _template("ttasks.fish", LINES="\n".join(lines), MODES=_modes())


_FISH = {
    "task": "-f -a '(__ttasks_names task)'",
    "run": "-f -a '(__ttasks_names run)'",
    "mode": "-f -a '(__ttasks_modes)'",
    "file": "-F",
    "folder": "-f -a '(__fish_complete_directories)'",
}


def _brief(text: str, without: str) -> str:
    """The beginning of a description, as far as it fits beside an option."""
    short = text.split(";")[0].split(" (")[0].replace("%%", "%")
    return "".join(character for character in short if character not in without)


_WRITERS: dict[str, Callable[[Parser], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
