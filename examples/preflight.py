"""Run this project's own checks as a graph of tasks: what must hold before a change goes in.

    uv run examples/preflight.py                   all checks
    uv run examples/preflight.py --list            what there is
    uv run examples/preflight.py --only lint types some of them
    uv run examples/preflight.py --report out.html write a report as well (also .xml, .md, .json)

Every check is a Bash task. A finally task comes after them, whatever became of the checks, also
after Ctrl-C: it shows what is not committed, and may fail without harm. Then the report sums up.
The exit code is 0 if all is well, 1 if not, and 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from ttasks import Task, TaskEvent, TaskEventType, TaskExecutor, TaskGraph

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
    sys.stdout.reconfigure(errors="replace")  # whatever the tools print
    graph = build_graph(arguments.only or list(CHECKS))
    interrupted = False
    with TaskExecutor() as executor:
        executor.events.subscribe(LiveLines())
        try:
            graph.run(executor, handle_sigterm=True)
        except KeyboardInterrupt:  # what was running has been ended, and the finally tasks ran
            interrupted = True
    report = graph.report()
    print()
    print(report.to_text())
    for path in arguments.report:
        print(f"Wrote {report.write(path)}")
    if interrupted:
        print("Interrupted.")
        return 130
    print("All is well." if report.ok else "Something is WRONG.")
    return report.exit_code


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the project's own checks.")
    parser.add_argument("--list", action="store_true", help="show the checks and run none")
    parser.add_argument(
        "--only", nargs="+", choices=CHECKS, metavar="NAME", help="run these checks only"
    )
    parser.add_argument(
        "--report", action="append", default=[], metavar="FILE", help="write a report, by suffix"
    )
    return parser.parse_args()


def command_of(name: str) -> str:
    return shlex.join([sys.executable, *CHECKS[name]])


def build_graph(names: Iterable[str]) -> TaskGraph:
    """The graph of these checks."""
    graph = TaskGraph("preflight")
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
    graph.add(
        Task.bash("git status --short", title="changes", cwd=ROOT, timeout=60),
        after=checks.values(),
        finally_=True,
        required=False,
    )
    return graph


class LiveLines:
    """A subscriber that prints a line per event, and every line of output.

    Events come on the threads that cause them: the lock keeps the lines of one together.
    """

    def __init__(self) -> None:
        self._lock = Lock()

    def __call__(self, event: TaskEvent) -> None:
        title = event.task.title
        if event.type is TaskEventType.OUTPUT:
            lines = [f"{title:<8}| {line}" for line in event.output_chunk.splitlines()]
        else:
            time = event.timestamp.astimezone().strftime("%H:%M:%S")
            lines = [f"{time} {event.type.value:<9} {title:<8} {seconds_of(event)} {reason(event)}"]
        with self._lock:
            print("\n".join(line.rstrip() for line in lines), flush=True)


def seconds_of(event: TaskEvent) -> str:
    ended = event.status.is_sink or event.status.is_bad
    result = event.task.result if ended else None
    return "" if result is None else f"{result.duration:8.2f} s"


def reason(event: TaskEvent) -> str:
    return "" if event.error is None else event.error.splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
