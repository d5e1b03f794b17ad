"""Finally tasks: cleanup that runs whatever became of the work before it.

A database is set up, the tests that use it fail, and it is torn down all the same. Telling the
team fails too, but is optional: only the tests make the run a failure.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ttasks import Task, TaskExecutor, TaskGraph


def build_graph(folder: Path) -> TaskGraph:
    graph = TaskGraph("tests with a database")
    start = graph.add(Task.bash("touch database.running", title="start", cwd=folder))
    tests = graph.add(Task.bash("exit 1", title="tests", cwd=folder), after=start)
    report = graph.add(Task.bash("echo published", title="publish", cwd=folder), after=tests)
    graph.add(
        Task.bash("rm database.running", title="stop", cwd=folder),
        after=[start, tests, report],
        finally_=True,
    )
    graph.add(
        Task.bash("no-such-messenger 'tests are through'", title="tell", cwd=folder),
        after=tests,
        finally_=True,
        required=False,
    )
    return graph


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = build_graph(folder)
        with TaskExecutor() as executor:
            graph.run(executor)
        for task in graph:
            print(f"{task.status.value:<9} {task.title}")
        assert not (folder / "database.running").exists()

    assert [task.title for task in graph.blocked] == ["publish"]
    assert [task.title for task in graph.required_failed] == ["tests"]
    assert [task.title for task in graph.optional_failed] == ["tell"]
    assert not graph.ok

    # The same goes for a run that is stopped: with fail_fast nothing else starts after the first
    # failure, and what is running is ended, but finally tasks run.
    graph = TaskGraph("stopped")
    graph.add(Task.bash("exit 1", title="fails"))
    long = graph.add(Task.bash("sleep 60", title="long"))
    cleanup = graph.add(Task.bash("true", title="cleanup"), after=long, finally_=True)
    with TaskExecutor() as executor:
        graph.run(executor, fail_fast=True, finally_timeout=10)
    assert long.is_cancelled
    assert cleanup.is_done
    print("stopped:", ", ".join(f"{task.title} {task.status.value}" for task in graph))


if __name__ == "__main__":
    main()
