"""How many Bash commands a second: this library, `subprocess.run` in threads, GNU make.

1,000 times ``bash -c true`` on 4 workers, output captured. Repetitions alternate between the
systems, so that what else the machine does hits all of them; medians are compared.

make starts no shell for a command as simple as ``true``; its recipe is ``:; true``, for which
it runs ``bash -c ':; true'``, and captures nothing.

    python benchmarks/commands.py [repetitions]
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ttasks import Task, TaskExecutor, TaskGraph

COMMANDS = 1000
WORKERS = 4
BASH = shutil.which("bash") or "/bin/bash"


def with_ttasks() -> float:
    graph = TaskGraph("commands")
    tasks = [graph.add(Task.bash("true")) for _ in range(COMMANDS)]
    with TaskExecutor() as executor:
        begin = time.perf_counter()
        graph.run(executor, max_workers=WORKERS)
        took = time.perf_counter() - begin
    assert all(task.is_succeeded for task in tasks)
    return took


def with_threads() -> float:
    def one(_: int) -> int:
        return subprocess.run(["bash", "-c", "true"], capture_output=True).returncode

    with ThreadPoolExecutor(WORKERS) as pool:
        begin = time.perf_counter()
        codes = list(pool.map(one, range(COMMANDS)))
        took = time.perf_counter() - begin
    assert not any(codes)
    return took


def with_make() -> float:
    with tempfile.TemporaryDirectory() as folder:
        targets = " ".join(f"t{number}" for number in range(COMMANDS))
        Path(folder, "Makefile").write_text(
            f"SHELL = {BASH}\nall: {targets}\n{targets}:\n\t@:; true\n.PHONY: all {targets}\n"
        )
        command = ["make", "--silent", f"-j{WORKERS}", "-C", folder, "all"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - begin


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    systems = {"ttasks": with_ttasks, "subprocess.run": with_threads, "make": with_make}
    if shutil.which("make") is None:
        del systems["make"]
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(repetitions):
        for name, measure in systems.items():
            seconds[name].append(measure())
    rate = {name: COMMANDS / statistics.median(took) for name, took in seconds.items()}
    print(f"{COMMANDS} x bash -c true, {WORKERS} workers, medians of {repetitions}")
    for name, took in seconds.items():
        best = COMMANDS / min(took)
        print(f"  {name:15} {rate[name]:6.0f} commands/s   (best {best:.0f})")
    for name, budget in (("subprocess.run", 1.2), ("make", 0.75)):
        if name in rate:
            print(f"  ttasks / {name}: {rate['ttasks'] / rate[name]:.2f} (budget {budget})")


if __name__ == "__main__":
    main()
