"""What the pytest plugin adds to the start of pytest, where no test uses it.

Both sides run one empty test in a fresh process, without any other plugin. CPU time is what counts:
what else the machine does hardly changes it.

    python benchmarks/pytest_start.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import figures


def cpu_seconds(folder: Path, *options: str) -> float:
    """CPU time that a run of pytest takes."""
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "cache")  # bytecode is kept in any case
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(folder / "tests")],
        env=environment,
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=25).parse_args()
    if options.quick:
        options.repeat = 5
    table = figures.Table(options)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tests").mkdir()
        (folder / "tests" / "test_it.py").write_text("def test_it(): pass\n")
        (folder / "pytest.ini").write_text("[pytest]\n")
        for warm_up in ((), ("-p", "ttasks")):
            cpu_seconds(folder, *warm_up)
        found = table.in_turns(
            {"with": lambda: 1e3 * cpu_seconds(folder, "-p", "ttasks")},
            {"without": lambda: 1e3 * cpu_seconds(folder)},
        )
    table.row(
        "pytest, one empty test, with the plugin", "ms CPU", found["with"], found.get("without")
    )
    if "without" in found:
        added = [more - less for more, less in zip(found["with"], found["without"], strict=True)]
        table.row("what the plugin adds", "ms CPU", added, at_most=20)
    table.close()


if __name__ == "__main__":
    main()
