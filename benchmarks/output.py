"""How fast the output of one command comes in: 2 million lines, against `subprocess.run`.

python benchmarks/output.py
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import figures

from ttasks import Task, TaskEvent, TaskEventType, TaskExecutor


def plain(script: str) -> int:
    command = ["bash", "-c", script]
    return len(subprocess.run(command, capture_output=True, text=True).stdout)


def with_ttasks(script: str) -> int:
    with TaskExecutor() as executor:
        return len(executor.execute(Task.bash(script)).output)


def with_subscriber(script: str) -> int:
    heard = 0

    def count(event: TaskEvent) -> None:
        nonlocal heard
        heard += len(event.output_chunk or "")

    with TaskExecutor() as executor:
        executor.events.subscribe(count, types=[TaskEventType.OUTPUT])
        length = len(executor.execute(Task.bash(script)).output)
    assert heard == length
    return length


def main() -> None:
    """Measure and print."""
    options = figures.parser(__doc__, repeat=9).parse_args()
    lines = 200_000 if options.quick else 2_000_000
    length = sum(len(f"{number}\n") for number in range(1, lines + 1))

    def milliseconds(read: Callable[[str], int]) -> figures.Side:
        def side() -> float:
            begin = time.perf_counter()
            found = read(f"seq {lines}")
            took = time.perf_counter() - begin
            assert found == length
            return took * 1e3

        return side

    table = figures.Table(options)
    ways = {"plain": milliseconds(with_ttasks), "with": milliseconds(with_subscriber)}
    times = table.in_turns(ways, {"peer": milliseconds(plain)})
    peer = times.get("peer")
    table.row(f"{lines} lines / subprocess.run", "ms", times["plain"], peer, at_most=1)
    work = "the same with an OUTPUT subscriber"
    table.row(work, "ms", times["with"], peer, at_most=1)
    table.close()


if __name__ == "__main__":
    main()
