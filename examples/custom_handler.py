"""Tasks of your own kind: a type, and a handler that knows what to do with its payload.

A plain handler computes a checksum and tells how far it is; one that is `async def` waits for a
file without occupying anything. A third reads what the tasks before it have found.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from pathlib import Path

from ttasks import Task, TaskContext, TaskEventType, TaskExecutor, TaskGraph, TaskType

CHECKSUM = TaskType("checksum")
WAIT_FOR_FILE = TaskType("wait for file")
COMPARE = TaskType("compare")


def checksum(context: TaskContext) -> str:
    """A plain handler: what it returns becomes the value of the result."""
    path = Path(context.payload)
    size, done = path.stat().st_size, 0
    digest = hashlib.new(context.options.get("algorithm", "sha256"))
    with path.open("rb") as file:
        while chunk := file.read(64 * 1024):
            context.raise_if_cancelled()  # the task was cancelled, or its time is up
            digest.update(chunk)
            done += len(chunk)
            context.emit_progress(100 * done / size)
    return digest.hexdigest()


async def wait_for_file(context: TaskContext) -> int:
    """A coroutine handler: cancelled from outside at the next await."""
    path = Path(context.payload)
    while not path.exists():
        await asyncio.sleep(0.01)
    return path.stat().st_size


def compare(context: TaskContext) -> bool:
    """A handler that uses the results of the tasks before it."""
    first, second = (task.result.value for task in context.upstream.values())
    if first != second:
        raise ValueError(f"the checksums differ: {first} and {second}")
    return True


def main() -> None:
    executor = TaskExecutor()
    executor.register(CHECKSUM, checksum)
    executor.register(WAIT_FOR_FILE, wait_for_file)
    executor.handler(COMPARE)(compare)  # also as a decorator: @executor.handler(COMPARE)
    progress: list[float] = []
    executor.events.subscribe(
        lambda event: progress.append(event.progress_percent or 0.0), types=TaskEventType.PROGRESS
    )

    with executor, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "original").write_bytes(b"x" * 200_000)

        graph = TaskGraph("copy and compare")
        graph.add(Task.bash("sleep 0.1; cp original copy.new; mv copy.new copy", cwd=folder))
        arrived = graph.add(Task("arrived", str(folder / "copy"), WAIT_FOR_FILE, timeout=10))
        first = graph.add(Task("first", str(folder / "original"), CHECKSUM))
        second = graph.add(Task("second", str(folder / "copy"), CHECKSUM), after=arrived)
        same = graph.add(Task("same", None, COMPARE), after=[first, second])
        graph.run(executor)
        graph.raise_for_failure()

    assert arrived.result.value == 200_000
    assert same.result.value is True
    assert progress[-1] == 100.0
    print("checksum:", first.result.output)
    print("progress:", ", ".join(f"{percent:.0f} %" for percent in sorted(progress)))


if __name__ == "__main__":
    main()
