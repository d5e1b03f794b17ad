"""The parsers: every command and every option, and what the reference page says of them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from ttasks.cli.ledgers import DEFAULT, LATEST, VARIABLE
from ttasks.cli.parser import Parser, Version

RUN_HELP = f"id of a run or its beginning, a key for its latest run, or {LATEST!r}"
TARGET_HELP = "file.py, file.py:attribute or package.module:attribute"
CACHES = ("on", "off", "verify")
SHELLS = ("bash", "zsh", "fish")


def parse(argv: list[str]) -> Namespace:
    """The options of a command line; ends the program where it is wrong, or asks for help."""
    words: list[str] = []
    if "--" in argv and argv[0] in ("run", "list"):
        at = argv.index("--")
        argv, words = argv[:at], argv[at + 1 :]
    parser = make()
    argv = [_with_mode(word, after) for word, after in zip_longest(argv, argv[1:])]
    if argv and not argv[0].startswith("-") and argv[0] not in parser.commands:
        from ttasks.errors import did_you_mean
        from ttasks.model.checks import near

        names = ", ".join(parser.commands)
        hint = did_you_mean(near(argv[0], parser.commands)) or f"; commands are {names}"
        parser.error(f"there is no command {argv[0]!r}{hint}")
    options: Namespace = parser.parse_args(argv)
    if options.command == "run" and options.help and options.target is None:
        parser.commands["run"].print_help()
        parser.exit()
    options.words = words
    options.argv = [*argv, *(["--", *words] if words else [])]
    return options


def _with_mode(word: str, after: str | None) -> str:
    """``--cache`` alone means the mode "on"; argparse would take the TARGET for the mode."""
    return "--cache=on" if word == "--cache" and after not in CACHES else word


def make() -> Parser:
    """The parser of ``ttasks``, with those of its commands."""
    parser = Parser(
        prog="ttasks",
        description="Run graphs of tasks, and ask what their runs did and why.",
        epilog="`ttasks COMMAND --help` tells more of a command.",
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )

    def add(name: str, text: str, **options: Any) -> Parser:
        made: Parser = commands.add_parser(name, help=text, description=_sentence(text), **options)
        made.set_defaults(module=_MODULES.get(name, name))
        parser.commands[name] = made
        return made

    for build in _COMMANDS:
        build(add)
    return parser


# Files that are not called as their command.
_MODULES = {"list": "listing"}

Add = Callable[..., Parser]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _add_store(parser: Parser, *, is_run: bool = False) -> None:
    usual = f"the variable {VARIABLE}, or else {DEFAULT}"
    if not is_run:
        parser.add_argument("--store", metavar="FILE", help=f"the ledger (default: {usual})")
        return
    group = parser.add_mutually_exclusive_group()
    parser.note(
        group.add_argument(
            "--store", metavar="FILE", help=f"the ledger that keeps what happens (default: {usual})"
        )
    )
    parser.note(
        group.add_argument(
            "--no-store", action="store_true", help="keep nothing: neither results nor this run"
        )
    )


def _add_json(parser: Parser, text: str = "print JSON and nothing else") -> None:
    parser.add_argument("--json", action="store_true", help=text)


def _add_run_argument(parser: Parser, *, is_optional: bool = True) -> None:
    if is_optional:
        text = f"{RUN_HELP} (default: {LATEST})"
        parser.add_argument("run", metavar="RUN", nargs="?", default=LATEST, help=text)
    else:
        parser.add_argument("run", metavar="RUN", help=RUN_HELP)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_positive.__name__ = "whole number above 0"


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


_seconds.__name__ = "number of seconds above 0"


def _add_run(add: Add) -> None:
    parser = add(
        "run",
        "run the graph of a file or module",
        add_help=False,
        epilog="After `--` come parameters of the function that makes the graph. "
        "`ttasks run TARGET --help` lists them, too.",
        usage="ttasks run [options] TARGET [-- name=value ...]",
    )
    parser.add_argument("target", metavar="TARGET", nargs="?", help=TARGET_HELP)
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this, and the parameters of TARGET"
    )
    parser.add_argument(
        "-j", "--jobs", metavar="N", type=_positive, help="run N tasks at once, at most"
    )
    parser.add_argument(
        "--fail-fast", action="store_true", help="stop at the first failure of a required task"
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="stop the run after so long; exit code 4",
    )
    _add_store(parser, is_run=True)
    parser.add_argument(
        "--cache",
        metavar="MODE",
        default="on",
        choices=CACHES,
        help="what becomes of tasks that may be skipped: on (the default) skips those that have "
        "not changed, off runs them, verify runs them and compares what they make",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="take over what the latest run has finished and what has not changed since",
    )
    parser.add_argument(
        "--wait", action="store_true", help="wait while another process runs the same graph"
    )
    _add_selection(parser)
    parser.add_argument(
        "-n", "--dry-run", action="store_true", help="print what would run, in order, and why"
    )
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="run again whenever files below this folder or that of TARGET change (extra `watch`)",
    )
    _add_views(parser)
    _add_json(parser, "print the report as JSON to stdout, and everything else to stderr")


def _add_selection(parser: Parser) -> None:
    remark = (
        "NAME is a key or title, or a pattern such as 'test-*'; each option may be given again. "
        "What is left out, but needed, must have succeeded in the ledger. Finally tasks of what "
        "runs come along."
    )
    parser.remarks.append(remark)
    group = parser.add_argument_group("a part of the graph", remark)
    for flag, text in (
        ("--only", "run these tasks"),
        ("--skip", "leave these tasks out"),
        ("--from", "run these tasks and what comes after them"),
        ("--until", "run these tasks and what comes before them"),
    ):
        dest = "from_" if flag == "--from" else flag[2:]
        parser.note(
            group.add_argument(
                flag, dest=dest, metavar="NAME", action="append", default=[], help=text
            )
        )
    parser.note(
        group.add_argument(
            "--failed", action="store_true", help="run what has not succeeded in the latest run"
        )
    )


def _add_views(parser: Parser) -> None:
    group = parser.add_argument_group("what is shown and written")
    parser.note(
        group.add_argument(
            "--console",
            metavar="MODE",
            default="auto",
            help="auto, live, plain, stream, grouped, keep-order, quiet, jsonl, or a CI system: "
            "github, gitlab, azure, buildkite, teamcity",
        )
    )
    parser.note(
        group.add_argument(
            "--logs", metavar="FOLDER", help="write the output of every attempt to a file there"
        )
    )
    parser.note(
        group.add_argument(
            "--report",
            metavar="FILE",
            action="append",
            default=[],
            help="write a report in the format that the suffix tells: .html, .xml (JUnit), "
            ".json, .md, .txt, .mmd, .dot or .trace.json; may be given again",
        )
    )


def _add_schedule(add: Add) -> None:
    parser = add(
        "schedule",
        "run the schedules of a file or module until a signal ends it",
        epilog="TARGET is a `Scheduler` at the top level, or a function that is given the executor "
        "and returns one, `build_scheduler` if none is named.",
    )
    parser.add_argument("target", metavar="TARGET", help=TARGET_HELP)
    parser.add_argument(
        "--next",
        metavar="N",
        type=_positive,
        help="print the next N slots of all schedules, and run nothing",
    )
    _add_store(parser, is_run=True)
    _add_json(
        parser, "print JSON and nothing else to stdout: the next slots, then a line for each run"
    )


def _add_list(add: Add) -> None:
    parser = add(
        "list",
        "list the runs of a ledger, or the tasks of a TARGET",
        usage="ttasks list [options] [TARGET [-- name=value ...]]",
    )
    parser.add_argument("target", metavar="TARGET", nargs="?", help=TARGET_HELP)
    _add_store(parser)
    parser.add_argument("--key", help="only runs of graphs with this key")
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_positive,
        default=20,
        help="so many runs at most (default: 20)",
    )
    _add_json(parser)


def _add_show(add: Add) -> None:
    parser = add("show", "show what became of the tasks of a run")
    _add_run_argument(parser)
    parser.add_argument(
        "--all", action="store_true", help="show every task, also of a run of more than 500"
    )
    _add_store(parser)
    _add_json(parser)


def _add_events(add: Add) -> None:
    parser = add("events", "print the events of a run, in their order")
    _add_run_argument(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    _add_store(parser)
    _add_json(parser, "print JSON and nothing else, an object on a line for each event")


def _add_logs(add: Add) -> None:
    parser = add("logs", "print the output of the tasks of a run, as the ledger has it")
    _add_run_argument(parser)
    parser.add_argument(
        "task", metavar="TASK", nargs="?", help="only of this task: key, title or id"
    )
    _add_store(parser)
    _add_json(parser)


def _add_why(add: Add) -> None:
    parser = add("why", "say why a task waits, ran, did not run or failed")
    parser.add_argument("task", metavar="TASK", help="key, title or id of a task")
    parser.add_argument(
        "--run", metavar="RUN", default=LATEST, help=f"{RUN_HELP} (default: {LATEST})"
    )
    _add_store(parser)
    _add_json(parser)


def _add_report(add: Add) -> None:
    parser = add("report", "write reports of a run, or print one")
    _add_run_argument(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        action="append",
        default=[],
        help="write it there, in the format that the suffix tells (see `ttasks run`); may be given "
        "again; without it the text is printed",
    )
    _add_store(parser)
    _add_json(parser)


def _add_compare(add: Add) -> None:
    parser = add("compare", "say what has changed from one run to another")
    parser.add_argument("earlier", metavar="EARLIER", help=RUN_HELP)
    parser.add_argument("later", metavar="LATER", help=RUN_HELP)
    _add_store(parser)
    _add_json(parser)


def _add_cancel(add: Add) -> None:
    parser = add("cancel", "stop a run, also one of another process; its finally tasks run")
    _add_run_argument(parser, is_optional=False)
    parser.add_argument("--wait", action="store_true", help="wait until the run has ended")
    _add_store(parser)
    _add_json(parser)


def _add_prune(add: Add) -> None:
    parser = add("prune", "delete old runs and tasks from a ledger")
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        required=True,
        help="what was last saved so long ago and has ended: 90s, 30m, 12h, 30d or 8w",
    )
    parser.add_argument("--vacuum", action="store_true", help="give the space back to the disk")
    _add_store(parser)
    _add_json(parser)


def _add_check(add: Add) -> None:
    parser = add("check", "read a whole ledger and say whether it is sound")
    parser.add_argument(
        "ledger",
        metavar="LEDGER",
        nargs="?",
        help=f"the file (default: the variable {VARIABLE}, or else {DEFAULT})",
    )
    _add_json(parser)


def _add_notify(add: Add) -> None:
    parser = add("notify", "try a channel: send a message that says that it is a test")
    parser.add_argument("action", metavar="test", choices=("test",), help="what to do: test")
    parser.add_argument(
        "channel",
        metavar="CHANNEL",
        help="a URL such as smtp://host?from=a@b.org&to=c@d.org or https://host/path, or "
        "file.py:attribute or package.module:attribute of a channel or function; others can see a "
        "URL in the list of processes, with its secrets",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=30.0,
        help="give up after so long (default: 30)",
    )
    _add_json(parser)


def _add_completion(add: Add) -> None:
    parser = add("completion", "print a script that completes commands in a shell")
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


_COMMANDS: Sequence[Callable[[Add], None]] = (
    _add_run,
    _add_schedule,
    _add_list,
    _add_show,
    _add_events,
    _add_logs,
    _add_why,
    _add_report,
    _add_compare,
    _add_cancel,
    _add_prune,
    _add_check,
    _add_notify,
    _add_completion,
)
