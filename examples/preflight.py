"""Run this project's own checks as a graph of tasks: what must hold before a change goes in.

    uv run examples/preflight.py                   all checks
    uv run examples/preflight.py --list            what there is
    uv run examples/preflight.py --only lint types some of them
    uv run examples/preflight.py --console stream  every line at once, see `ttasks.console`
    uv run examples/preflight.py --logs logs       the whole output of each check in a file
    uv run examples/preflight.py --report out.html write a report as well (also .xml, .md, .json)

Every check is a Bash task. The last line says how many checks failed, and which. The exit code is 0
if none did, 1 if one did or the package cannot be imported, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

try:
    from ttasks import Task, TaskExecutor, TaskGraph
    from ttasks.console import MODES, console
    from ttasks.report.run_report import format_of
except Exception:  # whatever the package raises while it is imported
    traceback.print_exc(limit=-2)
    sys.exit("\nttasks cannot be imported (see above), so no check has run. Mend that first.")

ROOT = Path(__file__).resolve().parents[1]

IMPORT_ALL = "import ttasks; [getattr(ttasks, name) for name in ttasks.__all__]"

# Arguments for the running Python, so that under `uv run` the tools are those of its environment.
CHECKS: dict[str, list[str]] = {
    "import": ["-W", "error", "-c", IMPORT_ALL],
    "lint": ["-m", "ruff", "check", "--output-format", "concise"],
    "format": ["-m", "ruff", "format", "--check"],
    "types": ["-m", "mypy", "src", "examples"],
    "tests": ["-m", "pytest", "-q", "--tb=short"],
    "docs": ["-m", "mkdocs", "build", "--strict"],
}
# What cannot work if the package cannot even be imported.
AFTER_IMPORT = ("tests", "docs")
SHOWN_LINES = 40  # of a failure; the console shows its last ones


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
        except KeyboardInterrupt:  # what was running has been ended
            interrupted = True
    report = graph.report()
    if arguments.console != "jsonl":
        print_rest(graph)
    for path in arguments.report:
        print(f"Wrote {report.write(path)}")
    if arguments.console != "jsonl":
        print("Interrupted." if interrupted else verdict(graph))
    return 130 if interrupted else report.exit_code


def print_rest(graph: TaskGraph) -> None:
    """Print the whole output of failed checks of which the console has left something out."""
    for task in graph.failed:
        lines = task.result.output.splitlines() if task.result else []
        if len(lines) > SHOWN_LINES:
            print(f"\nAll {len(lines)} lines of {task.title}:", *lines, "", sep="\n")


def verdict(graph: TaskGraph) -> str:
    """How many checks failed, and which."""
    if graph.ok:
        return f"All {len(graph)} checks passed."
    failed = ", ".join(task.title for task in graph.failed)
    said = f"{len(graph.failed)} of {len(graph)} checks failed: {failed}."
    if graph.blocked:
        said += f" Not run: {', '.join(task.title for task in graph.blocked)}."
    return said


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
    environment = {"NO_MKDOCS_2_WARNING": "1"}
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        environment["FORCE_COLOR"] = "1"  # the tools write to pipes, but a terminal shows it
    for name in (name for name in CHECKS if name in names):
        task = Task.bash(
            command_of(name),
            title=name,
            cwd=ROOT,
            env=environment,
            timeout=1200,
        )
        first = checks.get("import") if name in AFTER_IMPORT else None
        checks[name] = graph.add(task, after=() if first is None else first)
    return graph


def command_of(name: str) -> str:
    return shlex.join([sys.executable, *CHECKS[name]])


def how_to_run_again(task: Task) -> str:
    return f"{shlex.join([sys.executable, __file__])} --only {task.title}"


if __name__ == "__main__":
    sys.exit(main())
