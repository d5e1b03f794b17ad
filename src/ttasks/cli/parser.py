"""Parser: an `argparse` parser that knows its arguments and the near ones of a wrong name."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentParser
from typing import Any, NoReturn

from ttasks.cli.exits import USAGE
from ttasks.errors import did_you_mean


class Parser(ArgumentParser):
    """A parser that knows its arguments, and the near ones of a wrong name.

    Attributes:
        arguments: in the order in which they were added.
        commands: the parsers of the commands by name, in the order of the help.
        remarks: what is said of groups of arguments.
    """

    def __init__(self, **options: Any) -> None:
        self.remarks: list[str] = []
        self.arguments: list[Action] = []
        self.commands: dict[str, Parser] = {}
        super().__init__(allow_abbrev=False, **options)

    def add_argument(self, *names: str, **options: Any) -> Action:
        """Add an argument; see `argparse`."""
        return self.note(super().add_argument(*names, **options))

    def note(self, action: Action) -> Action:
        """Remember an argument that was added to a group."""
        self.arguments.append(action)
        return action

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; of an option that nobody knows, the message tells the near ones."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            from ttasks.model.checks import near

            chosen = self.commands.get(options.command, self)
            known = [name for action in chosen.arguments for name in action.option_strings]
            unknown = next((word for word in rest if word.startswith("-")), rest[0])
            hint = did_you_mean(near(unknown.partition("=")[0], known))
            chosen.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print how the command is used, and end with the exit code for that."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"ttasks: {message}\n")


class Version(Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        import ttasks

        print(f"ttasks {ttasks.__version__}")
        parser.exit()
