"""How fast the output of one command gets in: 2 million lines, against `subprocess.run`.

python benchmarks/output.py [repetitions]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from ttasks import Task, TaskEvent, TaskEventType, TaskExecutor

SCRIPT = "seq 2000000"
LENGTH = sum(len(f"{number}\n") for number in range(1, 2_000_001))


def timed(function: Callable[[], int]) -> float:
    begin = time.perf_counter()
    length = function()
    took = time.perf_counter() - begin
    assert length == LENGTH
    return took


def plain() -> int:
    command = ["bash", "-c", SCRIPT]
    return len(subprocess.run(command, capture_output=True, text=True).stdout)


def with_ttasks() -> int:
    with TaskExecutor() as executor:
        return len(executor.execute(Task.bash(SCRIPT)).output)


def with_subscriber() -> int:
    heard = 0

    def count(event: TaskEvent) -> None:
        nonlocal heard
        heard += len(event.output_chunk or "")

    with TaskExecutor() as executor:
        executor.events.subscribe(count, types=[TaskEventType.OUTPUT])
        length = len(executor.execute(Task.bash(SCRIPT)).output)
    assert heard == length
    return length


def main() -> None:
    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    systems = {
        "subprocess.run": plain,
        "ttasks": with_ttasks,
        "ttasks, OUTPUT subscriber": with_subscriber,
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(repetitions):
        for name, measure in systems.items():
            seconds[name].append(timed(measure))
    median = {name: statistics.median(took) for name, took in seconds.items()}
    print(f"one command, 2 million lines ({LENGTH / 1e6:.0f} MB), medians of {repetitions}")
    for name, took in median.items():
        ratio = took / median["subprocess.run"]
        print(f"  {name:26} {took * 1000:6.0f} ms   {ratio:.2f} x subprocess.run")
    print("  budgets: 2 x, with a subscriber 3 x")


if __name__ == "__main__":
    main()
