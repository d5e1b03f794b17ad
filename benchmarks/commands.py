"""How many Bash commands a second: ttasks, `subprocess.run` in threads, GNU make.

1,000 times ``bash -c true`` on 4 workers, output captured.

make starts no shell for a command as simple as ``true``; its recipe is ``:; true``, for which
it runs ``bash -c ':; true'``, and captures nothing.

    python benchmarks/commands.py
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import figures

from ttasks import Task, TaskExecutor, TaskGraph

WORKERS = 4
BASH = shutil.which("bash") or "/bin/bash"


def with_ttasks(count: int) -> float:
    """Commands a second, as in the functions below."""
    graph = TaskGraph("commands")
    for _ in range(count):
        graph.add(Task.bash("true"))
    with TaskExecutor() as executor:
        begin = time.perf_counter()
        graph.run(executor, max_workers=WORKERS)
        took = time.perf_counter() - begin
    assert graph.ok
    return count / took


def with_threads(count: int) -> float:
    def one(_: int) -> int:
        return subprocess.run(["bash", "-c", "true"], capture_output=True).returncode

    with ThreadPoolExecutor(WORKERS) as pool:
        begin = time.perf_counter()
        codes = list(pool.map(one, range(count)))
        took = time.perf_counter() - begin
    assert not any(codes)
    return count / took


def with_make(count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        targets = " ".join(f"t{number}" for number in range(count))
        Path(folder, "Makefile").write_text(
            f"SHELL = {BASH}\nall: {targets}\n{targets}:\n\t@:; true\n.PHONY: all {targets}\n"
        )
        command = ["make", "--silent", f"-j{WORKERS}", "-C", folder, "all"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return count / (time.perf_counter() - begin)


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=7).parse_args()
    count = 200 if options.quick else 1000
    peers = {"subprocess.run in threads": lambda: with_threads(count)}
    if shutil.which("make"):
        peers["make"] = lambda: with_make(count)
    table = figures.Table(options)
    rates = table.in_turns({"ttasks": lambda: with_ttasks(count)}, peers)
    for peer, at_least in (("subprocess.run in threads", 0.95), ("make", 0.8)):
        if peer in peers:
            work = f"{count} x bash -c true / {peer}"
            table.row(work, "commands/s", rates["ttasks"], rates.get(peer), at_least=at_least)
    table.close()


if __name__ == "__main__":
    main()
