"""A script that is killed with ``kill -9`` and, started again, goes on where it was."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ttasks import SQLiteStore, Task, TaskEventType, TaskExecutor, TaskGraph


def release(log: Path) -> TaskGraph:
    """The graph is built anew each time; its key says that it is the same."""
    graph = TaskGraph("release", key="release")
    build = graph.add(Task.bash(f"echo build >> {log}", title="build"))
    test = graph.add(Task.bash(f"echo test >> {log}", title="test"), after=build)
    publish = graph.add(Task.bash(f"echo publish >> {log}", title="publish"), after=test)
    graph.add(Task.bash(f"echo clean >> {log}", title="clean"), after=publish, finally_=True)
    return graph


def run(folder: Path, *, die: bool) -> None:
    """Run or resume it; ``die`` plays the power cut, once ``test`` has succeeded."""
    with SQLiteStore(folder / "ledger.sqlite") as store, TaskExecutor(store) as executor:
        if die:
            executor.events.subscribe(
                lambda event: os.kill(os.getpid(), 9) if event.task.title == "test" else None,
                types=[TaskEventType.SUCCEEDED],
            )
        graph = release(folder / "log").run(executor, resume=True)
        for task in graph:
            print(f"{task.title:<8} {'taken over' if task.result.reused else 'run now'}")
        assert graph.ok


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        killed = subprocess.run([sys.executable, __file__, name, "die"], check=False)
        assert killed.returncode != 0
        print("killed; the log says", (folder / "log").read_text().split())
        run(folder, die=False)
        log = (folder / "log").read_text().split()
        print("ended; the log says", log)
        assert log == ["build", "test", "publish", "clean"]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]), die="die" in sys.argv)
    else:
        main()
