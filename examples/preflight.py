"""Run this project's own checks as a graph of tasks: what must hold before a change goes in.

    uv run examples/preflight.py                   all checks
    uv run examples/preflight.py --list            what there is
    uv run examples/preflight.py --only lint types some of them
    uv run examples/preflight.py --console stream  every line at once, see `ttasks.console`
    uv run examples/preflight.py --logs logs       the whole output of each check in a file
    uv run examples/preflight.py --report out.html write a report as well (also .xml, .md, .json)

Every check is a Bash task. An optional finally task comes after them, whatever became of them,
also after Ctrl-C: it shows what is not committed, and may fail without harm. The exit code is 0 if
all is well, 1 if not, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from ttasks import Task, TaskExecutor, TaskGraph
from ttasks.console import MODES, console
from ttasks.report.run_report import format_of

ROOT = Path(__file__).resolve().parents[1]

IMPORT_ALL = "import ttasks; [getattr(ttasks, name) for name in ttasks.__all__]"

# Arguments for the running Python, so that under `uv run` the tools are those of its environment.
CHECKS: dict[str, list[str]] = {
    "import": ["-W", "error", "-c", IMPORT_ALL],
    "lint": ["-m", "ruff", "check"],
    "format": ["-m", "ruff", "format", "--check"],
    "types": ["-m", "mypy"],
    "tests": ["-m", "pytest", "-q"],
    "docs": ["-m", "mkdocs", "build", "--strict"],
}
# What cannot work if the package cannot even be imported.
AFTER_IMPORT = ("tests", "docs")


def main() -> int:
    arguments = parse_arguments()
    if arguments.list:
        for name in CHECKS:
            print(f"{name:<8} {command_of(name)}")
        return 0
    graph = build_graph(arguments.only or list(CHECKS))
    interrupted = False
    with (
        TaskExecutor() as executor,
        console(executor, arguments.console, logs=arguments.logs, rerun=how_to_run_again),
    ):
        try:
            graph.run(executor, handle_sigterm=True)
        except KeyboardInterrupt:  # what was running has been ended, and the finally task ran
            interrupted = True
    report = graph.report()
    for path in arguments.report:
        print(f"Wrote {report.write(path)}")
    return 130 if interrupted else report.exit_code


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the project's own checks.")
    parser.add_argument("--list", action="store_true", help="show the checks and run none")
    parser.add_argument(
        "--only", nargs="+", choices=CHECKS, metavar="NAME", help="run these checks only"
    )
    parser.add_argument("--console", choices=MODES, default="auto", help="how to show the run")
    parser.add_argument(
        "--logs", type=folder, metavar="FOLDER", help="write the output of each check to a file"
    )
    parser.add_argument(
        "--report",
        type=report_file,
        action="append",
        default=[],
        metavar="FILE",
        help="write a report, by suffix",
    )
    return parser.parse_args()


def folder(path: str) -> Path:
    """A folder that is there or can be made."""
    existing = next(part for part in (Path(path), *Path(path).absolute().parents) if part.exists())
    if not existing.is_dir():
        raise argparse.ArgumentTypeError(f"{str(existing)!r} is not a folder")
    return Path(path)


def report_file(path: str) -> Path:
    """A file that a report can be written to."""
    try:
        format_of(Path(path))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"{path!r} is a folder")
    if not Path(path).parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(Path(path).parent)!r}")
    return Path(path)


def build_graph(names: Iterable[str]) -> TaskGraph:
    """The graph of these checks."""
    graph = TaskGraph("preflight", key="preflight")
    checks: dict[str, Task] = {}
    for name in (name for name in CHECKS if name in names):
        task = Task.bash(
            command_of(name),
            title=name,
            cwd=ROOT,
            env={"NO_MKDOCS_2_WARNING": "1"},
            timeout=1200,
        )
        first = checks.get("import") if name in AFTER_IMPORT else None
        checks[name] = graph.add(task, after=() if first is None else first)
    changes = Task.bash("git status --short", title="changes", cwd=ROOT, timeout=60)
    graph.add(changes, after=checks.values(), finally_=True, required=False)
    return graph


def command_of(name: str) -> str:
    return shlex.join([sys.executable, *CHECKS[name]])


def how_to_run_again(task: Task) -> str:
    if task.title not in CHECKS:
        return f"cd {shlex.quote(str(ROOT))} && {task.payload}"
    return f"{shlex.join([sys.executable, __file__])} --only {task.title}"


if __name__ == "__main__":
    sys.exit(main())
