"""A store: tasks, results and graphs in one SQLite file, there again when it is opened again."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ttasks import SQLiteStore, Task, TaskExecutor, TaskGraph


def run_and_remember(path: Path) -> str:
    """Run a graph; every transition is in the file before it is announced. Return the id."""
    with SQLiteStore(path) as store, TaskExecutor(store) as executor:
        graph = TaskGraph("nightly", key="nightly")
        build = graph.add(Task.bash("echo built", title="build"))
        graph.add(Task.bash("echo broken >&2; exit 1", title="test"), after=build)
        graph.run(executor)
        assert executor.persistence_errors == {}
        return graph.id


def look_at(path: Path, graph_id: str) -> None:
    """Read it again, as another program would do on another day."""
    with SQLiteStore(path) as store:
        graph = store.graphs[graph_id]
        build, test = graph
        print(f"{graph.title}: {'ok' if graph.ok else 'failed'}")
        for task in graph:
            print(f"  {task.status.value:<9} {task.result.duration:.3f} s  {task.title}")

        assert graph[test] == (build,)
        assert build.result.output == "built\n"
        assert test.result.returncode == 1
        assert test.result.error == "broken\n"
        # What comes out is a copy of what was saved, not the object that went in.
        assert store.tasks[build.id] == build
        assert store.tasks[build.id] is not build


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        graph_id = run_and_remember(path)
        look_at(path, graph_id)


if __name__ == "__main__":
    main()
