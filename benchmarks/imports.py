"""How long importing `ttasks` takes in a fresh process, and whether it imports what it should not.

The start of the interpreter does not count, and all modules have been compiled before.

    python benchmarks/imports.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import figures

UNWANTED = ("asyncio", "sqlite3", "copilot", "openai", "rich", "watchfiles", "cronsim", "dask")
CODE = """
import sys, time
begin = time.perf_counter()
{statement}
took = time.perf_counter() - begin
import threading
print(took * 1e3, threading.active_count() - 1, *[n for n in {unwanted} if n in sys.modules])
"""
STATEMENTS = {
    "import ttasks": "import ttasks",
    "its tasks, graph and executor": "from ttasks import Task, TaskExecutor, TaskGraph",
}


def imported(statement: str, cache: str) -> list[str]:
    """Milliseconds, threads started, and the modules that should not be there.

    Args:
        statement: that imports.
        cache: folder for bytecode, so that it is kept whatever the environment says.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", CODE.format(statement=statement, unwanted=UNWANTED)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=15).parse_args()
    if options.quick:
        options.repeat = 5
    table = figures.Table(options)
    with tempfile.TemporaryDirectory() as cache:
        sides = {
            name: lambda statement=statement: float(imported(statement, cache)[0])
            for name, statement in STATEMENTS.items()
        }
        _, threads, *unwanted = imported(STATEMENTS["its tasks, graph and executor"], cache)
        found = table.in_turns(sides)
    for name in STATEMENTS:
        table.row(name, "ms", found[name], at_most=50)
    table.row("threads started by it", "", [float(threads)], at_most=0)
    named = f": {', '.join(unwanted)}" if unwanted else ""
    table.row(f"unwanted modules{named}", "", [float(len(unwanted))], at_most=0)
    table.close()


if __name__ == "__main__":
    main()
